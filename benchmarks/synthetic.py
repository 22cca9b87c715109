"""Seeded tables of any size: one feature view's history and the entity rows that ask for it, written piece by piece."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.project import kept
from ml_assets.features.retrieval import ViewSchema

START = datetime(2020, 1, 1, tzinfo=UTC)
STEP = timedelta(hours=1)  # one row per entity in each
CREATED_AFTER = timedelta(minutes=1)
KEY, ROW, TIME, CREATED = "entity", "row", "event_timestamp", "created_timestamp"
PIECE = 1_000_000  # rows in memory at once, and in a row group
SECOND = 1_000_000  # in microseconds


@dataclass(frozen=True)
class History:
    """A view's rows: `per_entity` rows, one in each hour since START, for each of `entities`, seeded.

    `width` is the number of features, all Float64.
    """

    entities: int
    per_entity: int
    width: int = 4
    seed: int = 7

    @property
    def rows(self) -> int:
        """Return the number of rows."""
        return self.entities * self.per_entity

    @property
    def schema(self) -> ViewSchema:
        """Return the view's declaration; its values never grow old."""
        return ViewSchema("history", {KEY: pl.Int64()}, dict.fromkeys(self.features, pl.Float64()), ttl=None)

    @property
    def features(self) -> list[str]:
        """Return the features' names."""
        return [f"x{number}" for number in range(self.width)]

    def pieces(self) -> Iterator[pl.DataFrame]:
        """Return the rows hour by hour, entities in random order, each time somewhere within its hour."""
        hours = max(1, PIECE // self.entities)
        for first in range(0, self.per_entity, hours):
            yield self._piece(first, min(hours, self.per_entity - first))

    def _piece(self, first: int, hours: int) -> pl.DataFrame:
        import numpy as np

        random = np.random.default_rng([self.seed, first])
        rows = hours * self.entities
        step = int(STEP.total_seconds()) * SECOND
        hour = np.repeat(np.arange(first, first + hours), self.entities)
        entity = random.permuted(np.tile(np.arange(self.entities), (hours, 1)), axis=1).ravel()
        moment = _moments(hour * step + random.integers(0, step, rows))
        return pl.DataFrame(
            {
                KEY: entity,
                TIME: moment,
                CREATED: moment + CREATED_AFTER,
                **{name: _values(random, rows) for name in self.features},
            }
        )

    def file(self, folder: Path) -> Path:
        """Return the Parquet file of all rows, made once."""
        return _made(folder / f"history-{self._name}", self.pieces)

    def asking(self, folder: Path, rows: int) -> Path:
        """Return the Parquet file of entity rows that ask for random entities at random times, made once.

        Times begin a tenth before the history does, so that some find nothing; nothing is in order.
        """
        return _made(folder / f"asking-{rows}-{self._name}", lambda: self._asking(rows))

    @property
    def _name(self) -> str:
        return f"{self.entities}-{self.per_entity}-{self.width}-{self.seed}"

    def _asking(self, rows: int) -> Iterator[pl.DataFrame]:
        import numpy as np

        span = self.per_entity * int(STEP.total_seconds()) * SECOND
        for first in range(0, rows, PIECE):
            count = min(PIECE, rows - first)
            random = np.random.default_rng([self.seed, rows, first])
            yield pl.DataFrame(
                {
                    ROW: np.arange(first, first + count),
                    KEY: random.integers(0, self.entities, count),
                    TIME: _moments(random.integers(-span // 10, span, count)),
                }
            )


def _moments(since_start: Any) -> pl.Series:
    """Return times from whole microseconds since START."""
    return pl.Series(since_start + int(START.timestamp()) * SECOND).cast(pl.Datetime("us", "UTC"))


def _values(random: Any, rows: int) -> pl.Series:
    """Return values with two decimals, of which one in fifty is null."""
    values = pl.DataFrame({"value": random.integers(0, 10_000, rows) / 100, "there": random.random(rows) > 0.02})
    return values.select(pl.when("there").then("value")).to_series()


def _made(folder: Path, pieces: Callable[[], Iterator[pl.DataFrame]]) -> Path:
    def make(into: Path) -> None:
        import pyarrow.parquet as pq

        into.mkdir(parents=True)
        writer = None
        for piece in pieces():
            table = piece.to_arrow(compat_level=pl.CompatLevel.oldest())
            writer = writer or pq.ParquetWriter(into / "rows.parquet", table.schema, compression="zstd")
            writer.write_table(table, row_group_size=PIECE)
        if writer:
            writer.close()

    return kept(folder, make, state=hashlib.sha256(Path(__file__).read_bytes()).hexdigest()) / "rows.parquet"
