"""Search for hyperparameters with Optuna: seeded, in order of time, pruned fold by fold, within a declared budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ml_assets.development.candidates.base import Candidate, Fitting, Rows, skewed
from ml_assets.development.failures import FAILURES
from ml_assets.development.folds import thinned
from ml_assets.development.rows import DevelopmentRows
from ml_assets.tasks import Metric, Task

if TYPE_CHECKING:
    import optuna

STARTUP_TRIALS = 4
"""Trials before the pruner compares, and before the sampler (TPE) draws from what it has learned."""
MOST_CELLS = 600_000
"""Rows times columns that a trial may fit on: what bounds its seconds on wide tables."""
LEAST_ROWS = 500


@dataclass(frozen=True)
class Budget:
    """How long to search per candidate: `trials`, and `seconds` when given (then a slower machine tries less).

    A trial fits at most `rows` rows in each of `folds` folds.
    """

    trials: int = 10
    seconds: float | None = None
    rows: int = 20_000
    folds: int = 3


@dataclass(frozen=True)
class Trial:
    """One variant that was tried: its metric over the folds (None when it failed), and what became of it."""

    number: int
    parameters: Mapping[str, Any]
    value: float | None
    state: str
    seconds: float


@dataclass(frozen=True)
class Found:
    """What a search found: the best variant's hyperparameters, and every trial in order."""

    parameters: Mapping[str, Any] = field(default_factory=dict)
    trials: tuple[Trial, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as values that JSON has."""
        return {"parameters": dict(self.parameters), "trials": [asdict(trial) for trial in self.trials]}


@dataclass(frozen=True, eq=False)
class _Part:
    """One fold, encoded once for all trials."""

    train: Rows
    watched: Rows | None
    scored: Rows


def search(
    candidate: Candidate,
    rows: DevelopmentRows,
    how: Fitting,
    budget: Budget,
    *,
    warm: Mapping[str, Any] | None = None,
    value: Mapping[str, float] | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Found:
    """Return the best hyperparameters by the metric over the folds; the defaults are tried first, then `warm`.

    Of rows that are many, only the train split is used, thinned to the budget, so that validation stays unseen; of few rows all,
    in other folds than those on which candidates are compared. `tell` hears a line after each trial. Nothing to search, no
    trials, or no fold that could teach: nothing found.
    """
    if not candidate.searches or budget.trials < 1:
        return Found()
    parts = _parts(candidate, rows, budget)
    if not parts:
        return Found()
    study = _study(how)
    for known in _known(candidate, rows, how, warm):
        study.enqueue_trial(known, skip_if_exists=True)
    started: dict[int, float] = {}

    def objective(trial: optuna.Trial) -> float:
        started[trial.number] = time.perf_counter()
        return _tried(candidate.space(trial, parts[0].train, how), parts, how, trial, value)

    def after(_: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        shown = "-" if trial.value is None else f"{trial.value:.5g}"
        tell(f"{candidate.name} trial {trial.number}: {how.metric.name} {shown}, {trial.state.name.lower()}")

    study.optimize(objective, n_trials=budget.trials, timeout=budget.seconds, callbacks=[after], catch=FAILURES)
    trials = tuple(_told(trial) for trial in study.trials)
    complete = [trial for trial in trials if trial.state == "complete"]
    return Found(study.best_params if complete else {}, trials)


def measured(task: Task, metric: Metric, y: np.ndarray, score: np.ndarray, value: Mapping[str, float] | None) -> float:
    """Return the metric as the search sees it: decisions are made at the threshold that would be chosen; NaN when undefined."""
    found = metric.compute(y, score, task.choose_threshold(y, score, value))
    return float("nan") if found is None else found


def _study(how: Fitting) -> optuna.Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        direction="maximize" if how.metric.greater_is_better else "minimize",
        sampler=optuna.samplers.TPESampler(seed=how.seed, n_startup_trials=STARTUP_TRIALS),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=0),
    )


def _known(
    candidate: Candidate, rows: DevelopmentRows, how: Fitting, warm: Mapping[str, Any] | None
) -> Sequence[dict[str, Any]]:
    """Return what is tried first: the defaults (for skewed outcomes also of logarithms), and what an earlier search found."""
    defaults = candidate.defaults
    first = [defaults]
    if how.task.output == "value" and skewed(rows.y):
        first.append(defaults | {"log_target": True})
    return [*first, *([dict(warm)] if warm else [])]


def _parts(candidate: Candidate, rows: DevelopmentRows, budget: Budget) -> Sequence[_Part]:
    if rows.cross_fitted:
        index = np.arange(rows.layout.rows)
    else:
        most = min(budget.rows, candidate.search_rows, max(LEAST_ROWS, MOST_CELLS // len(rows.features)))
        index = thinned(rows.train, most, seed=rows.layout.seed)
    layout = rows.layout.take(index)
    parts = []
    for fold in layout.folds(budget.folds):
        fit, watched = layout.watched(fold.fit) if candidate.watches else (fold.fit, fold.fit[:0])
        encoder = rows.encoder(index[fit])
        train, seen, scored = (rows.rows(index[part], encoder) for part in (fit, watched, fold.score))
        parts.append(_Part(train, seen if len(seen) else None, scored))
    return parts


def _tried(
    variant: Candidate, parts: Sequence[_Part], how: Fitting, trial: optuna.Trial, value: Mapping[str, float] | None
) -> float:
    import optuna

    values: list[float] = []
    for step, part in enumerate(parts):
        score = variant.fit(part.train, part.watched, how).scores(part.scored)
        values.append(measured(how.task, how.metric, part.scored.y, score, value))
        if np.isnan(values).all():
            continue  # the pruner would take what is not defined for the worst
        trial.report(float(np.nanmean(values)), step)
        if step + 1 < len(parts) and trial.should_prune():
            raise optuna.TrialPruned
    if np.isnan(values).all():
        raise ValueError(f"{how.metric.name} is not defined on any fold")
    return float(np.nanmean(values))


def _told(trial: optuna.trial.FrozenTrial) -> Trial:
    seconds = trial.duration.total_seconds() if trial.duration else 0.0
    done = trial.state.name == "COMPLETE"
    return Trial(trial.number, trial.params, trial.value if done else None, trial.state.name.lower(), seconds)


def best_variant(candidate: Candidate, found: Found) -> Candidate:
    """Return the candidate with what a search found."""
    return candidate.variant(found.parameters) if found.parameters else candidate


def refitting(how: Fitting, sizes: Sequence[int | None], *, growth: float) -> Fitting:
    """Return how to fit without watched rows: as many rounds as the fits before, a little more for `growth` times the rows."""
    known = [size for size in sizes if size]
    if not known:
        return how
    return replace(how, size=max(1, round(float(np.mean(known)) * min(growth, 1.5) ** 0.5)))
