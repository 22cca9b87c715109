"""The log of what was answered online: buffered in the server, written to the lake in batches, replayed against the offline join.

`<lake>/_served/<service>/<day>/<time of the newest row>-<hash>-<columns>.parquet`, each file whole or not at all. A row is one entity of
one request. Writing it never delays or fails an answer: what does not fit into the buffer is counted as dropped, what could not be written
is tried again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping
from datetime import datetime

import polars as pl

from ml_assets.features.compiled import CompiledRepo
from ml_assets.features.day_files import DayFiles
from ml_assets.features.on_demand import polars_type
from ml_assets.features.online.reader import OnlineAnswer, labelled_views, view_plan
from ml_assets.features.online.replay import SERVED_EVENT
from ml_assets.features.reading import EVENT_TIMESTAMP
from ml_assets.lake import content_hash

FOLDER = "_served"
REQUEST = "_request"
TIME = pl.Datetime("us", "UTC")
MOST_ROWS = 50_000  # in the buffer; then the newest are dropped
FLUSH_ROWS, FLUSH_SECONDS = 5_000, 10.0
DAY = "_day"


class ServedLog:
    """What was answered for one feature service; safe to share between threads. Readers need no more than the lake."""

    def __init__(
        self,
        lake_url: str,
        service: str,
        *,
        most_rows: int = MOST_ROWS,
        flush_rows: int = FLUSH_ROWS,
        flush_seconds: float = FLUSH_SECONDS,
    ) -> None:
        """`most_rows` bounds the buffer; it is due to be written at `flush_rows` or when its first row is `flush_seconds` old."""
        self._files = DayFiles(lake_url, f"{FOLDER}/{service}")
        self._most, self._full, self._age = most_rows, flush_rows, flush_seconds
        self._buffer: list[pl.DataFrame] = []
        self._since: float | None = None
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self.written = self.dropped = self.failed = 0
        """Rows written, rows dropped because the buffer was full, and attempts to write that failed."""

    @property
    def waiting(self) -> int:
        """Return the number of rows in the buffer."""
        return sum(rows.height for rows in self._buffer)

    def record(self, rows: pl.DataFrame) -> None:
        """Take answered rows, with `event_timestamp` (the moment served) among their columns; see `served_rows`."""
        with self._lock:
            if self.waiting + rows.height > self._most:
                self.dropped += rows.height
                return
            self._buffer.append(rows)
            self._since = time.monotonic() if self._since is None else self._since

    def due(self) -> bool:
        """Tell whether the buffer should be written now."""
        old = self._since is not None and time.monotonic() - self._since >= self._age
        return old or self.waiting >= self._full

    def flush(self) -> int:
        """Write the buffer, a file for each day, and return the number of rows. Rows of a failed write stay in the buffer."""
        with self._writing:
            left = self._days()
            before = self.written
            try:
                while left:
                    self._write(*left[-1])
                    self.written += left.pop()[1].height
            finally:  # whatever went wrong
                if left:
                    self._put_back([rows for _, rows in left])
            return self.written - before

    def scan(self, days: Collection[str] | None = None) -> pl.LazyFrame | None:
        """Return the rows that were written, of the given days (of the moment served, UTC); None when there are none."""
        return self._files.scan(self._files.names(days))

    def read(self, days: Collection[str] | None = None, *, most: int) -> pl.DataFrame | None:
        """Return at most the `most` newest rows, in order of time; None when there are none."""
        found = self.scan(days)
        return None if found is None else found.sort(EVENT_TIMESTAMP, maintain_order=True).tail(most).collect()

    def _days(self) -> list[tuple[str, pl.DataFrame]]:
        """Take the buffer, and return its rows by day."""
        with self._lock:
            taken, self._buffer, self._since = self._buffer, [], None
        if not taken:
            return []
        rows = pl.concat(taken, how="diagonal_relaxed")
        day = pl.col(EVENT_TIMESTAMP).dt.strftime("%Y-%m-%d").alias(DAY)
        parts = rows.with_columns(day).partition_by(DAY, as_dict=True, include_key=False, maintain_order=True)
        return [(str(name), part) for (name,), part in parts.items()]

    def _write(self, day: str, rows: pl.DataFrame) -> None:
        newest = rows[EVENT_TIMESTAMP].max()
        assert isinstance(newest, datetime)
        self._files.write(day, f"{newest:%Y%m%dT%H%M%S%f}-{content_hash(rows)[:20]}", rows)

    def _put_back(self, rows: list[pl.DataFrame]) -> None:
        with self._lock:
            self.failed += 1
            self._buffer = [*rows, *self._buffer]
            self._since = time.monotonic()


def served_types(repo: CompiledRepo, service: str) -> dict[str, pl.DataType]:
    """Return the types of what a service is asked and answers, by column: join keys, request columns, features."""
    found, declared = repo.services[service], asked_types(repo, service)
    for view in found.declared or ():
        declared |= {feature.output: feature.declared for feature in view.features}
    for on_demand in found.on_demand:
        types = {output.name: output.declared for output in on_demand.outputs}
        declared |= {column: types[name] for name, column in on_demand.added.items()}
    # wider floats, as the online store has them; no type (as the values are) for what Polars has no name for
    logged = {name: polars_type(dtype.replace("Float32", "Float64")) for name, dtype in declared.items()}
    return {name: dtype for name, dtype in logged.items() if dtype is not None}


def asked_types(repo: CompiledRepo, service: str) -> dict[str, str]:
    """Return the Feast types of what a service has to be asked with: join keys and request columns.

    A request column `event_timestamp` is left out: it is the moment served.
    """
    found = repo.services[service]
    keys = (view_plan(repo.views[view.name], view, label=label).keys for view, label in labelled_views(repo, service))
    declared = {name: dtype for pairs in keys for name, dtype in pairs}
    declared |= {item.name: item.declared for view in found.on_demand for item in view.request}
    return {name: dtype for name, dtype in declared.items() if name != EVENT_TIMESTAMP}


def served_rows(answer: OnlineAnswer, types: Mapping[str, pl.DataType], *, request: str, now: datetime) -> pl.DataFrame:
    """Return an answer as the log keeps it, a row for each entity; `types` are those of `served_types`.

    Columns: `_request`, `event_timestamp` (`now`), what was asked and answered, and `_event_<view>`, when a view's values were true.
    """
    told = {name: values for name, values in answer.values.items() if name != EVENT_TIMESTAMP}
    columns = [pl.Series(name, values, dtype=types.get(name)) for name, values in told.items()]
    events = [pl.Series(f"{SERVED_EVENT}{view}", moments, dtype=TIME) for view, moments in answer.events.items()]
    served = pl.DataFrame([*columns, *events])
    return served.select(pl.lit(request).alias(REQUEST), pl.lit(now, dtype=TIME).alias(EVENT_TIMESTAMP), pl.all())
