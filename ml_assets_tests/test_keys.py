"""Keys, days and ranges of days."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets import keys


def test_tables_have_the_names_of_their_assets() -> None:
    assert keys.raw("flights") == "raw/flights"
    assert keys.clean("flights") == "clean/flights"
    assert keys.feature_view("carrier_history") == "features/carrier_history"
    assert keys.problem("flight_delay", "training_set") == "flight_delay/training_set"
    assert keys.candidate("flight_delay", "xgboost") == "flight_delay/candidates/xgboost"
    assert keys.sql_name("clean/flights") == "clean_flights"
    assert keys.check_name("no file: waits!") == "no_file__waits_"


def test_days() -> None:
    assert keys.day(date(2013, 1, 5)) == "2013-01-05"
    assert keys.days("2013-02-27", date(2013, 3, 2)) == ["2013-02-27", "2013-02-28", "2013-03-01", "2013-03-02"]
    assert keys.days("2013-03-02", "2013-03-01") == []
    assert keys.before("2013-03-01", 1) == "2013-02-28"
    assert keys.before("2013-03-01", 0) == "2013-03-01"


@pytest.mark.parametrize(
    ("days", "most", "ranges"),
    [
        ([], 3, []),
        (["2013-01-05"], 1, [("2013-01-05", "2013-01-05")]),
        (["2013-01-06", "2013-01-05", "2013-01-05"], 3, [("2013-01-05", "2013-01-06")]),
        (["2013-01-01", "2013-01-03"], 3, [("2013-01-01", "2013-01-01"), ("2013-01-03", "2013-01-03")]),
        (["2013-01-01", "2013-01-03"], 1, [("2013-01-01", "2013-01-03")]),
        (["2013-01-01", "2013-01-03", "2013-01-09"], 2, [("2013-01-01", "2013-01-03"), ("2013-01-09", "2013-01-09")]),
    ],
)
def test_few_ranges_close_the_smallest_gaps(days: list[str], most: int, ranges: list[tuple[str, str]]) -> None:
    assert keys.ranges(days, most=most) == ranges


@settings(max_examples=60)
@given(offsets=st.sets(st.integers(0, 60), max_size=15), most=st.integers(1, 6))
def test_ranges_cover_every_day_once(offsets: set[int], most: int) -> None:
    days = [keys.day(date(2013, 1, 1) + timedelta(days=offset)) for offset in offsets]
    ranges = keys.ranges(days, most=most)
    covered = [day for first, last in ranges for day in keys.days(first, last)]
    assert len(ranges) <= most
    assert covered == sorted(set(covered))
    assert set(days) <= set(covered)
    assert all(first in days and last in days for first, last in ranges)
    if len(ranges) < most:
        assert sorted(days) == covered  # nothing is made that need not be
