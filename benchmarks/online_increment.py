"""Bringing one more day online, after a short and after a long history: the work follows the day."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.processes import python
from benchmarks.project import code_of, kept
from benchmarks.repository import OURS, PACKED, repository
from benchmarks.runner import Arm, Bench, Comparison, Measured, Options
from benchmarks.synthetic import START, TIME, History
from ml_assets.lake import Lake
from ml_assets.preparation.writing import PARTITION

ROOT = Path(__file__).parents[1]
ARM = "benchmarks.arms.increment"
LONG, SHORT, ENTITIES = 360, 30, 1_000
SMALL_LONG, SMALL_SHORT, SMALL_ENTITIES = 4, 2, 10
TABLE = "features/history"
NOTES = """Two lakes end with the same day; the long one has more days before it. All but the last day is online (not timed). Timed is
materialize() of that partition, as the asset's run of a day asks for it, in a process that has done the same on another
copy of the online store; the parity check that follows in the asset is not in it. `unnamed_ms` is the same without
naming the partition, when every partition's manifest is read to find the new one. Both online stores must be equal
afterwards: each entity has rows on the last day."""


@contextmanager
def bench(options: Options) -> Iterator[Bench]:
    """Make both lakes with all but a day online (kept for the next call) and yield the bench."""
    folder = options.folder / ("online_increment-small" if options.small else "online_increment")
    sizes = (SMALL_LONG, SMALL_SHORT, SMALL_ENTITIES) if options.small else (LONG, SHORT, ENTITIES)
    long, short, entities = sizes
    history = History(entities, per_entity=24 * (long + 1))
    yield Bench(
        name="online_increment",
        title=f"One more day online, {24 * entities:,} rows, after {long} and after {short} days",
        target=1.25,
        ours=Arm(f"after {long} days", increment(folder / "long", history, long, long)),
        theirs=Arm(f"after {short} days", increment(folder / "short", history, long, short)),
        compare=same_state,
        rounds=2 if options.small else 9,
        notes=NOTES,
    )


def increment(folder: Path, history: History, last: int, days: int) -> Callable[[], Measured]:
    """Return the arm that brings day `last` online after the `days` before it, counted from 0."""
    partitions = [str((START + timedelta(days=last - days + number)).date()) for number in range(days + 1)]
    now = START + timedelta(days=last + 1)

    def make(place: Path) -> None:
        write(Lake(str(place / "lake")), history, partitions)
        repository(place / "repo", {place / "lake" / TABLE: history.schema}, offline=OURS, online=PACKED)
        call("fill", place, now.isoformat(), *partitions[:-1])

    kept(folder, make, state=f"{history} {partitions[0]} {code_of('features', 'lake')}")
    return lambda: measured(call("add", folder, now.isoformat(), partitions[-1]))


def write(lake: Lake, history: History, partitions: Sequence[str]) -> None:
    """Write the named days of a history as a lake table."""
    day = pl.col(TIME).dt.date().dt.to_string().alias(PARTITION)
    rows = pl.concat(history.pieces()).with_columns(day).filter(pl.col(PARTITION).is_in(partitions))
    lake.write_partitions(TABLE, rows, by=PARTITION, written_at=START)


def call(verb: str, folder: Path, *arguments: str) -> Mapping[str, Any]:
    """Run the arm's process and return what it told."""
    done = python(["-m", ARM, verb, str(folder), *arguments], root=ROOT, log=folder / f"{verb}.log")
    told: Mapping[str, Any] = json.loads(done.output)
    return told


def measured(told: Mapping[str, Any]) -> Measured:
    """Return what the process told as a run; the result is the state of the online store."""
    return Measured(told["state"], told["seconds"], {name: told[name] for name in ("rows", "written", "unnamed_ms")})


def same_state(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Comparison:
    """Compare the online stores' contents, by hash, and the days that were found to be new."""
    if ours != theirs:
        return Comparison(False, f"online stores differ: {ours} and {theirs}")
    return Comparison(True, f"both found {ours['new']} new, and {ours['entities']:,} entities' rows are equal")
