"""What cleaning makes of the whole recorded year: every flight once, with moments in the right order and zone."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ml_assets.defs.flights.feature_views import compute
from ml_assets.defs.flights.sources import cleaning
from ml_assets.preparation.cleaning import Cleaned, Repairs, clean
from ml_assets_tests.collection.outside import declared

SAMPLE = Path(__file__).parents[2] / "data" / "sample"
LANDED = datetime(2014, 1, 1, tzinfo=UTC)


def raw(table: str) -> pl.LazyFrame:
    """The recorded table as it is in the lake."""
    frame = pl.scan_parquet(SAMPLE / f"{table}.parquet").with_columns(pl.col(pl.Int16).cast(pl.Int64))
    return frame.with_columns(pl.lit(LANDED).dt.cast_time_unit("us").alias("landed_at"))


def cleaned(table: str, frame: pl.LazyFrame) -> Cleaned:
    source = declared(table)
    assert source.clean is not None
    plausible = {name: (low, high) for name, (low, high) in source.clean.plausible.items()}
    uses = {"raw_airports": raw("airports")} if table == "flights" else {}
    repairs = Repairs(key=source.key, plausible=plausible, derive=getattr(cleaning, table))
    return clean(frame, repairs, uses=uses)


@cache
def year() -> Cleaned:
    return cleaned("flights", raw("flights"))


def count(condition: pl.Expr) -> int:
    return int(year().frame.select(condition.sum()).item())


def test_every_flight_is_there_once() -> None:
    assert year().frame.height == year().frame["flight_id"].n_unique() == 336_776


def test_the_recorded_year_needs_no_repair() -> None:
    assert sum(year().repairs.values()) == 0


def test_flights_without_an_outcome_are_cancelled_or_diverted() -> None:
    assert count(pl.col("arr_delay").is_null()) == count(pl.col("arrived_at").is_null()) == 9_430
    assert (count(pl.col("cancelled")), count(pl.col("diverted"))) == (8_255, 1_175)
    assert count(pl.col("cancelled") & pl.col("diverted")) == 0


def test_moments_are_in_order() -> None:
    assert count(pl.col("arrived_at") <= pl.col("departed_at")) == 0
    assert count(pl.col("scheduled_arrival") <= pl.col("scheduled_departure")) == 0
    assert year().frame.select("scheduled_departure", "scheduled_arrival", "scheduled_duration").null_count().row(
        0
    ) == (0, 0, 0)


def test_an_outcome_is_known_no_earlier_than_it_happened() -> None:
    landed = pl.col("departed_at") + pl.duration(minutes="air_time")
    assert count(pl.col("arrived_at") < landed) == 0
    assert count(pl.col("arrived_at") < pl.col("scheduled_arrival") + pl.duration(minutes="arr_delay")) == 0


def test_delays_agree_with_the_recorded_clocks() -> None:
    """The moments derived from delays show the recorded clock readings, but for rare errors of the recording."""
    local = pl.col("departed_at").dt.convert_time_zone("America/New_York")
    reading = local.dt.hour().cast(pl.Int64) * 100 + local.dt.minute()
    assert count(reading == pl.col("dep_time") % 2400) > 0.999 * (336_776 - 8_255)


def test_every_zone_with_flights_is_known() -> None:
    zones = year().frame.group_by("dest").agg(pl.col("scheduled_arrival").null_count())
    assert zones["scheduled_arrival"].sum() == 0
    served = raw("airports").join(raw("flights").select(faa="dest").unique(), on="faa", how="semi").collect()
    assert set(served["tzone"]) <= set(cleaning.ZONES)


def test_the_schedule_is_told() -> None:
    frame = year().frame
    assert frame["scheduled_minute"].is_between(0, 1439).all()
    assert set(frame["weekday"].unique()) == {1, 2, 3, 4, 5, 6, 7}
    assert frame["scheduled_duration"].is_between(10, 900).all()
    hour = frame.filter(pl.col("origin") == "JFK", pl.col("time_hour") == datetime(2013, 7, 1, 12, tzinfo=UTC))
    assert hour["planned_departures"].unique().to_list() == [hour.height]


FLIGHT: dict[str, Any] = {
    "year": 2013, "month": 7, "day": 1, "dep_time": 2355, "sched_dep_time": 2350, "dep_delay": 5, "arr_time": 310,
    "sched_arr_time": 300, "arr_delay": 10, "carrier": "B6", "flight": 1, "tailnum": "N1", "origin": "JFK", "dest": "LAX",
    "air_time": 300, "distance": 2475, "hour": 23, "minute": 50, "time_hour": datetime(2013, 7, 2, 3, tzinfo=UTC),
}  # fmt: skip


def flights(*rows: dict[str, Any]) -> pl.LazyFrame:
    return pl.LazyFrame(rows, schema=raw("flights").collect_schema()).with_columns(landed_at=LANDED)


def one(**changes: Any) -> dict[str, Any]:
    return cleaned("flights", flights(FLIGHT | changes)).frame.row(0, named=True)


def test_an_arrival_after_midnight_is_on_the_next_day_of_its_own_zone() -> None:
    flight = one()
    assert flight["scheduled_departure"] == datetime(2013, 7, 2, 3, 50, tzinfo=UTC)
    assert flight["departed_at"] == datetime(2013, 7, 2, 3, 55, tzinfo=UTC)
    assert flight["scheduled_arrival"] == datetime(2013, 7, 2, 10, 0, tzinfo=UTC)  # 3 in the morning in Los Angeles
    assert flight["arrived_at"] == datetime(2013, 7, 2, 10, 10, tzinfo=UTC)
    assert flight["flight_id"] == "2013-07-01-B6-1-JFK"


def test_2400_is_midnight() -> None:
    assert one(sched_arr_time=2400)["scheduled_arrival"] == one(sched_arr_time=0)["scheduled_arrival"]
    assert one(sched_arr_time=2400)["scheduled_arrival"] == datetime(2013, 7, 2, 7, tzinfo=UTC)


def test_puerto_rico_has_a_zone_though_the_airports_lack_it() -> None:
    assert one(dest="SJU")["scheduled_arrival"] == datetime(2013, 7, 2, 7, tzinfo=UTC)


def test_an_unknown_destination_has_no_arrival_which_the_check_finds() -> None:
    assert one(dest="XXX")["scheduled_arrival"] is None


@pytest.mark.parametrize(
    ("changes", "cancelled", "diverted"),
    [
        ({}, False, False),
        ({"arr_delay": None, "air_time": None, "arr_time": None}, False, True),
        ({"dep_delay": None, "dep_time": None, "arr_delay": None, "air_time": None, "arr_time": None}, True, False),
    ],
)
def test_what_became_of_a_flight(changes: dict[str, Any], cancelled: bool, diverted: bool) -> None:
    flight = one(**changes)
    assert (flight["cancelled"], flight["diverted"]) == (cancelled, diverted)
    assert (flight["arrived_at"] is None) is (cancelled or diverted)


def test_a_delay_that_cannot_be_is_counted_and_gone() -> None:
    found = cleaned("flights", flights(FLIGHT, FLIGHT | {"flight": 2, "arr_delay": 9999}))
    assert Counter(found.repairs)["arr_delay: implausible values to null"] == 1
    assert found.frame["arrived_at"].null_count() == 1


# -- weather -----------------------------------------------------------------------------------------------------------------


@cache
def hours() -> Cleaned:
    return cleaned("weather", raw("weather"))


def test_every_hour_is_there_once() -> None:
    assert hours().frame.height == hours().frame.select("origin", "observed_at").n_unique() == 26_115


def test_the_one_impossible_wind_is_gone() -> None:
    told = {kind: number for kind, number in hours().repairs.items() if number}
    assert told == {"wind_speed: implausible values to null": 1}


def test_weather_is_known_no_earlier_than_it_was_measured() -> None:
    """`time_hour` begins the hour whose rain the row holds: of LGA, 8 June, 1 to 2 UTC, reported at 01:49 and 01:51."""
    shower = (
        pl.col("origin") == "LGA",
        pl.col("precip") == 0.24,
        pl.col("observed_at").dt.date() == datetime(2013, 6, 8).date(),
    )
    rows = hours().frame.filter(*shower)
    assert rows["observed_at"].to_list() == [datetime(2013, 6, 8, 1, 51, tzinfo=UTC)]
    view = compute.origin_weather(hours().frame.lazy()).collect()
    beginnings = raw("weather").select("origin", "time_hour").collect()
    late = view.with_columns(time_hour=pl.col("event_timestamp") - timedelta(minutes=51))
    assert late.join(beginnings, on=["origin", "time_hour"], how="semi").height == view.height
