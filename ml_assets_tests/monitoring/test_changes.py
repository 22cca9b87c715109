"""Faults of a table's newest days: each is named when it is planted, and clean days are let alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
import polars as pl
import pytest

from ml_assets import keys
from ml_assets.monitoring.changes import Newest, changes
from ml_assets.monitoring.profile_shown import columns_table, days_plot
from ml_assets.monitoring.profiles import Profile, profile

FIRST, DAYS = "2013-01-01", 35
ROWS = 200


def a_day(number: int) -> pl.DataFrame:
    """Return a day's rows: measures with and without nulls, rain on some days only, a text, an id, and what is the same all day."""
    random = np.random.default_rng(number)
    rain = random.exponential(0.2, ROWS) * (random.random(ROWS) < 0.3) if number % 4 == 0 else np.zeros(ROWS)
    return pl.DataFrame(
        {
            "delay": random.normal(3, 30, ROWS),
            "gust": pl.Series(random.normal(20, 5, ROWS)).set(pl.Series(random.random(ROWS) < 0.3), None),
            "rain": rain,
            "carrier": random.choice(["UA", "B6", "EV", "HA"], ROWS, p=[0.5, 0.3, 0.19, 0.01]),
            "flight_id": [f"{number}-{row}" for row in range(ROWS)],
            "month": [1 if number < 31 else 2] * ROWS,
            "at": [datetime(2013, 1, 1, tzinfo=UTC) + timedelta(days=number)] * ROWS,
        }
    )


@cache
def clean(number: int) -> Profile:
    return profile(a_day(number))


def days(
    change: Callable[[pl.DataFrame], pl.DataFrame] | None = None, *, last: int = 7, count: int = DAYS
) -> dict[str, Profile]:
    """Return the profiles of so many days, of which the last ones are changed."""
    found = {}
    for number in range(count):
        changed = change and number >= count - last
        found[keys.before(FIRST, -number)] = profile(change(a_day(number))) if change and changed else clean(number)
    return found


def test_clean_days_are_let_alone() -> None:
    for count in range(8, 60):
        found = Newest(days(count=count))
        assert found.as_before().passed, found.as_before().reason
        assert found.finite().passed


@pytest.mark.parametrize(
    ("sign", "column", "change"),
    [
        ("null burst", "delay", lambda day: day.with_columns(delay=None)),
        ("null burst", "delay", lambda day: day.with_columns(pl.when(pl.int_range(ROWS) > 20).then("delay"))),
        ("null burst", "carrier", lambda day: day.with_columns(pl.when(pl.int_range(ROWS) > 20).then("carrier"))),
        ("unit change", "delay", lambda day: day.with_columns(pl.col("delay") * 1000)),
        ("unit change", "gust", lambda day: day.with_columns(pl.col("gust") / 60)),
        ("frozen", "delay", lambda day: day.with_columns(delay=pl.lit(3.0))),
        ("frozen", "carrier", lambda day: day.with_columns(carrier=pl.lit("UA"))),
        ("new categories", "carrier", lambda day: day.with_columns(pl.col("carrier").replace("B6", "9E"))),
        ("vanished categories", "carrier", lambda day: day.filter(pl.col("carrier") != "EV")),
        ("lost column", "gust", lambda day: day.drop("gust")),
        ("new column", "extra", lambda day: day.with_columns(extra=1)),
        ("type change", "delay", lambda day: day.with_columns(pl.col("delay").cast(pl.String))),
    ],
)
def test_a_planted_fault_is_named(sign: str, column: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    found = Newest(days(change)).as_before()
    assert (found.passed, found.undecided) == (False, False)
    assert f"{column}: {sign}" in found.reason
    assert column in [one.column for one in changes(list(days().values())[:28], list(days(change).values())[28:])]
    assert Newest(days(change), ignored=[column]).as_before().passed


def test_rain_after_dry_weeks_is_no_other_unit_and_a_dry_week_no_frozen_gauge() -> None:
    dry = Newest(days(lambda day: day.with_columns(rain=pl.lit(0.0))))
    assert dry.as_before().passed, dry.as_before().reason
    wet = Newest(days(lambda day: day.with_columns(rain=pl.col("delay").abs() / 100)))
    assert wet.as_before().passed, wet.as_before().reason
    heavy_and_light = [profile(pl.DataFrame({"rain": [size] * 50 + [2 * size] * 50})) for size in (100.0, 1.0)]
    assert not changes(heavy_and_light, heavy_and_light[1:]), (
        "seventy times less on the whole, but such days there were"
    )
    assert [one.sign for one in changes(heavy_and_light, [profile(pl.DataFrame({"rain": [0.1, 0.2]}))])] == [
        "unit change"
    ]


@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_what_is_not_finite_is_told_where_there_was_none(odd: float) -> None:
    def spoilt(day: pl.DataFrame) -> pl.DataFrame:
        return day.with_columns(delay=pl.when(pl.int_range(ROWS) == 7).then(odd).otherwise("delay"))

    found = Newest(days(spoilt, last=1)).finite()
    assert not found.passed and found.reason.startswith("delay: 1 " if odd != odd else "delay: 0 NaN, 1 infinite")
    assert Newest(days(spoilt, last=DAYS)).finite() == (
        True,
        "no NaN and no infinity but those known; as before in delay",
        False,
    )


def test_without_days_to_compare_nothing_passes() -> None:
    for found in ({}, days(count=7), {"_": profile(a_day(1))}):
        assert Newest(found).as_before()[::2] == (False, True)
    few = {day: profile(a_day(3).head(1)) for day in days()}
    assert Newest(few).as_before()[::2] == (False, True)
    assert "7 rows in the last 7 days, 28 in the 28 before: fewer than 50" in Newest(few).as_before().reason
    empty = {day: profile(a_day(3).clear()) for day in days()}
    assert Newest(empty).finite()[::2] == Newest(empty).as_before()[::2] == (False, True)


def test_an_empty_window_after_full_days_is_not_passed() -> None:
    found = Newest(days(lambda day: day.clear()))
    assert found.as_before()[::2] == found.finite()[::2] == (False, True)


def test_a_table_without_days_is_looked_at_as_a_whole() -> None:
    assert Newest({"_": profile(a_day(1))}).finite().passed
    spoilt = a_day(1).with_columns(delay=pl.lit(float("nan")))
    assert Newest({"_": profile(spoilt)}).finite().reason.startswith("delay: 200 NaN")


@pytest.mark.parametrize(("hours", "passed"), [(0, True), (36, True), (36.1, False)])
def test_the_newest_day_with_rows_must_be_young(hours: float, passed: bool) -> None:
    found = days() | {"2013-02-05": profile(a_day(1).clear())}
    now = datetime(2013, 2, 5, tzinfo=UTC) + timedelta(hours=hours)
    judged = Newest(found).fresh(now, timedelta(hours=36))
    assert judged.passed is passed
    assert "2013-02-04" in judged.reason
    assert Newest({}).fresh(now, timedelta(hours=36))[::2] == (False, True)


def test_people_see_the_columns_and_the_days() -> None:
    found = days(lambda day: day.with_columns(delay=pl.lit(None, pl.Float64)), last=1)
    text = columns_table(list(found.values()))
    assert "| delay | Float64 | 200 | 0 | 0 |" in text
    assert "| 2013-01-01 |" in text, "times are told as days"
    assert days_plot(found, "p/predictions").startswith(b"\x89PNG")
    assert len(days_plot(found, "p/predictions")) < 25_000
    for few in ({}, {"_": profile(a_day(1))}, dict(list(found.items())[:1])):
        assert days_plot(few, "p/predictions").startswith(b"\x89PNG")
    assert columns_table([]).startswith("| column |")
    odd = {day: profile(pl.DataFrame({"x": [float("inf")], "n": [None], "c": ["a"]})) for day in found}
    assert days_plot(odd, "odd").startswith(b"\x89PNG")
