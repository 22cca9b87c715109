"""Drift of a window against its reference: ours from rows and from stored profiles against Evidently; and 90 windows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl

from benchmarks.arms.drift import keep
from benchmarks.processes import python
from benchmarks.project import ROOT, code_of, kept
from benchmarks.runner import Arm, Bench, Comparison, Limit, Measured, Options, timed
from ml_assets.lake import Lake
from ml_assets.monitoring.drift import DriftPolicy, drift_verdict
from ml_assets.monitoring.watching import report_drift
from ml_assets.packaging.bundle import Bundle
from ml_assets.packaging.champion import Champion
from ml_assets.tasks import Task, task

ROWS, SMALL_ROWS, NUMBERS, TEXTS, SEED = 500_000, 3_000, 16, 4, 20131231
MOVED = ("number_0", "number_1", "text_0")
FRAMES_RATIO, MEMORY_RATIO, PROFILES_RATIO = 1 / 30, 1 / 10, 1 / 1_000
WINDOWS, SMALL_WINDOWS, LENGTH, DAY_ROWS, FEATURES = 90, 3, 7, 200, 40
REPORT_SECONDS = 10.0
ONE_ARENA = {"MALLOC_ARENA_MAX": "1"}
"""Of glibc, for both arms: what is measured is the memory that the work needs, not what each thread's arena keeps of it."""
LEAST = 0.025  # so far apart may distances be, in standard deviations
PROBLEM, START = "bench", datetime(2013, 1, 1, tzinfo=UTC)
NOTES = """16 numbers and 4 texts, of which three columns drifted. Each arm is a process of its own. Evidently's data drift preset has its
data sets of pandas frames in memory, and ours its Polars frames; both have judged 1,000 rows before, so that imports are not
measured. `cpu` is the processor time of all threads, `added_mb` the highest resident memory above that of the loaded data. Of
more than 50,000 rows ours sorts every n-th, for deciles and distances. Equal means: the normalized Wasserstein distance of each
number within 3 % or 0.025 deviations of Evidently's, that of Jensen and Shannon of each text as well, and the planted columns
and no others called drifted by both."""
STORED = """The same rows, reduced to profiles beforehand; measured is reading both profiles from disk and the verdict, the mean of 20
times. The Wasserstein distance comes from eleven bins and the moments: equal means within 15 % or 0.025 deviations."""
REPORT = """A lake with a profile of each of 630 days; 90 windows of 7 days, each of 40 features and the score, are judged with
their history and stored, without Evidently's pages. The other arm judges the same windows from their rows. Equal means: the
same index for each window and feature."""


@contextmanager
def frames(options: Options) -> Iterator[Bench]:
    """Yield the bench of a verdict from rows."""
    yield _against_evidently(
        options, "drift", "frames", "from rows", FRAMES_RATIO, NOTES, [Limit("added_mb", MEMORY_RATIO)], 0.03
    )


@contextmanager
def profiles(options: Options) -> Iterator[Bench]:
    """Yield the bench of a verdict from stored profiles."""
    notes = f"{NOTES}\n{STORED}"
    yield _against_evidently(options, "drift_profiles", "profiles", "from profiles", PROFILES_RATIO, notes, [], 0.15)


def _against_evidently(
    options: Options, name: str, kind: str, how: str, target: float, notes: str, limits: Sequence[Limit], rel: float
) -> Bench:
    rows = SMALL_ROWS if options.small else ROWS
    folder = kept(
        options.folder / "drift" / str(rows), lambda made: write_sides(made, rows), state=code_of("monitoring")
    )
    return Bench(
        name=name,
        title=f"Drift of {rows:,} rows × {NUMBERS + TEXTS} columns {how}, against Evidently's preset",
        target=target,
        limits=[Limit("cpu", target), *limits],
        ours=Arm(f"ours {how}", arm(kind, folder)),
        theirs=Arm("Evidently's DataDriftPreset", arm("evidently", folder)),
        compare=lambda found, other: same_distances(found, other, rel=rel),
        rounds=1 if options.small else 3,
        warm_up=False,
        notes=notes,
    )


def write_sides(folder: Path, rows: int) -> None:
    """Write a reference and a window of so many rows, three of whose columns drifted, and their profiles."""
    folder.mkdir(parents=True)
    for number, side in enumerate(("reference", "current")):
        random = np.random.default_rng([SEED, number])
        columns = {f"number_{at}": random.gamma(2 + at, 3, rows) for at in range(NUMBERS)}
        columns |= {f"text_{at}": random.choice(_words(at), rows, p=_shares(at)) for at in range(TEXTS)}
        frame = pl.DataFrame(columns)
        if side == "current":
            frame = frame.with_columns(
                pl.col("number_0") + 5, pl.col("number_1") * 2, pl.col("text_0").replace("w0", "w1")
            )
        frame.write_parquet(folder / f"{side}.parquet")
    keep(folder)


def _words(at: int) -> list[str]:
    return [f"w{number}" for number in range(3 + 5 * at)]


def _shares(at: int) -> np.ndarray:
    weights = 1 / np.arange(1, len(_words(at)) + 1)
    return weights / weights.sum()


def arm(kind: str, folder: Path) -> Callable[[], Measured]:
    """Return an arm's run: a process of its own."""

    def run() -> Measured:
        told = folder / f"{kind}.told.json"
        arguments = ["-m", "benchmarks.arms.drift", kind, str(folder), str(told)]
        python(arguments, root=ROOT, log=told.with_suffix(".log"), variables=ONE_ARENA)
        return Measured(**json.loads(told.read_text()))

    return run


def same_distances(ours: Mapping[str, Any], theirs: Mapping[str, Any], *, rel: float) -> Comparison:
    """Compare each column's distance, within a share `rel` of it, and which columns drifted."""
    found, other = ours["values"], theirs["values"]
    wrong = [
        f"{name} {found.get(name)} and {value}"
        for name, value in other.items()
        if found.get(name) is None or abs(found[name] - value) > max(rel * value, LEAST)
    ]
    if wrong or found.keys() != other.keys():
        return Comparison(False, f"{len(wrong)} of {len(other)} distances differ: {'; '.join(wrong[:3])}")
    if not ours["drifted"] == theirs["drifted"] == sorted(MOVED):
        return Comparison(False, f"ours calls {ours['drifted']} drifted, Evidently {theirs['drifted']}")
    apart = max(abs(found[name] - value) for name, value in other.items())
    return Comparison(
        True, f"{len(other)} distances are Evidently's, at most {apart:.2g} apart; the same {len(MOVED)} drifted"
    )


# -- ninety windows ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scorer:
    """What drift asks of a bundle: so many features, and an answer."""

    features: tuple[str, ...] = tuple(f"x{number}" for number in range(FEATURES))
    threshold: float = 0.5
    task: Task = field(default_factory=lambda: task("classification"))

    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        """Answer by the first feature."""
        return 1 / (1 + np.exp(-frame["x0"].to_numpy()))


@contextmanager
def report(options: Options) -> Iterator[Bench]:
    """Write a lake of predictions by day, and yield the bench."""
    windows = SMALL_WINDOWS if options.small else WINDOWS
    folder = options.folder / "drift_report"
    lake = Lake(
        str(kept(folder / str(windows), lambda made: predict_days(made, windows), state=code_of("lake", "monitoring")))
    )
    yield Bench(
        name="drift_report",
        title=f"Drift report for {windows} windows × {FEATURES} features from stored profiles, against the same from rows",
        target=REPORT_SECONDS,
        judged="seconds",
        ours=Arm("from profiles", timed(lambda: reported(lake))),
        theirs=Arm("from rows", timed(lambda: from_rows(lake, windows))),
        compare=same_indices,
        rounds=1 if options.small else 3,
        notes=REPORT,
    )


def predict_days(folder: Path, windows: int) -> None:
    """Write a training set and days of predictions into a lake; a feature drifts slowly."""
    lake, scorer = Lake(str(folder)), Scorer()
    random = np.random.default_rng(SEED)
    split = pl.Series("split", ["train"] * 20_000 + ["test"] * 2_000)
    train = pl.DataFrame({name: random.normal(0, 1, 22_000) for name in scorer.features}).with_columns(split)
    lake.write(f"{PROBLEM}/training_set", train, written_at=START)
    for number in range(windows * LENGTH):
        moment = START + timedelta(days=number)
        day = pl.DataFrame({name: random.normal(0, 1, DAY_ROWS) for name in scorer.features})
        day = day.with_columns(pl.col("x1") + number / 300, event_timestamp=pl.lit(moment), model_version=pl.lit("1"))
        scored = day.with_columns(score=scorer.predict(day))
        lake.write(f"{PROBLEM}/predictions", scored, partition=f"{moment:%Y-%m-%d}", written_at=START)


def champion(lake: Lake) -> Champion:
    """Return who was trained on the training set of the bench."""
    manifest = lake.manifest(f"{PROBLEM}/training_set")
    version = manifest.version if manifest else ""
    return Champion("1", cast(Bundle, Scorer()), version, START, START, {})


def reported(lake: Lake) -> dict[str, dict[str, float | None]]:
    """Make the report anew; profiles that are stored stay. Returns the index by window and feature."""
    shutil.rmtree(Path(lake.url, PROBLEM, "drift_report"), ignore_errors=True)
    made = report_drift(
        lake,
        PROBLEM,
        champion(lake),
        policy=DriftPolicy(windows=2),
        window_days=LENGTH,
        reports=None,
        now=START,
    )
    return {item.window.first: {one.feature: one.psi for one in item.report.features} for item in made}


def from_rows(lake: Lake, windows: int) -> dict[str, dict[str, float | None]]:
    """Judge the same windows from their rows."""
    scorer = Scorer()
    reference = lake.read(f"{PROBLEM}/training_set").filter(pl.col("split") == "train")
    days, found = lake.partitions(f"{PROBLEM}/predictions"), {}
    for first in range(0, windows * LENGTH, LENGTH):
        current = lake.read(f"{PROBLEM}/predictions", days[first : first + LENGTH])
        told = drift_verdict(reference, current, features=scorer.features)
        found[days[first]] = {one.feature: one.psi for one in told.features}
    return found


def same_indices(ours: Mapping[str, Mapping[str, float]], theirs: Mapping[str, Mapping[str, float]]) -> Comparison:
    """Compare the population stability index of each window and feature."""
    pairs = [(ours.get(day, {}).get(name), psi) for day, found in theirs.items() for name, psi in found.items()]
    wrong = sum(one is None or not np.isclose(one, other, rtol=1e-9, atol=1e-12) for one, other in pairs)
    if wrong or ours.keys() != theirs.keys():
        return Comparison(False, f"{wrong} of {len(pairs)} indices differ")
    return Comparison(True, f"{len(pairs):,} indices of {len(theirs)} windows are equal")
