"""Columns of a file that know the target too well: alone they predict it, or they are filled for one outcome only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from ml_assets.scaffold.columns import Column
from ml_assets.scaffold.inference import Inferred
from ml_assets.tasks.alone import MOST_ROWS, goals_of, single_score


def single_scores(inferred: Inferred) -> dict[str, float]:
    """Return by column how well it alone predicts the target, 1 is perfectly; see `single_score`. On every n-th row of many."""
    outcomes = inferred.outcomes
    if outcomes is None:
        return {}
    known = inferred.frame.filter(outcomes.is_not_null())
    y = outcomes.drop_nulls()
    step = max(1, -(-known.height // MOST_ROWS))
    sample = known.gather_every(step)
    goals = goals_of(y.gather_every(step).to_numpy(), several=bool(inferred.outcome.classes))
    if not goals.shape[1]:
        return {}
    return {column.safe: _score(inferred, column, sample, goals) for column in inferred.candidates}


def _score(inferred: Inferred, column: Column, sample: pl.DataFrame, goals: np.ndarray) -> float:
    values = sample[column.safe]
    numeric = column.kind in ("number", "moment") and values.dtype != pl.String
    return single_score(values, goals, numeric=numeric, regression=inferred.outcome.kind == "regression")


# -- where a value is missing ------------------------------------------------------------------------------------------

LEAST_FILLED = 20
PURE = 0.995
BY_CHANCE = 1e-6


def filled_by_outcome(inferred: Inferred, columns: Sequence[Column]) -> Iterator[tuple[Column, str, float]]:
    """Yield columns whose values are there for one outcome only: column, what was seen, the share for which that holds.

    The outcome is a class, or that the target is known at all. What chance explains (one in a million) is no finding.
    """
    outcomes = inferred.outcomes
    if outcomes is None:
        return
    known = outcomes.is_not_null().to_numpy()
    for column in columns:
        filled = inferred.frame[column.safe].is_not_null().to_numpy()
        if LEAST_FILLED <= filled.sum() <= len(filled) - LEAST_FILLED:
            yield from _with_target_only(column, filled, known)
            yield from _for_one_class(inferred, column, filled, outcomes)


def _with_target_only(column: Column, filled: np.ndarray, known: np.ndarray) -> Iterator[tuple[Column, str, float]]:
    if min(known.sum(), (~known).sum()) < LEAST_FILLED:
        return
    agreement = float(filled[known].mean() - filled[~known].mean())
    if agreement >= PURE - 0.025:
        yield column, "it is filled where the target is known, and nowhere else", agreement


def _for_one_class(
    inferred: Inferred, column: Column, filled: np.ndarray, outcomes: pl.Series
) -> Iterator[tuple[Column, str, float]]:
    outcome = inferred.outcome
    names = outcome.classes or ((outcome.negative, outcome.positive) if outcome.binary else ())
    y = outcomes.to_numpy()
    for place, name in enumerate(names):
        base = float((y == place).sum() / np.isfinite(y).sum())
        inside = y[filled & np.isfinite(y)] == place
        if len(inside) < LEAST_FILLED:
            continue
        share = float(inside.mean())
        if share >= PURE and base < 1 and base ** len(inside) < BY_CHANCE:
            yield column, f"it is filled in {len(inside):,} rows, {share:.1%} of which are {name!r}", share
