"""The store through a real `feast.FeatureStore`: against Feast's own stores, and where those are wrong."""

from __future__ import annotations

import random
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from feast import (
    FeatureService,
    FeatureStore,
    FeatureView,
    Field,
    RequestSource,
)
from feast.errors import FeastObjectNotFoundException, SavedDatasetLocationAlreadyExists
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64
from polars.testing import assert_frame_equal

from ml_assets.features.offline_store import PolarsOfflineStore, reading
from ml_assets.features.point_in_time import FeatureError
from ml_assets.lake import Lake, RedPartitionError
from ml_assets_tests.features.stores import (
    ANSWER,
    ASKED,
    KEY,
    OURS,
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


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    TABLE.write_parquet(tmp_path / "v.parquet")
    return tmp_path / "v.parquet"


@pytest.fixture
def store(tmp_path: Path, parquet: Path) -> FeatureStore:
    return feast_store(tmp_path, [feature_view(source(parquet))])


# -- against Feast's own stores ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["dask", "duckdb"])
@pytest.mark.parametrize("options", [{}, {"full_feature_names": True}, {"filter_by_created_timestamp": True}], ids=str)
@pytest.mark.parametrize("ttl", [0, 6])
def test_it_equals_feasts_own_store(tmp_path: Path, kind: str, options: dict[str, bool], ttl: float) -> None:
    if kind == "duckdb":
        pytest.importorskip("duckdb")
        pytest.importorskip("ibis")
    rng = random.Random(ttl)
    events = sorted({(rng.choice("pqr"), rng.randrange(20)) for _ in range(40)})
    twice = (0, 1) if kind == "duckdb" else (1,)  # Dask's tie-break is not stable: it may take the row created first
    rows = [(k, hour, hour + again * rng.randrange(1, 10), rng.random()) for k, hour in events for again in twice]
    rng.shuffle(rows)
    stored(rows).write_parquet(tmp_path / "v.parquet")
    observations = asked([(k, hour + 0.5) for k in "pqrz" for hour in range(0, 24, 2)])
    features = ["v:x", "v:n"]
    found, theirs = (
        feast_store(tmp_path, [feature_view(source(tmp_path / "v.parquet"), ttl=ttl)], kind).get_historical_features(
            entity_df=observations.to_pandas(), features=features, **options
        )
        for kind in (OURS, kind)
    )
    ours, other = found.to_df(), theirs.to_df().sort_values("id").reset_index(drop=True)
    assert ours["id"].tolist() == observations["id"].to_list()
    kept = ours[ours["id"].isin(other["id"])].reset_index(drop=True)
    names = [f"v__{name}" if options.get("full_feature_names") else name for name in ("x", "n")]
    pd.testing.assert_frame_equal(kept[["id", "k", *names]], other[["id", "k", *names]], check_dtype=False)
    dropped = ours[~ours["id"].isin(other["id"])]  # Dask drops rows without a fresh value; ours are there, null
    assert dropped[names].isna().all().all()
    assert kind == "dask" or dropped.empty


# -- what it keeps -----------------------------------------------------------------------------------------------------


def test_rows_and_their_order_are_kept_and_ties_go_to_the_last_created(store: FeatureStore) -> None:
    found = join(store, ASKED)
    assert_frame_equal(found.drop("x"), ASKED)
    assert found["x"].to_list() == ANSWER


def test_pandas_arrow_and_polars_frames_get_the_same_answer(store: FeatureStore) -> None:
    for frame in (ASKED, ASKED.to_arrow(), ASKED.to_pandas()):
        assert join(store, frame)["x"].to_list() == ANSWER
    job = store.get_historical_features(entity_df=ASKED.to_pandas(), features=["v:x"])
    assert job.to_arrow().schema.field("k").type == pa.string()
    assert job.to_df()["id"].tolist() == ASKED["id"].to_list()
    assert job.metadata.features == ["v:x"]
    assert job.metadata.keys == ["id", "k"]
    assert (job.metadata.min_event_timestamp, job.metadata.max_event_timestamp) == (at(0), at(10))


def test_an_empty_frame_gets_an_empty_answer(store: FeatureStore) -> None:
    assert join(store, ASKED.clear()).schema == {**ASKED.schema, "x": pl.Float64}


def test_the_only_time_column_is_the_moment(store: FeatureStore) -> None:
    assert join(store, ASKED.rename({"event_timestamp": "asked_at"}))["x"].to_list() == ANSWER


def test_as_known_at_makes_later_rows_unknown(store: FeatureStore) -> None:
    with reading(as_known_at=at(5)):
        job = store.get_historical_features(entity_df=ASKED, features=["v:x"])
    assert job.to_polars()["x"].to_list() == [0.3, 0.2, 0.1, 0.3, None, None, None]  # the job remembers
    assert join(store, ASKED)["x"].to_list() == ANSWER


def test_relative_paths_folders_and_globs_are_read(tmp_path: Path) -> None:
    for number, part in enumerate(TABLE.partition_by("k")):
        (tmp_path / "folder" / str(number)).mkdir(parents=True)
        part.write_parquet(tmp_path / "folder" / str(number) / "part.parquet")
    views = [feature_view(source(path), name=name) for name, path in [("a", "folder"), ("b", "folder/*/*.parquet")]]
    found = join(feast_store(tmp_path, views), ASKED, ["a:x", "b:x"], full_feature_names=True)
    assert found["a__x"].to_list() == found["b__x"].to_list() == ANSWER


def test_field_mapping_aliases_and_services(tmp_path: Path) -> None:
    renamed = TABLE.rename({"x": "stored_x", "event_timestamp": "happened", "k": "key"})
    renamed.write_parquet(tmp_path / "v.parquet")
    mapping = {"stored_x": "x", "happened": "event_timestamp", "key": "k"}
    view = feature_view(source("v.parquet", field_mapping=mapping))
    own, other = view.with_name("own"), view.with_name("other").with_join_key_map({"k": "partner"})
    service = FeatureService(name="pair", features=[own[["x"]], other[["x", "n"]]])
    store = feast_store(tmp_path, [view, service])
    pairs = ASKED.with_columns(partner=pl.lit("q"))
    found = join(store, pairs, service, full_feature_names=True)
    assert found.columns == [*pairs.columns, "own__x", "other__x", "other__n"]
    assert found["own__x"].to_list() == ANSWER
    assert found["other__x"].to_list() == [0.2, 0.2, 0.2, 0.2, 0.2, 0.2, None]


def test_on_demand_views_are_computed_on_top(tmp_path: Path, parquet: Path) -> None:
    view = feature_view(source(parquet))
    request = RequestSource(name="request", schema=[Field(name="factor", dtype=Float64)])

    @on_demand_feature_view(sources=[view, request], schema=[Field(name="scaled", dtype=Float64)])
    def scaled(inputs: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"scaled": inputs["x"] * inputs["factor"]})

    store = feast_store(tmp_path, [view, scaled])
    found = join(store, ASKED.with_columns(factor=10.0), ["v:x", "scaled:scaled"])
    assert found["scaled"].fill_nan(None).to_list()[:3] == pytest.approx([4.0, 2.0, 1.0])
    with pytest.raises(FeatureError, match=r"no column .'factor'"):
        join(store, ASKED, ["v:x", "scaled:scaled"])


def test_a_view_without_entities_has_one_value_for_all(tmp_path: Path, parquet: Path) -> None:
    view = FeatureView(name="v", entities=[], schema=[Field(name="x", dtype=Float64)], source=source(parquet))
    assert join(feast_store(tmp_path, [view]), asked([("p", 2.5), ("q", 4)]))["x"].to_list() == [0.2, 0.4]


# -- lakes -------------------------------------------------------------------------------------------------------------


def in_lake(folder: Path) -> tuple[Lake, FeatureStore]:
    lake = Lake(str(folder / "lake"))
    days = TABLE.with_columns(day=pl.col("event_timestamp").dt.strftime("%Y-%m-%d"))
    lake.write_partitions("features/v", days.with_columns(x=pl.col("x") * 0), by="day", written_at=START)
    lake.write_partitions("features/v", days, by="day", written_at=at(1))  # supersedes: the old files stay beside
    return lake, feast_store(folder, [feature_view(source("lake/features/v"), ttl=24)])


def test_a_lake_table_is_read_through_its_manifests(tmp_path: Path) -> None:
    lake, store = in_lake(tmp_path)
    assert len(list(Path(lake.url).rglob("*.parquet"))) == 2  # a glob would count every row twice
    assert join(store, ASKED)["x"].to_list() == ANSWER


def test_a_red_partition_is_refused_and_one_out_of_reach_is_not_read(tmp_path: Path) -> None:
    lake, store = in_lake(tmp_path)
    red = {"suite": "range", "success": False}
    lake.write("features/v", TABLE, partition="2013-03-01", written_at=START, verdicts=[red])
    assert join(store, ASKED)["x"].to_list() == ANSWER
    with pytest.raises(RedPartitionError, match="features/v/2013-03-01 is red"):
        join(store, asked([("p", 24 * 60)]))


def test_far_from_all_partitions_everything_is_null(tmp_path: Path) -> None:
    _, store = in_lake(tmp_path)
    assert join(store, asked([("p", 24 * 365), ("p", -24 * 365)]))["x"].to_list() == [None, None]


def test_another_lake_can_stand_in(tmp_path: Path) -> None:
    _, store = in_lake(tmp_path)
    other = Lake(str(tmp_path / "other"))
    other.write("features/v", stored([("p", 0, 0, 0.9)]), written_at=START)
    with reading(lake_url=other.url):
        assert join(store, asked([("p", 4)]))["x"].to_list() == [0.9]


# -- the rest of the interface -----------------------------------------------------------------------------------------


def test_materialization_takes_the_last_created_of_the_newest(tmp_path: Path) -> None:
    unsigned = TABLE.with_columns(pl.col("n").cast(pl.UInt32))  # on which Feast's materialization fails
    unsigned.write_parquet(tmp_path / "v.parquet")
    store = feast_store(tmp_path, [feature_view(source("v.parquet"))])
    store.materialize(start_date=at(0), end_date=at(2.5))
    online = store.get_online_features(features=["v:x", "v:n"], entity_rows=[{"k": "p"}, {"k": "q"}]).to_dict()
    assert (online["x"], online["n"]) == ([0.1, 0.2], [1, 2])
    store.materialize(start_date=at(0), end_date=at(12))
    online = store.get_online_features(features=["v:x"], entity_rows=[{"k": "p"}, {"k": "q"}]).to_dict()
    assert online["x"] == [0.4, 0.2]


def test_the_latest_of_a_period_has_one_row_per_key(store: FeatureStore) -> None:
    def latest(first: float, last: float) -> list[tuple[Any, ...]]:
        job = PolarsOfflineStore.pull_latest_from_table_or_query(
            store.config, source("v.parquet"), ["k"], ["x"], "event_timestamp", "created", at(first), at(last)
        )
        return job.to_polars().select("k", "x").sort("k").rows()

    assert latest(0, 12) == [("p", 0.4), ("q", 0.2)]
    assert latest(1, 2) == [("p", 0.1), ("q", 0.2)]  # both ends belong
    with reading(as_known_at=at(5)):
        assert latest(0, 12) == [("p", 0.3), ("q", 0.2)]


def test_appending_twice_to_a_folder_is_appending_once(tmp_path: Path) -> None:
    TABLE.head(1).write_parquet((tmp_path / "folder").joinpath("a.parquet"), mkdir=True)
    store = feast_store(tmp_path, [feature_view(source("folder"))])
    for _ in range(2):
        store.write_to_offline_store("v", TABLE.tail(3).to_pandas())
    assert join(store, ASKED)["x"].to_list() == ANSWER
    assert len(list((tmp_path / "folder").iterdir())) == 2


def test_appending_to_one_file_keeps_what_was_there(store: FeatureStore, parquet: Path) -> None:
    store.write_to_offline_store("v", stored([("z", 1, 1, 0.9)]).to_pandas())
    assert join(store, ASKED)["x"].to_list() == [0.4, 0.2, 0.1, 0.4, None, 0.9, None]


def test_a_lake_table_cannot_be_appended_to(tmp_path: Path) -> None:
    _, store = in_lake(tmp_path)
    with pytest.raises(FeatureError, match="a lake table is written by its asset"):
        store.write_to_offline_store("v", TABLE.to_pandas())


@pytest.mark.parametrize("name", ["saved.parquet", "saved"])
def test_a_saved_dataset_comes_back(store: FeatureStore, tmp_path: Path, name: str) -> None:
    storage = SavedDatasetFileStorage(path=str(tmp_path / name))
    job = store.get_historical_features(entity_df=ASKED, features=["v:x"])
    with warnings.catch_warnings(action="ignore"):
        store.create_saved_dataset(from_=job, name="saved", storage=storage)
        found = store.get_saved_dataset("saved").to_df()
        with pytest.raises(SavedDatasetLocationAlreadyExists):
            store.create_saved_dataset(from_=job, name="saved", storage=storage)
        store.create_saved_dataset(from_=job, name="saved", storage=storage, allow_overwrite=True)
    assert pl.from_pandas(found)["x"].to_list() == ANSWER
    assert pl.from_pandas(store.get_saved_dataset("saved").to_df()).height == ASKED.height


def test_columns_are_inferred_where_they_are_not_declared(tmp_path: Path) -> None:
    Lake(str(tmp_path / "lake")).write("features/v", TABLE, written_at=START)
    view = FeatureView(name="v", entities=[KEY], source=source("lake/features/v"))
    store = feast_store(tmp_path, [view])
    assert {field.name: field.dtype for field in store.get_feature_view("v").features} == {"x": Float64, "n": Int64}


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("observations", "features", "message"),
    [
        ([("p", at(4))], ["v:x"], "entity_df is list; give a Polars, pandas or Arrow frame"),
        (ASKED.drop("k"), ["v:x"], r"observations: no column \['k'\]"),
        (ASKED.drop("event_timestamp"), ["v:x"], "Name it 'event_timestamp'"),
        (ASKED.with_columns(pl.col("event_timestamp").dt.replace_time_zone(None)), ["v:x"], "no time zone"),
        (ASKED.with_columns(k=1.5), ["v:x"], "key 'k' is Float64 in the observations but String"),
        (ASKED.with_columns(x=1), ["v:x"], "column 'x' exists already"),
        (ASKED.with_columns(event_timestamp=pl.lit(None, TIME)), ["v:x"], "7 of 7 rows have no 'event_timestamp'"),
        (ASKED.with_columns(event_timestamp=pl.lit("2013-01-01")), ["v:x"], "'event_timestamp' is String, not a time"),
    ],
)
def test_bad_questions_are_refused_by_name(store: FeatureStore, observations: Any, features: Any, message: str) -> None:
    with pytest.raises(FeatureError, match=message):
        join(store, observations, features)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (None, r"feature view 'v': no Parquet file at .*v.parquet; materialize the view"),
        (TABLE.drop("x"), r"feature view 'v': no column \['x'\]"),
        (TABLE.with_columns(x=pl.lit("high")), "column 'x' is String, but feature 'x' is declared Float64"),
        (
            TABLE.with_columns(pl.col("event_timestamp").dt.replace_time_zone(None)),
            "'event_timestamp' has no time zone",
        ),
    ],
)
def test_bad_tables_are_refused_by_name(tmp_path: Path, table: pl.DataFrame | None, message: str) -> None:
    store = feast_store(tmp_path, [feature_view(source("v.parquet"))])  # before there is any data
    if table is not None:
        table.write_parquet(tmp_path / "v.parquet")
    with pytest.raises(FeatureError, match=message):
        join(store, ASKED)


def test_feast_itself_refuses_an_unknown_feature_or_view(store: FeatureStore) -> None:
    with pytest.raises(KeyError, match="Feature wrong not found in projection v"):
        join(store, ASKED, ["v:wrong"])
    with pytest.raises(FeastObjectNotFoundException, match="Feature view wrong does not exist"):
        join(store, ASKED, ["wrong:x"])


def test_a_lake_table_without_data_says_so(tmp_path: Path) -> None:
    Lake(str(tmp_path / "lake")).write("features/other", TABLE, written_at=START)
    store = feast_store(tmp_path, [feature_view(source("lake/features/v"))])
    with pytest.raises(FeatureError, match=r"lake table 'features/v' in .* has no data; materialize it first"):
        join(store, ASKED)


def test_rows_to_append_must_have_the_sources_columns(store: FeatureStore) -> None:
    with pytest.raises(ValueError, match="x"):
        store.write_to_offline_store("v", TABLE.drop("x").to_pandas(), reorder_columns=False)
