"""The join against a brute-force reference, and the properties that a leak or a lost row would break."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ml_assets.features.point_in_time import FeatureError, ViewJoin, point_in_time_join

START = datetime(2013, 1, 1, tzinfo=UTC)
TIME = pl.Datetime("us", "UTC")
OBSERVED = {"id": pl.Int64, "a": pl.String, "b": pl.Int64, "event_timestamp": TIME}
STORED = {"a": pl.String, "b": pl.Int64, "event_timestamp": TIME, "created_timestamp": TIME, "x": pl.Float64}

minutes = st.integers(0, 12)
keys = st.tuples(st.sampled_from(["p", "q", None]), st.sampled_from([1, 2, None]))
observed_rows = st.lists(st.tuples(keys, minutes), max_size=12)
stored_rows = st.lists(st.tuples(keys, minutes, st.integers(0, 15), st.floats(0, 1) | st.none()), max_size=25)
ttls = st.none() | st.integers(1, 6)


def at(minute: int) -> datetime:
    return START + timedelta(minutes=minute)


def observed(rows: list[Any]) -> pl.DataFrame:
    found = [(number, a, b, at(minute)) for number, ((a, b), minute) in enumerate(rows)]
    return pl.DataFrame(found, schema=OBSERVED, orient="row")


def stored(rows: list[Any]) -> pl.DataFrame:
    found = [(a, b, at(event), at(event + later), x) for (a, b), event, later, x in rows]
    return pl.DataFrame(found, schema=STORED, orient="row")


def view(frame: pl.DataFrame, *, by: str = "ab", ttl: int | None = None, output: str = "x") -> ViewJoin:
    limit = timedelta(minutes=ttl) if ttl else None
    return ViewJoin("v", frame.lazy(), keys={key: key for key in by}, features={"x": output}, ttl=limit)


def reference(
    row: dict[str, Any], rows: pl.DataFrame, by: str, ttl: int | None, known: datetime | None
) -> float | None:
    """Return the value for one observation, by looking at every row."""
    best = None
    for number, other in enumerate(rows.iter_rows(named=True)):
        same = all(row[key] is not None and row[key] == other[key] for key in by)
        happened = other["event_timestamp"] <= row["event_timestamp"]
        fresh = ttl is None or other["event_timestamp"] >= row["event_timestamp"] - timedelta(minutes=ttl)
        exists = known is None or other["created_timestamp"] <= known
        rank = (other["event_timestamp"], other["created_timestamp"], number)
        if same and happened and fresh and exists and (best is None or rank > best[0]):
            best = (rank, other["x"])
    return best[1] if best else None


@settings(max_examples=150, deadline=None)
@given(observed_rows, stored_rows, ttls, st.sampled_from(["a", "ab", ""]), st.none() | minutes)
def test_it_equals_the_brute_force_reference(
    asked: list[Any], rows: list[Any], ttl: int | None, by: str, known: int | None
) -> None:
    observations, table = observed(asked), stored(rows)
    moment = None if known is None else at(known)
    found = point_in_time_join(observations, [view(table, by=by, ttl=ttl)], as_known_at=moment)
    assert_frame_equal(found.drop("x"), observations)  # every row, every column, in order
    wanted = [reference(row, table, by, ttl, moment) for row in observations.iter_rows(named=True)]
    assert found["x"].to_list() == wanted


@settings(max_examples=100, deadline=None)
@given(observed_rows, stored_rows, ttls)
def test_known_at_event_time_is_the_reference_asked_row_by_row(
    asked: list[Any], rows: list[Any], ttl: int | None
) -> None:
    observations, table = observed(asked), stored(rows)
    found = point_in_time_join(observations, [view(table, ttl=ttl)], known_at_event_time=True)
    wanted = [reference(row, table, "ab", ttl, row["event_timestamp"]) for row in observations.iter_rows(named=True)]
    assert found["x"].to_list() == wanted


@settings(max_examples=150, deadline=None)
@given(observed_rows, stored_rows, st.sampled_from(["a", "ab", ""]))
def test_stored_in_order_of_time_or_not_is_the_same(asked: list[Any], rows: list[Any], by: str) -> None:
    in_order = stored(sorted(rows, key=lambda row: row[1]))  # by event time; creation in whatever order
    wanted = [reference(row, in_order, by, None, None) for row in observed(asked).iter_rows(named=True)]
    assert point_in_time_join(observed(asked), [view(in_order, by=by)])["x"].to_list() == wanted


@settings(max_examples=60, deadline=None)
@given(observed_rows.filter(bool), stored_rows, st.randoms(use_true_random=False))
def test_what_happens_later_changes_nothing(asked: list[Any], rows: list[Any], random: Any) -> None:
    observations, table = observed(asked), stored(rows)
    before = point_in_time_join(observations, [view(table)])
    last = observations["event_timestamp"].max()
    past, future = table.filter(pl.col("event_timestamp") <= last), table.filter(pl.col("event_timestamp") > last)
    shuffled = future.with_columns(x=pl.Series(random.sample(future["x"].to_list(), future.height), dtype=pl.Float64))
    assert_frame_equal(point_in_time_join(observations, [view(past)]), before)
    assert_frame_equal(point_in_time_join(observations, [view(pl.concat([past, shuffled]))]), before)


@settings(max_examples=60, deadline=None)
@given(observed_rows, stored_rows, ttls)
def test_each_view_is_joined_as_if_alone(asked: list[Any], rows: list[Any], ttl: int | None) -> None:
    observations, table = observed(asked), stored(rows)
    one, other = view(table, by="a", output="one"), view(table, ttl=ttl, output="other")
    found = point_in_time_join(observations, [one, other])
    assert_frame_equal(found.drop("other"), point_in_time_join(observations, [one]))
    assert_frame_equal(found.drop("one"), point_in_time_join(observations, [other]))


def test_the_ttl_is_inclusive() -> None:
    observations = observed([(("p", 1), 5), (("p", 1), 6)])
    found = point_in_time_join(observations, [view(stored([(("p", 1), 0, 0, 0.5)]), ttl=5)])
    assert found["x"].to_list() == [0.5, None]


def test_a_null_is_a_value_and_hides_the_older_one() -> None:
    table = stored([(("p", 1), 0, 0, 0.5), (("p", 1), 1, 0, None)])
    assert point_in_time_join(observed([(("p", 1), 2)]), [view(table)])["x"].to_list() == [None]


def test_no_views_return_the_observations() -> None:
    observations = observed([(("p", 1), 2)])
    assert point_in_time_join(observations, []) is observations


def test_keys_of_other_widths_and_spellings_match() -> None:
    observations = observed([(("p", 1), 2)]).with_columns(pl.col("a").cast(pl.Categorical), pl.col("b").cast(pl.Int16))
    found = point_in_time_join(observations, [view(stored([(("p", 1), 0, 0, 0.5)]))])
    assert found["x"].to_list() == [0.5]
    assert found.schema["b"] == pl.Int16  # the observations are not touched


def test_a_key_too_large_for_the_view_matches_nothing() -> None:
    huge = observed([(("p", 1), 2)]).with_columns(b=pl.lit(2**63 + 1, dtype=pl.UInt64))
    assert point_in_time_join(huge, [view(stored([(("p", 1), 0, 0, 0.5)]))])["x"].to_list() == [None]


def test_zones_and_units_are_compared_exactly() -> None:
    moment = pl.col("event_timestamp")
    observations = observed([(("p", 1), 5), (("p", 1), 6)]).with_columns(
        moment.dt.convert_time_zone("America/New_York").dt.cast_time_unit("ns")
    )
    later = stored([(("p", 1), 5, 0, 0.5)]).with_columns(moment.dt.cast_time_unit("ns") + pl.duration(nanoseconds=1))
    found = point_in_time_join(observations, [view(later)])
    assert found["x"].to_list() == [None, 0.5]  # one nanosecond later is later
    assert found.schema["event_timestamp"] == pl.Datetime("ns", "America/New_York")


GOOD = stored([(("p", 1), 0, 0, 0.5)])
ASKED = observed([(("p", 1), 2)])


@pytest.mark.parametrize(
    ("observations", "join", "message"),
    [
        (ASKED.drop("a"), view(GOOD), r"observations: no column \['a'\]"),
        (ASKED.drop("event_timestamp"), view(GOOD), r"no column \['event_timestamp'\]"),
        (ASKED.with_columns(pl.col("event_timestamp").dt.replace_time_zone(None)), view(GOOD), "no time zone"),
        (ASKED.with_columns(event_timestamp=pl.lit("2013-01-01")), view(GOOD), "is String, not a time"),
        (ASKED.with_columns(event_timestamp=pl.lit(None, TIME)), view(GOOD), "1 of 1 rows have no 'event_timestamp'"),
        (ASKED.with_columns(b=pl.lit("1")), view(GOOD), "key 'b' is String in the observations but Int64"),
        (ASKED.with_columns(x=1), view(GOOD), "column 'x' exists already"),
        (ASKED, view(GOOD.drop("x")), r"feature view 'v': no column \['x'\]"),
        (ASKED, view(GOOD.drop("created_timestamp")), "no column .'created_timestamp'"),
        (ASKED, view(GOOD.with_columns(pl.col("event_timestamp").dt.replace_time_zone(None))), "no time zone"),
    ],
)
def test_bad_input_is_refused_by_name(observations: pl.DataFrame, join: ViewJoin, message: str) -> None:
    with pytest.raises(FeatureError, match=message):
        point_in_time_join(observations, [join])


def test_as_known_at_needs_a_zone_and_a_created_timestamp() -> None:
    with pytest.raises(FeatureError, match="as_known_at=2013-01-01 00:00:00 has no time zone"):
        point_in_time_join(ASKED, [view(GOOD)], as_known_at=datetime(2013, 1, 1))
    undated = ViewJoin("v", GOOD.lazy(), {"a": "a"}, {"x": "x"}, created_timestamp=None)
    assert point_in_time_join(ASKED, [undated])["x"].to_list() == [0.5]
    with pytest.raises(FeatureError, match="'v' has no created timestamp"):
        point_in_time_join(ASKED, [undated], as_known_at=START)
