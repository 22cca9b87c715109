"""Scoring without Feast gives what Feast gives, loads neither Feast nor pandas, and notices when it is out of date."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ml_assets.features import retrieval
from ml_assets.features.point_in_time import FeatureError
from ml_assets.features.retrieval import apply, historical_features, service_features, service_views, view_schemas
from ml_assets.lake import Lake, RedPartitionError
from ml_assets.resources.places import FeatureStoreResource
from ml_assets_tests.features.repos import feature_store_yaml

ROOT = Path(__file__).resolve().parents[2]
SERVICE = "flight_delay_v2"
VIEWS = [
    "origin_weather",
    "origin_congestion",
    "carrier_history",
    "route_history",
    "destination_history",
    "aircraft_history",
    "aircraft_spec",
]
KEYS = ("carrier", "origin", "dest", "tailnum")
PLAN = ("distance", "scheduled_duration", "planned_departures")
START = datetime(2013, 1, 1, tzinfo=UTC)
TIME = pl.Datetime("us", "UTC")
SMALL = """\
import pandas as pd
from datetime import timedelta
from feast import Entity, FeatureService, FeatureView, Field, FileSource, RequestSource, ValueType
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64, String

thing = Entity(name="thing", join_keys=["k"], value_type=ValueType.STRING)
mapped = FileSource(
    name="mapped",
    path="mapped.parquet",
    timestamp_field="happened",
    field_mapping={"stored_x": "x", "key": "k", "at": "happened"},
)
v = FeatureView(
    name="v",
    entities=[thing],
    ttl=timedelta(hours=2, milliseconds=1),
    schema=[Field(name="k", dtype=String), Field(name="x", dtype=Float64), Field(name="n", dtype=Int64)],
    source=mapped,
)
w = FeatureView(name="w", entities=[], schema=[Field(name="y", dtype=Float64)], source=FileSource(
    name="w", path="w", timestamp_field="event_timestamp", created_timestamp_column="created"))

@on_demand_feature_view(
    sources=[v, RequestSource(name="request", schema=[Field(name="factor", dtype=Float64)])],
    schema=[Field(name="scaled", dtype=Float64)],
)
def scaled(inputs: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"scaled": inputs["x"] * inputs["factor"]})

services = [
    FeatureService(name="aliased", features=[v[["n", "x"]].with_name("own").with_join_key_map({"k": "partner"}), w]),
    FeatureService(name="in_parts", features=[v[["n"]], w, v[["x"]]]),
    FeatureService(name="clashing", features=[v.with_name("one"), v.with_name("other")]),
    FeatureService(name="on_demand", features=[v, scaled]),
]
aliased, in_parts, clashing, on_demand = services
"""

pytestmark = pytest.mark.filterwarnings("ignore")  # Feast warns of its own deprecations


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def copied(folder: Path) -> Path:
    (folder / "data").mkdir()
    shutil.copytree(ROOT / "feature_repo", folder / "feature_repo", ignore=shutil.ignore_patterns("__pycache__"))
    return folder / "feature_repo"


def rows_of(keys: Sequence[str], features: Sequence[str], rng: random.Random) -> pl.DataFrame:
    """Return sixty days of rows in no order: some keys null, some values null, some moments twice, some known late."""
    rows = []
    for _ in range(300):
        moment = at(rng.randrange(60 * 24))
        for delay in (1, 40)[: rng.randrange(1, 3)]:
            row: dict[str, Any] = {key: rng.choice(["A", "B", None]) for key in keys}
            row |= {name: rng.choice([None, rng.random()]) for name in features}
            rows.append(row | {"event_timestamp": moment, "created_timestamp": moment + timedelta(hours=delay)})
    types = dict.fromkeys(keys, pl.String) | dict.fromkeys(features, pl.Float64)
    return pl.DataFrame(rows, schema={**types, "event_timestamp": TIME, "created_timestamp": TIME})


def observed(*, count: int = 400, first: int = 0, last: int = 70 * 24, seed: int = 1) -> pl.DataFrame:
    """Return observations in no order: some keys null or unknown, some rows twice, some out of every view's reach."""
    rng = random.Random(seed)
    rows = [
        {"flight_id": str(n), **{key: rng.choice(["A", "B", "Z", None]) for key in KEYS}, "event_timestamp": at(hour)}
        | {name: rng.choice([None, rng.random()]) for name in PLAN}
        for n, hour in enumerate(rng.randrange(first, last) for _ in range(count))
    ]
    types = {"flight_id": pl.String, **dict.fromkeys(KEYS, pl.String), "event_timestamp": TIME}
    types |= dict.fromkeys(PLAN, pl.Float64)
    frame = pl.DataFrame(rows, schema=types)
    return pl.concat([frame, frame.head(20)]).with_columns(label_timestamp=pl.col("event_timestamp"))


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the repository that ships, applied, over a lake in which one view is not partitioned."""
    repo = copied(tmp_path_factory.mktemp("applied"))
    assert apply(repo)
    lake, rng = Lake(str(repo.parent / "data" / "lake")), random.Random(0)
    day = pl.col("event_timestamp").dt.strftime("%Y-%m-%d").alias("day")
    for view in view_schemas(repo).values():
        rows = rows_of(list(view.keys), list(view.features), rng)
        if view.ttl is None:
            lake.write(f"features/{view.name}", rows, written_at=START)
        else:
            lake.write_partitions(f"features/{view.name}", rows.with_columns(day), by="day", written_at=START)
    return repo


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository with what the shipped one does not have, applied."""
    repo = tmp_path_factory.mktemp("small")
    (repo / "feature_store.yaml").write_text(feature_store_yaml())
    (repo / "small.py").write_text(SMALL)
    table = pl.DataFrame({"key": ["p", "p", "q"], "at": [at(1), at(3), at(2)], "stored_x": [0.1, 0.3, 0.2]})
    table.with_columns(n=pl.int_range(3)).write_parquet(repo / "mapped.parquet")
    other = pl.DataFrame({"event_timestamp": [at(2), at(2)], "created": [at(9), at(4)], "y": [2.0, 1.0]})
    other.write_parquet(repo / "w" / "part.parquet", mkdir=True)
    assert apply(repo)
    return repo


def compiled_file(repo: Path) -> Path:
    return retrieval._registry_path(repo).with_suffix(".compiled.json")


def without_feast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every way to Feast fail."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("Feast was asked")

    for name in ("historical_features", "view_schemas", "_store", "_apply"):
        monkeypatch.setattr(retrieval, name, refuse)


# -- the same answers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [None, at(30 * 24)], ids=["now", "as_known_at"])
@pytest.mark.parametrize(
    "observations",
    [observed(), observed().sort("event_timestamp"), observed(first=100 * 24, last=101 * 24), observed().clear()],
    ids=["unsorted", "sorted", "far", "empty"],
)
def test_it_equals_feast(
    repo: Path, observations: pl.DataFrame, known: datetime | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = historical_features(repo, SERVICE, observations, as_known_at=known)
    without_feast(monkeypatch)
    ours = service_features(repo, SERVICE, observations, as_known_at=known)
    assert_frame_equal(ours, theirs, check_exact=True)
    assert_frame_equal(ours.select(observations.columns), observations)


def test_the_comparison_compares_something(repo: Path) -> None:
    found = service_features(repo, SERVICE, observed())
    features = found.drop(observed().columns)
    assert features.width == 36
    assert all(0 < features[name].null_count() < features.height for name in features.columns)
    earlier = service_features(repo, SERVICE, observed(), as_known_at=at(30 * 24))
    assert not earlier.equals(found)


def test_another_lake_can_stand_in(repo: Path, tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    for view in view_schemas(repo).values():
        rows = rows_of(list(view.keys), list(view.features), random.Random(view.name))
        lake.write(f"features/{view.name}", rows, written_at=START)
    theirs = historical_features(repo, SERVICE, observed(), lake_url=lake.url)
    assert_frame_equal(service_features(repo, SERVICE, observed(), lake_url=lake.url), theirs)
    assert not theirs.equals(historical_features(repo, SERVICE, observed()))


@pytest.mark.parametrize("service", ["aliased", "in_parts"])
def test_aliases_field_mappings_and_views_without_entities(
    small: Path, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hours = [4.0, 3, 5.01, 5, 2, 1]
    asked = pl.DataFrame(
        {"k": ["p", "q", "p", "p", None, "z"], "partner": ["q", "p", "q", None, "p", "q"], "asked_at": map(at, hours)},
        schema_overrides={"asked_at": TIME},
    )
    theirs = historical_features(small, service, asked)
    without_feast(monkeypatch)
    found = service_features(small, service, asked)
    assert_frame_equal(found, theirs)
    assert found.columns == [*asked.columns, "n", "x", "y"]
    assert found["y"].to_list() == [2.0, 2.0, 2.0, 2.0, 2.0, None]
    matched = {"aliased": [0.2, 0.3, None, None, 0.1, None], "in_parts": [0.3, 0.2, None, 0.3, None, None]}
    assert found["x"].to_list() == matched[service]


def refusals() -> dict[str, Callable[[Path], Any]]:
    asked, hours = observed(), timedelta(hours=1)
    return {
        "no request column": lambda repo: (repo, SERVICE, asked.drop("distance"), {}),
        "request column of another kind": lambda repo: (repo, SERVICE, asked.with_columns(distance=pl.lit("far")), {}),
        "no key": lambda repo: (repo, SERVICE, asked.drop("dest"), {}),
        "no zone": lambda repo: (
            repo,
            SERVICE,
            asked.with_columns(pl.col("event_timestamp").dt.replace_time_zone(None)),
            {},
        ),
        "taken": lambda repo: (repo, SERVICE, asked.with_columns(temp=1.0), {}),
        "no data": lambda repo: (repo, SERVICE, asked, {"lake_url": str(repo)}),
        "naive": lambda repo: (repo, SERVICE, asked, {"as_known_at": (START + hours).replace(tzinfo=None)}),
        "taken by a request-time feature": lambda repo: (repo, SERVICE, asked.with_columns(planned_speed=1.0), {}),
        "no service": lambda repo: (repo, "flight_delay_v9", asked, {}),
    }


@pytest.mark.parametrize("name", list(refusals()))
def test_what_feast_refuses_is_refused_in_the_same_words(
    repo: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    *question, options = refusals()[name](repo)
    with pytest.raises(FeatureError) as theirs:
        historical_features(*question, **options)
    without_feast(monkeypatch)
    with pytest.raises(FeatureError) as ours:
        service_features(*question, **options)
    assert str(ours.value) == str(theirs.value)


def test_red_partitions_and_wrong_types_are_refused(repo: Path, tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    shutil.copytree(repo.parent / "data" / "lake", tmp_path, dirs_exist_ok=True)
    view = view_schemas(repo)["origin_weather"]
    rows = rows_of(list(view.keys), list(view.features), random.Random(9))
    red = {"suite": "range", "success": False}
    lake.write("features/origin_weather", rows, partition="2013-01-02", written_at=START, verdicts=[red])
    with pytest.raises(RedPartitionError, match="features/origin_weather/2013-01-02 is red"):
        service_features(repo, SERVICE, observed(), lake_url=lake.url)
    shutil.rmtree(tmp_path / "features" / "origin_weather")
    lake.write("features/origin_weather", rows.with_columns(temp=pl.lit("warm")), written_at=START)
    with pytest.raises(FeatureError, match="'temp' is String, but feature 'temp' is declared Float64"):
        service_features(repo, SERVICE, observed(), lake_url=lake.url)


# -- without Feast -----------------------------------------------------------------------------------------------------

SCORING = """
import json, sys
import polars as pl
from ml_assets.resources.places import FeatureStoreResource
store = FeatureStoreResource(repo={repo!r}, lake={lake!r})
store.for_scoring({service!r}, pl.read_parquet({asked!r}), views={views!r}).write_parquet({answer!r})
print(json.dumps(sorted(sys.modules)))
"""


def test_a_scoring_process_loads_neither_feast_nor_pandas(repo: Path, tmp_path: Path) -> None:
    observed().write_parquet(tmp_path / "asked.parquet")
    lake = str(repo.parent / "data" / "lake")
    paths = {"asked": str(tmp_path / "asked.parquet"), "answer": str(tmp_path / "answer.parquet")}
    code = SCORING.format(repo=str(repo), lake=lake, service=SERVICE, views=VIEWS, **paths)
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environ, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert not loaded & {"feast", "pandas", "pyarrow"}
    assert "polars" in loaded
    assert_frame_equal(pl.read_parquet(paths["answer"]), historical_features(repo, SERVICE, observed()))


def test_the_views_of_a_service_are_those_of_the_registry(
    repo: Path, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {"aliased": ["v", "w"], "in_parts": ["v", "w"], "clashing": ["v"], "on_demand": ["v"]}
    for service, views in expected.items():
        assert sorted(view_schemas(small, service)) == views
    without_feast(monkeypatch)
    assert service_views(repo, SERVICE) == VIEWS
    assert {service: service_views(small, service) for service in expected} == expected


def test_both_ways_refuse_a_service_of_other_views_than_declared(repo: Path) -> None:
    store = FeatureStoreResource(repo=str(repo), lake=str(repo.parent / "data" / "lake"))
    for ask in (store.historical, store.for_scoring):
        assert ask(SERVICE, observed(), views=reversed(VIEWS)).height == observed().height
        with pytest.raises(ValueError, match=r"feature service flight_delay_v2 is made of .*; make them agree"):
            ask(SERVICE, observed(), views=VIEWS[1:])


# -- what only Feast can answer ----------------------------------------------------------------------------------------


def test_on_demand_views_are_left_to_feast(small: Path) -> None:
    entry = json.loads(compiled_file(small).read_text())["services"]["on_demand"]
    assert (entry["views"], entry["reason"]) == (["v"], "ValueError: on-demand views ['scaled'] are computed by Feast")
    asked = pl.DataFrame({"k": ["p", "q"], "event_timestamp": [at(4), at(3)], "factor": [10.0, 10.0]})
    found = service_features(small, "on_demand", asked)
    assert_frame_equal(found, historical_features(small, "on_demand", asked))
    assert found["scaled"].to_list() == pytest.approx([3.0, 2.0])


def test_what_feast_refuses_by_itself_is_left_to_feast(small: Path) -> None:
    from feast.errors import FeatureNameCollisionError

    asked = pl.DataFrame({"k": ["p"], "event_timestamp": [at(4)]})
    with pytest.raises(FeatureNameCollisionError):
        service_features(small, "clashing", asked)


def test_another_offline_store_is_refused_as_before(tmp_path: Path) -> None:
    (tmp_path / "feature_store.yaml").write_text(feature_store_yaml(offline="dask"))
    (tmp_path / "small.py").write_text(SMALL)
    assert apply(tmp_path)
    with pytest.raises(FeatureError, match=r"offline_store.type is 'dask', which does not keep rows"):
        service_features(tmp_path, "aliased", pl.DataFrame({"k": ["p"], "event_timestamp": [at(4)]}))


# -- out of date -------------------------------------------------------------------------------------------------------


def damaged(path: Path) -> None:
    path.write_text(path.read_text()[:-20])


def of_another_format(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 0}))


def of_other_definitions(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fingerprint": "0"}))


@pytest.mark.parametrize("spoil", [Path.unlink, damaged, of_another_format, of_other_definitions])
def test_a_missing_or_stale_file_is_compiled_again(
    repo: Path, spoil: Callable[[Path], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = compiled_file(repo).read_bytes()
    path = compiled_file(repo)
    spoil(path)
    assert [apply(repo), apply(repo)] == [True, False]
    assert json.loads(path.read_bytes())["services"] == json.loads(before)["services"]
    without_feast(monkeypatch)
    assert service_views(repo, SERVICE) == VIEWS


def test_without_the_file_feast_answers(repo: Path) -> None:
    path = compiled_file(repo)
    kept = path.read_bytes()
    path.unlink()
    try:
        assert_frame_equal(service_features(repo, SERVICE, observed()), historical_features(repo, SERVICE, observed()))
        assert sorted(service_views(repo, SERVICE)) == sorted(VIEWS)
    finally:
        path.write_bytes(kept)


def test_what_was_applied_without_us_is_noticed_even_when_the_definitions_are_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training would see the registry, scoring the old file: another TTL in each."""
    repo = copied(tmp_path)
    assert apply(repo)
    original = (repo / "views.py").read_text()
    (repo / "views.py").write_text(original.replace("timedelta(hours=6)", "timedelta(hours=1)"))
    retrieval._apply(repo)  # as `feast apply` in a shell
    (repo / "views.py").write_text(original)
    assert retrieval._compiled_service(repo, SERVICE) is None
    assert view_schemas(repo)["origin_weather"].ttl == timedelta(hours=1)
    assert [apply(repo), apply(repo)] == [True, False]
    assert view_schemas(repo)["origin_weather"].ttl == timedelta(hours=6)
    found = retrieval._compiled_service(repo, SERVICE)
    assert found is not None
    assert found.declared is not None
    assert found.declared[0].ttl == timedelta(hours=6)


def test_asking_feast_does_not_make_the_file_stale(repo: Path) -> None:
    historical_features(repo, SERVICE, observed())
    view_schemas(repo)
    assert not apply(repo)
