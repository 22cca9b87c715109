"""A Feast online store whose older values never replace newer ones, usable in any Feast repository.

```yaml
online_store:
  type: ml_assets.features.online_store.PackedOnlineStore
  url: data/online.db        # or redis://host:6379/0; $ML_ASSETS_ONLINE comes first
```

Unlike Feast's SQLite store it keeps one row for an entity and view instead of one for each feature, compares times before it
writes, and answers nothing for rows that are older than the view's TTL.

Feast is imported at the top because the classes derive from Feast's; only Feast and functions import this module.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Literal

from feast import Entity
from feast.feature_view import DUMMY_ENTITY_ID, FeatureView
from feast.infra.online_stores.online_store import OnlineStore
from feast.protos.feast.types.EntityKey_pb2 import EntityKey as EntityKeyProto
from feast.protos.feast.types.Value_pb2 import Value as ValueProto
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from feast.type_map import feast_value_type_to_python_type, python_values_to_proto_values
from feast.types import Array

from ml_assets.features.online.backends import Backend, open_backend
from ml_assets.features.online.place import DEFAULT_URL, STORE, online_url
from ml_assets.features.online.reader import KINDS
from ml_assets.features.online.rows import NEVER, PUSHED, Change, OnlineRow, Packing, micros, moment, pack_key
from ml_assets.features.replayed import now_inside_feast

Written = tuple[EntityKeyProto, dict[str, ValueProto], datetime, datetime | None]
Found = tuple[datetime | None, dict[str, ValueProto] | None]


class PackedOnlineStoreConfig(FeastConfigBaseModel):
    """The `online_store` section of feature_store.yaml; see the module."""

    type: Literal["ml_assets.features.online_store.PackedOnlineStore"] = STORE
    url: str = DEFAULT_URL
    replay_clock: str | None = None
    """A file with the replay's now, relative to the repository; while there is none, the system's time decides about TTLs."""


class PackedOnlineStore(OnlineStore):
    """Feast's online store interface over SQLite or Redis; see the module."""

    def __init__(self) -> None:
        """Nothing is opened before the first call."""
        self._backends: dict[tuple[str, str], Backend] = {}

    def online_write_batch(
        self, config: RepoConfig, table: FeatureView, data: list[Written], progress: Callable[[int], Any] | None
    ) -> None:
        """Write rows that are newer than what is there; a row counts as done whether or not it was newer."""
        types, packing = _types(table), _packing(table)
        rows = [
            OnlineRow(
                key=_key(entity),
                event=micros(event),
                created=NEVER if created is None else micros(created),
                origin=PUSHED,
                values=packing.pack(
                    {name: _value(types[name], value) for name, value in values.items() if name in types}
                ),
            )
            for entity, values, event, created in data
        ]
        self._backend(config).apply(table.name, Change(rows))
        if progress:
            progress(len(data))

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKeyProto],
        requested_features: list[str] | None = None,
    ) -> list[Found]:
        """Return event time and features of each key; (None, None) when there is no row or it is older than the TTL."""
        oldest = now_inside_feast(config) - table.ttl if table.ttl else None
        rows = self._backend(config).read(table.name, [_key(entity) for entity in entity_keys])
        types, packing = _types(table), _packing(table)
        wanted = [name for name in requested_features or types if name in types]

        def found(row: OnlineRow | None) -> Found:
            if row is None or (oldest and moment(row.event) < oldest):
                return None, None
            values = packing.unpack(row.values)
            return moment(row.event), {name: _proto(types[name], values.get(name)) for name in wanted}

        return [found(row) for row in rows]

    def update(
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeatureView],
        tables_to_keep: Sequence[FeatureView],
        entities_to_delete: Sequence[Entity],
        entities_to_keep: Sequence[Entity],
        partial: bool,
    ) -> None:
        """Forget views that are no longer declared. Tables are made by the first write."""
        self.teardown(config, tables_to_delete, entities_to_delete)

    def teardown(self, config: RepoConfig, tables: Sequence[FeatureView], entities: Sequence[Entity]) -> None:
        """Forget the views."""
        for table in tables:
            self._backend(config).drop(table.name)

    def _backend(self, config: RepoConfig) -> Backend:
        """Return the backend, opened once for each place."""
        assert isinstance(config.online_store, PackedOnlineStoreConfig)
        place = online_url(config.online_store.url, config.repo_path), config.project
        if place not in self._backends:
            self._backends[place] = open_backend(place[0], project=place[1])
        return self._backends[place]


def _types(table: FeatureView) -> dict[str, Any]:
    return {field.name: field.dtype for field in table.features}


def _packing(table: FeatureView) -> Packing:
    return Packing({name: str(dtype) if _is_plain(dtype) else "Bytes" for name, dtype in _types(table).items()})


def _is_plain(dtype: Any) -> bool:
    """Tell whether values of the type are kept as such; of other types (sets, maps, decimals …) Feast's own bytes are kept."""
    return str(dtype.base_type if isinstance(dtype, Array) else dtype) in KINDS


def _value(dtype: Any, value: ValueProto) -> Any:
    if _is_plain(dtype) or value.WhichOneof("val") is None:
        return feast_value_type_to_python_type(value)
    return value.SerializeToString()


def _proto(dtype: Any, value: Any) -> ValueProto:
    if _is_plain(dtype) or value is None:
        return python_values_to_proto_values([value], dtype.to_value_type())[0]
    found = ValueProto()
    found.ParseFromString(value)
    return found


def _key(entity: EntityKeyProto) -> str:
    values = dict(zip(entity.join_keys, map(feast_value_type_to_python_type, entity.entity_values), strict=True))
    return pack_key([values[name] for name in sorted(values) if name != DUMMY_ENTITY_ID])
