"""The learning curve: the challenger's kind of model on more and more training rows, measured on validation. Do more rows help?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ml_assets.development.blend import NAME as ENSEMBLE
from ml_assets.development.candidates.base import sampled
from ml_assets.development.candidates.registry import candidate
from ml_assets.development.failures import FAILURES
from ml_assets.development.folds import thinned
from ml_assets.development.lifecycle import Plan
from ml_assets.development.rows import DevelopmentRows
from ml_assets.development.search import measured
from ml_assets.development.training import CandidateResult, fit_on

PARTS = (8, 4, 2, 1)
LEAST_ROWS = 10
MOST_ROWS = (20_000, 8_000, 3_000, 1_000)
"""Training rows of the last point: the most of these that are fitted in time."""
MEASURED_ROWS = 5_000
SECONDS = 10.0


@dataclass(frozen=True)
class LearningCurve:
    """By number of training rows, the metric on them and on validation; None where no model could be fitted."""

    candidate: str
    metric: str
    rows: tuple[int, ...]
    train: tuple[float | None, ...]
    validation: tuple[float | None, ...]


def learning_curve(
    winner: CandidateResult, results: Sequence[CandidateResult], rows: DevelopmentRows, plan: Plan
) -> LearningCurve | str:
    """Fit the winner's variant on an eighth, a quarter, a half and all of the train split, or say why that was not done.

    Of an ensemble it is the heaviest member. Rows are taken evenly, at most 20,000, fewer where the candidate is slow.
    """
    one = _heaviest(winner, results)
    most = next((rows_ for rows_ in MOST_ROWS if _seconds(one, rows, plan, min(rows_, rows.train)) <= SECONDS), None)
    if most is None:
        return f"{one.name} takes too long: it was trained for {one.seconds:.0f} s"
    index = thinned(rows.train, most)
    sizes = [len(index) // part for part in PARTS]
    if sizes[0] < LEAST_ROWS:
        return f"{rows.train} training rows are too few: an eighth of them should be {LEAST_ROWS}"
    points = [_point(one, rows, plan, index[thinned(len(index), size)]) for size in sizes]
    return LearningCurve(
        one.name,
        plan.metric.name,
        tuple(sizes),
        tuple(train for train, _ in points),
        tuple(validation for _, validation in points),
    )


def _heaviest(winner: CandidateResult, results: Sequence[CandidateResult]) -> CandidateResult:
    if winner.name != ENSEMBLE:
        return winner
    weights = winner.variant["weights"]
    return max((one for one in results if one.name in weights), key=lambda one: float(weights[one.name]))


def _seconds(result: CandidateResult, rows: DevelopmentRows, plan: Plan, most: int) -> float:
    """About how long the curve takes, from how long the candidate's own fits took."""
    known = [trial["seconds"] for trial in result.trials if trial["state"] == "complete"]
    if known:  # a trial fits about twice its rows, over all folds
        fitted, seconds = 2 * min(plan.budget.rows, rows.train), float(np.median(known))
    else:
        fitted, seconds = sum(len(fold.fit) for fold in rows.folds) + rows.train, result.seconds
    return seconds / max(fitted, 1) * most * sum(1 / part for part in PARTS)


def _point(
    result: CandidateResult, rows: DevelopmentRows, plan: Plan, index: np.ndarray
) -> tuple[float | None, float | None]:
    variant = candidate(result.name).variant(result.variant)
    validation = np.arange(rows.train, rows.layout.rows)
    try:
        fitted, encoder = fit_on(variant, rows, index, plan.how)
        values = []
        for part in (index, validation):
            chosen = rows.rows(part[sampled(len(part), MEASURED_ROWS, plan.seed)], encoder)
            values.append(measured(plan.task, plan.metric, chosen.y, fitted.scores(chosen), plan.decides))
    except FAILURES:
        return None, None  # too few rows for this kind of model, such as rows of one class
    train, other = (float(value) if np.isfinite(value) else None for value in values)
    return train, other
