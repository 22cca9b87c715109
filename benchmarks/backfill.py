"""A year of days in one run of job `ingest`: files to raw, clean and feature tables, observations, and the online store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.lifecycle import lifecycle, same_outcome
from benchmarks.project import NINE_WEEKS, YEAR, delivered
from benchmarks.runner import Arm, Bench, Limit, Measured, Options

TARGET = 60.0
NOTES = """Each run is a fresh process in a fresh copy of the project, with nothing but delivered files. Ours is one run of job
`ingest` over the range of days, in process, on the instance that dagster.yaml describes (SQLite): all its assets, also the
features and the online store, with all checks. Judged are the seconds from the definitions' loading to the end, and `process`,
which is the whole process with its imports; `runs` counts what the instance holds. The plain script makes the same tables
without Dagster. Equal means: the same content of every lake table and partition, and the same ledger."""


@contextmanager
def bench(options: Options) -> Iterator[Bench]:
    """Have the days delivered (kept for the next call) and yield the bench."""
    extent = NINE_WEEKS if options.small else YEAR
    landing = delivered(options.folder, extent)

    def arm(name: str) -> Callable[[], Measured]:
        module = f"benchmarks.arms.{name}"
        return lambda: lifecycle(module, options.folder / "backfill", extent, Path(landing))

    yield Bench(
        name="backfill",
        title=f"{len(extent.days)} days in one run of job ingest",
        target=TARGET,
        judged="seconds",
        limits=[Limit("process", TARGET, "value"), Limit("runs", 1, "value")],
        ours=Arm("Dagster", arm("backfill_run")),
        theirs=Arm("plain script", arm("backfill_script")),
        compare=same_outcome,
        rounds=1 if options.small else 3,
        warm_up=False,
        notes=NOTES,
    )
