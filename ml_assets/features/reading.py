"""How declared feature views are read from Parquet and lake tables; plain Polars, no Feast.

`PolarsOfflineStore` reads through this module, and so does scoring without Feast (`ml_assets.features.compiled`): the
same rows, the same checks, the same join.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl

from ml_assets.features.parquet import broken_file, event_day, parquet_files, scan_files
from ml_assets.features.point_in_time import FeatureError, ViewJoin, require_columns, require_zone
from ml_assets.features.push_log import RECEIVED, PushLog
from ml_assets.lake import Lake

EVENT_TIMESTAMP = "event_timestamp"
# A partition named after a day holds that day's events; a source's day may end in another time zone than UTC's.
PARTITION_SLACK = timedelta(days=2)


@dataclass(frozen=True)
class Reading:
    """How sources are read: what was known when, and which lake stands in for the one in the registry."""

    as_known_at: datetime | None = None
    lake_url: str | None = None


@dataclass(frozen=True)
class Feature:
    """A feature as asked for: its stored column, its output column, its declared type in words and as a `kind`."""

    name: str
    column: str
    output: str
    declared: str
    kind: str


@dataclass(frozen=True)
class DeclaredView:
    """A feature view as asked for, in stored column names (a source's field mapping is already undone).

    `path` is as declared, relative to the repository. `keys` maps observation columns to stored columns. `ttl` None is
    for ever. `pushed`: rows are pushed to its lake table, too.
    """

    name: str
    path: str
    keys: Mapping[str, str]
    features: tuple[Feature, ...]
    event_timestamp: str
    created_timestamp: str | None
    ttl: timedelta | None
    pushed: bool = False


@dataclass(frozen=True)
class Period:
    """The rows that matter: those whose time `column` is from `first` to `last`, both included; None is no bound."""

    column: str
    first: datetime | None
    last: datetime | None


# -- from views to a join ----------------------------------------------------------------------------------------------


def view_joins(
    observations: pl.DataFrame, views: Iterable[DeclaredView], *, repo: Path | str | None, how: Reading
) -> list[ViewJoin]:
    """Return what `point_in_time_join` needs of each view, reading no more than what the observations can match.

    Raises `FeatureError` for observations without a usable moment, missing tables, and columns of another kind than
    declared; `RedPartitionError` for red partitions.
    """
    asked = observed_period(observations)
    return [_view_join(view, asked, location(view.path, repo, how.lake_url), how.as_known_at) for view in views]


def observed_period(observations: pl.DataFrame) -> Period:
    """Return the observations' time column and its range; `FeatureError` when there is none or it has no time zone."""
    column = moment_column(observations)
    require_zone(observations.schema[column], column, "observations")
    first, last = observations[column].min(), observations[column].max()
    assert first is None or isinstance(first, datetime)
    assert last is None or isinstance(last, datetime)
    return Period(column, first, last)


def moment_column(observations: pl.DataFrame) -> str:
    """Return the time column as Feast finds it: by name, or the only one."""
    if EVENT_TIMESTAMP in observations.columns:
        return EVENT_TIMESTAMP
    times = [name for name, dtype in observations.schema.items() if isinstance(dtype, pl.Datetime)]
    if len(times) != 1:
        raise FeatureError(
            f"entity_df: which of {observations.columns} is the moment of prediction? Name it {EVENT_TIMESTAMP!r}"
        )
    return times[0]


def _view_join(view: DeclaredView, asked: Period, path: str, as_known_at: datetime | None) -> ViewJoin:
    where = f"feature view {view.name!r}"
    first = asked.first - view.ttl if asked.first and view.ttl else None
    period = Period(view.event_timestamp, first, asked.last)
    found = _scanned_with_pushed(path, where, period, as_known_at) if view.pushed else _scanned(path, where, period)
    schema = found.frame.collect_schema()
    _require_declared_kinds(view, schema)
    return ViewJoin(
        name=view.name,
        frame=found.frame,
        keys=view.keys,
        features={feature.column: feature.output for feature in view.features},
        event_timestamp=view.event_timestamp,
        created_timestamp=view.created_timestamp,
        ttl=view.ttl,
        rows=found.rows,
        known_timestamp=RECEIVED if RECEIVED in schema else None,
        files=found.files,
    )


def _require_declared_kinds(view: DeclaredView, schema: Mapping[str, pl.DataType]) -> None:
    """Refuse a column of another kind than declared. Widths may differ, and whole numbers serve as declared floats."""
    for feature in view.features:
        if feature.column not in schema:
            continue
        declared, found = feature.kind, kind(schema[feature.column])
        if "other" not in (declared, found) and declared != found and (declared, found) != ("float", "integer"):
            raise FeatureError(
                f"feature view {view.name!r}: column {feature.column!r} is {schema[feature.column]}, but feature "
                f"{feature.name!r} is declared {feature.declared}; correct the declaration or the data"
            )


def kind(dtype: pl.DataType) -> str:
    """Return what values of a type are: integer, float, text, truth, time or other."""
    kinds = {
        "integer": dtype.is_integer(),
        "float": dtype.is_float(),
        "text": dtype in (pl.String, pl.Categorical, pl.Enum),
        "truth": dtype == pl.Boolean,
        "time": isinstance(dtype, pl.Datetime),
    }
    return next((name for name, true in kinds.items() if true), "other")


# -- from places to rows -----------------------------------------------------------------------------------------------


def location(path: str, repo: Path | str | None, lake_url: str | None = None) -> str:
    """Return a declared path as a full path or URL; with `lake_url`, the table of the same name in that lake."""
    if lake_url:
        return f"{lake_url.rstrip('/')}/{'/'.join(path.rstrip('/').split('/')[-2:])}"
    return path if "://" in path else os.path.abspath(os.path.join(repo or "", path))


def scan(path: str, where: str, period: Period | None = None) -> pl.LazyFrame:
    """Return all rows of a lake table, a Parquet file, a folder or a glob; with `period`, at least those inside it.

    `where` names the asker in messages. Raises `FeatureError` when there is nothing, `RedPartitionError` for red data.
    """
    return _scanned(path, where, period).frame


@dataclass(frozen=True)
class _Scanned:
    """Rows to be read; how many at most, where that costs nothing; the files, where no manifest vouches for them."""

    frame: pl.LazyFrame
    rows: int | None = None
    files: Sequence[str] = ()


def _scanned(path: str, where: str, period: Period | None) -> _Scanned:
    found = lake_table(path)
    if found is None:
        return _scanned_files(path, where, period)
    lake, table = found
    live = lake.live(table, _partitions(lake, table, where, period))
    return _Scanned(lake.scan(table, live=live), sum(item.rows for item in live.values()))


def _scanned_files(path: str, where: str, period: Period | None) -> _Scanned:
    files = parquet_files(path)
    if not files:
        raise FeatureError(f"{where}: no Parquet file at {path}; materialize the view, or correct its source's path")
    files = [file for file in files if period is None or is_near(event_day(file, path), period)] or files[:1]
    rows = scan_files(files, path)
    if period is None:
        return _Scanned(rows, files=files)
    try:
        schema = rows.collect_schema()
    except pl.exceptions.PolarsError as error:
        raise FeatureError(f"{where}: {broken_file(files, ()) or error}; repair the file or remove it") from error
    require_columns([period.column], schema, where)
    require_zone(schema[period.column], period.column, where)
    return _Scanned(rows.filter(within(period, schema[period.column])), files=files)


def scan_with_pushed(
    path: str, where: str, period: Period | None = None, as_known_at: datetime | None = None
) -> pl.LazyFrame:
    """Return what `scan` returns, after what was pushed to the lake table: of rows with equal times the last one counts.

    With `as_known_at` what was pushed later does not exist. Of a path outside a lake nothing is pushed.
    """
    return _scanned_with_pushed(path, where, period, as_known_at).frame


def _scanned_with_pushed(path: str, where: str, period: Period | None, as_known_at: datetime | None) -> _Scanned:
    found = lake_table(path)
    pushed = PushLog(found[0].url, found[1]).scan(period=period, as_known_at=as_known_at) if found else None
    if pushed is None:
        return _scanned(path, where, period)
    if found and not found[0].store.folders(found[1]):
        return _Scanned(pushed)
    rows = scan(path, where, period)
    schema, there = rows.collect_schema(), pushed.collect_schema()
    columns = [pl.col(name).cast(dtype) for name, dtype in schema.items() if name in there]
    return _Scanned(pl.concat([pushed.select(*columns, RECEIVED), rows], how="diagonal"))


def existing(rows: pl.LazyFrame, created: str | None, as_known_at: datetime | None, where: str) -> pl.LazyFrame:
    """Return the rows that had been created by `as_known_at`, all without it; `FeatureError` when nobody can tell."""
    if as_known_at is None:
        return rows
    if not created:
        raise FeatureError(f"{where} has no created timestamp; as_known_at={as_known_at} cannot be answered")
    schema = rows.collect_schema()
    require_columns([created], schema, where)
    require_zone(schema[created], created, where)
    return rows.filter(within(Period(created, None, as_known_at), schema[created]))


def within(period: Period, dtype: pl.DataType) -> pl.Expr:
    """Return the condition that a row, whose time column is of type `dtype`, lies in the period."""
    # a bare column where it is in UTC already, so that Parquet statistics can skip row groups
    bare = getattr(dtype, "time_zone", None) == "UTC"
    time = pl.col(period.column) if bare else pl.col(period.column).dt.convert_time_zone("UTC")
    found = pl.lit(True)
    if period.first is not None:
        found &= time >= period.first.astimezone(UTC)
    return found if period.last is None else found & (time <= period.last.astimezone(UTC))


def lake_table(path: str) -> tuple[Lake, str] | None:
    """Return the lake and the table that a path names, or None."""
    return None if "*" in path else Lake.at_table_path(path)


def has_data(path: str) -> bool:
    """Tell whether there is anything to scan."""
    found = lake_table(path)
    return bool(found[0].store.folders(found[1]) if found else parquet_files(path))


def _partitions(lake: Lake, table: str, where: str, period: Period | None) -> list[str]:
    """Return the partitions to read; if none is near, one whose rows will not match but which knows the columns."""
    names = lake.store.folders(table)
    if not names:
        raise FeatureError(f"{where}: lake table {table!r} in {lake.url} has no data; materialize it first")
    return [name for name in names if period is None or is_near(partition_day(name), period)] or names[:1]


def partition_day(partition: str) -> date | None:
    """Return the day that a partition is named after; None for a name that is no day."""
    try:
        return date.fromisoformat(partition)
    except ValueError:
        return None


def is_near(day: date | None, period: Period) -> bool:
    """Tell whether what holds the events of that day may matter; without a day it may hold anything."""
    if day is None:
        return True
    after = period.first is None or day >= (period.first - PARTITION_SLACK).date()
    return after and (period.last is None or day <= (period.last + PARTITION_SLACK).date())
