"""Job `ingest` in one run, timed after the import of Dagster: `python -m benchmarks.arms.backfill_run FIRST LAST TOLD.json`."""

import sys
import time
from pathlib import Path

import dagster as dg
import polars as pl  # noqa: F401 - the other arm has it imported too when the time begins

JOB = "ingest"


def main() -> None:
    """Run, then tell."""
    first, last, told = sys.argv[1:]
    days = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    started = time.perf_counter()
    from ml_assets.definitions import defs

    job = defs().resolve_job_def(JOB)
    with dg.DagsterInstance.get() as instance:
        done = job.execute_in_process(instance=instance, tags=days)
        seconds = time.perf_counter() - started
        runs = instance.get_runs_count()
    from benchmarks.arms.through_dagster import durations
    from benchmarks.arms.told import tell

    tell(Path(told), root=Path.cwd(), seconds=seconds, parts=durations(done), runs=runs)


if __name__ == "__main__":
    main()
