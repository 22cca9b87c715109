"""On which rows a champion in office may be compared: on those that it was neither fitted nor selected on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

import numpy as np
import polars as pl

from ml_assets.preparation.observations import EVENT_TIMESTAMP


class Incumbent(Protocol):
    """The champion in office: fitted or selected on rows before `fitted_until`, of the training set `data_hash`."""

    @property
    def version(self) -> str: ...
    @property
    def bundle(self) -> Any: ...
    @property
    def data_hash(self) -> str: ...
    @property
    def fitted_until(self) -> datetime: ...


def seen_rows(training_set: pl.LazyFrame, *, key: Sequence[str], group: str | None = None) -> pl.DataFrame:
    """Return what names the rows of a random split that a model was fitted or selected on, for `unseen`.

    A model that knows one row of a `group` knows the group. Without groups it is the single observation that counts: of the same
    key it may be asked again and again. `training_set` is the model's own; where it has no such group, observations count too.
    """
    names = [group] if group in training_set.collect_schema() else [*key, EVENT_TIMESTAMP]
    return training_set.filter(pl.col("split") != "test").select(names).unique().collect()


def unseen(rows: pl.DataFrame, seen: pl.DataFrame) -> np.ndarray:
    """Return the places of the rows that `seen` does not name, in order."""
    left = rows.with_row_index("_place").join(seen, on=seen.columns, how="anti", nulls_equal=True)
    return left["_place"].sort().to_numpy()


def learned_rows(training_set: pl.LazyFrame, *, key: Sequence[str]) -> pl.DataFrame:
    """Return what names the rows that a model of this training set was fitted or selected on: key and time, for `overlap`."""
    return training_set.filter(pl.col("split") != "test").select(*key, EVENT_TIMESTAMP).collect()


def overlap(rows: pl.DataFrame, development: pl.DataFrame, key: Sequence[str] = ()) -> int:
    """Count the rows that are among the development rows too, by a hash of key and time; without a key of all shared columns.

    A hash of 64 bits confuses two of a million rows and a billion once in 20,000 times.
    """
    shared = [name for name in rows.columns if name in development.columns and name != "split"]
    names = [*key, EVENT_TIMESTAMP] if key else shared
    known = development.select(pl.col(name).cast(rows.schema[name]) for name in names)
    return int(row_hashes(rows, names).is_in(row_hashes(known, names).implode()).sum())


def row_hashes(rows: pl.DataFrame, names: Sequence[str]) -> pl.Series:
    """Return a hash of these columns for each row; frames of equal types are hashed alike in one process."""
    return rows.select(names).hash_rows(seed=0)


def unfair(champion: Incumbent, rows: pl.DataFrame, *, by_time: bool) -> str:
    """Return why the champion cannot be compared on these test rows, or nothing.

    By time, rows from the day on that its own test began are new to it. At random only those that are left by `unseen`.
    """
    if rows.is_empty():
        return "it has seen all of these rows"
    if not by_time:
        return ""
    first = rows[EVENT_TIMESTAMP].dt.truncate("1d").min()
    if isinstance(first, datetime) and champion.fitted_until <= first:
        return ""
    until = champion.fitted_until - timedelta(microseconds=1)
    return f"it was fitted on rows up to {until:%Y-%m-%d}, and these begin {first!s:.10}"
