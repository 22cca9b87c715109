"""Entity rows: what features are asked for, and as of when.

They come as a frame of Polars, Arrow or pandas, as SQL over registered sources and lake tables, or as all that happened
between two dates.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from ml_assets import keys
from ml_assets.features.point_in_time import FeatureError, require_columns, require_zone
from ml_assets.features.reading import (
    EVENT_TIMESTAMP,
    DeclaredView,
    Period,
    Reading,
    existing,
    location,
    scan,
    scan_with_pushed,
    within,
)
from ml_assets.lake import Lake


@dataclass(frozen=True)
class Table:
    """A table that SQL may name: its path as declared, its creation column, whether rows are pushed to it."""

    path: str
    created_timestamp: str | None = None
    pushed: bool = False


def frame_rows(entity_df: object) -> pl.DataFrame:
    """Return a Polars, Arrow or pandas frame as Polars, lazy ones collected; `FeatureError` for anything else."""
    if isinstance(entity_df, pl.DataFrame):
        return entity_df
    if isinstance(entity_df, pl.LazyFrame):
        return entity_df.collect()
    # by the library's name, so that none is imported that the caller did not import
    library = type(entity_df).__module__.split(".", 1)[0]
    if library == "pandas":
        return _checked(pl.from_pandas(entity_df), entity_df)
    if library == "pyarrow":
        return _checked(pl.from_arrow(entity_df), entity_df)
    raise _no_frame(entity_df)


def sql_rows(query: str, tables: Mapping[str, Table], *, repo: Path | str | None, how: Reading) -> pl.DataFrame:
    """Run one SELECT in Polars' dialect and return its rows.

    It may name `tables`, in their stored columns, and tables of the lake, such as `clean_flights` for `clean/flights`: the lake
    in which the tables lie. Only what it names is looked at, and of that only what it needs is read. Raises `FeatureError`.
    """
    if not re.match(r"\s*(SELECT|WITH)\b", query, flags=re.IGNORECASE):
        raise FeatureError(f"entity_df is {query[:60]!r}, no SELECT; give SQL that selects the join keys and a time")
    lake = _lake(tables.values(), repo, how)
    frames = {name: _rows(name, table, repo, how) for name, table in tables.items() if _names(query, name)}
    if lake is not None:
        frames = {name: _lake_rows(lake, table, how) for name, table in _lake_tables(query, lake)} | frames
    try:
        return pl.SQLContext(frames=frames).execute(query, eager=True)
    except pl.exceptions.PolarsError as error:
        known = sorted({*tables, *(keys.sql_name(table) for table in (lake.tables() if lake else ()))})
        reason = str(error).split("\n\n", 1)[0]
        raise FeatureError(f"entity_df, as SQL: {reason}. It may name these tables: {known}") from error


def dated_rows(
    views: Sequence[DeclaredView], first: datetime, last: datetime, *, repo: Path | str | None, how: Reading
) -> pl.DataFrame:
    """Return a row for each key and moment at which one of the views has a row from `first` to `last`, both included.

    The columns are `event_timestamp` and the keys of all views; a key that a view does not have is null in its rows. Sorted
    by time, then by key. Raises `FeatureError` when a view's times or keys cannot be used.
    """
    seen = [_seen(view, Period(view.event_timestamp, first, last), repo, how) for view in views]
    if not seen:
        raise FeatureError("without entity_df the rows come from the asked feature views, and none is asked")
    try:
        found = pl.concat(seen, how="diagonal_relaxed").unique().collect()
    except pl.exceptions.PolarsError as error:
        names = [view.name for view in views]
        raise FeatureError(f"feature views {names}: their keys cannot be put together: {error}") from error
    names = [EVENT_TIMESTAMP, *(name for name in found.columns if name != EVENT_TIMESTAMP)]
    return found.select(names).sort(names)


# -- SQL ---------------------------------------------------------------------------------------------------------------


def _rows(name: str, table: Table, repo: Path | str | None, how: Reading) -> pl.LazyFrame:
    where, path = f"table {name!r}", location(table.path, repo, how.lake_url)
    rows = scan_with_pushed(path, where, None, how.as_known_at) if table.pushed else scan(path, where)
    return existing(rows, table.created_timestamp, how.as_known_at, where)


def _lake(tables: Iterable[Table], repo: Path | str | None, how: Reading) -> Lake | None:
    if how.lake_url:
        return Lake(how.lake_url)
    found = (Lake.at_table_path(location(table.path, repo)) for table in tables if "*" not in table.path)
    return next((lake for lake, _ in filter(None, found)), None)


def _lake_tables(query: str, lake: Lake) -> Iterator[tuple[str, str]]:
    """Return the SQL names and the names of the lake's tables in the query; listing all tables would look at every file."""
    for word in sorted(set(re.findall(r"\w+_\w+", query))):
        cuts = [place for place, letter in enumerate(word) if letter == "_" and 0 < place < len(word) - 1]
        for table in (f"{word[:cut]}/{word[cut + 1 :]}" for cut in cuts):
            if lake.store.folders(table) and keys.sql_name(table) == word:
                yield word, table


def _lake_rows(lake: Lake, table: str, how: Reading) -> pl.LazyFrame:
    rows = lake.scan(table)
    created = "created_timestamp" if "created_timestamp" in rows.collect_schema() else None
    return existing(rows, created, how.as_known_at, f"table {keys.sql_name(table)!r}")


def _names(query: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", query) is not None


# -- dates -------------------------------------------------------------------------------------------------------------


def _seen(view: DeclaredView, period: Period, repo: Path | str | None, how: Reading) -> pl.LazyFrame:
    where, path = f"feature view {view.name!r}", location(view.path, repo, how.lake_url)
    rows = scan_with_pushed(path, where, period, how.as_known_at) if view.pushed else scan(path, where, period)
    schema = rows.collect_schema()
    require_columns([period.column, *view.keys.values()], schema, where)
    require_zone(schema[period.column], period.column, where)
    rows = existing(rows, view.created_timestamp, how.as_known_at, where)
    moment = pl.col(period.column).dt.convert_time_zone("UTC").alias(EVENT_TIMESTAMP)
    named = [pl.col(column).alias(name) for name, column in view.keys.items()]
    return rows.filter(within(period, schema[period.column])).select(moment, *named).drop_nulls()


# -- frames ------------------------------------------------------------------------------------------------------------


def _checked(found: object, given: object) -> pl.DataFrame:
    if not isinstance(found, pl.DataFrame):
        raise _no_frame(given)
    return found


def _no_frame(entity_df: object) -> FeatureError:
    return FeatureError(
        f"entity_df is {type(entity_df).__name__}; give a Polars, pandas or Arrow frame of join keys and event_timestamp, "
        "SQL that selects them, or None with start_date and end_date"
    )
