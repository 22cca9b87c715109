"""Tables of Parquet partitions under one URL. Writers go through `Lake.write`, readers through `Lake.scan`.

Layout: `<lake>/<table>/<partition or _>/manifest.json` beside `<version>.parquet`. The data file is written first and the manifest
last, so a partition changes in one step and a half-written file is invisible. The manifest replaces only the one that its writer
has read: of two writers who race, one wins. Superseded files stay, each with its manifest as `<version>.json`, for readers that
still hold the old one and for those who want the past.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

from ml_assets.lake import snapshots
from ml_assets.lake.manifest import WHOLE, DataFile, Live, Manifest, combined_version, content_hash
from ml_assets.lake.store import PreconditionFailed, Store
from ml_assets.lake.verify import AlteredFileError, require_files, require_sha256

MANIFEST = "manifest.json"
READERS = 16  # at once, from a bucket
_K = TypeVar("_K")
_T = TypeVar("_T")
Inputs = Mapping[str, str] | Callable[[str], Mapping[str, str]]  # what partitions are made from, and its versions
MARKER = "_lake.json"  # says: the folder above the tables is a lake


class RedPartitionError(ValueError):
    """A partition's stored verdict is red: its data must not be used before somebody repaired it."""


class MissingPartitionError(ValueError):
    """A table or partition that was asked for has never been written."""


class Lake:
    """Versioned tables under `url`: a folder, `gs://bucket/prefix`, or another fsspec URL."""

    def __init__(self, url: str, *, client: Any = None) -> None:
        """Nothing is touched before the first read or write. `client` as in `Store`."""
        self.store = Store(url, client=client)
        self.url = self.store.url

    def __repr__(self) -> str:
        """Show the URL."""
        return f"Lake({self.url!r})"

    @staticmethod
    def at_table_path(path: str) -> tuple[Lake, str] | None:
        """Return the lake and the table's name when `path` is (or would be) a table's folder in a lake, else None."""
        parts = path.rstrip("/").split("/")
        for depth in (2, 1, 3):
            root = "/".join(parts[:-depth])
            if root and _is_lake(root):
                return Lake(root), "/".join(parts[-depth:])
        return None

    def write(
        self,
        table: str,
        frame: pl.DataFrame,
        *,
        written_at: datetime,
        partition: str | None = None,
        inputs: Mapping[str, str] | None = None,
        code_version: str = "",
        verdicts: Sequence[Mapping[str, Any]] = (),
    ) -> Manifest:
        """Replace one partition by `frame`, atomically, and return its manifest.

        Writing the same rows with the same verdicts again changes nothing, not even `written_at`: idempotent. What they
        were made from this time is noted, and a file that was lost or altered is repaired. `PreconditionFailed` when
        another writer replaced the partition meanwhile by something else.
        """
        current, generation = self._current(table, partition)
        if generation is None:
            self.mark()
        version = content_hash(frame)
        files = self._kept(table, partition, version, current) if generation else None
        manifest = Manifest(
            table=table,
            partition=partition,
            rows=frame.height,
            schema={column: str(dtype) for column, dtype in frame.schema.items()},
            version=version,
            files=files or (self._place(table, partition, version, frame),),
            written_at=written_at,
            code_version=code_version,
            inputs=dict(inputs or {}),
            verdicts=tuple(verdicts),
        )
        return self._replace(current, generation, manifest)

    def _kept(
        self, table: str, partition: str | None, version: str, current: Manifest | None
    ) -> tuple[DataFile, ...] | None:
        """Return the files of a version that is there already, or None.

        One that was superseded is written again as it is: who removes old versions sees that it came back.
        """
        known = self._known(table, partition, version, current)
        if known is None or not self.intact(known):
            return None
        if known is not current:
            for name in (self._name(table, partition, file.name) for file in known.files):
                self.store.write(name, self.store.read(name))
        return known.files

    def intact(self, manifest: Manifest) -> bool:
        """Tell whether the files of a manifest are there, byte for byte. In a bucket they are all read for that."""
        try:
            self._verified(
                [(self._name(manifest.table, manifest.partition, file.name), file) for file in manifest.files]
            )
        except (FileNotFoundError, AlteredFileError):
            return False
        return True

    def _place(self, table: str, partition: str | None, version: str, frame: pl.DataFrame) -> DataFile:
        data, name = _parquet(frame), _file_name(version)
        self.store.write(self._name(table, partition, name), data)
        return DataFile(name=name, size=len(data), sha256=hashlib.sha256(data).hexdigest())

    def _current(self, table: str, partition: str | None) -> tuple[Manifest | None, str | None]:
        """Return the manifest to be replaced (None: there is none, or it is damaged) and its generation.

        The generation is asked first: a manifest that is newer by then makes this writer lose, never win over it.
        """
        found = self.store.stat(self._name(table, partition, MANIFEST))
        try:
            return (self.manifest(table, partition) if found else None), (found.generation if found else None)
        except AlteredFileError:
            return None, found.generation if found else None

    def _replace(self, current: Manifest | None, generation: str | None, manifest: Manifest) -> Manifest:
        """Put a manifest in the place of the one of that generation, and keep the old one beside its data."""
        if current and _same(current, manifest):
            manifest = replace(manifest, written_at=current.written_at)
            if manifest == current:
                return current
        elif current and current.version != manifest.version:
            old = self._name(current.table, current.partition, _old_name(current.version))
            self.store.write(old, current.to_json().encode())
        name, data = self._name(manifest.table, manifest.partition, MANIFEST), manifest.to_json().encode()
        try:
            self.store.write(name, data, expect="anything" if generation else "absent", generation=generation)
        except PreconditionFailed:
            winner = self.manifest(manifest.table, manifest.partition)
            if winner is None or not _same(winner, manifest):
                raise
            return winner
        return manifest

    def write_partitions(
        self,
        table: str,
        frame: pl.DataFrame,
        *,
        by: str,
        written_at: datetime,
        inputs: Inputs | None = None,
        code_version: str = "",
        verdicts: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    ) -> dict[str, Manifest]:
        """Split `frame` by the String column `by` (not stored) and write each part as the partition of that name.

        `inputs` of all of them, or a function from the partition to its own.
        """
        parts = frame.partition_by(by, as_dict=True, include_key=False, maintain_order=True)

        def write(item: tuple[tuple[Any, ...], pl.DataFrame]) -> tuple[str, Manifest]:
            partition = str(item[0][0])
            return partition, self.write(
                table,
                item[1],
                partition=partition,
                written_at=written_at,
                inputs=inputs(partition) if callable(inputs) else inputs,
                code_version=code_version,
                verdicts=(verdicts or {}).get(partition, ()),
            )

        with ThreadPoolExecutor(8) as pool:  # waiting for the disk or the network, not computing
            return dict(sorted(pool.map(write, parts.items())))

    def manifest(self, table: str, partition: str | None = None) -> Manifest | None:
        """Return the current manifest, or None when the partition was never written."""
        return self._read(Manifest.from_json, self._name(table, partition, MANIFEST))

    def _known(self, table: str, partition: str | None, version: str, current: Manifest | None) -> Manifest | None:
        """Return the manifest of a version, which is the current one or was it once, or None."""
        if current and current.version == version:
            return current
        try:
            found = self._read(Manifest.from_json, self._name(table, partition, _old_name(version)))
        except AlteredFileError:
            return None
        return found if found and found.version == version else None

    def _read(self, parse: Callable[[bytes, str], _T], name: str) -> _T | None:
        try:
            return parse(self.store.read(name), self.store.path(name))
        except FileNotFoundError:
            return None

    def manifests(self, table: str, partitions: Collection[str] | None = None) -> dict[str, Manifest]:
        """Return the current manifests of the partitions that exist, by partition, sorted ("_" for a whole table)."""
        return self._each(table, partitions, Manifest.from_json)

    def live(self, table: str, partitions: Collection[str] | None = None) -> dict[str, Live]:
        """Return what a reader needs of the current manifests, by partition, sorted ("_" for a whole table)."""
        return self._each(table, partitions, Live.from_json)

    def _each(self, table: str, partitions: Collection[str] | None, parse: Callable[[bytes, str], _T]) -> dict[str, _T]:
        names = self._folders(table) if partitions is None else sorted(set(partitions))
        found = self._together(lambda name: self._read(parse, self._in_folder(table, name, MANIFEST)), names)
        return {name: item for name, item in zip(names, found, strict=True) if item is not None}

    def _together(self, read: Callable[[_K], _T], names: Iterable[_K]) -> list[_T]:
        """Call `read` for each, at once where it waits for the network."""
        if self.store.is_local:
            return [read(name) for name in names]
        with ThreadPoolExecutor(READERS) as pool:
            return list(pool.map(read, names))

    def partitions(self, table: str) -> list[str]:
        """Return the sorted partitions that have been written."""
        names = [name for name in self._folders(table) if name != WHOLE]
        there = self._together(lambda name: self.store.exists(f"{table}/{name}/{MANIFEST}"), names)
        return [name for name, written in zip(names, there, strict=True) if written]

    def tables(self) -> list[str]:
        """Return the sorted names of all tables."""
        found = {name.rsplit("/", 2)[0] for name in self.store.names() if name.endswith(f"/{MANIFEST}")}
        return sorted(found)

    def version(self, table: str, partitions: Collection[str] | None = None) -> str:
        """Return one hash for the current versions of the given partitions (default: all)."""
        return combined_version(self.live(table, partitions).values())

    def files(
        self,
        table: str,
        partitions: Collection[str] | None = None,
        *,
        allow_red: bool = False,
        live: Mapping[str, Live] | None = None,
    ) -> list[str]:
        """Return the live Parquet paths. Partitions that were never written are left out; red ones are refused.

        `live`: what `live` returned, so that nothing is read twice; `partitions` does not count then. In a folder the
        files have been compared with their SHA-256 (`AlteredFileError`); in a bucket that is up to whoever reads them.
        """
        found = self._readable(table, partitions, live, allow_red=allow_red)
        names = [(self._in_folder(table, folder, file.name), file) for folder, file in _files_of(found)]
        return self._verified(names) if self.store.is_local else [self.store.path(name) for name, _ in names]

    def _readable(
        self, table: str, partitions: Collection[str] | None, live: Mapping[str, Live] | None, *, allow_red: bool
    ) -> Mapping[str, Live]:
        found = self.live(table, partitions) if live is None else live
        if not allow_red:
            _refuse_red(found.values())
        return found

    def scan(
        self,
        table: str,
        partitions: Collection[str] | None = None,
        *,
        allow_red: bool = False,
        partition_column: str | None = None,
        live: Mapping[str, Live] | None = None,
    ) -> pl.LazyFrame:
        """Return a lazy frame over the given partitions (default: all that exist), in the order of partitions.

        `partition_column` adds the partition of each row under that name. `live` as in `files`. Raises
        `RedPartitionError` when a stored verdict is red, `MissingPartitionError` when there is nothing to read, and
        `AlteredFileError` when a file is not what was written. What is in a bucket is fetched here, into memory.
        """
        found = self._readable(table, partitions, live, allow_red=allow_red)
        if not found:
            which = f" in partitions {_short(partitions)}" if partitions is not None else ""
            raise MissingPartitionError(f"{self.url}: table {table!r} has no data{which}; materialize it first")
        return self._scan(table, found, partition_column)

    def _scan(self, table: str, found: Mapping[str, Live | Manifest], partition_column: str | None) -> pl.LazyFrame:
        files = _files_of(found)
        places = self._verified([(self._in_folder(table, folder, file.name), file) for folder, file in files])
        if partition_column is None:
            return _scan_parquet(places)
        if not self.store.is_local:
            schema = pl.read_parquet_schema(places[0])
            parts = zip(files, places, strict=True)
            return pl.concat(
                _scan_parquet([data], schema=schema).with_columns(pl.lit(folder).alias(partition_column))
                for (folder, _), data in parts
            )
        folder_of = pl.col(partition_column).str.split("/").list.get(-2)
        return _scan_parquet(places, include_file_paths=partition_column).with_columns(
            folder_of.alias(partition_column)
        )

    def _verified(self, files: Sequence[tuple[str, DataFile]]) -> list[Any]:
        """Return what Polars is to read, after a comparison: the paths of files in a folder, the bytes from a bucket."""
        paths = [self.store.path(name) for name, _ in files]
        if self.store.is_local:
            require_files((path, file.sha256) for path, (_, file) in zip(paths, files, strict=True))
            return paths
        found = self._together(self.store.read, [name for name, _ in files])
        for data, path, (_, file) in zip(found, paths, files, strict=True):
            require_sha256(data, file.sha256, path)
        return found

    def read(
        self,
        table: str,
        partitions: Collection[str] | None = None,
        *,
        allow_red: bool = False,
        partition_column: str | None = None,
    ) -> pl.DataFrame:
        """Return `scan(…)` collected."""
        return self.scan(table, partitions, allow_red=allow_red, partition_column=partition_column).collect()

    def scan_version(self, table: str, version: str, partition: str | None = None) -> pl.LazyFrame:
        """Return a lazy frame over one version of a partition, current or superseded; `MissingPartitionError` without it."""
        return self._scan(table, {partition or WHOLE: self._of_version(table, partition, version)}, None)

    def manifest_of(self, table: str, version: str, partition: str | None = None) -> Manifest:
        """Return the manifest of one version of a partition, current or superseded; `MissingPartitionError` without it."""
        return self._of_version(table, partition, version)

    def _of_version(self, table: str, partition: str | None, version: str) -> Manifest:
        found = self._known(table, partition, version, self.manifest(table, partition))
        if found is None or not all(self.store.exists(self._name(table, partition, item.name)) for item in found.files):
            where = f"{table}/{partition}" if partition else table
            raise MissingPartitionError(
                f"{self.url}: {where!r} has no version {version[:12]}; it was never written, or removed"
            )
        return found

    def snapshot(self, table: str, partitions: Collection[str] | None = None) -> str:
        """Note the current versions of the given partitions (default: all), and return their combined version.

        It is what `version` returns, and the name under which `scan_snapshot` finds the same rows later.
        """
        self.mark()
        return snapshots.keep(self.store, table, self.live(table, partitions).values())

    def versions_in(self, snapshot: str) -> dict[str, str]:
        """Return the version of each partition in a snapshot ("_" for a whole table); `MissingPartitionError` without it."""
        return self._snapshot(snapshot)[1]

    def scan_snapshot(self, table: str, snapshot: str, *, partition_column: str | None = None) -> pl.LazyFrame:
        """Return what `scan` returned when the snapshot was made, whatever has been written since, and whatever was judged.

        `MissingPartitionError` when there is no such snapshot of the table, or a version in it was removed.
        """
        owner, versions = self._snapshot(snapshot)
        if owner != table or not versions:
            raise MissingPartitionError(
                f"{self.url}: snapshot {snapshot[:12]} has no data of {table!r}, but of {owner!r}"
            )

        def find(name: str) -> Manifest:
            return self._of_version(table, None if name == WHOLE else name, versions[name])

        found = self._together(find, sorted(versions))
        return self._scan(table, dict(zip(sorted(versions), found, strict=True)), partition_column)

    def _snapshot(self, snapshot: str) -> tuple[str, dict[str, str]]:
        try:
            return snapshots.kept(self.store, snapshot)
        except FileNotFoundError as error:
            raise MissingPartitionError(f"{self.url}: there is no snapshot {snapshot[:12]}; it was removed") from error

    def _folders(self, table: str) -> list[str]:
        return self.store.folders(table)

    def _name(self, table: str, partition: str | None, file: str) -> str:
        if partition is not None and (partition in ("", WHOLE) or "/" in partition):
            raise ValueError(f"{table}: {partition!r} cannot be a partition; use a plain name such as 2013-01-31")
        return f"{table}/{WHOLE if partition is None else partition}/{file}"

    def _in_folder(self, table: str, folder: str, file: str) -> str:
        return self._name(table, None if folder == WHOLE else folder, file)

    def mark(self) -> None:
        """Say that this is a lake, before anything is written beside its tables; again is no error."""
        if not self.store.exists(MARKER):
            self.store.write(MARKER, b'{"format": 1}\n')


def _is_lake(root: str) -> bool:
    return Store(root).exists(MARKER) if "://" in root else Path(root, MARKER).is_file()


def _file_name(version: str) -> str:
    return f"{version[:20]}.parquet"


def _old_name(version: str) -> str:
    return f"{version[:20]}.json"


def _same(one: Manifest, other: Manifest) -> bool:
    """Tell whether two manifests say the same of the same rows, whatever those were made from."""
    return (one.version, list(one.verdicts)) == (other.version, list(other.verdicts))


def _files_of(found: Mapping[str, Live | Manifest]) -> list[tuple[str, DataFile]]:
    return [(folder, file) for folder, item in found.items() for file in item.files]


def _scan_parquet(sources: list[Any], **options: Any) -> pl.LazyFrame:
    return pl.scan_parquet(sources, missing_columns="insert", extra_columns="ignore", glob=False, **options)


def _parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", compression_level=1, statistics=True)
    return buffer.getvalue()


def _refuse_red(manifests: Iterable[Live]) -> None:
    for manifest in manifests:
        for verdict in manifest.red:
            where = f"{manifest.table}/{manifest.partition}" if manifest.partition else manifest.table
            raise RedPartitionError(
                f"{where} is red: check {verdict['suite']!r} failed ({verdict.get('reason', 'no reason stored')}). "
                "Repair its input and materialize it again"
            )


def _short(names: Collection[str] | None) -> str:
    listed = sorted(names or [])
    return f"{listed[0]} … {listed[-1]} ({len(listed)})" if len(listed) > 3 else str(listed)
