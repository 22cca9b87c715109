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
