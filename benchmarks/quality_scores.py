"""What predictions are worth, and how sure a difference is: paired bootstrap over the same test rows.

All metrics are computed here, in one way for every arm, from truth and score; no arm measures itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

RESAMPLES = 1_000
CONFIDENCE = 0.95
SEED = 7
SURE = 1e-4
"""A probability below this counts as this, so that one row of which a forest is sure, and wrong, does not decide."""
CELLS = 4_000_000
"""Weights made at a time: resamples × rows."""

Verdict = Literal["better", "within noise", "worse"]
Weighted = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Answer:
    """Truth and score of one split's test rows.

    `y` is (n,): 0 or 1, the code of a class, or a number. `score` is (n,), or (n, classes) with several classes.
    """

    y: np.ndarray
    score: np.ndarray


@dataclass(frozen=True)
class Difference:
    """By how much one arm is better than another (negative: worse), in the metric's unit, with a 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def verdict(self) -> Verdict:
        """Tell whether the interval leaves zero out, and on which side."""
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "within noise"


def value(metric: str, answers: Sequence[Answer]) -> float:
    """Return the metric: the mean over the splits."""
    return float(np.mean([_weighted(metric, one, np.ones((1, len(one.y))))[0] for one in answers]))


def difference(metric: str, ours: Sequence[Answer], theirs: Sequence[Answer]) -> Difference:
    """Compare two arms' answers to the same splits, whose test rows are drawn again, with replacement, for both alike.

    Raises `ValueError` when the splits' truths are not the same.
    """
    if len(ours) != len(theirs) or not all(np.array_equal(a.y, b.y) for a, b in zip(ours, theirs, strict=True)):
        raise ValueError("the two arms did not answer the same test rows; remove the bench's folder and run it again")
    sign = 1 if GREATER_IS_BETTER[metric] else -1
    random = np.random.default_rng(SEED)
    pairs = list(zip(ours, theirs, strict=True))
    drawn = sign * np.mean([_drawn(metric, pair, random) for pair in pairs], axis=0)
    edges = np.nanquantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Difference(sign * (value(metric, ours) - value(metric, theirs)), float(edges[0]), float(edges[1]))


def _drawn(metric: str, pair: tuple[Answer, Answer], random: np.random.Generator) -> np.ndarray:
    """Return the difference of one split's answers in each resample."""
    parts = [
        _weighted(metric, pair[0], weights) - _weighted(metric, pair[1], weights)
        for weights in _resamples(len(pair[0].y), random)
    ]
    return np.concatenate(parts)


def _resamples(rows: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield how often each row is drawn, some resamples at a time."""
    at_once = max(1, CELLS // rows)
    for start in range(0, RESAMPLES, at_once):
        yield random.multinomial(rows, np.full(rows, 1 / rows), size=min(at_once, RESAMPLES - start)).astype(float)


def _weighted(metric: str, answer: Answer, weights: np.ndarray) -> np.ndarray:
    """Return the metric under each row of `weights`, (resamples, n)."""
    return FORMULAS[metric](answer.y, answer.score, weights)


def _roc_auc(y: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the chance that a positive scores higher than a negative, ties by half; NaN where one class is not drawn."""
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.diff(score[order], prepend=-np.inf))
    positive = np.add.reduceat(weights[:, order] * y[order], starts, axis=1)
    negative = np.add.reduceat(weights[:, order] * (1 - y[order]), starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative / 2
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    return (positive * below).sum(axis=1) / np.where(pairs > 0, pairs, np.nan)


def _log_loss(y: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    losses = -np.log(np.clip(score[np.arange(len(y)), y], SURE, 1))
    return weights @ losses / weights.sum(axis=1)


def _rmse(y: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.sqrt(weights @ (y - score) ** 2 / weights.sum(axis=1))


FORMULAS: Mapping[str, Weighted] = {"roc_auc": _roc_auc, "log_loss": _log_loss, "rmse": _rmse}
GREATER_IS_BETTER: Mapping[str, bool] = {"roc_auc": True, "log_loss": False, "rmse": False}
