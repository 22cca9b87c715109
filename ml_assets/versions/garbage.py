"""What may be removed from the lake: versions that no reader, no model and no DVC revision needs, and leftovers of writers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from ml_assets.keys import PROFILES_FOLDER as PROFILES
from ml_assets.lake import Lake, Manifest, PreconditionFailed, StoredObject
from ml_assets.lake.lake import MANIFEST, WHOLE
from ml_assets.lake.snapshots import FOLDER as SNAPSHOTS

GRACE = timedelta(days=7)
"""So old must be what is removed: a writer between data and manifest, or a reader of an old manifest, loses nothing."""
UNUSED = timedelta(days=90)
"""Profiles are made again when they are asked for. Those that nobody added to for so long are of a reference that is gone."""
DIGITS = 20  # of a version, in the names of its files
VERSION_FILE = re.compile(rf"(?P<table>.+)/(?P<folder>[^/]+)/(?P<version>[0-9a-f]{{{DIGITS}}})\.(parquet|json)")
TEMPORARY = ".tmp-*"
LEFTOVERS = "temporary files"


@dataclass(frozen=True)
class Need:
    """What must stay, besides what is live: snapshots by table, versions of whole tables, and names of objects in the lake."""

    snapshots: Mapping[str, Collection[str]]
    versions: Mapping[str, Collection[str]]
    names: Collection[str] = ()


@dataclass(frozen=True)
class Garbage:
    """Objects that nobody needs, and (of a folder) temporary files that a writer left."""

    objects: tuple[StoredObject, ...]
    temporary: tuple[Path, ...] = ()

    def table(self) -> str:
        """Return what there is by table: how many files, how many megabytes."""
        files, sizes = Counter[str](), Counter[str]()
        for name, size in self._listed():
            files[name] += 1
            sizes[name] += size
        lines = [f"{sizes[name] / 1e6:9.1f} MB  {files[name]:6d} files  {name}" for name in sorted(files)]
        total = f"{sum(sizes.values()) / 1e6:9.1f} MB  {sum(files.values()):6d} files  altogether"
        return "\n".join([*lines, total])

    def _listed(self) -> Iterable[tuple[str, int]]:
        for item in self.objects:
            found = VERSION_FILE.fullmatch(item.name)
            yield (found["table"] if found else item.name.partition("/")[0]), item.size
        for path in self.temporary:
            yield LEFTOVERS, path.stat().st_size if path.is_file() else 0


def need_of(
    lake: Lake,
    training_sets: Mapping[str, Collection[str]],
    *,
    pinned: Iterable[Mapping[str, str]] = (),
    names: Collection[str] = (),
) -> Need:
    """Return what training sets need, of which versions (or their first digits) are given by table: they, and all they were made from.

    A version that is gone already needs nothing. The live one is always needed. `pinned` are snapshots by table which models name
    themselves: the same rows may have been made of others since. `names` are objects that DVC revisions
    name; with a data file its manifest stays.
    """
    snapshots: dict[str, set[str]] = {}
    versions: dict[str, set[str]] = {}

    def pin(source: str, snapshot: str) -> None:
        if lake.store.exists(f"{SNAPSHOTS}/{snapshot}.json"):
            snapshots.setdefault(source, set()).add(snapshot)

    for one in pinned:
        for source, snapshot in one.items():
            pin(source, snapshot)
    for table, wanted in training_sets.items():
        for manifest in _manifests(lake, table, wanted):
            versions.setdefault(table, set()).add(manifest.version)
            for source, snapshot in manifest.inputs.items():
                pin(source, snapshot)
    manifests = (f"{name.removesuffix('.parquet')}.json" for name in names if name.endswith(".parquet"))
    return Need(snapshots, versions, frozenset([*names, *manifests]))


def _manifests(lake: Lake, table: str, wanted: Collection[str]) -> list[Manifest]:
    """Return the manifests of a whole table's versions that are there and begin as one of the wanted does; the live one too."""
    live = lake.manifest(table)
    found = [live] if live else []
    for name in lake.store.names(f"{table}/{WHOLE}"):
        part = VERSION_FILE.fullmatch(name)
        if part and name.endswith(".json") and any(part["version"].startswith(one[:DIGITS]) for one in wanted):
            found.append(Manifest.from_json(lake.store.read(name), name))
    return found


def find(lake: Lake, need: Need, *, now: datetime, grace: timedelta = GRACE) -> Garbage:
    """Return what is older than `grace` and needed by nobody. `now` is the system's time, as the lake's objects have it."""
    kept = _kept(lake, need)
    old = [
        item
        for item in lake.store.objects()
        if _removable(item.name) and item.name not in kept and item.modified_at < now - _grace(item.name, grace)
    ]
    return Garbage(tuple(old), tuple(_temporary(lake, now - grace)))


def remove(lake: Lake, garbage: Garbage) -> int:
    """Remove it, and return how many files went.

    Each object only in the generation that was found: a writer who brings an old version back writes its file again.
    """
    gone = sum(_remove(lake, item) for item in garbage.objects)
    for path in garbage.temporary:
        path.unlink(missing_ok=True)
    return gone + len(garbage.temporary)


def _remove(lake: Lake, item: StoredObject) -> bool:
    """Remove one object, and tell whether it is gone."""
    if _live_again(lake, item.name):
        return False
    try:
        lake.store.remove(item.name, generation=item.generation)
    except PreconditionFailed:
        return False
    return True


def _removable(name: str) -> bool:
    beside = name.startswith((f"{SNAPSHOTS}/", f"{PROFILES}/"))
    return beside or (bool(VERSION_FILE.fullmatch(name)) and not name.startswith("_"))


def _grace(name: str, grace: timedelta) -> timedelta:
    return max(grace, UNUSED) if name.startswith(f"{PROFILES}/") else grace


def _kept(lake: Lake, need: Need) -> set[str]:
    """Return the names of the objects that must stay."""
    found = set(need.names)
    for table in lake.tables():
        for folder, item in lake.live(table).items():
            found |= {f"{table}/{folder}/{file.name}" for file in item.files}
            found |= set(_files(table, folder, item.version))
    for table, versions in need.versions.items():
        found |= {name for version in versions for name in _files(table, WHOLE, version)}
    for table, snapshots in need.snapshots.items():
        for snapshot in snapshots:
            found.add(f"{SNAPSHOTS}/{snapshot}.json")
            parts = lake.versions_in(snapshot).items()
            found |= {name for folder, version in parts for name in _files(table, folder, version)}
    return found


def _files(table: str, folder: str, version: str) -> list[str]:
    return [f"{table}/{folder}/{version[:DIGITS]}.{ending}" for ending in ("parquet", "json")]


def _live_again(lake: Lake, name: str) -> bool:
    """Tell whether the partition's manifest names a data file by now."""
    found = VERSION_FILE.fullmatch(name)
    if found is None or not name.endswith(".parquet"):
        return False
    folder = found["folder"]
    manifest = lake.manifest(found["table"], None if folder == WHOLE else folder)
    return manifest is not None and f"{found['version']}.parquet" in [file.name for file in manifest.files]


def _temporary(lake: Lake, before: datetime) -> Iterable[Path]:
    """Yield what writers into a folder left when they were killed; in a bucket there is no such thing."""
    if lake.store.is_local:
        root = Path(lake.store.path(MANIFEST)).parent
        yield from (path for path in sorted(root.rglob(TEMPORARY)) if path.stat().st_mtime < before.timestamp())
