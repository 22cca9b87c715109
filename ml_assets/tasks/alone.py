"""How well one column alone predicts the target. What a model should find hard, and a column knows, was often known too late.

The score of a number is that of its order and that of a binned model, of a category that of its classes' means; the models
are cross-fitted: no row is predicted from itself. Deterministic.

Sources: area under the ROC curve as the Mann-Whitney statistic (Hanley and McNeil, 1982); out-of-fold target means
(Micci-Barreca, 2001); leakage as what was not legitimately there when the prediction was due (Kaufman et al., 2012).
"""

from __future__ import annotations

import numpy as np
import polars as pl

MOST_ROWS = 20_000
"""Rows on which callers look at most: every n-th of more."""
FOLDS = 5
MOST_BINS = 32
ROWS_OF_BIN = 10
"""Rows that a bin should have: fewer bins for few rows."""
LEAST_OF_CLASS = 10
"""Rows of a class from which its score counts."""
SEED = 0
CERTAIN = 0.995
"""Score from which a column counts as a leak until a person says otherwise. There is no standard; in published leaks the leaking
column alone scored above 0.98, and honest ones hardly ever do above 0.95."""


def single_score(values: pl.Series, goals: np.ndarray, *, numeric: bool, regression: bool) -> float:
    """Return how well the values alone predict the `goals` (n, k) of `goals_of`, 1 is perfectly.

    AUC for two classes, the lowest AUC of a class against the others for several, R² for a number (0 when negative). Values that
    are not `numeric` are categories.
    """
    folds = np.random.default_rng(SEED).permutation(len(goals)) % FOLDS
    codes = _bins(_as_number(values)) if numeric else _codes(values)
    predicted = _cross_fitted(codes, goals, folds)
    scores = [_r2(goals[:, 0], predicted[:, 0])] if regression else [_worst_auc(goals, predicted)]
    if numeric and goals.shape[1] == 1:
        scores.append(_by_order(_as_number(values), goals[:, 0], regression=regression))
    return max(scores)


def goals_of(target: np.ndarray, *, several: bool) -> np.ndarray:
    """Return what is predicted, (n, 1) or of `several` classes (n, classes): membership of each with enough rows, or the number."""
    if not several:
        return target[:, None]
    classes, counts = np.unique(target, return_counts=True)
    return (target[:, None] == classes[counts >= LEAST_OF_CLASS]).astype(float)


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
