"""Train one candidate on a training set and say how it did: always through its saved form."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from ml_assets.development.candidates.base import Candidate, labels
from ml_assets.development.candidates.registry import candidate
from ml_assets.development.encoding import Encoder
from ml_assets.development.model_files import FittedModel, Model, hashes, load
from ml_assets.tasks import task

Outcome = Literal["trained", "failed", "not_applicable"]

FAILURES = (ArithmeticError, LookupError, MemoryError, RuntimeError, ValueError, pl.exceptions.PolarsError)
"""What a candidate's own fitting may raise. A failed candidate is carried as such; bugs (TypeError, …) stop the run."""
THRESHOLD = 0.5


class TrainingError(ValueError):
    """The training set cannot train any candidate: a column or a split is missing."""


@dataclass(frozen=True)
class CandidateResult:
    """What became of one candidate.

    `metrics` are those of the task on the validation rows, where they are defined; `undefined` says why others are not.
    `sha256` maps the files in `folder` to hashes: keep it elsewhere, it is what `load` wants. `reason` says why a
    candidate failed or does not apply. `seconds` is the whole of it: encoding, fitting, saving, scoring.
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

    @property
    def trained(self) -> bool:
        """Return whether there is a model."""
        return self.outcome == "trained"

    def load(self, *, threads: int = 2) -> Model:
        """Return the model; `TrainingError` when there is none, `ModelFileError` when its files were altered."""
        if not self.trained:
            raise TrainingError(f"candidate {self.name!r} has no model ({self.outcome}): {self.reason}")
        return load(Path(self.folder), sha256=self.sha256, threads=threads)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as values that JSON has."""
        return asdict(self) | {"notes": list(self.notes), "features": list(self.features)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> CandidateResult:
        """Read what `to_dict` returned."""
        return cls(**{**content, "notes": tuple(content["notes"]), "features": tuple(content["features"])})


def train_candidate(
    name: str,
    training_set: pl.DataFrame,
    *,
    label: str,
    features: Sequence[str],
    seed: int,
    folder: Path,
    threads: int = 2,
    kind: str = "classification",
    variant: Candidate | None = None,
) -> CandidateResult:
    """Fit the candidate on rows of split `train`, save it to `folder`, and score the rows of split `validation`.

    Rows without a label are left out and counted. A candidate that fails or does not apply gives a result that says so;
    `variant` replaces the registered hyperparameters. Raises `TrainingError` when the training set itself is unfit (no
    split, label or feature column, no labelled rows in a split), and `CandidateError` for a name that does not exist.
    """
    chosen = variant or candidate(name)
    train, validation = (_labelled(training_set, split, label, features) for split in ("train", "validation"))
    told: dict[str, Any] = {
        "name": name,
        "folder": str(folder),
        "features": tuple(features),
        "seed": seed,
        "rows": {"train": train.height, "validation": validation.height},
    }
    support = chosen.supports(kind, train.height)
    if not support:
        return CandidateResult(outcome="not_applicable", reason=support.reason, **told)
    started = time.perf_counter()
    try:
        encoder = Encoder.fit(train, features)
        fitted = chosen.fit(train, validation, encoder=encoder, label=label, seed=seed, threads=threads)
        found = _saved_and_scored(fitted, Path(folder), validation, label, kind, threads)
    except FAILURES as error:
        reason = f"{type(error).__name__}: {error}"
        return CandidateResult(outcome="failed", reason=reason, seconds=time.perf_counter() - started, **told)
    return CandidateResult(outcome="trained", seconds=time.perf_counter() - started, **told, **found)


def _saved_and_scored(
    fitted: FittedModel, folder: Path, validation: pl.DataFrame, label: str, kind: str, threads: int
) -> dict[str, Any]:
    fitted.save(folder)
    sha256 = hashes(fitted.files())
    model = load(folder, sha256=sha256, threads=threads)
    metrics, undefined = measured(kind, labels(validation, label), model.predict(validation))
    return {
        "metrics": metrics,
        "undefined": undefined,
        "parameters": dict(model.parameters),
        "notes": model.notes,
        "sha256": sha256,
    }


def measured(
    kind: str, y: np.ndarray, score: np.ndarray, *, threshold: float = THRESHOLD
) -> tuple[dict[str, float], dict[str, str]]:
    """Return the task's metrics by name, and for each that is not defined on these rows the reason."""
    known = task(kind)
    known.check(y, score)
    values = {metric.name: metric.compute(y, score, threshold) for metric in known.metrics}
    reasons = {
        metric.name: metric.why_not(y, score, threshold) for metric in known.metrics if values[metric.name] is None
    }
    return {name: value for name, value in values.items() if value is not None}, {
        k: v or "" for k, v in reasons.items()
    }


def _labelled(training_set: pl.DataFrame, split: str, label: str, features: Sequence[str]) -> pl.DataFrame:
    missing = [name for name in ("split", label, *features) if name not in training_set.columns]
    if missing:
        raise TrainingError(f"the training set has no column {missing}: it has {training_set.columns}")
    if label in features:
        raise TrainingError(f"the label {label!r} is among the features: leave it out")
    rows = training_set.filter((pl.col("split") == split) & pl.col(label).is_not_null())
    if rows.is_empty():
        raise TrainingError(
            f"the training set has no labelled rows of split {split!r}: check the split's dates and the labels"
        )
    return rows.select(*features, label)
