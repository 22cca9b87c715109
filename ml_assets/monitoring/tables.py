"""Tables by days, and of their rows those that the model in office answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from ml_assets.lake import Lake
from ml_assets.packaging.champion import Champion


@dataclass(frozen=True)
class DaysOf:
    """A table by days: its partitions, or the days of `event_timestamp` (UTC) of a table that has none."""

    lake: Lake
    name: str
    days: Sequence[str]
    whole: bool

    def read(self, days: Sequence[str]) -> pl.DataFrame:
        """Return the rows of the days; without any day, no rows of the table's columns."""
        return self.scan(days).collect()

    def scan(self, days: Sequence[str]) -> pl.LazyFrame:
        """Return what `read` returns as a lazy frame, of which few columns may be read."""
        if self.whole:
            return self.lake.scan(self.name).filter(_day().is_in(list(days)))
        return self.lake.scan(self.name, days) if days else self.lake.scan(self.name).clear()

    def version(self, days: Sequence[str]) -> str:
        """Return one version for the rows of the days."""
        return self.lake.version(self.name) if self.whole else self.lake.version(self.name, days)


def days_of(lake: Lake, table: str) -> DaysOf:
    """Return a table by days."""
    if lake.manifest(table) is None:
        return DaysOf(lake, table, lake.partitions(table), whole=False)
    days = lake.scan(table).select(_day().unique().sort()).collect().to_series()
    return DaysOf(lake, table, days.to_list(), whole=True)


def _day() -> pl.Expr:
    return pl.col("event_timestamp").dt.date().dt.to_string()


def of_champion(predictions: pl.DataFrame, champion: Champion) -> pl.DataFrame:
    """Return the rows that the model in office answered; all where no row says who did."""
    if "model_version" not in predictions.columns:
        return predictions
    return predictions.filter(pl.col("model_version") == champion.version)
