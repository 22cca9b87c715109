"""How well one column alone predicts the target. What a model should find hard, and a column knows, was often known too late.

The score of a number is that of its order and that of a binned model, of a category that of its classes' means; the models
are cross-fitted: no row is predicted from itself. Deterministic, and on at most 20,000 rows.

Sources: area under the ROC curve as the Mann-Whitney statistic (Hanley and McNeil, 1982); out-of-fold target means
(Micci-Barreca, 2001); leakage as what was not legitimately there when the prediction was due (Kaufman et al., 2012).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from ml_assets.scaffold.columns import Column
from ml_assets.scaffold.inference import Inferred

MOST_ROWS = 20_000
FOLDS = 5
MOST_BINS = 32
ROWS_OF_BIN = 10
"""Rows that a bin should have: fewer bins for few rows."""
LEAST_OF_CLASS = 10
"""Rows of a class from which its score counts."""
SEED = 0


def single_scores(inferred: Inferred) -> dict[str, float]:
    """Return by column how well it alone predicts the target, 1 is perfectly.

    AUC for two classes, the lowest AUC of a class against the others for several, R² for a number (0 when negative).
    """
    outcomes = inferred.outcomes
    if outcomes is None:
        return {}
    known = inferred.frame.filter(outcomes.is_not_null())
    y = outcomes.drop_nulls()
    step = max(1, -(-known.height // MOST_ROWS))
    sample, target = known.gather_every(step), y.gather_every(step).to_numpy()
    goals = _goals(inferred, target)
    folds = np.random.default_rng(SEED).permutation(len(target)) % FOLDS
    if not goals.shape[1]:
        return {}
    return {column.safe: _score(inferred, column, sample, goals, folds) for column in inferred.candidates}


def _goals(inferred: Inferred, target: np.ndarray) -> np.ndarray:
    """Return what is predicted, (n, 1) or (n, classes): membership of each class with enough rows, or the number."""
    if not inferred.outcome.classes:
        return target[:, None]
    classes, counts = np.unique(target, return_counts=True)
    return (target[:, None] == classes[counts >= LEAST_OF_CLASS]).astype(float)


def _score(inferred: Inferred, column: Column, sample: pl.DataFrame, goals: np.ndarray, folds: np.ndarray) -> float:
    values = sample[column.safe]
    numeric = column.kind in ("number", "moment") and values.dtype != pl.String
    codes = _bins(_as_number(values)) if numeric else _codes(values)
    predicted = _cross_fitted(codes, goals, folds)
    regression = inferred.outcome.kind == "regression"
    scores = [_r2(goals[:, 0], predicted[:, 0])] if regression else [_worst_auc(goals, predicted)]
    if numeric and goals.shape[1] == 1:
        scores.append(_by_order(_as_number(values), goals[:, 0], regression=regression))
    return max(scores)


def _as_number(values: pl.Series) -> np.ndarray:
    """Return numbers, NaN for null and infinite ones; times as their number."""
    number = values.to_physical().cast(pl.Float64).to_numpy().copy()
    number[~np.isfinite(number)] = np.nan
    return number


def _bins(values: np.ndarray) -> np.ndarray:
    """Return the bin of each value, of about equally many rows each; nulls have one of their own."""
    known = values[~np.isnan(values)]
    if not len(known):
        return np.zeros(len(values), dtype=np.int64)
    count = int(np.clip(len(known) // ROWS_OF_BIN, 2, MOST_BINS))
    edges = np.unique(np.quantile(known, np.linspace(0, 1, count + 1)[1:-1]))
    codes = np.searchsorted(edges, values, side="left") + 1
    return np.where(np.isnan(values), 0, codes)


def _codes(values: pl.Series) -> np.ndarray:
    """Return the place of each value among the distinct ones, 0 for null."""
    return values.rank("dense").fill_null(0).cast(pl.Int64).to_numpy()


def _cross_fitted(codes: np.ndarray, goals: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Return for each row the mean goal of its code in the other folds, drawn to the overall mean by one row."""
    width, places = int(codes.max()) + 1, codes * FOLDS + folds
    counts = np.bincount(places, minlength=width * FOLDS).reshape(width, FOLDS)
    others = (counts.sum(axis=1, keepdims=True) - counts)[codes, folds]
    predicted = np.empty_like(goals)
    for number in range(goals.shape[1]):
        sums = np.bincount(places, weights=goals[:, number], minlength=width * FOLDS).reshape(width, FOLDS)
        rest = (sums.sum(axis=1, keepdims=True) - sums)[codes, folds]
        predicted[:, number] = (rest + goals[:, number].mean()) / (others + 1)
    return predicted


def _worst_auc(goals: np.ndarray, predicted: np.ndarray) -> float:
    return min(auc(goals[:, number], predicted[:, number]) for number in range(goals.shape[1]))


def auc(y: np.ndarray, score: np.ndarray) -> float:
    """Return the area under the ROC curve of 0 and 1 by a score; ties count half; 0.5 with one class."""
    positives = int(y.sum())
    if positives in (0, len(y)):
        return 0.5
    ranks = _ranks(score)
    return float((ranks[y == 1].sum() - positives * (positives + 1) / 2) / (positives * (len(y) - positives)))


def _ranks(values: np.ndarray) -> np.ndarray:
    """Return the ranks from 1, ties their mean."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[places]


def _r2(y: np.ndarray, predicted: np.ndarray) -> float:
    spread = float(((y - y.mean()) ** 2).sum())
    return max(0.0, 1 - float(((y - predicted) ** 2).sum()) / spread) if spread else 0.0


def _by_order(values: np.ndarray, y: np.ndarray, *, regression: bool) -> float:
    """Return how well the values' order predicts, whichever way it goes: what no bin can blur. Nulls are the lowest."""
    filled = np.where(np.isnan(values), -np.inf, values)
    if not regression:
        found = auc(y, filled)
        return max(found, 1 - found)
    one, other = _ranks(filled), _ranks(y)
    if not one.std() or not other.std():
        return 0.0
    return float(np.corrcoef(one, other)[0, 1] ** 2)


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
