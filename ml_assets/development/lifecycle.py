"""Development from a training set to the challenger, without Dagster: what the assets do step by step, as one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from ml_assets.development.blend import NAME as ENSEMBLE
from ml_assets.development.blend import train_ensemble
from ml_assets.development.candidates.base import Candidate, Fitting
from ml_assets.development.candidates.registry import candidate, candidates, names
from ml_assets.development.challenger import Challenger, make_challenger
from ml_assets.development.model_files import Model
from ml_assets.development.rows import DevelopmentRows, TrainingError, development_rows
from ml_assets.development.search import Budget
from ml_assets.development.selection import Selection, best_of, select, standard_errors, values_of
from ml_assets.development.training import CandidateResult, train_candidate
from ml_assets.tasks import Metric, Task

RIGHT = {"true_positive": 1.0, "true_negative": 1.0}
"""What decisions are worth where success is accuracy: every right one the same."""


@dataclass(frozen=True, eq=False)
class Plan:
    """How a problem's models are developed: what the declaration says, in plain values.

    `value` is what outcomes are worth, by outcome. `last_value` names the column that the candidate `persistence` repeats. By
    time `gap` is how long after the question an outcome is known, where the rows do not say when.
    """

    task: Task
    metric: Metric
    features: tuple[str, ...]
    seed: int = 0
    budget: Budget = field(default_factory=Budget)
    by_time: bool = True
    group: str | None = None
    gap: timedelta = timedelta(0)
    value: Mapping[str, float] = field(default_factory=dict)
    last_value: str = ""
    threads: int = 2

    @property
    def how(self) -> Fitting:
        """Return how every candidate is fitted."""
        return Fitting(self.task, self.metric, seed=self.seed, threads=self.threads)

    @property
    def decides(self) -> Mapping[str, float] | None:
        """Return what the threshold maximises: the declared values, right decisions for accuracy, else (None) F1."""
        return self.value or (RIGHT if self.metric.name == "accuracy" else None)

    def rows(self, training_set: pl.DataFrame) -> DevelopmentRows:
        """Return the rows that candidates may learn from."""
        return development_rows(
            training_set,
            self.task,
            features=self.features,
            seed=self.seed,
            by_time=self.by_time,
            group=self.group,
            gap=self.gap,
        )

    def candidate(self, name: str) -> Candidate:
        """Return a candidate with what the declaration says of it."""
        return candidate(name).variant({"last_value": self.last_value})

    def train(
        self,
        name: str,
        rows: DevelopmentRows,
        folder: Path,
        *,
        others: Sequence[CandidateResult] = (),
        warm: Mapping[str, Any] | None = None,
        tell: Callable[[str], None] = lambda _: None,
    ) -> CandidateResult:
        """Train one candidate; the ensemble is made of `others`."""
        if name == ENSEMBLE:
            return train_ensemble(others, rows, self.how, folder=folder, value=self.decides)
        return train_candidate(
            self.candidate(name),
            rows,
            self.how,
            folder=folder,
            budget=self.budget,
            warm=warm,
            value=self.decides,
            tell=tell,
        )

    def select(self, results: Sequence[CandidateResult], rows: DevelopmentRows) -> Selection:
        """Return the winner: the best, or the simplest within one standard error of it."""
        errors: Mapping[str, float] = {}
        values = values_of(results, self.metric)
        if self.task.supervised and len(values) > 1:
            scores = {result.name: result.scores() for result in results if result.name in values}
            y, best = rows.y[rows.scored], best_of(values, self.metric)
            errors = standard_errors(self.task, self.metric, y, scores, best, value=self.decides, seed=self.seed)
        return select(results, self.metric, order=(*names(), ENSEMBLE), errors=errors)

    def challenger(
        self, winner: str, results: Sequence[CandidateResult], rows: DevelopmentRows, folder: Path
    ) -> Challenger:
        """Return the winner, fitted again, calibrated, with its threshold."""
        return make_challenger(winner, results, rows, self.how, folder=folder, value=self.decides)


@dataclass(frozen=True, eq=False)
class Developed:
    """What development gave: every candidate's result, the selection, and the challenger with its model."""

    results: tuple[CandidateResult, ...]
    selection: Selection
    challenger: Challenger

    @cached_property
    def model(self) -> Model:
        """Return the challenger's model, read from its files."""
        return self.challenger.result.load()


def default_candidates(task: Task) -> tuple[str, ...]:
    """Return the candidates of a task, the simpler first; the ensemble last where there are labels to weigh by."""
    known = tuple(one.name for one in candidates() if task.output in one.outputs)
    return (*known, ENSEMBLE) if task.supervised else known


def develop(
    training_set: pl.DataFrame,
    plan: Plan,
    *,
    folder: Path,
    wanted: Sequence[str] | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Developed:
    """Train the wanted candidates (default: all of the task), select, and make the challenger; `folder` keeps the models.

    `training_set` has the features, `split` (train, validation; other rows are not touched), `label` unless it is a clustering,
    and `event_timestamp` when the plan is by time.
    """
    rows, results = plan.rows(training_set), list[CandidateResult]()
    for name in wanted or default_candidates(plan.task):
        results.append(plan.train(name, rows, Path(folder) / name, others=results, tell=tell))
    selection = plan.select(results, rows)
    return Developed(
        tuple(results), selection, plan.challenger(selection.winner, results, rows, Path(folder) / "challenger")
    )


def develop_again(plan: Plan, training_set: pl.DataFrame, settled: Mapping[str, Any], folder: Path) -> Challenger:
    """Return the winner, trained again without a search, fitted again, calibrated, with its threshold; models go to `folder`.

    `settled` as `development.origin.settled` told it. An ensemble is made again of all that it was made of.
    `TrainingError` when a candidate that was trained cannot be trained any more.
    """
    rows, winner, variants = plan.rows(training_set), settled["winner"], settled["variants"]
    alone = [name for name in variants if name != ENSEMBLE and winner in (name, ENSEMBLE)]
    results: list[CandidateResult] = []
    for name in alone:
        candidate = plan.candidate(name).variant(variants[name])
        results.append(train_candidate(candidate, rows, plan.how, folder=folder / name, value=plan.decides))
    if winner == ENSEMBLE:
        results.append(plan.train(ENSEMBLE, rows, folder / ENSEMBLE, others=results))
    if failed := [f"{one.name}: {one.reason}" for one in results if not one.trained]:
        raise TrainingError(f"candidates that were trained cannot be trained any more: {'; '.join(failed)}")
    return plan.challenger(winner, results, rows, folder / "challenger")
