"""Lengths of calendar time as people write them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.preparation.spans import Span


@pytest.mark.parametrize(("text", "span"), [("8mo", Span(8, "mo")), ("4w", Span(4, "w")), ("10d", Span(10, "d"))])
def test_a_span_is_a_number_and_a_unit(text: str, span: Span) -> None:
    assert Span.parse(text) == span


@pytest.mark.parametrize("text", ["", "8", "mo", "0d", "-1d", "8 mo", "8 months", "1.5w", "1y", "08mo", "8mo "])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a span of time; write a number and d, w or mo, such as 8mo"):
        Span.parse(text)


@pytest.mark.parametrize(
    ("span", "moment", "before"),
    [
        ("1mo", "2013-11-01T00:00", "2013-10-01T00:00"),
        ("11mo", "2013-11-01T00:00", "2012-12-01T00:00"),
        ("12mo", "2013-01-01T00:00", "2012-01-01T00:00"),
        ("1mo", "2013-03-31T12:30", "2013-02-28T12:30"),
        ("1mo", "2012-03-30T00:00", "2012-02-29T00:00"),
        ("2w", "2013-03-15T00:00", "2013-03-01T00:00"),
        ("1d", "2013-01-01T00:00", "2012-12-31T00:00"),
    ],
)
def test_counting_back(span: str, moment: str, before: str) -> None:
    assert Span.parse(span).before(datetime.fromisoformat(moment)) == datetime.fromisoformat(before)


@given(moment=st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1)), count=st.integers(1, 40))
def test_months_back_are_that_many_calendar_months(moment: datetime, count: int) -> None:
    earlier = Span(count, "mo").before(moment)
    assert (moment.year - earlier.year) * 12 + moment.month - earlier.month == count
    assert earlier.day <= moment.day


def test_the_start_of_the_unit() -> None:
    moment = datetime(2013, 11, 3, 14, 5, 6, 7, tzinfo=UTC)
    assert Span(1, "mo").floor(moment) == datetime(2013, 11, 1, tzinfo=UTC)
    assert Span(1, "w").floor(moment) == Span(1, "d").floor(moment) == datetime(2013, 11, 3, tzinfo=UTC)
