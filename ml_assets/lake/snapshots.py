"""A snapshot names the version of each partition of a table at one moment. It is small, never changes, and is named by its hash."""

from __future__ import annotations

import json
from collections.abc import Iterable

from ml_assets.lake.manifest import WHOLE, Live, combined_version, version_of
from ml_assets.lake.store import Store
from ml_assets.lake.verify import AlteredFileError

FOLDER = "_snapshots"


def keep(store: Store, table: str, live: Iterable[Live]) -> str:
    """Store the versions of a table's partitions; return their combined version, which is the snapshot's name."""
    found = list(live)
    snapshot = combined_version(found)
    data = _json(table, {item.partition or WHOLE: item.version for item in found})
    name = f"{FOLDER}/{snapshot}.json"
    if not (store.exists(name) and store.read(name) == data):
        store.write(name, data)
    return snapshot


def kept(store: Store, snapshot: str) -> tuple[str, dict[str, str]]:
    """Return a snapshot's table and the version of each partition; `FileNotFoundError` without it.

    `AlteredFileError` when it is not what its name says.
    """
    name = f"{FOLDER}/{snapshot}.json"
    data = store.read(name)
    try:
        raw = json.loads(data)
        table, versions = str(raw["table"]), dict(raw["versions"])
    except (ValueError, KeyError, TypeError) as error:
        raise _altered(store.path(name)) from error
    actual = version_of((table, partition, version) for partition, version in versions.items())
    if actual != snapshot or _json(table, versions) != data:
        raise _altered(store.path(name))
    return table, versions


def _altered(path: str) -> AlteredFileError:
    return AlteredFileError(f"{path} is not the snapshot that its name says; restore it from a copy")


def _json(table: str, versions: dict[str, str]) -> bytes:
    return json.dumps({"table": table, "versions": versions}, indent=1, sort_keys=True).encode()
