"""Deliver recorded days into the landing zone, as the outside world would, and keep the register that is pulled from a database."""

from __future__ import annotations

import gzip
import io
import os
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from pathlib import Path

import polars as pl

from ml_assets.lake import Store
from ml_assets.replay.sample import SAMPLE

DAILY = ("flights", "weather")
REFERENCE = ("airlines", "airports", "planes")
FIRST_DAY, LAST_DAY = date(2013, 1, 1), date(2013, 12, 31)


class World:
    """The outside world: what it knows is `sample`, what it delivers goes to the landing zone `landing`."""

    def __init__(self, landing: Store, sample: Path = SAMPLE) -> None:
        """`sample` is the folder with the five recorded tables."""
        self.landing = landing
        self.sample = sample

    def deliver_reference(self, *, at: datetime) -> list[str]:
        """Deliver planes, airports and airlines, one CSV each; return the names."""
        return [self.put(f"{table}/{table}.csv", csv(_table(self.sample, table)), at=at) for table in REFERENCE]

    def deliver_days(self, days: Iterable[date], tables: Sequence[str] = DAILY) -> list[str]:
        """Deliver flights and weather of each day as one `csv.gz` each, dated noon (UTC) of the day after.

        A table without rows on a day (weather on 31 December) has no file.
        """
        return [
            self.put(f"{table}/{table}-{day}.csv.gz", compressed(csv(self.rows(table, day))), at=delivered_at(day))
            for day in days
            for table in tables
            if self.rows(table, day).height
        ]

    def last_day(self) -> date | None:
        """Return the last day whose flights have been delivered; None before the first."""
        names = self.landing.names("flights")
        days = [name[len("flights/flights-") :].removesuffix(".csv.gz") for name in names]
        known = {day.isoformat(): day for day in _by_day(self.sample, "flights")}
        return max((known[day] for day in days if day in known), default=None)

    def rows(self, table: str, day: date) -> pl.DataFrame:
        """Return the recorded rows of one day."""
        return _by_day(self.sample, table).get(day, _table(self.sample, table).clear())

    def put(self, name: str, data: bytes, *, at: datetime) -> str:
        """Write one object into the landing zone; in a folder it is dated `at` (a bucket dates it itself)."""
        self.landing.write(name, data)
        if self.landing.is_local:
            os.utime(self.landing.path(name), (at.timestamp(), at.timestamp()))
        return name


def make_database(path: Path, sample: Path = SAMPLE) -> None:
    """Make the register, a SQLite file with planes, airports and airlines, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    draft.unlink(missing_ok=True)
    with closing(sqlite3.connect(draft)) as connection, connection:
        for table in REFERENCE:
            rows = _table(sample, table)
            columns = ", ".join(f'"{name}" {_sql(dtype)}' for name, dtype in rows.schema.items())
            connection.execute(f'create table "{table}" ({columns})')
            connection.executemany(f'insert into "{table}" values ({", ".join("?" * rows.width)})', rows.iter_rows())
    draft.replace(path)


def delivered_at(day: date) -> datetime:
    """Return when a day's files arrive: noon (UTC) of the day after, when its last flight has departed."""
    return datetime.combine(day + timedelta(days=1), time(12), UTC)


def csv(frame: pl.DataFrame) -> bytes:
    """Return CSV bytes in the recorded form: `NA` for null, times as 2013-01-01T10:00:00Z."""
    buffer = io.BytesIO()
    frame.write_csv(buffer, null_value="NA", datetime_format="%Y-%m-%dT%H:%M:%SZ")
    return buffer.getvalue()


def compressed(data: bytes) -> bytes:
    """Return gzip bytes that depend on nothing but `data`."""
    return gzip.compress(data, compresslevel=6, mtime=0)


def _sql(dtype: pl.DataType) -> str:
    """Return the type of a column of the register."""
    return "integer" if dtype.is_integer() else "float" if dtype.is_float() else "text"


@cache
def _table(sample: Path, table: str) -> pl.DataFrame:
    return pl.read_parquet(sample / f"{table}.parquet")


@cache
def _by_day(sample: Path, table: str) -> dict[date, pl.DataFrame]:
    parts = _table(sample, table).partition_by("year", "month", "day", as_dict=True)
    return {date(*map(int, key)): part for key, part in parts.items()}
