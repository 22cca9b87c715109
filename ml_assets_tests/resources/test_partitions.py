"""Daily partitions from an interval, and what depends on days before."""

from __future__ import annotations

from datetime import datetime

import dagster as dg
import pytest

from ml_assets.resources.partitions import daily, upstream


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
