"""Daily partitions from an interval, and what depends on days before."""

from collections.abc import Sequence
from datetime import datetime

import dagster as dg
import pytest

from ml_assets.resources.partitions import daily, of_run_or_whole, partitions_of, upstream


def test_both_ends_are_included() -> None:
    keys = daily("2013-01-30/2013-02-02").get_partition_keys()
    assert keys == ["2013-01-30", "2013-01-31", "2013-02-01", "2013-02-02"]
    assert daily("2013-01-30/2013-01-30").get_partition_keys() == ["2013-01-30"]


def test_an_open_interval_goes_on() -> None:
    keys = daily("2013-12-30/").get_partition_keys(current_time=datetime(2014, 1, 2))
    assert keys == ["2013-12-30", "2013-12-31", "2014-01-01"]


@pytest.mark.parametrize(
    "days", ["", "2013", "2013-01-01", "2013-02-30/", "/2013-01-01", "2013-01-02/2013-01-01", "a/b"]
)
def test_what_is_no_interval_is_refused(days: str) -> None:
    with pytest.raises(ValueError, match=f"days: {days!r} is not an interval; write "):
        daily(days)


def test_a_day_depends_on_the_days_before() -> None:
    assert upstream("clean/flights").partition_mapping is None
    found = upstream("clean/flights", lookback=2)
    assert found.asset_key == dg.AssetKey(["clean", "flights"])
    assert isinstance(found.partition_mapping, dg.TimeWindowPartitionMapping)
    assert found.partition_mapping.start_offset == -2


def test_what_has_no_days_has_no_partitions() -> None:
    assert partitions_of(None) is None
    assert partitions_of("2013-01-30/2013-01-31") == daily("2013-01-30/2013-01-31")


def test_a_run_makes_its_days_in_order_or_the_whole_table() -> None:
    made: dict[str, Sequence[str] | None] = {}

    def asset(name: str, days: str | None) -> dg.AssetsDefinition:
        @dg.asset(name=name, partitions_def=partitions_of(days), backfill_policy=dg.BackfillPolicy.single_run())
        def table(context: dg.AssetExecutionContext) -> None:
            made[name] = of_run_or_whole(context, days)

        return table

    tags = {"dagster/asset_partition_range_start": "2013-01-30", "dagster/asset_partition_range_end": "2013-02-01"}
    assert dg.materialize([asset("daily", "2013-01-01/2013-12-31"), asset("whole", None)], tags=tags).success
    assert made == {"daily": ["2013-01-30", "2013-01-31", "2013-02-01"], "whole": None}
