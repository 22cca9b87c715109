"""Write a table with its verdict: evaluated before it is written, stored in the same manifest, one for each partition."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import polars as pl

from ml_assets.lake import Lake, Manifest
from ml_assets.lake.lake import Inputs
from ml_assets.lake.manifest import WHOLE
from ml_assets.quality import Suite, Verdict, evaluate, merge

PARTITION = "_partition"
HOMELESS, NONE = "null", ""  # keys under which rows of no partition, and a frame without rows, are judged


@dataclass(frozen=True)
class Written:
    """The manifests of what was written, and the verdict over all of it; `judged` are the partitions' own verdicts."""

    manifests: Mapping[str, Manifest]
    verdict: Verdict
    judged: Mapping[str, Verdict] = field(default_factory=dict)


def together(parts: Sequence[Written]) -> Written:
    """Return what was written in parts, each of other partitions, as if it had been written at once."""
    manifests = {name: item for part in parts for name, item in part.manifests.items()}
    judged = {name: item for part in parts for name, item in part.judged.items()}
    return Written(dict(sorted(manifests.items())), merge(dict(sorted(judged.items()))), judged)


def write_checked(
    lake: Lake,
    table: str,
    frame: pl.DataFrame,
    suite: Suite,
    *,
    now: datetime,
    partitions: Sequence[str] | None = None,
    inputs: Inputs | None = None,
    code_version: str = "",
    besides: Sequence[Verdict] = (),
    may_be_empty: bool = False,
    unchanged: Mapping[str, Manifest] | None = None,
) -> Written:
    """Evaluate `suite` on `frame` and write it with the verdict.

    With `partitions`, `frame` has the String column `_partition`; rows of other partitions are left out, and each partition is
    judged and written by itself. Without the column all rows are those of the one partition. Rows of no partition make the verdict
    red. A partition that had rows and has none any more is emptied, which is red unless it `may_be_empty`. A red partition is
    written too, so that a person can look at it, but readers refuse it. `besides` are verdicts about the table as such, such as its
    schema: stored with every partition, after the suite's, and refused to readers when red. `inputs` are of all partitions, or a
    function from a partition to its own. `unchanged` are partitions that need not be written: their stored verdicts count as if they
    had been.
    """
    how: dict[str, Any] = {"written_at": now, "inputs": inputs, "code_version": code_version}
    if partitions is None or (len(partitions) == 1 and PARTITION not in frame.columns):
        name = partitions[0] if partitions else None
        verdict, manifest = _write_one(lake, table, frame, suite, name, how, besides)
        return Written({name or WHOLE: manifest}, verdict, {name or WHOLE: verdict})
    wanted = frame.filter(pl.col(PARTITION).is_in(list(partitions)) | pl.col(PARTITION).is_null())
    verdicts = evaluate(wanted.lazy(), suite, by=PARTITION)
    if HOMELESS in verdicts:
        how["inputs"] = None  # nothing is remembered as made from this: the next run makes it again, and is red again
    told = {partition: _told(verdict, besides) for partition, verdict in verdicts.items()}
    manifests = lake.write_partitions(table, wanted.drop_nulls(PARTITION), by=PARTITION, verdicts=told, **how)
    if may_be_empty:
        manifests |= empty(lake, table, set(partitions) - set(manifests), **how)
    for name in lake.manifests(table, set(partitions) - set(manifests)):
        verdicts[name], manifests[name] = _write_one(lake, table, frame.clear(), suite, name, how, besides)
    return _with_unchanged(Written(manifests, merge(verdicts), verdicts), verdicts, unchanged or {})


def _with_unchanged(written: Written, verdicts: Mapping[str, Verdict], unchanged: Mapping[str, Manifest]) -> Written:
    """Add the partitions that were not written; where they are, having written no rows is no fault of the whole."""
    if not unchanged:
        return written
    judged = {name: verdict for name, verdict in verdicts.items() if name != NONE} | _stored(unchanged)
    manifests = {**unchanged, **written.manifests}
    return Written(dict(sorted(manifests.items())), merge(dict(sorted(judged.items()))), judged)


def as_stored(manifests: Mapping[str, Manifest]) -> Written:
    """Return what was written when these partitions were made."""
    judged = _stored(manifests)
    return Written(manifests, merge(judged), judged)


def stored_verdict(manifests: Mapping[str, Manifest], place: int = 0) -> Verdict:
    """Return the verdict over the partitions as it was stored: the suite's, or at another `place` one of `besides`."""
    return merge(_stored(manifests, place))


def _stored(manifests: Mapping[str, Manifest], place: int = 0) -> dict[str, Verdict]:
    judged = {name: item for name, item in manifests.items() if item.verdicts}  # what was emptied has none
    return {name: Verdict.from_dict(item.verdicts[place]) for name, item in judged.items()}


def empty(lake: Lake, table: str, partitions: Collection[str], **how: Any) -> dict[str, Manifest]:
    """Take the rows out of those of the partitions that exist; without a verdict, since no rows are what they should have."""
    known = lake.manifests(table, partitions)
    none = {name: lake.read(table, [name], allow_red=True).clear() for name in known}
    return {name: lake.write(table, rows, partition=name, **_own(how, name)) for name, rows in none.items()}


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
    own = _own(how, partition or WHOLE)
    return verdict, lake.write(table, rows, partition=partition, verdicts=_told(verdict, besides), **own)


def _own(how: Mapping[str, Any], partition: str) -> dict[str, Any]:
    """Return how one partition is written, with the inputs that are its own."""
    inputs = how.get("inputs")
    return {**how, "inputs": inputs(partition) if callable(inputs) else inputs}


def _told(verdict: Verdict, besides: Sequence[Verdict]) -> list[dict[str, Any]]:
    """Return the verdicts as a manifest keeps them, all about the same rows: of whichever run, they read the same."""
    return [verdict.to_dict(), *(_about(other, verdict.rows).to_dict() for other in besides)]


def _about(verdict: Verdict, rows: int) -> Verdict:
    results = tuple(replace(result, element_count=rows) for result in verdict.results)
    return replace(verdict, rows=rows, results=results)
