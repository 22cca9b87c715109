"""What goes wrong in the outside world: one function per fault, each delivering real rows, broken in one way."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta

import polars as pl

from ml_assets.replay.world import World, compressed, csv, delivered_at


def truncated_gzip(world: World, day: date) -> str:
    """Cut the upload off in the middle."""
    data = compressed(csv(world.rows("flights", day)))
    return world.put(f"flights/flights-{day}.part.csv.gz", data[: len(data) // 2], at=_later(day))


def missing_column(world: World, day: date) -> str:
    """Leave a column out."""
    return _put(world, day, "no-tailnum", world.rows("flights", day).drop("tailnum"))


def renamed_column(world: World, day: date) -> str:
    """Rename a column."""
    return _put(world, day, "renamed", world.rows("flights", day).rename({"dep_delay": "departure_delay"}))


def delivered_twice(world: World, day: date) -> str:
    """Deliver the same bytes under a second name."""
    return _put(world, day, "again", world.rows("flights", day))


def corrected(world: World, day: date) -> str:
    """Deliver the day again with corrections: ten arrival delays were a minute too low."""
    fixed = pl.when(pl.int_range(pl.len()) < 10).then(pl.col("arr_delay") + 1).otherwise(pl.col("arr_delay"))
    return _put(world, day, "corrected", world.rows("flights", day).with_columns(arr_delay=fixed))


def empty_file(world: World, day: date) -> str:
    """Deliver a file of zero bytes."""
    return world.put(f"flights/flights-{day}.empty.csv.gz", b"", at=_later(day))


def negative_distance(world: World, day: date) -> str:
    """Deliver rows that cannot be: a distance below zero."""
    turned = pl.when(pl.int_range(pl.len()) < 3).then(-pl.col("distance")).otherwise(pl.col("distance"))
    return _put(world, day, "negative", world.rows("flights", day).with_columns(distance=turned))


def far_future(world: World, day: date) -> str:
    """Deliver a file for a day nineteen years ahead."""
    return world.put(
        f"flights/flights-{day.replace(year=day.year + 19)}.csv.gz",
        compressed(csv(world.rows("flights", day))),
        at=_later(day),
    )


FAULTS: tuple[Callable[[World, date], str], ...] = (
    truncated_gzip,
    missing_column,
    renamed_column,
    delivered_twice,
    corrected,
    empty_file,
    negative_distance,
    far_future,
)


def _put(world: World, day: date, tag: str, rows: pl.DataFrame) -> str:
    return world.put(f"flights/flights-{day}.{tag}.csv.gz", compressed(csv(rows)), at=_later(day))


def _later(day: date) -> datetime:
    """Return a moment after the day's good file arrived."""
    return delivered_at(day) + timedelta(hours=6)
