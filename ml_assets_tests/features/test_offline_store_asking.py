"""What features are asked for: SQL over what is registered, all that happened between two dates, lazy frames."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from feast import Entity, FeatureStore, FeatureView, Field, ValueType
from feast.types import Float64, String
from polars.testing import assert_frame_equal

from ml_assets.features.offline_store import PolarsOfflineStore, reading
from ml_assets.features.point_in_time import FeatureError
from ml_assets.lake import Lake
from ml_assets_tests.features.stores import (
    ANSWER,
    ASKED,
    KEY,
    START,
    TABLE,
    TIME,
    asked,
    at,
    feast_store,
    feature_view,
    join,
    source,
    stored,
)

pytestmark = pytest.mark.filterwarnings("ignore")  # Feast warns of its own experimental interfaces and deprecations
OTHER = Entity(name="other", join_keys=["m"], value_type=ValueType.STRING)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    TABLE.write_parquet(tmp_path / "v.parquet")
    ASKED.write_parquet(tmp_path / "asked.parquet")
    questions = source("asked.parquet", created_timestamp_column="")
    return feast_store(tmp_path, [feature_view(source("v.parquet")), questions])


# -- SQL ---------------------------------------------------------------------------------------------------------------


def test_sql_may_name_registered_sources(store: FeatureStore) -> None:
    found = join(store, "SELECT * FROM source_asked_parquet ORDER BY id")
    assert_frame_equal(found, ASKED.with_columns(x=pl.Series(ANSWER)))


def test_sql_may_name_views_and_compute(store: FeatureStore) -> None:
    query = """
        WITH newest AS (SELECT k, MAX(event_timestamp) AS event_timestamp FROM v GROUP BY k)
        SELECT newest.k, newest.event_timestamp, 1 AS one FROM newest ORDER BY k
    """
    found = join(store, query)
    assert found.rows() == [("p", at(3), 1, 0.4), ("q", at(2), 1, 0.2)]


def test_sql_may_name_tables_of_the_lake_and_reads_no_other(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    lake.write("features/v", TABLE, written_at=START)
    lake.write("clean/flights", ASKED, written_at=START)
    lake.write("flight_delay/observations", ASKED.head(2), written_at=START)
    red = {"suite": "range", "success": False}
    lake.write("clean/planes", ASKED, written_at=START, verdicts=[red])
    store = feast_store(tmp_path, [feature_view(source("lake/features/v"))])
    assert join(store, "SELECT * FROM clean_flights ORDER BY id")["x"].to_list() == ANSWER
    assert join(store, "SELECT * FROM flight_delay_observations ORDER BY id")["x"].to_list() == ANSWER[:2]
    assert join(store, "SELECT k, event_timestamp FROM features_v WHERE k = 'q'")["x"].to_list() == [0.2]
    with pytest.raises(ValueError, match="clean/planes is red"):
        join(store, "SELECT * FROM clean_planes")


def test_sql_sees_the_past_as_it_was_known(store: FeatureStore) -> None:
    with reading(as_known_at=at(5)):
        assert join(store, "SELECT k, event_timestamp, x AS y FROM v WHERE k = 'p'")["x"].to_list() == [0.1, 0.3]
        with pytest.raises(FeatureError, match="'source_asked_parquet' has no created timestamp; as_known_at="):
            join(store, "SELECT * FROM source_asked_parquet")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT * FROM nowhere", r"'nowhere' was not found.* name these tables: \['source_asked.*', 'v'\]"),
        ("SELECT wrong FROM v", r"entity_df, as SQL: unable to find column \"wrong\""),
        ("SELECT k FROM v WHERE", "entity_df, as SQL: sql parser error"),
        ("DROP TABLE v", "entity_df is 'DROP TABLE v', no SELECT"),
        ("SELECT x AS y FROM v", "Name it 'event_timestamp'"),
        ("SELECT event_timestamp FROM v", r"observations: no column \['k'\]"),
        ("SELECT 'p' AS k, NULL AS event_timestamp FROM v", "'event_timestamp' is Null, not a time"),
    ],
)
def test_sql_that_cannot_be_answered_is_refused_by_name(store: FeatureStore, query: str, message: str) -> None:
    with pytest.raises(FeatureError, match=message):
        join(store, query)


# -- dates -------------------------------------------------------------------------------------------------------------


def between(store: FeatureStore, first: float | None, last: float, features: Any = ("v:x",)) -> pl.DataFrame:
    dates = {"end_date": at(last)} | ({} if first is None else {"start_date": at(first)})
    return store.get_historical_features(features=list(features), **dates).to_polars()


def test_between_two_dates_each_key_and_moment_is_a_row(store: FeatureStore) -> None:
    assert between(store, 0, 12).rows() == [(at(1), "p", 0.1), (at(2), "q", 0.2), (at(3), "p", 0.4)]
    assert between(store, 2, 3)["x"].to_list() == [0.2, 0.4]  # both ends belong
    assert between(store, 4, 12).shape == (0, 3)
    assert store.get_historical_features(features=["v:x"], start_date=at(0), end_date=at(12)).metadata.keys == ["k"]


def test_the_start_defaults_to_the_longest_ttl_as_in_feast(tmp_path: Path) -> None:
    TABLE.write_parquet(tmp_path / "v.parquet")
    short, long = (feature_view(source("v.parquet"), name=name, ttl=ttl) for name, ttl in [("a", 1), ("b", 2)])
    store = feast_store(tmp_path, [short, long])
    found = store.get_historical_features(features=["a:x", "b:x"], end_date=at(4), full_feature_names=True).to_polars()
    assert found["event_timestamp"].to_list() == [at(2), at(3)]


def test_rows_between_dates_are_the_known_ones(store: FeatureStore) -> None:
    with reading(as_known_at=at(2)):
        assert between(store, 0, 12).rows() == [(at(1), "p", 0.1), (at(2), "q", 0.2)]


def test_views_with_other_keys_are_asked_side_by_side(tmp_path: Path) -> None:
    TABLE.write_parquet(tmp_path / "v.parquet")
    pairs = pl.DataFrame(
        {
            "k": ["p", "p"],
            "m": ["a", None],
            "event_timestamp": [at(2), at(2)],
            "created": [at(2), at(2)],
            "y": [1.0, 2.0],
        }
    ).cast({"event_timestamp": TIME, "created": TIME})
    pairs.write_parquet(tmp_path / "pairs.parquet")
    schema = [Field(name="k", dtype=String), Field(name="m", dtype=String), Field(name="y", dtype=Float64)]
    pair = FeatureView(name="pair", entities=[KEY, OTHER], schema=schema, source=source("pairs.parquet"))
    store = feast_store(tmp_path, [OTHER, feature_view(source("v.parquet")), pair])
    found = between(store, 0, 12, ["v:x", "pair:y"])
    assert found.columns == ["event_timestamp", "k", "m", "x", "y"]
    assert found.rows() == [
        (at(1), "p", None, 0.1, None),
        (at(2), "p", "a", 0.1, 1.0),  # both views know p
        (at(2), "q", None, 0.2, None),
        (at(3), "p", None, 0.4, None),
    ]


def test_dates_that_make_no_range_are_refused(store: FeatureStore) -> None:
    with pytest.raises(FeatureError, match=r"start_date=.* is after end_date=.*; exchange them"):
        between(store, 3, 2)
    view = store.get_feature_view("v")
    with pytest.raises(FeatureError, match="without entity_df the rows are those between two dates; give end_date"):
        PolarsOfflineStore.get_historical_features(store.config, [view], ["v:x"], None, store.registry, "test")


# -- frames ------------------------------------------------------------------------------------------------------------


def test_a_lazy_frame_is_taken_too(store: FeatureStore) -> None:
    assert join(store, ASKED.lazy())["x"].to_list() == ANSWER


def test_times_without_zone_are_utc_in_pandas_as_in_feast(store: FeatureStore) -> None:
    plain = ASKED.with_columns(pl.col("event_timestamp").dt.replace_time_zone(None)).to_pandas()
    assert join(store, plain)["x"].to_list() == ANSWER


# -- the same answer next week -----------------------------------------------------------------------------------------


def test_the_past_has_the_same_bytes_whatever_comes_later(tmp_path: Path) -> None:
    folder, known = tmp_path / "folder", at(10)
    names = [f"a rather long name of {key}" for key in "pqr"]
    before = stored([(key, hour, hour + 1, hour / 7) for hour in range(8) for key in names])
    before = before.with_columns(text=pl.format("a text that does not fit into sixteen bytes {}", "x"))
    before.write_parquet(folder / "1.parquet", mkdir=True)
    view = FeatureView(
        name="v",
        entities=[KEY],
        ttl=timedelta(hours=5),
        schema=[Field(name="k", dtype=String), Field(name="x", dtype=Float64), Field(name="text", dtype=String)],
        source=source("folder"),
    )
    store = feast_store(tmp_path, [view])
    observations = asked([(key, hour + 0.5) for hour in (3, 20, 1) for key in [*names, "unknown"]])

    def bytes_of_answer() -> tuple[bytes, bytes]:
        with reading(as_known_at=known):
            job = store.get_historical_features(entity_df=observations, features=["v:x", "v:text"])
        parquet = io.BytesIO()
        job.to_polars().write_parquet(parquet)
        return parquet.getvalue(), arrow_bytes(job.to_arrow())

    first = bytes_of_answer()
    later = before.with_columns(
        x=pl.col("x") + 1, text=pl.lit("corrected, and said at some length"), created=pl.lit(at(11), TIME)
    )
    later.write_parquet(folder / "0.parquet")  # corrections, late rows of new keys, and a file that is read first
    stored([("late", 2, 12, 0.5)]).with_columns(text=pl.lit("late")).write_parquet(folder / "2.parquet")
    assert bytes_of_answer() == first
    pl.concat([later, before]).write_parquet(folder / "1.parquet", row_group_size=5)  # rewritten, with other row groups
    (folder / "0.parquet").unlink()
    assert bytes_of_answer() == first


def arrow_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def test_moments_of_another_zone_stay_in_it(store: FeatureStore) -> None:
    local = ASKED.with_columns(pl.col("event_timestamp").dt.convert_time_zone("Asia/Kolkata"))
    found = join(store, local)
    assert found.schema["event_timestamp"] == pl.Datetime("us", "Asia/Kolkata")
    assert found["x"].to_list() == ANSWER
    assert found["event_timestamp"][0] == datetime(2013, 1, 1, 4, tzinfo=UTC)
