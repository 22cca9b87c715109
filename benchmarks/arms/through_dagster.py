"""Job `everything`, timed after the import of Dagster: `python -m benchmarks.arms.through_dagster FIRST LAST TOLD.json`."""

import sys
import time
from pathlib import Path

import dagster as dg
import polars as pl  # noqa: F401 - the other arm has it imported too when the time begins

JOB, PROBLEM = "everything", "flight_delay"


def main() -> None:
    """Run, then tell."""
    first, last, told = sys.argv[1:]
    days = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    started = time.perf_counter()
    from ml_assets.definitions import defs

    job = defs().resolve_job_def(JOB)
    loaded = time.perf_counter() - started
    with dg.DagsterInstance.get() as instance:
        done = job.execute_in_process(instance=instance, tags=days)
    seconds = time.perf_counter() - started
    from benchmarks.arms.told import tell

    parts = durations(done)
    tell(Path(told), root=Path.cwd(), problem=PROBLEM, seconds=seconds, parts=parts, loading=loaded, steps=len(parts))


def durations(done: dg.ExecuteInProcessResult) -> dict[str, float]:
    """Return the seconds of each step by the key of its asset."""
    return {
        event.step_key.replace("__", "/"): event.step_success_data.duration_ms / 1000
        for event in done.all_events
        if event.event_type_value == "STEP_SUCCESS" and event.step_key
    }


if __name__ == "__main__":
    main()
