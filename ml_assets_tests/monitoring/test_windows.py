"""Windows of equal length, counted from the end of the test split; each day lies in exactly one."""

from __future__ import annotations

from datetime import date, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets import keys
from ml_assets.monitoring.windows import Window, windows

ANCHOR = date(2013, 11, 1)


def spans(found: list[Window]) -> list[tuple[str, str, int]]:
    return [(window.first, window.last, len(window.days)) for window in found]


def test_windows_begin_at_the_anchor() -> None:
    found = windows(keys.days("2013-10-01", "2013-11-16"), anchor=ANCHOR, length=7)
    assert spans(found) == [
        ("2013-11-01", "2013-11-07", 7),
        ("2013-11-08", "2013-11-14", 7),
        ("2013-11-15", "2013-11-21", 2),
    ]
    assert [window.complete for window in found] == [True, True, False]


def test_before_anything_is_live_it_is_the_end_of_the_test_split() -> None:
    found = windows(keys.days("2013-09-01", "2013-10-31"), anchor=ANCHOR, length=7)
    assert spans(found) == [("2013-10-25", "2013-10-31", 7)]
    assert found[0].complete


def test_windows_without_predictions_are_left_out() -> None:
    assert windows([], anchor=ANCHOR, length=7) == []
    assert windows(["2013-01-01"], anchor=ANCHOR, length=7) == []
    found = windows(["2013-11-03", "2013-11-20"], anchor=ANCHOR, length=7)
    assert spans(found) == [("2013-11-01", "2013-11-07", 1), ("2013-11-15", "2013-11-21", 1)]


@settings(max_examples=60)
@given(offsets=st.sets(st.integers(-20, 40)), length=st.integers(1, 10))
def test_each_live_day_lies_in_exactly_one_window(offsets: set[int], length: int) -> None:
    days = [keys.day(ANCHOR + timedelta(days=offset)) for offset in offsets]
    found = windows(days, anchor=ANCHOR, length=length)
    live = [day for day in days if day >= keys.day(ANCHOR)]
    inside = [day for window in found for day in window.days]
    if live:
        assert inside == sorted(live)
    else:
        assert len(found) <= 1
        assert set(inside) <= set(days)
    for window in found:
        assert len(keys.days(window.first, window.last)) == length
        assert (date.fromisoformat(window.first) - ANCHOR).days % length == 0
        assert all(window.first <= day <= window.last for day in window.days)
    assert [window.first for window in found] == sorted({window.first for window in found})
