"""Write a table with its verdict: evaluated before it is written, stored in the same manifest, one for each partition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

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
) -> Written:
    """Evaluate `suite` on `frame` and write it with the verdict.

    With `partitions`, `frame` has the String column `_partition`; rows of other partitions are left out, and each partition is
    judged and written by itself. A red partition is written too, so that a person can look at it, but readers refuse it.
    """
    if partitions is None:
        return _write_whole(lake, table, frame, suite, now=now, inputs=inputs, code_version=code_version)
    wanted = frame.filter(pl.col(PARTITION).is_in(list(partitions)))
    verdicts = evaluate(wanted.lazy(), suite, by=PARTITION)
    manifests = lake.write_partitions(
        table,
        wanted,
        by=PARTITION,
        written_at=now,
        inputs=inputs,
        code_version=code_version,
        verdicts={partition: [verdict.to_dict()] for partition, verdict in verdicts.items()},
    )
    return Written(manifests, merge(verdicts))


def _write_whole(
    lake: Lake,
    table: str,
    frame: pl.DataFrame,
    suite: Suite,
    *,
    now: datetime,
    inputs: Mapping[str, str] | None,
    code_version: str,
) -> Written:
    rows = frame.drop(PARTITION, strict=False)
    verdict = evaluate(rows.lazy(), suite)[""]
    manifest = lake.write(
        table, rows, written_at=now, inputs=inputs, code_version=code_version, verdicts=[verdict.to_dict()]
    )
    return Written({"_": manifest}, verdict)
