"""Tables of databases, extracted by dlt through SQLAlchemy, in pages of Arrow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ml_assets.collection.contract import SourceContract
from ml_assets.collection.pull import DAY, UNKNOWN, Page, PullError, as_parquet

PAGE = 50_000  # rows
CONNECT_SECONDS = 30


@dataclass
class Database:
    """One table, or view, of the database at `url`, which is SQLAlchemy's.

    `schema` is the database's, None for its default. `day` is the column of days or times whose (UTC) day a row belongs
    to, unless the contract has `day_columns`; None: the cursor. `cursor` and `lag` are as in `pull.Outside`.
    """

    url: str
    table: str
    schema: str | None = None
    cursor: str | None = None
    lag: float = 0
    day: str | None = None
    requests: int = 0

    @property
    def identity(self) -> str:
        """Return address and table."""
        return f"{self._address} {self.schema} {self.table} {self.cursor}"

    def pages(self, contract: SourceContract, start: Any) -> Iterator[Page]:
        """Yield the rows whose cursor is `start` or higher, from one query; `PullError` when it cannot."""
        from dlt.common.exceptions import DltException
        from sqlalchemy.exc import SQLAlchemyError

        self._check_file()
        try:
            for table in self._resource(start):
                frame = pl.DataFrame(pl.from_arrow(table))
                cursor = frame[self.cursor].max() if self.cursor else None
                yield Page(frame.with_columns(_day(frame, contract, self.day or self.cursor).alias(DAY)), cursor)
        except (DltException, SQLAlchemyError, KeyError) as error:
            raise PullError(self._told(error)) from error

    def file(self, rows: pl.DataFrame) -> tuple[bytes, str]:
        """Return the rows as Parquet."""
        return as_parquet(rows), "parquet"

    def _resource(self, start: Any) -> Any:
        from dlt.sources import incremental
        from dlt.sources.sql_database import sql_table

        since = self.cursor and incremental(
            self.cursor, initial_value=start, on_cursor_value_missing="include", primary_key=()
        )
        wait = {"connect_timeout": CONNECT_SECONDS} if self.url.startswith("postgresql") else {}
        return sql_table(
            self.url,
            self.table,
            self.schema,
            incremental=since or None,
            chunk_size=PAGE,
            backend="pyarrow",
            type_adapter_callback=_known_type,
            engine_kwargs={"connect_args": wait},
        )

    @property
    def _address(self) -> str:
        """Return the URL without its password."""
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import ArgumentError

        try:
            return make_url(self.url).render_as_string(hide_password=True)
        except ArgumentError as error:
            raise PullError(
                "the database's URL cannot be read; write it as SQLAlchemy does: postgresql+psycopg2://user@host/name"
            ) from error.with_traceback(None)

    def _check_file(self) -> None:
        """Refuse a file of SQLite that is not there: connecting would make an empty one."""
        path = self.url.partition("?")[0].removeprefix("sqlite:///")
        if path != self.url and not Path(path).is_file():
            raise PullError(f"{self._address}: there is no such file; correct the URL, or make the database")

    def _told(self, error: BaseException) -> str:
        """Return the reason, without the password, and the fix."""
        from sqlalchemy.engine import make_url

        cause = root_of(error)
        secret = str(make_url(self.url).password or "")
        reason = f"{type(cause).__name__}: {next(iter(str(cause).strip().splitlines()), '')}"
        reason = reason.replace(secret, "***") if secret else reason
        return (
            f"{self._address}, table {self.table}: {reason}; see that it answers, that table and cursor exist, "
            "and that the user may read them"
        )


def _known_type(found: Any) -> Any:
    """Return a type that dlt knows: with SQLAlchemy 2.1 it has none for floats, and would guess one from each page."""
    from sqlalchemy import Float, Numeric

    return Numeric(asdecimal=False) if isinstance(found, Float) else found


def root_of(error: BaseException) -> BaseException:
    """Return the first cause: dlt and SQLAlchemy wrap errors."""
    while (inner := error.__cause__ or getattr(error, "orig", None)) is not None:
        error = inner
    return error


def _day(frame: pl.DataFrame, contract: SourceContract, column: str | None) -> pl.Expr:
    """Return the day that each row belongs to, `UNKNOWN` where it tells none; null for a table without days."""
    if not contract.partitioned:
        return pl.lit(None, pl.String)
    if contract.day_columns:
        parts = [pl.col(name).cast(pl.String, strict=False).str.zfill(2) for name in contract.day_columns]
        return _known(pl.concat_str(parts, separator="-"))
    assert column is not None
    dtype, moment = frame.schema[column], pl.col(column)
    if isinstance(dtype, pl.Datetime) and dtype.time_zone:
        moment = moment.dt.convert_time_zone("UTC")
    return _known(moment.cast(pl.String).str.head(10))


def _known(day: pl.Expr) -> pl.Expr:
    """Return days like 2013-01-31, and `UNKNOWN` for all else: they become names of files."""
    return day.str.to_date("%Y-%m-%d", strict=False).dt.strftime("%Y-%m-%d").fill_null(UNKNOWN)
