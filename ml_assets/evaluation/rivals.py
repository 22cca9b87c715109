"""Other models on the same test rows: the better baseline, and the champion in office where a comparison is fair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Protocol

import numpy as np
import polars as pl

from ml_assets.development.lifecycle import Plan
from ml_assets.development.rows import DevelopmentRows
from ml_assets.development.training import CandidateResult
from ml_assets.evaluation.metrics import Answered, EvaluationError, gain_intervals, with_answers
from ml_assets.evaluation.report import Rival

SIMPLE = ("baseline", "persistence")
GAIN_RESAMPLES = 100
MOMENT = "event_timestamp"
NO_CHAMPION = Rival("champion", note="no champion yet")


class Predicts(Protocol):
    """What a comparison needs of a bundle."""

    @property
    def threshold(self) -> float: ...
    def predict(self, frame: pl.DataFrame) -> np.ndarray: ...


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
    ours: Answered, champion: Incumbent | None, plan: Plan, *, data_hash: str, seen: pl.DataFrame | None = None
) -> Rival:
    """Return the comparison with the champion in office, or a rival without metrics that says why there is none.

    The rows are those that the champion has not seen: of a random split `seen` has the keys of those that it has.
    """
    if champion is None:
        return NO_CHAMPION
    name = f"champion {champion.version}"
    rows = ours if seen is None or champion.data_hash == data_hash else _unseen(ours, seen)
    if why := unfair(champion, rows, by_time=plan.by_time, data_hash=data_hash, seen=seen):
        return Rival(name, note=f"not compared: {why}")
    bundle: Predicts = champion.bundle
    try:
        theirs = _answered(rows, bundle.predict(rows.frame), bundle.threshold)
    except ValueError as error:
        return Rival(name, note=f"not compared: it cannot answer these rows ({error})")
    found = compared(name, rows, theirs, seed=plan.seed)
    note = "" if len(rows) == len(ours) else f"compared on the {len(rows):,} of {len(ours):,} rows that it has not seen"
    return replace(found, note=note)


def unfair(
    champion: Incumbent, test: Answered, *, by_time: bool, data_hash: str, seen: pl.DataFrame | None = None
) -> str:
    """Return why the champion cannot be compared on these rows, or nothing.

    Of the same training set it has seen the same splits. By time, rows from the day on that its own test began are unseen.
    """
    if champion.data_hash == data_hash:
        return ""
    if not len(test):
        return "it has seen all of these rows"
    if not by_time:
        return (
            "" if seen is not None else "it was fitted on another random draw of the rows, and has seen some of these"
        )
    first = test.frame[MOMENT].dt.truncate("1d").min()
    if isinstance(first, datetime) and champion.fitted_until <= first:
        return ""
    until = champion.fitted_until - timedelta(microseconds=1)
    return f"it was fitted on rows up to {until:%Y-%m-%d}, and these begin {first!s:.10}"


def _unseen(ours: Answered, seen: pl.DataFrame) -> Answered:
    new = ours.frame.with_row_index("_place").join(seen, on=seen.columns, how="anti")["_place"]
    return ours.take(new.sort().to_numpy())


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
