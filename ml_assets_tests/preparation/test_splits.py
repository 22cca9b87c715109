"""Splits by time never overlap, never look ahead, and begin and end where a person expects it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.preparation.splits import SPLITS, SplitWindows, split_windows

NOW = datetime(2013, 11, 3, 14, 30, tzinfo=UTC)


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]


def test_january_to_october_is_split_as_the_problem_says() -> None:
    windows = split_windows(as_known_at=NOW, train="8mo", validation="1mo", test="1mo")
    assert windows == SplitWindows(utc(2013, 1, 1), utc(2013, 9, 1), utc(2013, 10, 1), utc(2013, 11, 1))


def test_days_end_at_midnight() -> None:
    windows = split_windows(as_known_at=NOW, train="2w", validation="3d", test="7d")
    assert windows == SplitWindows(utc(2013, 10, 10), utc(2013, 10, 24), utc(2013, 10, 27), utc(2013, 11, 3))


def test_months_before_a_day_that_they_lack() -> None:
    windows = split_windows(as_known_at=utc(2013, 4, 7), train="1mo", validation="1mo", test="7d")
    assert windows == SplitWindows(utc(2013, 1, 28), utc(2013, 2, 28), utc(2013, 3, 31), utc(2013, 4, 7))


def test_midnight_of_another_zone_is_not_midnight() -> None:
    tokyo = datetime(2013, 11, 1, 8, tzinfo=timezone(timedelta(hours=9)))  # still October in UTC
    assert split_windows(as_known_at=tokyo, train="1mo", validation="1mo", test="1mo").end == utc(2013, 10, 1)


@pytest.mark.parametrize("field", ["train", "validation", "test"])
def test_a_span_that_cannot_be_read_is_named(field: str) -> None:
    spans = {"train": "8mo", "validation": "1mo", "test": "1mo"} | {field: "a month"}
    with pytest.raises(ValueError, match="'a month' is not a span of time"):
        split_windows(as_known_at=NOW, **spans)


spans = st.builds("{}{}".format, st.integers(1, 14), st.sampled_from(["mo", "w", "d"]))
moments = st.datetimes(datetime(2000, 1, 1), datetime(2050, 1, 1), timezones=st.just(UTC))


@settings(max_examples=60)
@given(now=moments, train=spans, validation=spans, test=spans, data=st.data())
def test_windows_are_in_order_whole_and_past(
    now: datetime, train: str, validation: str, test: str, data: st.DataObject
) -> None:
    windows = split_windows(as_known_at=now, train=train, validation=validation, test=test)
    edges = [windows.train_start, windows.validation_start, windows.test_start, windows.end]
    assert edges == sorted(set(edges))
    assert windows.end <= now
    assert all(edge == edge.replace(hour=0, minute=0, second=0, microsecond=0) for edge in edges)
    step = timedelta(microseconds=1)
    drawn = data.draw(
        st.lists(st.datetimes(datetime(1980, 1, 1), datetime(2050, 1, 1), timezones=st.just(UTC)), max_size=5)
    )
    times = [*drawn, *(edge + shift for edge in edges for shift in (-step, timedelta(0)))]
    frame = pl.DataFrame({"event_timestamp": times}, schema={"event_timestamp": pl.Datetime("us", "UTC")})
    found = frame.select(windows.expression()).to_series().to_list()
    for moment, split in zip(times, found, strict=True):
        inside = [name for name, first, last in zip(SPLITS, edges, edges[1:], strict=False) if first <= moment < last]
        assert [split] == (inside or [None])
