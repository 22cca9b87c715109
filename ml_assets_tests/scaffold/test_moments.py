"""Which notation days and times are in; day-first or month-first by the values."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.scaffold.moments import DAYS, notation_of

FORMS = [form for _, forms in DAYS for form in forms]


@given(
    st.lists(st.dates(date(1971, 1, 1), date(2040, 12, 31)), min_size=2, max_size=20),
    st.sampled_from(FORMS),
    st.sampled_from(["", " %H:%M", "T%H:%M:%S", " %H:%M:%S.%f", " %I:%M %p"]),
)
def test_what_is_written_in_a_notation_is_read(days: list[date], form: str, clock: str) -> None:
    moments = [datetime(day.year, day.month, day.day, 15, 7, tzinfo=UTC) for day in days]
    text = pl.Series([moment.strftime(form + clock) for moment in moments])
    found = notation_of(text)
    assert found is not None
    assert found.type == ("Datetime" if clock else "Date")
    wanted = moments if clock else days
    reads = [found.read(text).to_list()]
    if found.other:
        reads.append(found.swapped().read(text).to_list())
    if "%y" in form and any(not 1970 <= day.year <= 2068 for day in days):
        return
    assert wanted in reads


@pytest.mark.parametrize(
    ("values", "form", "other"),
    [
        (["31/12/2024", "01/02/2024"], "%d/%m/%Y", ""),
        (["12/31/2024", "01/02/2024"], "%m/%d/%Y", ""),
        (["01/02/2024", "03/04/2024"], "%m/%d/%Y", "%d/%m/%Y"),
        (["01.02.2024", "03.04.2024"], "%d.%m.%Y", "%m.%d.%Y"),
        (["01/02/2024", "02/02/2024", "01/03/2024"], "%d/%m/%Y", "%m/%d/%Y"),  # in order of time only so
        (["2024-01-31", "2024-02-01"], "", ""),
        (["2024-01-31T10:00:00Z", "2024-02-01T10:00:00Z"], "", ""),
    ],
)
def test_day_or_month_first(values: list[str], form: str, other: str) -> None:
    found = notation_of(pl.Series(values))
    assert found is not None
    assert (found.form, found.other) == (form, other)


@pytest.mark.parametrize(
    "values",
    [["a", "b"], ["12", "13"], ["1.5", "2.5"], ["2024-01-31", "soon"], ["32/13/2024"], ["10.0.0.1"], ["20240131"]],
)
def test_what_is_no_time(values: list[str]) -> None:
    assert notation_of(pl.Series(values)) is None


def test_compact_days_where_the_name_says_so() -> None:
    found = notation_of(pl.Series(["20240131", "20240201"]), compact=True)
    assert found is not None and found.form == "%Y%m%d"


def test_zones_are_read() -> None:
    text = pl.Series(["31.12.2024 10:00:00+02:00", "30.12.2024 10:00:00+02:00"])
    found = notation_of(text)
    assert found is not None
    first = datetime(2024, 12, 31, 8, tzinfo=UTC)
    assert found.read(text).to_list() == [first, first - timedelta(days=1)]
