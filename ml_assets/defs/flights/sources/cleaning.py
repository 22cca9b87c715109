"""What cleaning means for flights and weather: real moments in UTC instead of local clock readings."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

# Destinations that the airports table lacks: Puerto Rico and the U.S. Virgin Islands keep Atlantic time all year.
ATLANTIC = ("BQN", "PSE", "SJU", "STT")
# `time_hour` is the beginning of the hour. Its row is the hour's first report, which is the routine one of minute 51 when nothing
# special happens, with the hour's precipitation up to minute 51 (nycflights13, data-raw/weather.R): nobody knew it earlier.
REPORTED_AFTER = timedelta(minutes=51)
LATE_AFTER = 15  # minutes; the U.S. Bureau of Transportation Statistics counts an arrival as late from 15 minutes


def flights(raw: pl.LazyFrame, *, raw_airports: pl.LazyFrame) -> pl.LazyFrame:
    """Add the moments of scheduled and actual departure and arrival, and what became of the flight.

    Adds `flight_id`, `scheduled_departure`, `scheduled_arrival`, `departed_at`, `arrived_at` (UTC), `cancelled`,
    `diverted`, and the schedule's own `scheduled_minute` (local minute of the day), `scheduled_duration` (minutes),
    `weekday` (1 is Monday) and `planned_departures` (flights scheduled from the airport in that hour).
    """
    zoned = raw.join(_zones(raw_airports), on="dest", how="left", maintain_order="left")
    return (
        zoned.with_columns(scheduled_departure=pl.col("time_hour") + pl.duration(minutes="minute"))
        .with_columns(scheduled_arrival=_scheduled_arrival(), departed_at=_after("scheduled_departure", "dep_delay"))
        .with_columns(arrived_at=_arrived_at())
        .with_columns(
            flight_id=pl.format("{}-{}-{}-{}", pl.date("year", "month", "day"), "carrier", "flight", "origin"),
            cancelled=pl.col("departed_at").is_null(),
            diverted=pl.col("departed_at").is_not_null() & pl.col("arrived_at").is_null(),
            scheduled_minute=(pl.col("hour") * 60 + pl.col("minute")).cast(pl.Float64),
            scheduled_duration=_minutes("scheduled_arrival", "scheduled_departure").cast(pl.Float64),
            weekday=pl.date("year", "month", "day").dt.weekday().cast(pl.Float64),
            planned_departures=pl.len().over("origin", "time_hour").cast(pl.Float64),
            distance=pl.col("distance").cast(pl.Float64),
        )
        .drop("zone")
        .sort("scheduled_departure", "flight_id")
    )


def weather(raw: pl.LazyFrame) -> pl.LazyFrame:
    """Add `observed_at` (UTC), the moment by which the row was measured, and keep what was measured."""
    observed = raw.with_columns(observed_at=pl.col("time_hour") + REPORTED_AFTER)
    return observed.drop("time_hour", "year", "month", "day", "hour").sort("observed_at", "origin")


def _zones(airports: pl.LazyFrame) -> pl.LazyFrame:
    known = airports.select(dest="faa", zone="tzone")
    atlantic = pl.LazyFrame({"dest": ATLANTIC, "zone": ["America/Puerto_Rico"] * len(ATLANTIC)})
    return pl.concat([known, atlantic]).unique("dest", keep="first", maintain_order=True)


def _scheduled_arrival() -> pl.Expr:
    """Read the local clock at the destination (2400 is midnight); an arrival before the departure is on the next day."""
    reading = pl.col("sched_arr_time") % 2400
    clock = pl.datetime("year", "month", "day", reading // 100, reading % 100)
    local = clock.cast(pl.Datetime("us"))
    arrival = pl.lit(None, dtype=pl.Datetime("us", "UTC"))
    for zone in ZONES:
        moment = local.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null").dt.convert_time_zone("UTC")
        arrival = pl.when(pl.col("zone") == zone).then(moment).otherwise(arrival)
    return pl.when(arrival < pl.col("scheduled_departure")).then(arrival + pl.duration(days=1)).otherwise(arrival)


# Local time needs one expression for each zone; these are all zones that have flights from New York.
ZONES = (
    "America/Anchorage",
    "America/Chicago",
    "America/Denver",
    "America/Los_Angeles",
    "America/New_York",
    "America/Phoenix",
    "America/Puerto_Rico",
    "Pacific/Honolulu",
)


def _arrived_at() -> pl.Expr:
    """Return scheduled arrival plus delay, but never before departure plus time in the air.

    A handful of recorded clock readings would put the landing before the flight's end: the later moment is the safe
    one, because an outcome must not be known too early.
    """
    return pl.max_horizontal(
        _after("scheduled_arrival", "arr_delay"),
        pl.when(pl.col("arr_delay").is_not_null()).then(_after("departed_at", "air_time")),
    )


def _after(moment: str, minutes: str) -> pl.Expr:
    return pl.col(moment) + pl.duration(minutes=pl.col(minutes))


def _minutes(later: str, earlier: str) -> pl.Expr:
    return (pl.col(later) - pl.col(earlier)).dt.total_minutes()
