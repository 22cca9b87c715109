"""Daily partitions of the asset graph, and what a run over a range of them needs."""

from collections.abc import Sequence
from datetime import date

import dagster as dg

CLOCK = "ml_assets/clock"
"""Metadata of a problem's observations: whose time says which days there are."""
ANEW = "ml_assets/anew"
"""Tag of a run that makes every partition again, also those that were made from the same."""


def partitions_of(days: str | None) -> dg.DailyPartitionsDefinition | None:
    """Return the daily partitions of an interval; none for what has no days."""
    return daily(days) if days else None


def daily(days: str) -> dg.DailyPartitionsDefinition:
    """Return the partitions of an interval such as `2013-01-01/2013-12-31`, or open ended, `2013-01-01/`."""
    first, slash, last = days.partition("/")
    try:
        start = date.fromisoformat(first)
        end = date.fromisoformat(last) if last else None
    except ValueError as error:
        raise ValueError(f"days: {days!r} is not an interval; write 2013-01-01/2013-12-31 or 2013-01-01/") from error
    if not slash or (end and end < start):
        raise ValueError(f"days: {days!r} is not an interval; write first day, slash, last day (or nothing), in order")
    if end is None:
        return dg.DailyPartitionsDefinition(start_date=start.isoformat())
    return dg.DailyPartitionsDefinition(
        start_date=start.isoformat(), end_date=date.fromordinal(end.toordinal() + 1).isoformat()
    )


def upstream(table: str, *, lookback: int = 0) -> dg.AssetDep:
    """Return the dependency on a table's partition of the same day and the `lookback` days before."""
    if lookback == 0:
        return dg.AssetDep(table.split("/"))
    return dg.AssetDep(table.split("/"), partition_mapping=dg.TimeWindowPartitionMapping(start_offset=-lookback))


def of_run(context: dg.AssetExecutionContext) -> Sequence[str]:
    """Return the partitions that this run is to make, in order."""
    return sorted(context.partition_keys)


def of_run_or_whole(context: dg.AssetExecutionContext, days: str | None) -> Sequence[str] | None:
    """Return the same; None, which is the whole table, for what has no days."""
    return of_run(context) if days else None


def anew(context: dg.AssetExecutionContext) -> bool:
    """Tell whether the run was asked to make everything again: tag `ml_assets/anew: "true"`, as the launchpad takes it."""
    return context.run.tags.get(ANEW) == "true"
