"""Parquet files outside a lake: which a path names, which days they hold, which one is broken; and writing them."""

from __future__ import annotations

import glob
import io
from collections.abc import Sequence
from datetime import date

import polars as pl

from ml_assets.features.errors import FeatureError, require_columns
from ml_assets.lake import Store, content_hash

# A folder `ingested=2013-02-01` may hold events of any day; these names say that the day is the event's.
DAY_KEYS = ("day", "date", "dt", "event_day", "event_date")


def parquet_files(path: str) -> list[str]:
    """Return the Parquet files that a path outside a lake names, sorted; none is no error."""
    if "*" in path and "://" not in path:
        return sorted(glob.glob(path, recursive=True))
    if path.endswith(".parquet"):
        folder, name = path.rsplit("/", 1)
        return [path] if Store(folder).exists(name) else []
    store = Store(path)
    return [store.path(name) for name in store.names() if name.endswith(".parquet")]


def event_day(file: str, path: str) -> date | None:
    """Return the day whose events a file below `path` holds, by the name of a folder or its own; None when none tells.

    `2013-01-31/part.parquet`, `day=2013-01-31/part.parquet` and `2013-01-31.parquet` tell.
    """
    for part in _below(file, path).removesuffix(".parquet").split("/"):
        key, _, value = part.rpartition("=")
        if not key or key in DAY_KEYS:
            try:
                return date.fromisoformat(value)
            except ValueError:
                continue
    return None


def scan_files(files: Sequence[str], path: str) -> pl.LazyFrame:
    """Return the rows of the files, in their order; a folder `key=value` below `path` is a column.

    Columns that only later files have are left out; a column that a later file lacks is an error when it is read.
    """
    folder = files[0].rsplit("/", 1)[0]
    if not Store(folder).polars_reads:
        return pl.scan_parquet([_read(file) for file in files], glob=False, extra_columns="ignore")
    hive = any("=" in _below(file, path) for file in files)
    return pl.scan_parquet(list(files), glob=False, hive_partitioning=hive, extra_columns="ignore")


def broken_file(files: Sequence[str], columns: Sequence[str]) -> str | None:
    """Return what is wrong with the first file that cannot be read together with the ones before; None when none is."""
    wanted: dict[str, pl.DataType] = {}
    for file in files:
        try:
            schema = pl.read_parquet_schema(file if Store(file).polars_reads else io.BytesIO(_read(file)))
        except pl.exceptions.PolarsError as error:
            return f"{file} is no Parquet file ({error})"
        for name in columns:
            if name not in schema and wanted:
                return f"{file} has no column {name!r}; it has {list(schema)}"
            if name in schema and wanted.setdefault(name, schema[name]) != schema[name]:
                return f"in {file} column {name!r} is {schema[name]}, in the files before it {wanted[name]}"
    return None


def append_rows(path: str, rows: pl.DataFrame, where: str) -> None:
    """Add rows, in the stored columns, to a folder (the same rows twice are one file) or to a `.parquet` file.

    `where` names the asker in messages. Raises `FeatureError` for columns other than the stored ones.
    """
    files = parquet_files(path)
    stored = scan_files(files, path).collect_schema() if files else rows.schema
    require_columns(stored.names(), rows.schema, f"{where}, rows to append")
    if extra := [name for name in rows.columns if name not in stored]:
        raise FeatureError(f"{where}, rows to append: the source has no column {extra}; it has {stored.names()}")
    rows = rows.select(pl.col(name).cast(dtype) for name, dtype in stored.items())
    if path.endswith(".parquet"):
        write_file(path, pl.concat([scan_files(files, path).collect(), rows]) if files else rows)
    else:
        write_file(f"{path}/{_name(rows)}", rows)


def replace_rows(path: str, frame: pl.DataFrame) -> None:
    """Make a folder or a `.parquet` file hold `frame` and nothing else; a reader never finds less than one of both."""
    if path.endswith(".parquet"):
        return write_file(path, frame)
    target = f"{path}/{_name(frame)}"
    before = set(parquet_files(path))
    write_file(target, frame)
    for old in before - {target}:
        Store(path).remove(old.removeprefix(f"{path}/"))
    return None


def append_partitioned(path: str, rows: pl.DataFrame, by: Sequence[str]) -> None:
    """Add rows to a folder, in folders `key=value` for the columns `by`; the same rows twice are added once."""
    if not by:
        return write_file(f"{path}/{_name(rows)}", rows)
    for values, part in rows.partition_by(by, as_dict=True, include_key=False, maintain_order=True).items():
        folders = "/".join(f"{key}={value}" for key, value in zip(by, values, strict=True))
        write_file(f"{path}/{folders}/{_name(part)}", part)
    return None


def write_file(path: str, frame: pl.DataFrame) -> None:
    """Write one Parquet file, whole or not at all."""
    folder, name = path.rsplit("/", 1)
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    Store(folder).write(name, buffer.getvalue())


def _name(frame: pl.DataFrame) -> str:
    return f"{content_hash(frame)[:20]}.parquet"


def _below(file: str, path: str) -> str:
    return file.removeprefix(path.split("*", 1)[0]).lstrip("/")


def _read(file: str) -> bytes:
    folder, name = file.rsplit("/", 1)
    return Store(folder).read(name)
