"""The online store through a real `feast.FeatureStore`: Feast's SQLite store is the oracle, where it is right."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal as Exact
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Array, Bool, Bytes, Decimal, Float32, Float64, Int32, Int64, String, UnixTimestamp

from ml_assets.features.online.place import STORE
from ml_assets.features.point_in_time import FeatureError

pytestmark = pytest.mark.filterwarnings("ignore")  # Feast warns of its own deprecations

NOW = datetime(2013, 6, 1, 12, tzinfo=UTC)
TYPES = {
    "f64": Float64,
    "f32": Float32,
    "i64": Int64,
    "i32": Int32,
    "text": String,
    "truth": Bool,
    "raw": Bytes,
    "at": UnixTimestamp,
    "many": Array(Float64),
    "words": Array(String),
    "exact": Decimal,
}
ROWS: list[dict[str, Any]] = [
    {
        "f64": 0.1 + 0.2,
        "f32": 0.5,
        "i64": 2**62 + 1,
        "i32": -7,
        "text": 'a "b" | é',
        "truth": True,
        "raw": b"\x00\xff",
        "at": datetime(2013, 1, 1, tzinfo=UTC),
        "many": [0.1, 1e300],
        "words": ["x", ""],
        "exact": Exact("0.10"),
    },
    {**dict.fromkeys(TYPES), "f64": math.inf, "many": []},
]
KEYS = [("p", 1), ("q", 2)]
FIELDS = [Field(name=name, dtype=dtype) for name, dtype in TYPES.items()]


def feast_store(folder: Path, online: dict[str, Any]) -> FeatureStore:
    pair = [
        Entity(name="thing", join_keys=["k"], value_type=ValueType.STRING),
        Entity(name="place", join_keys=["a"], value_type=ValueType.INT64),
    ]
    source = FileSource(
        name="s", path="s.parquet", timestamp_field="event_timestamp", created_timestamp_column="created"
    )
    keys = [Field(name="k", dtype=String), Field(name="a", dtype=Int64)]
    view = FeatureView(name="v", entities=pair, ttl=timedelta(hours=6), schema=[*keys, *FIELDS], source=source)
    alone = FeatureView(name="w", entities=[], schema=[Field(name="y", dtype=Float64)], source=source)
    config = RepoConfig(
        project="test",
        provider="local",
        registry=str(folder / f"{abs(hash(online['type']))}.db"),
        offline_store={"type": "ml_assets.features.offline_store.PolarsOfflineStore"},
        online_store=online,
        entity_key_serialization_version=3,
    )
    config.repo_path = folder
    store = FeatureStore(config=config)
    store.apply([*pair, view, alone, FeatureService(name="all", features=[view, alone])])
    return store


@pytest.fixture(params=["sqlite", "redis"])
def ours(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FeatureStore]:
    url = "online.db" if request.param == "sqlite" else request.getfixturevalue("redis_url")
    (tmp_path / "clock").write_text(NOW.isoformat())
    store = feast_store(tmp_path, {"type": STORE, "url": url, "replay_clock": "clock"})
    yield store
    store.teardown()


@pytest.fixture
def theirs(tmp_path: Path) -> FeatureStore:
    return feast_store(tmp_path, {"type": "sqlite", "path": str(tmp_path / "feast.db")})


def pushed(rows: Sequence[dict[str, Any]], *, hours: float = 1, created: float = 1, keys: Any = KEYS) -> pd.DataFrame:
    times = {"event_timestamp": NOW - timedelta(hours=hours), "created": NOW - timedelta(hours=created)}
    return pd.DataFrame([{"k": k, "a": a} | row | times for (k, a), row in zip(keys, rows, strict=False)])


def asked(store: FeatureStore, keys: Sequence[tuple[Any, Any]] = (*KEYS, ("z", 9))) -> dict[str, Any]:
    rows = [{"k": k, "a": a} for k, a in keys]
    return dict(store.get_online_features(features=store.get_feature_service("all"), entity_rows=rows).to_dict())


def test_it_answers_as_feasts_own_store(ours: FeatureStore, theirs: FeatureStore) -> None:
    for store in (ours, theirs):
        store.write_to_online_store("v", pushed(ROWS))
        store.write_to_online_store("w", pd.DataFrame([{"y": 1.5, "event_timestamp": NOW, "created": NOW}]))
    found, other = asked(ours), asked(theirs)
    assert found | {"y": None} == other | {"y": None}
    assert other["y"] == [None, None, None]  # of a view without entities Feast's own store finds only materialized rows
    assert found["text"] == ['a "b" | é', None, None]
    assert found["y"] == [1.5, 1.5, 1.5]
    assert found["exact"] == [Exact("0.10"), None, None]


def test_nan_is_what_feast_makes_of_it(ours: FeatureStore, theirs: FeatureStore) -> None:
    for store in (ours, theirs):
        store.write_to_online_store("v", pushed([{**ROWS[0], "f64": math.nan}]))
    assert asked(ours, KEYS[:1])["f64"] == asked(theirs, KEYS[:1])["f64"] == [None]


def test_older_values_never_replace_newer_ones_as_they_do_in_feasts_own(
    ours: FeatureStore, theirs: FeatureStore
) -> None:
    newer, older = {**ROWS[0], "f64": 2.0}, {**ROWS[0], "f64": 1.0}
    for store in (ours, theirs):
        store.write_to_online_store("v", pushed([newer], hours=1))
        store.write_to_online_store("v", pushed([older], hours=3))
    assert asked(ours, KEYS[:1])["f64"] == [2.0]
    assert asked(theirs, KEYS[:1])["f64"] == [1.0]
    ours.write_to_online_store("v", pushed([older], hours=1, created=0))  # a correction of the same moment
    assert asked(ours, KEYS[:1])["f64"] == [1.0]


def test_the_ttl_is_honoured_as_it_is_not_in_feasts_own(
    ours: FeatureStore, theirs: FeatureStore, tmp_path: Path
) -> None:
    for store in (ours, theirs):
        store.write_to_online_store("v", pushed(ROWS[:1], hours=6))
    assert asked(ours, KEYS[:1])["i32"] == asked(theirs, KEYS[:1])["i32"] == [-7]  # the last moment
    (tmp_path / "clock").write_text((NOW + timedelta(microseconds=1)).isoformat())
    assert asked(ours, KEYS[:1])["i32"] == [None]
    assert asked(theirs, KEYS[:1])["i32"] == [-7]


def test_a_view_that_is_removed_is_forgotten(ours: FeatureStore) -> None:
    ours.write_to_online_store("v", pushed(ROWS[:1]))
    (backend,) = ours._get_provider().online_store._backends.values()
    assert len(backend.rows("v")) == 1
    ours.apply([], objects_to_delete=[ours.get_feature_service("all"), ours.get_feature_view("v")], partial=False)
    assert backend.rows("v") == []


def test_the_environment_variable_moves_the_store(
    ours: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours.write_to_online_store("v", pushed(ROWS[:1]))
    monkeypatch.setenv("ML_ASSETS_ONLINE", str(tmp_path / "elsewhere.db"))
    assert asked(ours, KEYS[:1])["i32"] == [None]
    monkeypatch.setenv("ML_ASSETS_ONLINE", "oracle://x")
    with pytest.raises(FeatureError, match="online store 'oracle://x' is not known"):
        asked(ours, KEYS[:1])
    monkeypatch.delenv("ML_ASSETS_ONLINE")
