"""Small Parquet files below one folder of a lake, a folder for each day: what logs are made of.

A file is written once, whole or not at all, and never changed. Its name ends in a tag of its columns, so files of different columns
(a feature was added) can be told apart by one listing.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Collection, Mapping
from itertools import groupby

import polars as pl

from ml_assets.lake import PreconditionFailed, Store

TAG = 6  # letters
SUFFIX = ".parquet"


class DayFiles:
    """The files below `folder` of the lake at `lake_url`; `day` is a UTC day such as `2013-01-31`."""

    def __init__(self, lake_url: str, folder: str) -> None:
        """Nothing is touched before the first call."""
        self._store, self._folder = Store(lake_url), folder

    def __repr__(self) -> str:
        """Show where."""
        return f"DayFiles({self._store.path(self._folder)!r})"

    def write(self, day: str, name: str, frame: pl.DataFrame, *, metadata: Mapping[str, str] | None = None) -> bool:
        """Write `<day>/<name>-<tag>.parquet` and return True; False when it is there already. Durable either way.

        Two frames of one name must hold the same rows: put their hash into it.
        """
        buffer = io.BytesIO()
        frame.write_parquet(buffer, compression="zstd", compression_level=1, metadata=dict(metadata or {}))
        path = self._path(day, f"{name}-{_tag(frame.schema)}{SUFFIX}")
        try:
            self._store.write(path, buffer.getvalue(), expect="absent")
            new = True
        except PreconditionFailed:
            new = False
        self._store.settle(path.rpartition("/")[0])
        return new

    def names(self, days: Collection[str] | None = None) -> dict[str, list[str]]:
        """Return the sorted names of the files of each day that has some; of all days by one listing."""
        folders = [self._folder] if days is None else [self._path(day) for day in sorted(set(days))]
        found = [name.rsplit("/", 2)[-2:] for folder in folders for name in self._store.names(folder)]
        return {day: [name for _, name in group] for day, group in groupby(found, key=lambda pair: pair[0])}

    def scan(self, names: Mapping[str, Collection[str]]) -> pl.LazyFrame | None:
        """Return the rows of the named files, by day; None without files. A column that a file lacks is null."""
        files = sorted((_tag_of(name), self._path(day, name)) for day, listed in names.items() for name in listed)
        frames = [self._scan([path for _, path in group]) for _, group in groupby(files, key=lambda file: file[0])]
        return pl.concat(frames, how="diagonal_relaxed") if frames else None

    def metadata(self, day: str, name: str) -> dict[str, str]:
        """Return what was given to `write` with the file."""
        return pl.read_parquet_metadata(io.BytesIO(self._store.read(self._path(day, name))))

    def remove(self, day: str, name: str) -> None:
        """Remove a file; one that is already gone is no error."""
        self._store.remove(self._path(day, name))

    def _scan(self, paths: list[str]) -> pl.LazyFrame:
        if self._store.polars_reads:
            return pl.scan_parquet([self._store.path(path) for path in paths], glob=False)
        return pl.concat(pl.scan_parquet(io.BytesIO(self._store.read(path))) for path in paths)

    def _path(self, *parts: str) -> str:
        return "/".join((self._folder, *parts))


def _tag(schema: Mapping[str, pl.DataType]) -> str:
    columns = "\n".join(f"{name} {dtype}" for name, dtype in schema.items())
    return hashlib.sha256(columns.encode()).hexdigest()[:TAG]


def _tag_of(name: str) -> str:
    return name.removesuffix(SUFFIX)[-TAG:]
