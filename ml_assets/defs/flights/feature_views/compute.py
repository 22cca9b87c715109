"""The feature views of the example: what could be known at each moment, from what had happened by then.

A history row appears at the moment of an event (a departure, an arrival), and its window ends there, so the last row before a
moment of prediction holds only what had happened. `created_timestamp` is when the newest file behind a row landed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from ml_assets.defs.flights.sources.cleaning import LATE_AFTER

EVENT, CREATED = "event_timestamp", "created_timestamp"
MEASURED = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")


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
