"""Batch scoring through the lake, against a loop that reads, predicts and writes; and the memory that it takes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.arms.batch_scoring import NOW, OBSERVED
from benchmarks.processes import python
from benchmarks.project import ROOT, code_of, kept
from benchmarks.runner import PEAK, Arm, Bench, Comparison, Limit, Measured, Options
from benchmarks.scored import FIRST, Stored, fitted, rows, stored
from ml_assets.lake import Lake

ARM = "benchmarks.arms.batch_scoring"
DAYS, ROWS_A_DAY = 100, 100_000
SMALL_DAYS, SMALL_ROWS = 10, 2_000
TARGET, FLAT = 1.15, 1.15
NOTES = """Each arm is a process of its own over the same Parquet files of observations with twelve features, with the same XGBoost
bundle on two threads. Ours is what the asset does: hashes compared, portions of days, the suite evaluated, manifests with
content hashes, durable writes. Theirs reads a file, predicts, and writes a file. Timed is the work, without imports and bundle.
`growth` is the highest resident memory of our process, with interpreter and imports, by that over a tenth of the days.
Results are equal when keys, scores and decisions have one hash."""


@contextmanager
def bench(options: Options) -> Iterator[Bench]:
    """Write the observations and the bundle, unless they are there, and yield the bench."""
    days, count = (SMALL_DAYS, SMALL_ROWS) if options.small else (DAYS, ROWS_A_DAY)
    folder = options.folder / ("batch_scoring-small" if options.small else "batch_scoring")
    lakes = [observed(folder, number, count) for number in (days, days // 10)]
    bundle = model(folder, "xgboost")
    yield Bench(
        name="batch_scoring",
        title=f"Batch scoring of {days * count:,} rows, against scan + predict + write",
        target=TARGET,
        limits=[Limit("growth", FLAT, "value")],
        ours=Arm("score_table", lambda: grown(folder, lakes, bundle)),
        theirs=Arm("plain loop", lambda: scored("plain", folder, lakes[0], bundle)),
        compare=same_scores,
        rounds=1 if options.small else 3,
        warm_up=False,
        notes=NOTES,
    )


def observed(folder: Path, days: int, count: int) -> Path:
    """Return a lake with so many days of so many observations; kept between calls."""

    def write(target: Path) -> None:
        lake = Lake(str(target))
        for day in range(days):
            name = str(FIRST + timedelta(days=day))
            lake.write(OBSERVED, rows(count, day=day), partition=name, written_at=NOW)

    return kept(folder / f"lake-{days}", write, state=f"{count} {code_of('lake')}")


def model(folder: Path, name: str) -> Stored:
    """Return the bundle of a candidate; kept between calls."""
    told = folder / f"{name}.json"

    def write(target: Path) -> None:
        found, train = fitted(name)
        told.write_text(json.dumps(vars(stored(target, name, found.packed(train, seed=0)))))

    folder.mkdir(parents=True, exist_ok=True)
    kept(folder / name, write, state=code_of("development", "packaging"))
    return Stored(**json.loads(told.read_text()))


def grown(folder: Path, lakes: Sequence[Path], bundle: Stored) -> Measured:
    """Score the large lake; tell also how much more memory that takes than the small one."""
    large, small = (scored("ours", folder, lake, bundle) for lake in lakes)
    growth = large.details[PEAK] / small.details[PEAK]
    return Measured(large.result, large.seconds, {**large.details, "growth": growth})


def scored(kind: str, folder: Path, lake: Path, bundle: Stored) -> Measured:
    """Score a lake in a process of its own; the result is the number of rows and their hash."""
    out, told = folder / f"out-{kind}", folder / f"{kind}.json"
    shutil.rmtree(out, ignore_errors=True)
    arguments = ["-m", ARM, kind, str(lake), bundle.folder, bundle.digest, str(out), str(told)]
    try:
        python(arguments, root=ROOT, log=told.with_suffix(".log"))
    finally:
        shutil.rmtree(out, ignore_errors=True)
    return Measured(**json.loads(told.read_text()))


def same_scores(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Comparison:
    """Compare the hashes of keys, scores and decisions."""
    if ours != theirs:
        return Comparison(False, f"keys, scores or decisions differ: ours {dict(ours)}, theirs {dict(theirs)}")
    return Comparison(True, f"keys, scores and decisions of {ours['rows']:,} rows are equal, bit for bit")
