"""Repairs that any table needs: duplicates by key, implausible numbers. Each repair is counted, none is silent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from ml_assets.preparation.writing import PARTITION


@dataclass(frozen=True)
class Repairs:
    """How to clean one table.

    `plausible` maps a numeric column to the lowest and highest believable value, both included; what lies outside
    becomes null. `derive` is a function from the repaired frame and the tables it uses to the cleaned frame.
    """

    key: Sequence[str] = ()
    plausible: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    derive: Callable[..., pl.LazyFrame] | None = None


@dataclass(frozen=True)
class Cleaned:
    """A cleaned frame (it still has the column `_partition`) and the number of repairs of each kind."""

    frame: pl.DataFrame
    repairs: Mapping[str, int]


def clean(raw: pl.LazyFrame, repairs: Repairs, *, uses: Mapping[str, pl.LazyFrame] | None = None) -> Cleaned:
    """Repair a raw table.

    Of a partition's rows with the same key the one that landed last stays; other partitions do not matter, so that a day comes
    out the same whichever days it is cleaned with. `repairs` counts `duplicates removed`, and for each
    column in `plausible`, `<column>: implausible values to null`.
    """
    counted = raw.with_columns(
        _outside(column, limits).alias(f"_outside_{column}") for column, limits in repairs.plausible.items()
    )
    rows = _last_landed(counted, repairs.key).collect()
    before = raw.select(pl.len()).collect().item()
    flags = [f"_outside_{column}" for column in repairs.plausible]
    counts = {"duplicates removed": before - rows.height}
    counts |= {f"{flag[9:]}: implausible values to null": int(rows[flag].sum()) for flag in flags}
    repaired = rows.lazy().with_columns(
        pl.when(f"_outside_{column}").then(None).otherwise(pl.col(column)).alias(column) for column in repairs.plausible
    )
    repaired = repaired.drop(flags)
    derived = repairs.derive(repaired, **(uses or {})) if repairs.derive else repaired
    return Cleaned(derived.collect(), counts)


def _last_landed(rows: pl.LazyFrame, key: Sequence[str]) -> pl.LazyFrame:
    if not key:
        return rows
    within = [name for name in (PARTITION,) if name in rows.collect_schema()]
    ordered = rows.sort("landed_at", maintain_order=True)
    return ordered.unique([*within, *key], keep="last", maintain_order=True)


def _outside(column: str, limits: tuple[float, float]) -> pl.Expr:
    value = pl.col(column)
    return (~value.is_between(*limits)).fill_null(False)
