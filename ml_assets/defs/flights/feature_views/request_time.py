"""What is known of a flight only when it is asked about: its plan, beside what the feature store knows by then."""

from __future__ import annotations

import polars as pl


def departure_context(inputs: pl.DataFrame) -> pl.DataFrame:
    """Return how tight the plan is, how busy the airport gets, how late the aircraft is already, and how old it is.

    Request: `event_timestamp`, `distance` (miles), `scheduled_duration` (minutes), `planned_departures` (in the
    flight's hour). Stored: `origin_departures_1h`, `aircraft_last_arr_delay` (minutes), `aircraft_year_built`.
    """
    minutes = pl.when(pl.col("scheduled_duration") > 0).then("scheduled_duration")
    return inputs.select(
        planned_speed=pl.col("distance") * 60 / minutes,
        departures_above_last_hour=pl.col("planned_departures") - pl.col("origin_departures_1h"),
        inherited_delay_share=pl.col("aircraft_last_arr_delay") / minutes,
        aircraft_age_years=pl.col("event_timestamp").dt.year() - pl.col("aircraft_year_built"),
    )
