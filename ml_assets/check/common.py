"""Rules that hold for every component: owners, days, schedules, functions, tables and expectations that are named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from ml_assets.check.dagster_side import is_cron, is_owner
from ml_assets.check.documents import Keys
from ml_assets.check.fault import Fault
from ml_assets.check.shape import Declared
from ml_assets.check.tables import Tables, attempt, is_time_zone
from ml_assets.quality import Expectation, SuiteError
from ml_assets.quality.errors import nearest
from ml_assets.quality.rules import DoesNotFit
from ml_assets.resources.code import load
from ml_assets.resources.partitions import daily


def owners(found: Declared, names: Sequence[str]) -> Iterator[Fault]:
    """Yield owners that Dagster does not take."""
    for number, name in enumerate(names):
        if not is_owner(name):
            problem = f"owner {name!r} is neither an e-mail address nor a team"
            yield from found.fault(("owners", number), problem, f"write someone@example.com or team:{name}")


def days(found: Declared, interval: str | None) -> Iterator[Fault]:
    """Yield what is wrong with an interval of days."""
    problem = attempt(lambda: daily(interval)) if interval is not None else None
    if isinstance(problem, str):
        yield from found.refused(("days",), problem)


def cron(found: Declared, path: Keys, schedule: str) -> Iterator[Fault]:
    """Yield a schedule that Dagster cannot read."""
    if not is_cron(schedule):
        fix = "write minute, hour, day of the month, month, day of the week, such as '0 6 1 * *'"
        yield from found.fault(path, f"{schedule!r} is no cron schedule", fix)


def time_zone(found: Declared, name: str) -> Iterator[Fault]:
    """Yield a time zone that does not exist."""
    if not is_time_zone(name):
        yield from found.fault(
            ("time_zone",), f"no time zone {name!r}", "use an IANA name, such as Europe/Berlin or UTC"
        )


def function(found: Declared, path: Keys, name: str) -> Iterator[Fault]:
    """Yield a function that cannot be imported."""
    problem = attempt(lambda: load(name))
    if isinstance(problem, str):
        yield from found.refused(path, problem)


def table(found: Declared, path: Keys, name: str, tables: Tables, *, days: bool | None) -> Iterator[Fault]:
    """Yield a table that nothing declares, or one that has days, or has none, unless `days` says so; None: either."""
    known = tables.names()
    if name not in known:
        about = nearest(name, known).removeprefix("; ")
        yield from found.fault(path, f"nothing declares the table {name!r}", about or f"use one of: {_some(known)}")
    elif days and not tables.partitioned(name) and tables.told(name):
        yield from found.fault(
            path, f"table {name!r} has no days", "name a table with days, or write partitioned: false"
        )
    elif days is False and tables.partitioned(name):
        yield from found.fault(path, f"table {name!r} has a partition for each day", "name a table without days")


def columns(found: Declared, path: Keys, names: Sequence[str], known: Mapping[str, Any], *, of: str) -> Iterator[Fault]:
    """Yield the names of a list at a path that are no columns."""
    for number, name in enumerate(names):
        if name not in known:
            yield from no_column(found, (*path, number), name, known, of=of)


def no_column(found: Declared, path: Keys, name: str, known: Mapping[str, Any], *, of: str) -> Iterator[Fault]:
    """Yield the fault of a name that is no column, with the nearest one."""
    about = nearest(name, known).removeprefix("; ")
    yield from found.fault(
        path, f"no column {name!r} in {of}", about or f"use one of: {_some(list(known))}", about=name
    )


def expectations(
    found: Declared, path: Keys, declared: Sequence[Mapping[str, Any]], schema: Mapping[str, Any] | None, *, of: str
) -> Iterator[Fault]:
    """Yield expectations that the quality room does not know, or that do not fit the table's columns."""
    for number, raw in enumerate(declared):
        place = (*path, number)
        try:
            item = Expectation.from_dict(raw)
        except SuiteError as error:
            yield from found.refused(place, str(error))
            continue
        if problem := item.problem():
            yield from _misnamed(found, place, item, problem)
        elif schema is not None:
            yield from _misfit(found, place, item, schema, of)


def _misnamed(found: Declared, place: Keys, item: Expectation, problem: str) -> Iterator[Fault]:
    """Yield what is wrong with an expectation by itself, at its type or at the key that the message names."""
    inner: Keys = ("type",) if problem.startswith("unknown expectation type") else ("kwargs",)
    key = next((key for key in item.kwargs if f"key {key!r}" in problem), None)
    yield from found.refused((*place, *inner, *([key] if key else [])), problem)


def _misfit(
    found: Declared, place: Keys, item: Expectation, schema: Mapping[str, pl.DataType], of: str
) -> Iterator[Fault]:
    missing = [name for name in item.rule.columns if name not in schema]
    for name in missing:
        yield from no_column(found, (*place, "kwargs"), name, schema, of=of)
    if missing:
        return
    try:
        item.rule.measures(pl.Schema(dict(schema)))
    except DoesNotFit as error:
        yield from found.refused((*place, "kwargs"), f"{item.type}: {error}; correct the column or the expectation")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
