"""A lake with one view, an online backend, and what people do with them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from ml_assets.features.compiled import CompiledView
from ml_assets.features.online.backends import open_backend
from ml_assets.features.online.materialize import ORIGIN, Materialized, OnlineSource, _packed, _renamed, materialize
from ml_assets.features.online.rows import PUSHED, Change, OnlineRow, Packing
from ml_assets.features.push_log import PushLog
from ml_assets.features.reading import DeclaredView, Feature
from ml_assets.lake import Lake

TIME = pl.Datetime("us", "UTC")
FIRST = datetime(2013, 1, 1, tzinfo=UTC)
NOW = FIRST + timedelta(days=4)
TABLE = "features/v"
SCHEMA = {
    "a": pl.String,
    "b": pl.Int64,
    "event_timestamp": TIME,
    "created_timestamp": TIME,
    "x": pl.Float64,
    "n": pl.Int64,
}


def rows(*given: tuple[str, int, float, float, float | None]) -> pl.DataFrame:
    """Return a view's rows from (key a, key b, hour of the event, hours until created, x)."""
    found = [
        (a, b, FIRST + timedelta(hours=hour), FIRST + timedelta(hours=hour + later), x, round(hour))
        for a, b, hour, later, x in given
    ]
    return pl.DataFrame(found, schema=SCHEMA, orient="row")


def view(
    *, ttl: timedelta | None = timedelta(days=2), pushed: bool = True, path: str = "lake/features/v"
) -> CompiledView:
    features = (Feature("x", "x", "x", "Float64", "float"), Feature("n", "n", "n", "Int64", "integer"))
    declared = DeclaredView("v", path, {"b": "b", "a": "a"}, features, "event_timestamp", "created_timestamp", ttl)
    return CompiledView(declared, {"b": "Int64", "a": "String"}, push_source="reports" if pushed else "")


class Side:
    """A lake with one view, a backend, and what a person would do with them."""

    def __init__(self, folder: Path, url: str, **options: Any) -> None:
        self.lake, self.backend = Lake(str(folder / "lake")), open_backend(url, project="test")
        self.backend.drop("v")
        self.source = OnlineSource(view(**options), self.lake, TABLE)

    def write(self, frame: pl.DataFrame, day: str, **how: Any) -> None:
        self.lake.write(TABLE, frame, partition=day, written_at=FIRST, **how)

    def push(self, frame: pl.DataFrame, *, online: bool = True, received: datetime | None = None) -> None:
        packed = Packing(self.source.view.features).pack_all(frame)
        log = PushLog(self.lake.url, TABLE)
        log.append(frame, event_timestamp="event_timestamp", received_at=received or NOW, packed=packed)
        if online:
            renamed = _renamed(self.source, frame.lazy().with_columns(pl.lit(PUSHED).alias(ORIGIN)))
            self.backend.apply("v", Change(_packed(self.source, renamed.collect())))

    def go(self, **options: Any) -> Materialized:
        return materialize(self.source, self.backend, **{"now": NOW} | options)

    def held(self) -> dict[str, OnlineRow]:
        return {row.key: row for row in self.backend.rows("v")}
