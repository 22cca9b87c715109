"""Tables of Parquet partitions under one URL. Writers go through `Lake.write`, readers through `Lake.scan`.

Layout: `<lake>/<table>/<partition or _>/manifest.json` beside `<version>.parquet`. The data file is written first and the manifest
last, so a partition changes in one step and a half-written file is invisible. Superseded files stay for readers
that still hold the old manifest.
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

from ml_assets.lake.manifest import DataFile, Live, Manifest, content_hash
from ml_assets.lake.store import Store

MANIFEST = "manifest.json"
WHOLE = "_"  # the folder of a table without partitions
_T = TypeVar("_T")
Inputs = Mapping[str, str] | Callable[[str], Mapping[str, str]]  # what partitions are made from, and its versions
MARKER = "_lake.json"  # says: the folder above the tables is a lake


class RedPartitionError(ValueError):
    """A partition's stored verdict is red: its data must not be used before somebody repaired it."""


class MissingPartitionError(ValueError):
    """A table or partition that was asked for has never been written."""


class Lake:
    """Versioned tables under `url`: a folder, `gs://bucket/prefix`, or another fsspec URL."""

    def __init__(self, url: str) -> None:
        """Nothing is touched before the first read or write."""
        self.store = Store(url)
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
        were made from this time is noted.
        """
        version = content_hash(frame)
        name = _file_name(version)
        current = self.manifest(table, partition)
        same = current and (current.version, list(current.verdicts)) == (version, list(verdicts))
        if current and same and self.store.exists(self._name(table, partition, name)):
            return self._made_from(current, dict(inputs or {}), code_version)
        data = _parquet(frame)
        self.mark()
        self.store.write(self._name(table, partition, name), data)
        manifest = Manifest(
            table=table,
            partition=partition,
            rows=frame.height,
            schema={column: str(dtype) for column, dtype in frame.schema.items()},
            version=version,
            files=(DataFile(name=name, size=len(data), sha256=hashlib.sha256(data).hexdigest()),),
            written_at=written_at,
            code_version=code_version,
            inputs=dict(inputs or {}),
            verdicts=tuple(verdicts),
        )
        self.store.write(self._name(table, partition, MANIFEST), manifest.to_json().encode())
        return manifest

    def _made_from(self, current: Manifest, inputs: Mapping[str, str], code_version: str) -> Manifest:
        """Note what the rows of a partition were made from, when it is not what its manifest says."""
        if (current.inputs, current.code_version) == (inputs, code_version):
            return current
        noted = replace(current, inputs=inputs, code_version=code_version)
        self.store.write(self._name(current.table, current.partition, MANIFEST), noted.to_json().encode())
        return noted

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
        try:
            return Manifest.from_json(self.store.read(self._name(table, partition, MANIFEST)))
        except FileNotFoundError:
            return None

    def manifests(self, table: str, partitions: Collection[str] | None = None) -> dict[str, Manifest]:
        """Return the current manifests of the partitions that exist, by partition, sorted ("_" for a whole table)."""
        return self._each(table, partitions, Manifest.from_json)

    def live(self, table: str, partitions: Collection[str] | None = None) -> dict[str, Live]:
        """Return what a reader needs of the current manifests, by partition, sorted ("_" for a whole table)."""
        return self._each(table, partitions, Live.from_json)

    def _each(self, table: str, partitions: Collection[str] | None, parse: Callable[[bytes], _T]) -> dict[str, _T]:
        names = self._folders(table) if partitions is None else sorted(set(partitions))

        def read(name: str) -> _T | None:
            try:
                return parse(self.store.read(self._name(table, None if name == WHOLE else name, MANIFEST)))
            except FileNotFoundError:
                return None

        if self.store.is_local:
            found = [read(name) for name in names]
        else:
            with ThreadPoolExecutor(16) as pool:
                found = list(pool.map(read, names))
        return {name: item for name, item in zip(names, found, strict=True) if item is not None}

    def partitions(self, table: str) -> list[str]:
        """Return the sorted partitions that have been written."""
        return [
            name for name in self._folders(table) if name != WHOLE and self.store.exists(f"{table}/{name}/{MANIFEST}")
        ]

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

        `live`: what `live` returned, so that nothing is read twice; `partitions` does not count then.
        """
        found = self.live(table, partitions) if live is None else live
        if not allow_red:
            _refuse_red(found.values())
        return [
            self.store.path(self._name(table, None if name == WHOLE else name, file))
            for name, item in found.items()
            for file in item.files
        ]

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
        `RedPartitionError` when a stored verdict is red, `MissingPartitionError` when there is nothing to read.
        """
        files = self.files(table, partitions, allow_red=allow_red, live=live)
        if not files:
            which = f" in partitions {_short(partitions)}" if partitions is not None else ""
            raise MissingPartitionError(f"{self.url}: table {table!r} has no data{which}; materialize it first")
        if not self.store.polars_reads:
            return pl.concat(self._fetched(file, partition_column) for file in files)
        frame = pl.scan_parquet(
            files, missing_columns="insert", extra_columns="ignore", glob=False, include_file_paths=partition_column
        )
        if partition_column is None:
            return frame
        return frame.with_columns(pl.col(partition_column).str.split("/").list.get(-2).alias(partition_column))

    def _fetched(self, file: str, partition_column: str | None) -> pl.LazyFrame:
        """Read one file through the store, where Polars cannot."""
        frame = pl.scan_parquet(io.BytesIO(self.store.read(file.removeprefix(f"{self.url}/"))))
        partition = pl.lit(file.split("/")[-2])
        return frame if partition_column is None else frame.with_columns(partition.alias(partition_column))

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
        name = self._name(table, partition, _file_name(version))
        if not self.store.exists(name):
            raise MissingPartitionError(
                f"{self.url}: {table!r} has no version {version[:12]}; it was never written, or removed"
            )
        return pl.scan_parquet(self.store.path(name) if self.store.polars_reads else io.BytesIO(self.store.read(name)))

    def _folders(self, table: str) -> list[str]:
        return self.store.folders(table)

    def _name(self, table: str, partition: str | None, file: str) -> str:
        if partition is not None and (partition in ("", WHOLE) or "/" in partition):
            raise ValueError(f"{table}: {partition!r} cannot be a partition; use a plain name such as 2013-01-31")
        return f"{table}/{WHOLE if partition is None else partition}/{file}"

    def mark(self) -> None:
        """Say that this is a lake, before anything is written beside its tables; again is no error."""
        if not self.store.exists(MARKER):
            self.store.write(MARKER, b'{"format": 1}\n')


def combined_version(manifests: Iterable[Manifest | Live]) -> str:
    """Return one hash for a set of partitions: of their tables, names and versions."""
    lines = sorted(f"{item.table}/{item.partition or WHOLE}={item.version}" for item in manifests)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _is_lake(root: str) -> bool:
    return Store(root).exists(MARKER) if "://" in root else Path(root, MARKER).is_file()


def _file_name(version: str) -> str:
    return f"{version[:20]}.parquet"


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
