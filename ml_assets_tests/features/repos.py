"""feature_store.yaml of the small Feast repositories that tests write."""

from __future__ import annotations

POLARS = "ml_assets.features.offline_store.PolarsOfflineStore"
FEASTS_SQLITE = "{type: sqlite, path: online.db}"
PACKED = "{type: ml_assets.features.online_store.PackedOnlineStore, url: online.db}"


def feature_store_yaml(*, online: str = FEASTS_SQLITE, offline: str = POLARS) -> str:
    """Return the file of a repository whose registry and online store lie in its own folder."""
    return f"""\
project: small
provider: local
registry: registry.db
online_store: {online}
offline_store: {{type: {offline}}}
entity_key_serialization_version: 3
"""
