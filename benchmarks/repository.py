"""Feast repositories over plain Parquet files, which differ in nothing but their stores."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.synthetic import CREATED, TIME, History
from ml_assets.features.retrieval import ViewSchema

SERVICE = "everything"
OURS: Mapping[str, Any] = {"type": "ml_assets.features.offline_store.PolarsOfflineStore"}
DUCKDB: Mapping[str, Any] = {"type": "duckdb"}
SQLITE: Mapping[str, Any] = {"type": "sqlite", "path": "online.db"}


def repository(
    folder: Path,
    views: Mapping[Path, ViewSchema],
    *,
    offline: Mapping[str, Any],
    online: Mapping[str, Any] = SQLITE,
) -> Path:
    """Make and apply a Feast repository of views by their Parquet files, and a service of all; return the folder.

    `offline` and `online` are the sections of feature_store.yaml.
    """
    from feast import FeatureService, FeatureStore

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    settings = {
        "project": "bench",
        "provider": "local",
        "registry": "registry.db",
        "entity_key_serialization_version": 3,
        "offline_store": dict(offline),
        "online_store": dict(online),
        "materialization": {"pull_latest_features": True},
    }
    (folder / "feature_store.yaml").write_text(json.dumps(settings, indent=1))  # YAML reads JSON
    entities = _entities(views.values())
    made = [_view(path, schema, entities) for path, schema in views.items()]
    store = FeatureStore(repo_path=str(folder))
    store.apply([*entities.values(), *made, FeatureService(name=SERVICE, features=made)])
    return folder


def one_row(folder: Path, *, offline: Mapping[str, Any]) -> tuple[Path, Path]:
    """Return a repository that has one row, and the file of one entity row: asking it imports all there is to import."""
    history = History(entities=1, per_entity=1)
    rows = history.file(folder / "rows")
    return repository(folder / "repo", {rows: history.schema}, offline=offline), history.asking(folder / "rows", 1)


def _entities(schemas: Any) -> dict[str, Any]:
    from feast import Entity, ValueType

    types = {pl.String(): ValueType.STRING, pl.Int64(): ValueType.INT64}
    keys = {key: dtype for schema in schemas for key, dtype in schema.keys.items()}
    return {key: Entity(name=key, join_keys=[key], value_type=types[dtype]) for key, dtype in keys.items()}


def _view(path: Path, schema: ViewSchema, entities: Mapping[str, Any]) -> Any:
    from feast import FeatureView, Field, FileSource
    from feast.data_format import ParquetFormat
    from feast.types import Float64, Int64, String

    types: dict[pl.DataType, Any] = {pl.String(): String, pl.Int64(): Int64, pl.Float64(): Float64}
    source = FileSource(
        name=schema.name,
        path=str(path),
        file_format=ParquetFormat(),
        timestamp_field=TIME,
        created_timestamp_column=CREATED,
    )
    return FeatureView(
        name=schema.name,
        entities=[entities[key] for key in schema.keys],
        ttl=schema.ttl or timedelta(0),
        schema=[Field(name=name, dtype=types[dtype]) for name, dtype in {**schema.keys, **schema.features}.items()],
        source=source,
    )
