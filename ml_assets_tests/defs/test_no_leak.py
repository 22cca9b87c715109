"""Nothing that is known only later reaches a feature: proved on real flights, for every history view.

The check itself is tested on a planted leak. A second check: a day's rows do not depend on how many days are made at once.
A third, for request-time features: they read nothing of the outcome, and a row's values do not depend on other rows.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets import keys
from ml_assets.defs.flights.feature_views import compute, request_time
from ml_assets.defs.flights.sources import cleaning
from ml_assets.features.views import EVENT_TIMESTAMP, compute_view
from ml_assets.preparation.observations import without_outcome
from ml_assets.preparation.writing import PARTITION

SAMPLE = Path(__file__).parents[2] / "data" / "sample"
DECLARED = Path(compute.__file__).with_name("defs.yaml")
PROBLEM = Path(compute.__file__).parents[1] / "delay" / "defs.yaml"
HISTORIES = ("origin_congestion", "carrier_history", "route_history", "destination_history", "aircraft_history")
FIRST, LAST = datetime(2013, 2, 5, tzinfo=UTC), datetime(2013, 2, 18, tzinfo=UTC)  # a blizzard on the 8th and 9th
OUTCOME = ("dep_time", "dep_delay", "arr_time", "arr_delay", "air_time", "departed_at", "arrived_at")
ZONE = "America/New_York"

View = Callable[[pl.LazyFrame], pl.LazyFrame]


@cache
def recorded(until_month: int = 2) -> pl.DataFrame:
    """January and February as `clean/flights` has them, with `_partition`."""
    raw = (
        pl.scan_parquet(SAMPLE / "flights.parquet")
        .filter(pl.col("month") <= until_month)
        .with_columns(pl.col(pl.Int16).cast(pl.Int64))
        .with_columns(landed_at=pl.date("year", "month", "day").cast(pl.Datetime("us", "UTC")) + pl.duration(hours=36))
    )
    airports = pl.scan_parquet(SAMPLE / "airports.parquet")
    flights = cleaning.flights(raw, raw_airports=airports)
    return flights.with_columns(pl.date("year", "month", "day").dt.to_string().alias(PARTITION)).collect()


@cache
def as_it_was(view: View) -> pl.DataFrame:
    """The view's rows, computed from everything."""
    return view(recorded().lazy()).collect()


def known_at(moment: datetime, *, seed: int) -> pl.DataFrame:
    """The flights as a person could know them at a moment: what happens later is gone or made up, in another order."""
    flights = recorded().sample(fraction=1.0, shuffle=True, seed=seed)
    for happened, delay in (("departed_at", "dep_delay"), ("arrived_at", "arr_delay")):
        later = (pl.col(happened) > moment).fill_null(False)
        invented = pl.col(happened) + pl.duration(days=400)
        flights = flights.with_columns(
            pl.when(later).then(invented).otherwise(pl.col(happened)).alias(happened),
            pl.when(later).then(pl.col(delay).reverse()).otherwise(pl.col(delay)).alias(delay),
        )
    return flights


def leaks(view: View, moment: datetime, *, seed: int = 0) -> int:
    """Return how many of the view's rows up to a moment would be others if the future were another one."""
    before, key = pl.col(EVENT_TIMESTAMP) <= moment, [EVENT_TIMESTAMP]
    then = view(known_at(moment, seed=seed).lazy()).filter(before).collect()
    now = as_it_was(view).filter(before)
    entity = [name for name in now.columns if now.schema[name] == pl.String]
    then, now = (frame.drop("created_timestamp").sort(*key, *entity) for frame in (then, now))
    if then.height != now.height:
        return abs(then.height - now.height)
    return int((then.hash_rows() != now.hash_rows()).sum())


moments = st.integers(0, int((LAST - FIRST).total_seconds() // 60)).map(
    lambda minutes: FIRST + timedelta(minutes=minutes)
)


@pytest.mark.parametrize("name", HISTORIES)
@settings(max_examples=4)
@given(moment=moments, seed=st.integers(0, 1000))
def test_the_future_changes_no_feature(name: str, moment: datetime, seed: int) -> None:
    assert leaks(getattr(compute, name), moment, seed=seed) == 0


def test_a_planted_leak_is_found() -> None:
    def by_schedule(flights: pl.LazyFrame) -> pl.LazyFrame:
        """Say at the scheduled departure what the delay will have been."""
        return compute.origin_congestion(flights.with_columns(departed_at=pl.col("scheduled_departure")))

    assert leaks(by_schedule, datetime(2013, 2, 8, 18, tzinfo=UTC)) > 0


def test_there_are_rows_to_compare() -> None:
    for name in HISTORIES:
        assert as_it_was(getattr(compute, name)).filter(pl.col(EVENT_TIMESTAMP).is_between(FIRST, LAST)).height > 1000


def declared_views() -> list[dict[str, object]]:
    views = yaml.safe_load(DECLARED.read_text())["attributes"]["views"]
    return [view for view in views if view["name"] in HISTORIES]


@pytest.mark.parametrize("view", declared_views(), ids=lambda view: view["name"])
def test_a_day_made_alone_is_the_day_made_with_all(view: dict[str, object]) -> None:
    """The declared lookback is long enough: the day's rows are those that all days together give."""
    day, function = "2013-02-15", getattr(compute, str(view["name"]))
    wanted = keys.days(keys.before(day, int(str(view["lookback_days"]))), day)
    alone = compute_view(function, recorded().filter(pl.col(PARTITION).is_in(wanted)).lazy(), time_zone=ZONE)
    together = compute_view(function, recorded().lazy(), time_zone=ZONE)
    alone, together = (frame.filter(pl.col(PARTITION) == day) for frame in (alone, together))
    assert together.height > 50
    assert alone.equals(together)


def test_too_short_a_lookback_would_be_noticed() -> None:
    day = "2013-02-15"
    short = recorded().filter(pl.col(PARTITION).is_in(keys.days(keys.before(day, 2), day)))
    alone = compute_view(compute.carrier_history, short.lazy(), time_zone=ZONE).filter(pl.col(PARTITION) == day)
    together = compute_view(compute.carrier_history, recorded().lazy(), time_zone=ZONE).filter(pl.col(PARTITION) == day)
    assert not alone.equals(together)


REQUEST = ("event_timestamp", "distance", "scheduled_duration", "planned_departures")


def planned() -> pl.DataFrame:
    """What may be known of each flight two hours before departure, with made-up values of the stored features."""
    flights = recorded().with_columns(event_timestamp=pl.col("scheduled_departure") - pl.duration(hours=2))
    stored = {name: pl.col("flight") % 7 * 0.3 for name in ("origin_departures_1h", "aircraft_last_arr_delay")}
    return flights.select(*REQUEST, **stored, aircraft_year_built=pl.col("flight") % 30 + 1980.0)


def other_rows_matter(function: Callable[[pl.DataFrame], pl.DataFrame], seed: int) -> bool:
    """Tell whether some rows get other values alone, and in another order, than among all."""
    rows = planned().with_row_index("row")
    some = rows.sample(500, shuffle=True, seed=seed)
    return not function(some.drop("row")).equals(function(rows.drop("row"))[some["row"]])


def test_request_time_features_depend_on_their_own_row_only() -> None:
    assert not any(other_rows_matter(request_time.departure_context, seed) for seed in range(3))
    assert other_rows_matter(lambda inputs: inputs.select(pl.col("distance") - pl.col("distance").mean()), 0)


def test_request_columns_are_known_when_the_question_is_asked() -> None:
    declared = yaml.safe_load(PROBLEM.read_text())["attributes"]
    columns = pl.SQLContext(clean_flights=recorded()).execute(declared["observations"]["query"]).collect_schema()
    assert set(REQUEST) <= set(without_outcome(list(columns)))
