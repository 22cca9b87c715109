"""Nothing that is known only later reaches a feature: proved on real flights, for every history view.

The check itself is tested on a planted leak. A second check: a day's rows do not depend on how many days are made at once.
A third, for request-time features: they read nothing of the outcome, and a row's values do not depend on other rows.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets import keys
from ml_assets.defs.flights.feature_views import compute, request_time
from ml_assets.defs.flights.sources import cleaning
from ml_assets.features.views import EVENT_TIMESTAMP, compute_view
from ml_assets.preparation.observations import UTC_TIME, Label, query, without_outcome
from ml_assets.preparation.writing import PARTITION

SAMPLE = Path(__file__).parents[2] / "data" / "sample"
DECLARED = Path(compute.__file__).with_name("defs.yaml")
PROBLEM = Path(compute.__file__).parents[1] / "delay" / "defs.yaml"
HISTORIES = (
    "origin_congestion",
    "carrier_history",
    "route_history",
    "destination_history",
    "aircraft_history",
    "airport_profile",
)
FIRST, LAST = datetime(2013, 2, 5, tzinfo=UTC), datetime(2013, 2, 18, tzinfo=UTC)  # a blizzard on the 8th and 9th
OUTCOME = ("dep_time", "dep_delay", "arr_time", "arr_delay", "air_time", "departed_at", "arrived_at")
ZONE = "America/New_York"

View = Callable[[pl.LazyFrame], pl.LazyFrame]

LANDED = pl.date("year", "month", "day").cast(pl.Datetime("us", "UTC")) + pl.duration(hours=36)


def view_of(name: str, *, now: datetime | None = None, weather_of: pl.Expr | None = None) -> View:
    """The view's function; with `now`, the weather that it may use is another from then on; or of some days only."""
    function: Callable[..., pl.LazyFrame] = getattr(compute, name)
    hours = weather(now) if weather_of is None else measured().filter(weather_of)
    return partial(function, clean_weather=hours.lazy()) if name == "airport_profile" else function


@cache
def measured() -> pl.DataFrame:
    """Hourly weather of January and February as `clean/weather` has it, with `_partition`."""
    raw = pl.scan_parquet(SAMPLE / "weather.parquet").filter(pl.col("month") <= 2).with_columns(landed_at=LANDED)
    day = pl.date("year", "month", "day").dt.to_string().alias(PARTITION)
    return cleaning.weather(raw.with_columns(day, pl.col(pl.Datetime).dt.cast_time_unit("us"))).collect()


def weather(now: datetime | None) -> pl.DataFrame:
    """What was measured; with `now`, what is measured later is another storm."""
    if now is None:
        return measured()
    storm = {"visib": 0.1, "precip": 1.0, "wind_speed": 60.0}
    later = pl.col("observed_at") > now
    return measured().with_columns(
        pl.when(later).then(value).otherwise(pl.col(name)).alias(name) for name, value in storm.items()
    )


@cache
def recorded(until_month: int = 2) -> pl.DataFrame:
    """January and February as `clean/flights` has them, with `_partition`."""
    raw = (
        pl.scan_parquet(SAMPLE / "flights.parquet")
        .filter(pl.col("month") <= until_month)
        .with_columns(pl.col(pl.Int16).cast(pl.Int64))
        .with_columns(landed_at=LANDED)
    )
    airports = pl.scan_parquet(SAMPLE / "airports.parquet")
    flights = cleaning.flights(raw, raw_airports=airports)
    return flights.with_columns(pl.date("year", "month", "day").dt.to_string().alias(PARTITION)).collect()


@cache
def as_it_was(name: str) -> pl.DataFrame:
    """The view's rows, computed from everything."""
    return view_of(name)(recorded().lazy()).collect()


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
    hoped_for = pl.col("scheduled_departure") + timedelta(hours=24) > moment  # nobody knows what will become of it
    return flights.with_columns(cancelled=pl.col("cancelled") ^ hoped_for)


def leaks(view: View, all_rows: pl.DataFrame, moment: datetime, *, seed: int = 0) -> int:
    """Return how many of the view's rows up to a moment would be others if the future were another one."""
    before, key = pl.col(EVENT_TIMESTAMP) <= moment, [EVENT_TIMESTAMP]
    then = view(known_at(moment, seed=seed).lazy()).filter(before).collect()
    now = all_rows.filter(before)
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
    assert leaks(view_of(name, now=moment), as_it_was(name), moment, seed=seed) == 0


def test_a_planted_leak_is_found() -> None:
    def by_schedule(flights: pl.LazyFrame) -> pl.LazyFrame:
        """Say at the scheduled departure what the delay will have been."""
        return compute.origin_congestion(flights.with_columns(departed_at=pl.col("scheduled_departure")))

    assert leaks(by_schedule, by_schedule(recorded().lazy()).collect(), datetime(2013, 2, 8, 18, tzinfo=UTC)) > 0


def test_a_planted_leak_through_a_used_table_is_found() -> None:
    """Weather told a day too early: the storm of tomorrow is in today's profile."""
    moment = datetime(2013, 2, 9, 5, tzinfo=UTC)

    def told_early(flights: pl.LazyFrame, *, now: datetime | None = moment) -> pl.LazyFrame:
        early = weather(now).with_columns(pl.col("observed_at") - pl.duration(days=1))
        return compute.airport_profile(flights, clean_weather=early.lazy())

    assert leaks(told_early, told_early(recorded().lazy(), now=None).collect(), moment) > 0


def test_there_are_rows_to_compare() -> None:
    for name in HISTORIES:
        assert as_it_was(name).filter(pl.col(EVENT_TIMESTAMP).is_between(FIRST, LAST)).height > 1000


def declared_views() -> list[dict[str, object]]:
    views = yaml.safe_load(DECLARED.read_text())["attributes"]["views"]
    return [view for view in views if view["name"] in HISTORIES]


@pytest.mark.parametrize("view", declared_views(), ids=lambda view: view["name"])
def test_a_day_made_alone_is_the_day_made_with_all(view: dict[str, object]) -> None:
    """The declared lookback is long enough: the day's rows are those that all days together give."""
    day, function = "2013-02-15", view_of(str(view["name"]))
    wanted = keys.days(keys.before(day, int(str(view["lookback_days"]))), day)
    some = pl.col(PARTITION).is_in(wanted)
    within = view_of(str(view["name"]), weather_of=some)
    alone = compute_view(within, recorded().filter(some).lazy(), time_zone=ZONE)
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


SECOND_PROBLEMS = ("arrival_delay", "airport_segments")


@pytest.mark.parametrize("name", SECOND_PROBLEMS)
def test_the_other_problems_ask_of_the_same_flights(name: str) -> None:
    """Each query gives observations, one for each key and moment, and no feature of the outcome beside the label."""
    declared = yaml.safe_load((PROBLEM.parents[1] / name / "defs.yaml").read_text())["attributes"]
    supervised = declared["task"]["kind"] != "clustering"
    label: Label = "number" if supervised else "none"
    asked = query(
        declared["observations"]["query"], {"clean_flights": recorded().lazy()}, supervised=supervised, label=label
    )
    rows = asked.collect()
    assert not set(OUTCOME) & set(without_outcome(rows.columns))
    assert not rows.select(*declared["observations"]["key"], EVENT_TIMESTAMP).is_duplicated().any()
    if supervised:
        assert set(REQUEST) <= set(without_outcome(rows.columns))
        assert rows["label"].null_count() == recorded()["arr_delay"].null_count()


def test_airports_are_asked_about_when_their_sunday_is_over() -> None:
    declared = yaml.safe_load((PROBLEM.parents[1] / "airport_segments" / "defs.yaml").read_text())["attributes"]
    by_day = declared["observations"]["query"].replace(" FROM", f", {PARTITION} FROM") + f", {PARTITION}"
    rows = query(by_day, {"clean_flights": recorded().lazy()}, supervised=False).collect()
    profile = as_it_was("airport_profile").select("dest", profiled=EVENT_TIMESTAMP).sort("profiled")
    joined = rows.sort(EVENT_TIMESTAMP).join_asof(
        profile, left_on=EVENT_TIMESTAMP, right_on="profiled", by="dest", check_sortedness=False
    )
    age = (joined[EVENT_TIMESTAMP] - joined["profiled"]).drop_nulls()
    assert rows.height > 600
    assert joined["profiled"].null_count() < 5  # an airport's first flight
    assert age.median() == timedelta(minutes=1)
    assert (rows[EVENT_TIMESTAMP].dt.convert_time_zone(ZONE).dt.date().cast(pl.String) == rows[PARTITION]).all()
    assert set(rows[EVENT_TIMESTAMP].dt.weekday()) == {1}


def profile(flights: list[dict[str, Any]], hours: list[dict[str, Any]]) -> pl.DataFrame:
    """The airport profile of a few made-up flights."""
    flight: dict[str, Any] = {
        "origin": "JFK", "dest": "AAA", "distance": 100.0, "departed_at": None, "arrived_at": None, "arr_delay": None,
        "cancelled": False, "scheduled_departure": datetime(2013, 7, 1, 12, tzinfo=UTC), "landed_at": LAST,
    }  # fmt: skip
    hour: dict[str, Any] = {"origin": "JFK", "visib": 10.0, "precip": 0.0, "wind_speed": 10.0, "landed_at": LAST}
    times = dict.fromkeys(["departed_at", "arrived_at", "scheduled_departure", "observed_at", "landed_at"], UTC_TIME)
    types = times | {"arr_delay": pl.Float64}
    some = pl.LazyFrame([flight | one for one in flights], schema_overrides=types)
    seen = pl.LazyFrame([hour | one for one in hours], schema_overrides=types)
    return compute.airport_profile(some, clean_weather=seen).collect()


def july(day: int, hour: int = 12) -> datetime:
    return datetime(2013, 7, day, hour, tzinfo=UTC)


def test_the_profile_of_few_flights_is_drawn_to_all() -> None:
    flights: list[dict[str, Any]] = [
        {"departed_at": july(1), "arrived_at": july(1, 14), "arr_delay": 20.0},
        {"departed_at": july(2), "arrived_at": july(2, 14), "arr_delay": 30.0, "distance": 300.0},
        {"cancelled": True},
        {"dest": "BBB", "departed_at": july(1), "arrived_at": july(1, 14), "arr_delay": -10.0},
        {"dest": "BBB", "departed_at": july(2, 18), "arrived_at": july(2, 20), "arr_delay": -20.0},
    ]
    hours: list[dict[str, Any]] = [
        {"observed_at": july(1, 11)},
        {"observed_at": july(2, 17), "precip": 0.1, "wind_speed": 20.0},
    ]
    found = profile(flights, hours).filter(pl.col("dest") == "AAA")
    assert found[EVENT_TIMESTAMP].to_list() == [july(2, 3) + timedelta(minutes=59), july(3, 3) + timedelta(minutes=59)]
    first, second = found.rows(named=True)
    assert first["airport_departures_per_day_28d"] == second["airport_departures_per_day_28d"] == 1.0
    assert (first["airport_distance_mean_28d"], second["airport_distance_mean_28d"]) == (100.0, 200.0)
    assert first["airport_arr_delay_above_28d"] == pytest.approx((20 - 5) * 1 / 31)
    assert second["airport_arr_delay_above_28d"] == pytest.approx((25 - 5) * 2 / 32)
    assert second["airport_arr_late_above_28d"] == pytest.approx((1 - 0.5) * 2 / 32)
    assert second["airport_arr_delay_spread_above_28d"] == pytest.approx((5 - 425**0.5) * 2 / 32)
    assert first["airport_cancelled_above_28d"] == 0  # a day must pass until nobody can hope any more
    assert second["airport_cancelled_above_28d"] == pytest.approx((1 / 3 - 1 / 5) * 3 / 33)
    assert second["airport_poor_weather_above_28d"] == pytest.approx((0 - 1 / 3) * 1 / 31)  # no report: not counted
    assert second["airport_wind_above_28d"] == pytest.approx((10 - 40 / 3) * 1 / 31)


def test_the_profile_forgets_after_28_days_and_goes_on_where_nothing_flies() -> None:
    flights: list[dict[str, Any]] = [
        {"departed_at": july(1)},
        {"dest": "BBB", "departed_at": july(1) + timedelta(days=40)},
    ]
    found = profile(flights, [{"observed_at": july(1, 11)}]).filter(pl.col("dest") == "AAA")
    assert found.height == 28
    assert found["airport_departures_per_day_28d"].to_list()[-1] == 1 / 28
