"""Train one candidate: search, score rows that it was not fitted on, and save the model; always through its saved form."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ml_assets.development.candidates.base import Candidate, Fitted, Fitting
from ml_assets.development.failures import FAILURES
from ml_assets.development.model_files import Model, hashes, load
from ml_assets.development.rows import DevelopmentRows, TrainingError
from ml_assets.development.search import Budget, Found, best_variant, refitting, search
from ml_assets.tasks import Task

Outcome = Literal["trained", "failed", "not_applicable"]
SCORES_FILE = "scores.npy"


@dataclass(frozen=True)
class CandidateResult:
    """What became of one candidate.

    `metrics` are those of the task on rows that it was not fitted on (see `DevelopmentRows.folds`), where they are defined;
    `undefined` says why others are not. `sha256` maps the files in `folder` to hashes: keep it elsewhere, it is what `load`
    wants. `variant` are the hyperparameters, `size` what a refit repeats, `trials` the search. `reason` says why a candidate
    failed or does not apply. `seconds` is the whole of it.
    """

    name: str
    outcome: Outcome
    folder: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    undefined: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    rows: Mapping[str, int] = field(default_factory=dict)
    sha256: Mapping[str, str] = field(default_factory=dict)
    features: tuple[str, ...] = ()
    seed: int = 0
    seconds: float = 0.0
    reason: str = ""
    variant: Mapping[str, Any] = field(default_factory=dict)
    size: int | None = None
    trials: tuple[Mapping[str, Any], ...] = ()

    @property
    def trained(self) -> bool:
        """Return whether there is a model."""
        return self.outcome == "trained"

    def load(self, *, threads: int = 2) -> Model:
        """Return the model; `TrainingError` when there is none, `ModelFileError` when its files were altered."""
        if not self.trained:
            raise TrainingError(f"candidate {self.name!r} has no model ({self.outcome}): {self.reason}")
        return load(Path(self.folder), sha256=self.sha256, threads=threads)

    def scores(self) -> np.ndarray:
        """Return its scores of the rows on which candidates are compared, in their order."""
        if not self.trained:
            raise TrainingError(f"candidate {self.name!r} has no scores ({self.outcome}): {self.reason}")
        return np.load(scores_file(Path(self.folder)), allow_pickle=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as values that JSON has."""
        told = {"notes": list(self.notes), "features": list(self.features), "trials": list(self.trials)}
        return asdict(self) | told

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> CandidateResult:
        """Read what `to_dict` returned."""
        return cls(**{**content, **{name: tuple(content[name]) for name in ("notes", "features", "trials")}})


def scores_file(folder: Path) -> Path:
    """Return where the scores of a candidate's folder lie: beside it, because a folder holds a model and nothing else."""
    return folder.with_name(f"{folder.name}.{SCORES_FILE}")


def keep_scores(folder: Path, scores: np.ndarray) -> None:
    """Keep the scores that `CandidateResult.scores` returns."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    target = scores_file(folder)
    draft = target.with_name(f".{target.name}")  # what is there may be a link to DVC's cache: never written in place
    with draft.open("wb") as file:
        np.save(file, scores, allow_pickle=False)
    draft.replace(target)


def train_candidate(
    candidate: Candidate,
    rows: DevelopmentRows,
    how: Fitting,
    *,
    folder: Path,
    budget: Budget | None = None,
    warm: Mapping[str, Any] | None = None,
    value: Mapping[str, float] | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> CandidateResult:
    """Search the candidate's hyperparameters, score the folds, and save the model of the train split to `folder`.

    A candidate that fails or does not apply gives a result that says so. `budget` None means no search.
    """
    told: dict[str, Any] = {
        "name": candidate.name,
        "folder": str(folder),
        "features": rows.features,
        "seed": how.seed,
        "rows": {"train": rows.train, "validation": rows.layout.rows - rows.train},
    }
    support = candidate.supports(how.task, rows.train)
    if not support:
        return CandidateResult(outcome="not_applicable", reason=support.reason, **told)
    started = time.perf_counter()
    try:
        found = search(candidate, rows, how, budget, warm=warm, value=value, tell=tell) if budget else Found()
        make = _made if how.task.supervised else _grouped
        made = make(best_variant(candidate, found), rows, how, Path(folder), value)
    except FAILURES as error:
        reason = f"{type(error).__name__}: {error}"
        return CandidateResult(outcome="failed", reason=reason, seconds=time.perf_counter() - started, **told)
    trials = tuple(found.to_dict()["trials"])
    return CandidateResult(outcome="trained", seconds=time.perf_counter() - started, trials=trials, **told, **made)


def fit_on(candidate: Candidate, rows: DevelopmentRows, index: np.ndarray, how: Fitting) -> tuple[Fitted, Any]:
    """Fit on the rows at `index`, some of which only say when to stop; return also the rows' encoder."""
    fit, seen = rows.layout.watched(index) if candidate.watches and how.size is None else (index, index[:0])
    encoder = rows.encoder(fit)
    watched = rows.rows(seen, encoder) if len(seen) else None
    return candidate.fit(rows.rows(fit, encoder), watched, how), encoder


def refit(
    candidate: Candidate, rows: DevelopmentRows, how: Fitting, size: int | None, *, share: float, folder: Path
) -> dict[str, str]:
    """Fit on all rows, save to `folder`, and return its hashes. `share` is that of the rows which the size was found on."""
    index = np.arange(rows.layout.rows)
    fitted, encoder = fit_on(candidate, rows, index, refitting(how, [size], growth=1 / share))
    return _saved(fitted.packed(rows.rows(index, encoder), seed=how.seed), folder)


def _made(
    variant: Candidate, rows: DevelopmentRows, how: Fitting, folder: Path, value: Mapping[str, float] | None
) -> dict[str, Any]:
    scores, sizes, last = [], [], None
    for fold in rows.folds:
        fitted, encoder = fit_on(variant, rows, fold.fit, how)
        scores.append(fitted.scores(rows.rows(fold.score, encoder)))
        sizes.append(fitted.size)
        last = (fitted, encoder, fold.fit)
    if rows.cross_fitted or last is None:
        index = np.arange(rows.train)
        last = (*fit_on(variant, rows, index, how), index)
    fitted, encoder, index = last
    model = fitted.packed(rows.rows(index, encoder), seed=how.seed)
    scored = np.concatenate(scores)
    keep_scores(folder, scored)
    metrics, undefined = task_metrics(how.task, rows.y[rows.scored], scored, value)
    known = [size for size in sizes if size]
    return {
        "metrics": metrics,
        "undefined": undefined,
        "parameters": dict(model.parameters),
        "notes": model.notes,
        "sha256": _saved(model, folder),
        "variant": variant.defaults,
        "size": round(float(np.mean(known))) if known else None,
    }


def _grouped(
    variant: Candidate, rows: DevelopmentRows, how: Fitting, folder: Path, value: Mapping[str, float] | None
) -> dict[str, Any]:
    """Fit clusters on the train split, and measure how well they hold together in the validation split, and how stable they are."""
    from ml_assets.development.stability import resampled_stability

    fit, score = np.arange(rows.train), np.arange(rows.train, rows.layout.rows)
    fitted, encoder = fit_on(variant, rows, fit, how)
    train, validation = rows.rows(fit, encoder), rows.rows(score, encoder)
    model, settled = fitted.packed(train, seed=how.seed), variant.variant(fitted.parameters)
    clusters = fitted.scores(validation)
    keep_scores(folder, clusters)
    metrics, undefined = task_metrics(how.task, validation.dense, clusters, value)
    return {
        "metrics": metrics | {"stability": resampled_stability(settled, train, how)},
        "undefined": undefined,
        "parameters": dict(model.parameters),
        "notes": model.notes,
        "sha256": _saved(model, folder),
        "variant": settled.defaults,
    }


def _saved(model: Model, folder: Path) -> dict[str, str]:
    model.save(folder)
    return hashes(model.files())


def task_metrics(
    task: Task, y: np.ndarray, score: np.ndarray, value: Mapping[str, float] | None = None
) -> tuple[dict[str, float], dict[str, str]]:
    """Return the task's metrics by name, decisions made at the threshold that is best on these rows; and why others are not defined."""
    task.check(y, score)
    threshold = task.choose_threshold(y, score, value)
    values = {metric.name: metric.compute(y, score, threshold) for metric in task.metrics}
    reasons = {
        metric.name: metric.why_not(y, score, threshold) for metric in task.metrics if values[metric.name] is None
    }
    return {name: value for name, value in values.items() if value is not None}, {
        k: v or "" for k, v in reasons.items()
    }
