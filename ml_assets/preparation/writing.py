"""Write a table with its verdict: evaluated before it is written, stored in the same manifest, one for each partition."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import polars as pl

from ml_assets.lake import Lake, Manifest
from ml_assets.quality import Suite, Verdict, evaluate, merge

PARTITION = "_partition"


@dataclass(frozen=True)
class Written:
    """The manifests of what was written, and the verdict over all of it."""

    manifests: Mapping[str, Manifest]
    verdict: Verdict


def write_checked(
    lake: Lake,
    table: str,
    frame: pl.DataFrame,
    suite: Suite,
    *,
    now: datetime,
    partitions: Sequence[str] | None = None,
    inputs: Mapping[str, str] | None = None,
    code_version: str = "",
    besides: Sequence[Verdict] = (),
    may_be_empty: bool = False,
) -> Written:
    """Evaluate `suite` on `frame` and write it with the verdict.

    With `partitions`, `frame` has the String column `_partition`; rows of other partitions are left out, and each partition is
    judged and written by itself. Rows of no partition make the verdict red. A partition that had rows and has none any more is
    emptied, which is red unless it `may_be_empty`. A red partition is written too, so that a person can look at it, but readers
    refuse it. `besides` are verdicts about the table as such, such as its schema: stored with every partition, after the
    suite's, and refused to readers when red.
    """
    how: dict[str, Any] = {"written_at": now, "inputs": inputs, "code_version": code_version}
    if partitions is None:
        verdict, manifest = _write_one(lake, table, frame, suite, None, how, besides)
        return Written({"_": manifest}, verdict)
    wanted = frame.filter(pl.col(PARTITION).is_in(list(partitions)) | pl.col(PARTITION).is_null())
    verdicts = evaluate(wanted.lazy(), suite, by=PARTITION)
    told = {partition: _told(verdict, besides) for partition, verdict in verdicts.items()}
    manifests = lake.write_partitions(table, wanted.drop_nulls(PARTITION), by=PARTITION, verdicts=told, **how)
    if may_be_empty:
        return Written({**manifests, **empty(lake, table, set(partitions) - set(manifests), **how)}, merge(verdicts))
    for name in lake.manifests(table, set(partitions) - set(manifests)):
        verdicts[name], manifests[name] = _write_one(lake, table, frame.clear(), suite, name, how, besides)
    return Written(manifests, merge(verdicts))


def empty(lake: Lake, table: str, partitions: Collection[str], **how: Any) -> dict[str, Manifest]:
    """Take the rows out of those of the partitions that exist; without a verdict, since no rows are what they should have."""
    known = lake.manifests(table, partitions)
    none = {name: lake.read(table, [name], allow_red=True).clear() for name in known}
    return {name: lake.write(table, rows, partition=name, **how) for name, rows in none.items()}


def _write_one(
    lake: Lake,
    table: str,
    frame: pl.DataFrame,
    suite: Suite,
    partition: str | None,
    how: Mapping[str, Any],
    besides: Sequence[Verdict],
) -> tuple[Verdict, Manifest]:
    rows = frame.drop(PARTITION, strict=False)
    verdict = evaluate(rows.lazy(), suite)[""]
    return verdict, lake.write(table, rows, partition=partition, verdicts=_told(verdict, besides), **how)


def _told(verdict: Verdict, besides: Sequence[Verdict]) -> list[dict[str, Any]]:
    """Return the verdicts as a manifest keeps them, all about the same rows: of whichever run, they read the same."""
    return [verdict.to_dict(), *(_about(other, verdict.rows).to_dict() for other in besides)]


def _about(verdict: Verdict, rows: int) -> Verdict:
    results = tuple(replace(result, element_count=rows) for result in verdict.results)
    return replace(verdict, rows=rows, results=results)
