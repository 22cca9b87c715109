"""What finished runs tell: durations, rows, peak memory of each step, on a real instance; and what measuring costs."""

import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ml_assets.monitoring.infrastructure import RUNS, appended
from ml_assets.resources.evidence import unchanged
from ml_assets.resources.measured import measured_in_process
from ml_assets.resources.peak import PeakMemory
from ml_assets.resources.runs import finished_steps

MEGABYTE = 10**6
DAYS = dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-02-01")


@dg.asset
def large() -> dg.MaterializeResult:
    held = bytearray(150 * MEGABYTE)
    return dg.MaterializeResult(metadata={"dagster/row_count": len(held) // MEGABYTE})


@dg.asset(deps=[large])
def small() -> None:
    pass


@dg.asset(key=["a", "broken"], deps=[small])
def broken() -> None:
    raise ValueError("on purpose")


@dg.asset(deps=[broken])
def never() -> None:
    pass


def job() -> dg.JobDefinition:
    """Return the four as one job: reconstructed by name, as a code server does."""
    defs = dg.Definitions(
        assets=[large, small, broken, never], jobs=[dg.define_asset_job("j")], executor=measured_in_process
    )
    return defs.resolve_job_def("j")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance on SQLite that lives as long as the test."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def told(instance: dg.DagsterInstance, **options: Any) -> dict[str, dict[str, Any]]:
    return {row["asset"]: row for row in finished_steps(instance, **{"since": None, "known": ()} | options)}


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from Linux' /proc")
def test_a_run_tells_time_rows_and_memory_of_each_step(instance: dg.DagsterInstance) -> None:
    found = dg.execute_job(dg.reconstructable(job), instance=instance, raise_on_error=False)
    assert not found.success
    rows = told(instance)
    assert {name: row["status"] for name, row in rows.items()} == {
        "large": "succeeded",
        "small": "succeeded",
        "a/broken": "failed",
        "never": "skipped",
    }
    assert rows["large"]["rows"] == 150 and rows["small"]["rows"] is None
    grown = {name: (row["peak"] - row["began"]) / MEGABYTE for name, row in rows.items() if row["peak"]}
    assert 149 < grown["large"] < 170
    assert grown["small"] < 10  # of its own: what the one before took is given back, and the peak was set back
    assert grown["a/broken"] < 10 and rows["never"]["peak"] is None
    assert all(0 < row["seconds"] < 60 for name, row in rows.items() if name != "never")
    assert {row["run"] for row in rows.values()} == {found.run_id}
    assert list(appended(None, rows.values()).columns) == list(RUNS)


def test_the_executor_is_configured_as_dagsters_own() -> None:
    assert measured_in_process.name == dg.in_process_executor.name
    mine, own = (one.config_schema.as_field().config_type.key for one in (measured_in_process, dg.in_process_executor))
    assert mine == own


def test_partitions_and_what_was_found_unchanged_are_counted(instance: dg.DagsterInstance) -> None:
    @dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
    def daily(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        for day in context.partition_keys:
            context.add_asset_metadata({"dagster/row_count": 10}, partition_key=day)
        return dg.MaterializeResult(metadata=unchanged(3))

    tags = {"dagster/asset_partition_range_start": "2026-01-01", "dagster/asset_partition_range_end": "2026-01-05"}
    assert dg.materialize([daily], instance=instance, tags=tags).success
    (row,) = told(instance).values()
    assert (row["partitions"], row["unchanged"], row["rows"]) == (5, 3, 50)
    assert row["peak"] is None  # another executor


def test_what_is_known_and_what_goes_on_is_left_out(instance: dg.DagsterInstance) -> None:
    first = dg.materialize([small.map_asset_specs(lambda spec: spec.replace_attributes(deps=[]))], instance=instance)
    assert told(instance, known={first.run_id}) == {}
    later = datetime.now(UTC) + timedelta(hours=2)
    assert told(instance, since=later) == {} and len(told(instance, since=later - timedelta(hours=2))) == 1

    @dg.asset
    def asks(context: dg.AssetExecutionContext) -> None:
        assert set(told(context.instance)) == {"small"}  # not itself

    assert dg.materialize([asks], instance=instance).success


def test_a_peak_that_cannot_be_set_back_is_known_only_where_it_rose(tmp_path: Path) -> None:
    status, clear = tmp_path / "status", tmp_path / "none" / "clear"

    def peak(before: int, after: int) -> Any:
        memory = PeakMemory(status, clear)
        status.write_text(f"VmHWM:\t{before} kB\nVmRSS:\t50 kB\n")
        memory.begin()
        status.write_text(f"VmHWM:\t{after} kB\nVmRSS:\t60 kB\n")
        return memory.end()

    found = peak(100, 200)
    assert (found.began, found.most, found.grown) == (50 * 1024, 200 * 1024, 150 * 1024)
    assert peak(100, 100) is None
    status.unlink()
    memory = PeakMemory(status, clear)
    memory.begin()
    assert memory.end() is None


def test_measuring_costs_less_than_a_millisecond() -> None:
    memory, began = PeakMemory(), time.perf_counter()
    for _ in range(200):
        memory.begin()
        memory.end()
    assert (time.perf_counter() - began) / 200 < 1e-3
