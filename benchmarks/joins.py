"""One point-in-time join in a process of its own: time without imports, the memory that it adds, the result in a file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from benchmarks.processes import python
from benchmarks.runner import Comparison, Measured
from benchmarks.synthetic import ROW, History
from benchmarks.training_set import View, same_values

ROOT = Path(__file__).parents[1]
ADDED, PEAK_MB = "added_mb", "peak_mb"


@dataclass(frozen=True)
class Join:
    """Entity rows (a Parquet file, numbered in column `row`) that ask a Feast repository's service `everything`.

    `frame` is what Feast is given and returns: pandas and Arrow, which every store takes, or Polars both ways. `warm` is
    a repository of one row and its entity rows, asked first. `memory_gb` bounds the process's address space. With `again`
    the time is that of a second call, when files and memory are warm; the first one's is told as `first_seconds`.
    """

    repo: str
    asking: str
    warm: tuple[str, str]
    frame: Literal["pandas", "polars"] = "pandas"
    memory_gb: float | None = None
    again: bool = False


@dataclass(frozen=True)
class BareJoin:
    """The same question to a bare `join_asof` over the views' files; the result in the entity rows' order."""

    asking: str
    views: Sequence[View]


def bare_join(history: History, file: Path, asking: Path) -> BareJoin:
    """Return the question to a bare join over a view's file."""
    schema = history.schema
    return BareJoin(str(asking), [View([str(file)], list(schema.keys), list(schema.features), schema.ttl)])


def joined(join: Join | BareJoin, told: Path, *, at_most: float | None = None) -> Measured:
    """Run the join; `told` names the JSON file beside which the result and the log lie.

    The result is the result's Parquet file. Details: `added_mb` is the process's highest resident memory during the
    call above that at its beginning, `peak_mb` (and `peak_gb`) its highest since its start, `process` its seconds.
    Raises `CutOffError` after `at_most` seconds, or when memory is not enough.
    """
    told.parent.mkdir(parents=True, exist_ok=True)
    asked, result = told.with_suffix(".asked.json"), told.with_suffix(".parquet")
    asked.write_text(json.dumps(asdict(join), default=_seconds))
    module = "benchmarks.arms.bare_join" if isinstance(join, BareJoin) else "benchmarks.arms.feast_join"
    arguments = ["-m", module, str(asked), str(result), str(told)]
    try:
        done = python(arguments, root=ROOT, log=told.with_suffix(".log"), at_most=at_most)
    finally:
        shutil.rmtree(told.with_suffix(".spilled"), ignore_errors=True)
    found = json.loads(told.read_text())
    return Measured(result, found["seconds"], {**found["details"], "process": done.seconds})


def same_rows(ours: Path, theirs: Path) -> Comparison:
    """Compare every value of two results, by row; ours must have kept the entity rows' order."""
    kept, other = pl.read_parquet(ours), pl.read_parquet(theirs).sort(ROW)
    if not kept[ROW].is_sorted():
        return Comparison(False, "our rows are not in the order of the entity rows")
    return same_values(kept, other)


def _seconds(value: Any) -> float:
    """Return what JSON has no type for: a time to live."""
    return float(value.total_seconds())


def views_of(asked: Mapping[str, Any]) -> list[View]:
    """Return the views of a `BareJoin` that was read from JSON."""
    from datetime import timedelta

    return [
        View(**{**view, "ttl": None if view["ttl"] is None else timedelta(seconds=view["ttl"])})
        for view in asked["views"]
    ]
