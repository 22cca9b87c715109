"""Small Feast repositories with one kind of view, for the tests of the offline store."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Float64, Int64, String

from ml_assets.features.offline_store import PolarsRetrievalJob

OURS = "ml_assets.features.offline_store.PolarsOfflineStore"
START = datetime(2013, 1, 1, tzinfo=UTC)
TIME = pl.Datetime("us", "UTC")
STORED = {"k": pl.String, "event_timestamp": TIME, "created": TIME, "x": pl.Float64, "n": pl.Int64}
KEY = Entity(name="thing", join_keys=["k"], value_type=ValueType.STRING)


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def stored(rows: Sequence[tuple[Any, ...]]) -> pl.DataFrame:
    """Return a view's table from (key, event hour, created hour, x)."""
    return pl.DataFrame(
        [(k, at(event), at(created), x, round(event)) for k, event, created, x in rows], schema=STORED, orient="row"
    )


def asked(rows: Sequence[tuple[Any, float]]) -> pl.DataFrame:
    return pl.DataFrame(
        [(number, k, at(hour)) for number, (k, hour) in enumerate(rows)],
        schema={"id": pl.Int64, "k": pl.String, "event_timestamp": TIME},
        orient="row",
    )


def source(path: Path | str, **options: Any) -> FileSource:
    options = {"timestamp_field": "event_timestamp", "created_timestamp_column": "created"} | options
    return FileSource(name=f"source_{Path(path).name.replace('.', '_')}", path=str(path), **options)


def feature_view(where: FileSource, *, ttl: float = 0, name: str = "v", x: Any = Float64) -> FeatureView:
    schema = [Field(name="k", dtype=String), Field(name="x", dtype=x), Field(name="n", dtype=Int64)]
    return FeatureView(name=name, entities=[KEY], ttl=timedelta(hours=ttl), schema=schema, source=where)


def feast_store(folder: Path, objects: Sequence[Any] = (), kind: str = OURS, **options: Any) -> FeatureStore:
    """Return a store of that kind over `folder`; `options` are the offline store's own."""
    config = RepoConfig(
        project="test",
        provider="local",
        registry=str(folder / f"{kind}.registry.db"),
        offline_store={"type": kind} | options,
        online_store={"type": "sqlite", "path": str(folder / f"{kind}.online.db")},
        entity_key_serialization_version=3,
    )
    config.repo_path = folder
    store = FeatureStore(config=config)
    store.apply([KEY, *objects])
    return store


def join(store: FeatureStore, observations: Any, features: Any = ("v:x",), **options: Any) -> pl.DataFrame:
    names = features if isinstance(features, FeatureService) else list(features)
    job = store.get_historical_features(entity_df=observations, features=names, **options)
    assert isinstance(job, PolarsRetrievalJob)
    return job.to_polars()


TABLE = stored([("p", 1, 1, 0.1), ("p", 3, 3, 0.3), ("p", 3, 9, 0.4), ("q", 2, 2, 0.2)])
ASKED = asked([("p", 4), ("q", 10), ("p", 2), ("p", 4), (None, 4), ("z", 4), ("p", 0)])
ANSWER = [0.4, 0.2, 0.1, 0.4, None, None, None]
