"""Other models on the same test rows: the better baseline, and the champion in office where a comparison is fair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import polars as pl

from ml_assets.development.lifecycle import Plan
from ml_assets.development.rows import DevelopmentRows
from ml_assets.development.training import CandidateResult
from ml_assets.evaluation.fairness import Incumbent, unfair, unseen
from ml_assets.evaluation.metrics import Answered, EvaluationError, gain_intervals, with_answers
from ml_assets.evaluation.report import Rival

SIMPLE = ("baseline", "persistence")
GAIN_RESAMPLES = 100
NO_CHAMPION = Rival("champion", note="no champion yet")


class Predicts(Protocol):
    """What a comparison needs of a bundle."""

    @property
    def threshold(self) -> float: ...
    def predict(self, frame: pl.DataFrame) -> np.ndarray: ...


def simple_rival(
    ours: Answered, results: Sequence[CandidateResult], plan: Plan, rows: DevelopmentRows
) -> tuple[Rival, Answered] | None:
    """Return the better of baseline and persistence by the declared metric, and its answers; None for a clustering.

    Its decisions are made at its own threshold, chosen as ours is: a constant at a foreign threshold may be always wrong.
    """
    if not plan.task.supervised:
        return None
    models = [result for result in results if result.name in SIMPLE and result.trained]
    if not models:
        raise EvaluationError("there is no trained baseline to compare with: look at why candidate baseline failed")
    found = {result.name: _answers(ours, result, plan, rows) for result in models}
    name = max(found, key=lambda one: _worth(plan, found[one]))
    return compared(name, ours, found[name], seed=plan.seed), found[name]


def champion_rival(
    ours: Answered, champion: Incumbent | None, plan: Plan, *, seen: pl.DataFrame | None = None
) -> Rival:
    """Return the comparison with the champion in office, or a rival without metrics that says why there is none.

    The rows are those that the champion has not seen: of a random split `seen` names those that it has (see `seen_rows`).
    """
    if champion is None:
        return NO_CHAMPION
    name = f"champion {champion.version}"
    rows = ours if seen is None else ours.take(unseen(ours.frame, seen))
    if why := unfair(champion, rows.frame, by_time=seen is None):
        return Rival(name, note=f"not compared: {why}")
    bundle: Predicts = champion.bundle
    try:
        theirs = _answered(rows, bundle.predict(rows.frame), bundle.threshold)
    except ValueError as error:
        return Rival(name, note=f"not compared: it cannot answer these rows ({error})")
    found = compared(name, rows, theirs, seed=plan.seed)
    note = "" if len(rows) == len(ours) else f"compared on the {len(rows):,} of {len(ours):,} rows that it has not seen"
    return replace(found, note=note)


def _answered(rows: Answered, score: np.ndarray, threshold: float) -> Answered:
    """The same rows with the answers of another model."""
    rows.task.check(rows.y, score)
    return replace(rows, frame=with_answers(rows.frame, score, rows.task, threshold), score=score, threshold=threshold)


def compared(name: str, ours: Answered, theirs: Answered, *, seed: int) -> Rival:
    """Return a rival with its metrics on the same rows, and the intervals of our gain."""
    names = ours.task.declarable_names
    return Rival(name, theirs.metrics, gain_intervals(ours, theirs, metrics=names, resamples=GAIN_RESAMPLES, seed=seed))


def _answers(ours: Answered, result: CandidateResult, plan: Plan, rows: DevelopmentRows) -> Answered:
    threshold = plan.task.choose_threshold(rows.y[rows.scored], result.scores(), plan.decides)
    return _answered(ours, result.load().predict(ours.frame), threshold)


def _worth(plan: Plan, found: Answered) -> float:
    value = found.metrics[plan.metric.name]
    return -np.inf if value is None else plan.metric.gain(value, 0.0)
