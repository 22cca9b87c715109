"""Feast repositories over plain Parquet files, which differ in nothing but their stores."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.synthetic import CREATED, TIME, History
from ml_assets.features.retrieval import ViewSchema

SERVICE, VIEWS = "everything", "views.json"
DEFINITIONS = """# What this repository defines is in views.json.
from pathlib import Path

from benchmarks.repository import objects

globals().update(objects(Path(__file__).parent))
"""
OURS: Mapping[str, Any] = {"type": "ml_assets.features.offline_store.PolarsOfflineStore"}
DUCKDB: Mapping[str, Any] = {"type": "duckdb"}
SQLITE: Mapping[str, Any] = {"type": "sqlite", "path": "online.db"}
PACKED: Mapping[str, Any] = {"type": "ml_assets.features.online_store.PackedOnlineStore", "url": "online.db"}


def repository(
    folder: Path,
    views: Mapping[Path, ViewSchema],
    *,
    offline: Mapping[str, Any],
    online: Mapping[str, Any] = SQLITE,
) -> Path:
    """Make and apply a Feast repository of views by their Parquet files (or lake tables), and a service of all of them.

    `offline` and `online` are the sections of feature_store.yaml. Return the folder.
    """
    from ml_assets.features.retrieval import apply

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
    (folder / VIEWS).write_text(json.dumps([_told(path, schema) for path, schema in views.items()], indent=1))
    (folder / "definitions.py").write_text(DEFINITIONS)
    apply(folder)
    return folder


def objects(folder: Path) -> dict[str, Any]:
    """Return the Feast objects of a repository that `repository` made, by any names."""
    from feast import Entity, FeatureService, ValueType

    views = json.loads((folder / VIEWS).read_text())
    types = {"String": ValueType.STRING, "Int64": ValueType.INT64}
    keys = {key: dtype for view in views for key, dtype in view["keys"].items()}
    entities = {key: Entity(name=key, join_keys=[key], value_type=types[dtype]) for key, dtype in keys.items()}
    made = {f"view_{view['name']}": _view(view, entities) for view in views}
    return {**entities, **made, "service": FeatureService(name=SERVICE, features=[*made.values()])}


def one_row(folder: Path, *, offline: Mapping[str, Any]) -> tuple[Path, Path]:
    """Return a repository that has one row, and the file of one entity row: asking it imports all there is to import."""
    history = History(entities=1, per_entity=1)
    rows = history.file(folder / "rows")
    return repository(folder / "repo", {rows: history.schema}, offline=offline), history.asking(folder / "rows", 1)


def _told(path: Path, schema: ViewSchema) -> dict[str, Any]:
    return {
        "name": schema.name,
        "path": str(path),
        "keys": {key: str(dtype) for key, dtype in schema.keys.items()},
        "features": {name: str(dtype) for name, dtype in schema.features.items()},
        "ttl": schema.ttl.total_seconds() if schema.ttl else 0,
    }


def _view(told: Mapping[str, Any], entities: Mapping[str, Any]) -> Any:
    from feast import FeatureView, Field, FileSource, types
    from feast.data_format import ParquetFormat

    source = FileSource(
        name=told["name"],
        path=told["path"],
        file_format=ParquetFormat(),
        timestamp_field=TIME,
        created_timestamp_column=CREATED,
    )
    columns = {**told["keys"], **told["features"]}
    return FeatureView(
        name=told["name"],
        entities=[entities[key] for key in told["keys"]],
        ttl=timedelta(seconds=told["ttl"]),
        schema=[Field(name=name, dtype=getattr(types, dtype)) for name, dtype in columns.items()],
        source=source,
    )
