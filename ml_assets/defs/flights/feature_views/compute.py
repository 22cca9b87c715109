"""The feature views of the example: what could be known at each moment, from what had happened by then.

A history row appears at the moment of an event (a departure, an arrival), and its window ends there, so the last row before a
moment of prediction holds only what had happened. `created_timestamp` is when the newest file behind a row landed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import time, timedelta

import polars as pl

from ml_assets.defs.flights.sources.cleaning import LATE_AFTER

EVENT, CREATED = "event_timestamp", "created_timestamp"
MEASURED = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")
ZONE, LAST_MINUTE = "America/New_York", time(23, 59)  # when the days of the airport profile end
PROFILE_DAYS, FEW = 28, 30  # with so few flights, half of what is told of an airport is what is true of all
# No recorded departure is later than a day (the cleaning's limit): after that a flight without one is known to be cancelled.
CANCELLED_AFTER = timedelta(hours=24)
BESIDE = ("dest", "until", "first", "landed_at")  # columns of the sums that are none
POOR_VISIBILITY = 3  # miles; below it, visual flight is not allowed in controlled airspace (14 CFR 91.155)


def origin_weather(clean_weather: pl.LazyFrame) -> pl.LazyFrame:
    """Return the hourly observation at the origin airport: °F, %, degrees, mph, inches, mbar, miles."""
    return clean_weather.select(
        "origin",
        pl.col("observed_at").alias(EVENT),
        *(pl.col(name).cast(pl.Float64) for name in MEASURED),
        pl.col("landed_at").alias(CREATED),
    )


def origin_congestion(clean_flights: pl.LazyFrame) -> pl.LazyFrame:
    """Return how departures at the origin airport went in the last one and three hours."""
    windows = {
        hours: {
            f"origin_dep_delay_mean_{hours}": _mean("dep_delay"),
            f"origin_dep_late_share_{hours}": _late("dep_delay"),
            f"origin_departures_{hours}": _count("dep_delay"),
        }
        for hours in ("1h", "3h")
    }
    return _rolling(_departures(clean_flights), ["origin"], windows)


def carrier_history(clean_flights: pl.LazyFrame) -> pl.LazyFrame:
    """Return how the carrier's departures and arrivals went in the last three hours, day and week."""
    windows = {
        "3h": {
            "carrier_dep_delay_mean_3h": _mean("dep_delay"),
            "carrier_dep_late_share_3h": _late("dep_delay"),
            "carrier_arr_delay_mean_3h": _mean("arr_delay"),
            "carrier_arr_late_share_3h": _late("arr_delay"),
        },
        "24h": {"carrier_dep_late_share_24h": _late("dep_delay")},
        "7d": {"carrier_arr_late_share_7d": _late("arr_delay")},
    }
    return _rolling(_events(clean_flights), ["carrier"], windows)


def route_history(clean_flights: pl.LazyFrame) -> pl.LazyFrame:
    """Return how arrivals on the route went in the last day and the last thirty."""
    windows = {
        "1d": {"route_arr_delay_mean_1d": _mean("arr_delay"), "route_arr_late_share_1d": _late("arr_delay")},
        "30d": {"route_arr_late_share_30d": _late("arr_delay"), "route_arrivals_30d": _count("arr_delay")},
    }
    return _rolling(_arrivals(clean_flights), ["origin", "dest"], windows)


def destination_history(clean_flights: pl.LazyFrame) -> pl.LazyFrame:
    """Return how arrivals at the destination went in the last three hours."""
    windows = {"3h": {"dest_arr_delay_mean_3h": _mean("arr_delay"), "dest_arr_late_share_3h": _late("arr_delay")}}
    return _rolling(_arrivals(clean_flights), ["dest"], windows)


def aircraft_history(clean_flights: pl.LazyFrame) -> pl.LazyFrame:
    """Return the aircraft's last known departure and arrival delay and its departures in the last day."""
    windows = {
        "24h": {
            "aircraft_last_dep_delay": pl.col("dep_delay").drop_nulls().last(),
            "aircraft_last_arr_delay": pl.col("arr_delay").drop_nulls().last(),
            "aircraft_departures_24h": _count("dep_delay"),
        }
    }
    return _rolling(_events(clean_flights).filter(pl.col("tailnum").is_not_null()), ["tailnum"], windows)


def aircraft_spec(raw_planes: pl.LazyFrame) -> pl.LazyFrame:
    """Return seats and year of manufacture; known since the aircraft was registered, long before 2013."""
    return raw_planes.select(
        "tailnum",
        pl.datetime(2000, 1, 1, time_zone="UTC").alias(EVENT),
        pl.col("seats").cast(pl.Float64).alias("aircraft_seats"),
        pl.col("year").cast(pl.Float64).alias("aircraft_year_built"),
        pl.col("landed_at").alias(CREATED),
    )


def airport_profile(clean_flights: pl.LazyFrame, *, clean_weather: pl.LazyFrame) -> pl.LazyFrame:
    """Return traffic, delays and weather of each destination's flights in the 28 days up to the end of each.

    One row per destination and local day, at 23:59. Delays, cancellations and weather are told as what they lie above those of all
    destinations in the same days, so that a bad month makes no airport look bad, and drawn to zero where flights are
    few. Weather is the last report from the airport of departure when the flight left: share of departures with less
    than 3 miles of visibility or with rain or snow, and wind in mph. Where the table begins, the window is shorter.
    """
    return _profile(_trailing(_sums_by_day(_happenings(clean_flights, clean_weather)))).sort(EVENT, "dest")


def _happenings(flights: pl.LazyFrame, weather: pl.LazyFrame) -> pl.LazyFrame:
    """Return departures, arrivals and cancellations to `dest`, each at the moment when it was known, in whole numbers.

    Whole numbers, so that sums are exact: a day made alone then has the same bits as a day made with others.
    """
    landed = pl.max_horizontal("landed_at", "weather_landed_at")
    poor = (pl.col("visib") < POOR_VISIBILITY) | (pl.col("precip") > 0)
    left = _with_weather(flights.filter(pl.col("departed_at").is_not_null()), weather).select(
        "dest",
        landed.alias("landed_at"),
        pl.col("departed_at").alias(EVENT),
        distance=pl.col("distance").round().cast(pl.Int64),
        poor_weather=poor.cast(pl.Int64),
        wind=(pl.col("wind_speed") * 1000).round().cast(pl.Int64),
    )
    came = flights.filter(pl.col("arrived_at").is_not_null()).select(
        "dest", "landed_at", pl.col("arrived_at").alias(EVENT), delay=pl.col("arr_delay").cast(pl.Int64)
    )
    known = pl.col("scheduled_departure") + CANCELLED_AFTER
    dropped = flights.filter(pl.col("cancelled")).select(
        "dest", "landed_at", known.alias(EVENT), cancelled=pl.lit(1, pl.Int64)
    )
    return pl.concat([left, came, dropped], how="diagonal")


def _with_weather(departed: pl.LazyFrame, weather: pl.LazyFrame) -> pl.LazyFrame:
    observed = weather.select(
        "origin", "observed_at", "visib", "precip", "wind_speed", pl.col("landed_at").alias("weather_landed_at")
    )
    return departed.sort("departed_at").join_asof(
        observed.sort("observed_at"),
        left_on="departed_at",
        right_on="observed_at",
        by="origin",
        tolerance="3h",
        check_sortedness=False,
    )


def _sums_by_day(happenings: pl.LazyFrame) -> pl.LazyFrame:
    """Return counts and sums per destination and local day on which it happened."""
    day = pl.col(EVENT).dt.convert_time_zone(ZONE).dt.date().alias("day")
    return happenings.group_by("dest", day).agg(
        pl.col("landed_at").max(),
        departures=pl.col("distance").count(),
        distance=pl.col("distance").sum(),
        weather_known=pl.col("poor_weather").count(),
        poor_weather=pl.col("poor_weather").sum(),
        wind_known=pl.col("wind").count(),
        wind=pl.col("wind").sum(),
        arrivals=pl.col("delay").count(),
        delay=pl.col("delay").sum(),
        delay_squared=(pl.col("delay") ** 2).sum(),
        late=(pl.col("delay") > LATE_AFTER).sum(),
        cancelled=pl.col("cancelled").sum(),
        flights=pl.col("distance").count() + pl.col("cancelled").count(),
    )


def _trailing(days: pl.LazyFrame) -> pl.LazyFrame:
    """Add up, for each destination and day, that day and the 27 before; `days` counts those that the table has."""
    reached = days.with_columns(
        first=pl.col("day").min(), last=pl.col("day").max(), ahead=pl.int_ranges(0, PROFILE_DAYS)
    ).explode("ahead")
    until = pl.col("day").dt.offset_by(pl.format("{}d", pl.col("ahead"))).alias("until")
    return (
        reached.with_columns(until)
        .filter(pl.col("until") <= pl.col("last"))
        .group_by("dest", "until")
        .agg(
            pl.all().exclude(*BESIDE, "day", "ahead", "last").sum(), pl.col("landed_at").max(), pl.col("first").first()
        )
        .with_columns(days=((pl.col("until") - pl.col("first")).dt.total_days() + 1).clip(upper_bound=PROFILE_DAYS))
    )


def _profile(sums: pl.LazyFrame) -> pl.LazyFrame:
    moment = pl.col("until").dt.combine(LAST_MINUTE).dt.replace_time_zone(ZONE).dt.convert_time_zone("UTC")
    totals = pl.all().exclude(*BESIDE, "days").sum().over("until").name.suffix("_all")
    flown = pl.col("departures") > 0
    return sums.with_columns(totals).select(
        "dest",
        moment.alias(EVENT),
        airport_departures_per_day_28d=pl.col("departures") / pl.col("days"),
        airport_distance_mean_28d=pl.when(flown).then(pl.col("distance") / pl.col("departures")),
        airport_cancelled_above_28d=_above("cancelled", "flights"),
        airport_arr_late_above_28d=_above("late", "arrivals"),
        airport_arr_delay_above_28d=_above("delay", "arrivals"),
        airport_arr_delay_spread_above_28d=_spread_above(),
        airport_poor_weather_above_28d=_above("poor_weather", "weather_known"),
        airport_wind_above_28d=_above("wind", "wind_known") / 1000,
        created_timestamp=pl.col("landed_at"),
    )


def _above(part: str, whole: str) -> pl.Expr:
    """Return part / whole less that of all destinations, as if `FEW` more flights had gone as everywhere."""
    everywhere = pl.col(f"{part}_all") / pl.col(f"{whole}_all")
    above = (pl.col(part) - pl.col(whole) * everywhere) / (pl.col(whole) + FEW)
    return pl.when(pl.col(f"{whole}_all") > 0).then(above)


def _spread_above() -> pl.Expr:
    """Return the standard deviation of the arrival delay less that of all destinations, zero where there are no arrivals."""

    def spread(suffix: str) -> pl.Expr:
        count, delay, squared = (pl.col(f"{name}{suffix}") for name in ("arrivals", "delay", "delay_squared"))
        return (squared / count - (delay / count) ** 2).clip(lower_bound=0).sqrt()

    count = pl.col("arrivals")
    above = pl.when(count > 0).then((spread("") - spread("_all")) * count / (count + FEW)).otherwise(0.0)
    return pl.when(pl.col("arrivals_all") > 0).then(above)


def _departures(flights: pl.LazyFrame) -> pl.LazyFrame:
    return flights.filter(pl.col("departed_at").is_not_null()).select(
        "origin",
        "dest",
        "carrier",
        "tailnum",
        pl.col("departed_at").alias(EVENT),
        pl.col("dep_delay").cast(pl.Float64),
        pl.lit(None, dtype=pl.Float64).alias("arr_delay"),
        "landed_at",
    )


def _arrivals(flights: pl.LazyFrame) -> pl.LazyFrame:
    return flights.filter(pl.col("arrived_at").is_not_null()).select(
        "origin",
        "dest",
        "carrier",
        "tailnum",
        pl.col("arrived_at").alias(EVENT),
        pl.lit(None, dtype=pl.Float64).alias("dep_delay"),
        pl.col("arr_delay").cast(pl.Float64),
        "landed_at",
    )


def _events(flights: pl.LazyFrame) -> pl.LazyFrame:
    return pl.concat([_departures(flights), _arrivals(flights)])


def _rolling(events: pl.LazyFrame, by: Sequence[str], windows: Mapping[str, Mapping[str, pl.Expr]]) -> pl.LazyFrame:
    """Return one row per entity and moment of an event, with each window's values up to and including that moment."""
    ordered = events.sort(EVENT, *by, "dep_delay", "arr_delay")  # the order within a minute must not matter
    joined: pl.LazyFrame | None = None
    for period, values in windows.items():
        named = [expression.alias(name) for name, expression in values.items()]
        created = [] if joined is not None else [pl.col("landed_at").max().alias(CREATED)]
        rolled = ordered.rolling(EVENT, period=period, group_by=list(by)).agg(*named, *created).unique([*by, EVENT])
        joined = rolled if joined is None else joined.join(rolled, on=[*by, EVENT], how="left")
    assert joined is not None
    return joined.sort(EVENT, *by)


def _mean(delay: str) -> pl.Expr:
    return pl.col(delay).mean()


def _late(delay: str) -> pl.Expr:
    return (pl.col(delay) > LATE_AFTER).mean()


def _count(delay: str) -> pl.Expr:
    return pl.col(delay).count().cast(pl.Float64)
