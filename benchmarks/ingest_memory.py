"""The memory that `collect` takes, by how many rows there are to collect: it must not grow with them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import polars as pl

from benchmarks.processes import python
from benchmarks.project import ROOT, kept
from benchmarks.runner import PEAK, Arm, Bench, Comparison, Limit, Measured, Options

ROWS_A_FILE, SMALL_ROWS_A_FILE = 100_000, 1_000
FILES = (10, 30, 100, 300)  # of one day each: 1, 3, 10, 30 million rows
FIRST = date(2013, 1, 1)
TARGET_GB, FLAT = 1.5, 1.2
NOTES = """Daily CSV files of six columns, each the same number of rows, are collected in a process of its own for each size, into a lake
on disk. Judged is the highest resident memory of the whole process, with interpreter and imports: in GB at the largest size, and
`peak_gb` as the ratio of the largest to the smallest, which may be at most 1.2. The table tells the sizes between. Results are
equal when every process wrote all rows that were delivered, which reading back lazily counts."""


@dataclass(frozen=True)
class Size:
    """How many files are collected, of how many rows each."""

    files: int
    rows_a_file: int

    @property
    def rows(self) -> int:
        """Return the number of rows."""
        return self.files * self.rows_a_file


@contextmanager
def bench(options: Options) -> Iterator[Bench]:
    """Yield the bench; each size's files are written when it is measured."""
    folder = options.folder / "ingest_memory"
    sizes = [Size(files, SMALL_ROWS_A_FILE if options.small else ROWS_A_FILE) for files in FILES]
    yield Bench(
        name="ingest_memory",
        title=f"Collecting {sizes[-1].rows:,} rows in {sizes[-1].files} files, against {sizes[0].rows:,} in {sizes[0].files}",
        target=TARGET_GB,
        judged="memory",
        limits=[Limit(PEAK, FLAT)],
        ours=Arm(f"{sizes[-1].rows:,} rows", lambda: largest(sizes[1:], folder)),
        theirs=Arm(f"{sizes[0].rows:,} rows", lambda: collected(sizes[0], folder)),
        compare=all_rows,
        rounds=1,
        warm_up=False,
        notes=NOTES,
    )


def largest(sizes: Sequence[Size], folder: Path) -> Measured:
    """Collect all sizes; return the last one's measurement, with a remark about each."""
    found = [collected(size, folder) for size in sizes]
    remarks = [
        f"{size.rows:>12,} rows: {run.details[PEAK]:.3f} GB, {run.seconds:6.1f} s"
        for size, run in zip(sizes, found, strict=True)
    ]
    missing = [run.result for run in found if run.result["rows"] != run.result["delivered"]]
    last = found[-1]
    return Measured((missing or [last.result])[0], last.seconds, last.details, remarks)


def collected(size: Size, folder: Path) -> Measured:
    """Collect files of one size in a process of its own, into a new lake; the result counts rows."""
    landing = delivered(size, folder)
    told, lake = folder / f"{size.files}.json", folder / "lake"
    shutil.rmtree(lake, ignore_errors=True)
    arguments = ["-m", "benchmarks.arms.collect_memory", str(landing), str(lake), str(told)]
    try:
        python(arguments, root=ROOT, log=told.with_suffix(".log"))
    finally:
        shutil.rmtree(lake, ignore_errors=True)
    found = json.loads(told.read_text())
    result = {"rows": found["rows"], "delivered": size.rows}
    return Measured(result, found["seconds"], {PEAK: found["details"][PEAK]})


def delivered(size: Size, folder: Path) -> Path:
    """Return a landing zone with the first files of those days; files are kept for the next call."""

    def deliver(landing: Path) -> None:
        target = landing / "readings"
        target.mkdir(parents=True)
        for number in range(size.files):
            day = FIRST + timedelta(days=number)
            rows(day, size.rows_a_file).write_csv(target / f"readings-{day}.csv")

    return kept(folder / f"landing-{size.files}-{size.rows_a_file}", deliver, state="1")


def rows(day: date, count: int) -> pl.DataFrame:
    """Return a day's seeded readings; `reading` is the key."""
    import numpy as np

    random = np.random.default_rng(day.toordinal())
    return pl.DataFrame(
        {
            "day": pl.repeat(day, count, eager=True),
            "reading": pl.int_range(count, eager=True),
            "sensor": pl.Series(random.integers(0, 500, count)).cast(pl.String) + "-sensor",
            "value": random.normal(20, 5, count).round(4),
            "error": random.random(count).round(6),
            "state": random.choice(["on", "off", "unknown"], count),
        }
    )


def all_rows(ours: Mapping[str, int], theirs: Mapping[str, int]) -> Comparison:
    """Tell whether the lakes held all that was delivered."""
    wrong = [one for one in (ours, theirs) if one["rows"] != one["delivered"]]
    if wrong:
        return Comparison(False, f"{wrong[0]['rows']:,} of {wrong[0]['delivered']:,} rows came into the lake")
    return Comparison(True, f"all {ours['rows']:,} and {theirs['rows']:,} rows came into the lake")
