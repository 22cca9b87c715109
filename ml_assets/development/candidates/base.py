"""What every candidate is: a name, declared defaults, what it supports, and one way to be fitted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import polars as pl

from ml_assets.development.encoding import Encoder
from ml_assets.development.model_files import FittedModel

PARITY_ROWS = 2_000
"""Training rows on which a saved model is compared with the fitted one."""


class CandidateError(ValueError):
    """A candidate does not exist, or the rows it was given cannot teach it anything."""


@dataclass(frozen=True)
class Support:
    """Whether a candidate applies, and why not; true or false by itself."""

    applies: bool
    reason: str = ""

    def __bool__(self) -> bool:
        return self.applies


@dataclass(frozen=True)
class Candidate(ABC):
    """A kind of model that may win a problem.

    Subclasses are frozen dataclasses whose fields are the hyperparameters with their defaults, so
    `dataclasses.replace(candidate, …)` makes a variant. `least_rows` are the training rows below which it says nothing.
    """

    name: ClassVar[str]
    tasks: ClassVar[frozenset[str]] = frozenset({"classification"})
    least_rows: ClassVar[int] = 2

    @property
    def defaults(self) -> dict[str, Any]:
        """Return the hyperparameters by name."""
        return asdict(self)

    def supports(self, task: str, rows: int) -> Support:
        """Say whether the candidate applies to a task with this many training rows."""
        if task not in self.tasks:
            return Support(False, f"{self.name} does {sorted(self.tasks)}, not {task}")
        if rows < self.least_rows:
            return Support(False, f"{self.name} needs at least {self.least_rows} training rows, and there are {rows}")
        return Support(True)

    @abstractmethod
    def fit(
        self,
        train: pl.DataFrame,
        validation: pl.DataFrame,
        *,
        encoder: Encoder,
        label: str,
        seed: int,
        threads: int,
    ) -> FittedModel:
        """Fit on `train`; `validation` may only say when to stop. The same input and seed give the same scores.

        `encoder` was fitted on `train`; `label` is the column of 0 and 1. Raises `CandidateError` for unusable labels.
        """


def labels(frame: pl.DataFrame, label: str, *, both: bool = False) -> np.ndarray:
    """Return the column of labels as int64 0 and 1; with `both`, refuse rows of one class only.

    Raises `CandidateError` for a column that is missing, and for labels that are null or neither 0 nor 1.
    """
    if label not in frame.columns:
        raise CandidateError(f"label column {label!r} is missing: the frame has {frame.columns}")
    column = frame.get_column(label)
    found = set(column.unique())
    if not found <= {0, 1}:
        raise CandidateError(
            f"label column {label!r} holds {sorted(found - {0, 1}, key=str)[:5]}: give 0 and 1, without null"
        )
    if both and len(found) < 2:
        raise CandidateError(
            f"label column {label!r} holds only {sorted(found)}: a classifier needs rows of both classes"
        )
    return column.cast(pl.Int64).to_numpy()


def sampled(rows: int, most: int, seed: int) -> np.ndarray:
    """Return the sorted indices of at most `most` of `rows` rows, drawn without replacement."""
    if rows <= most:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def told(defaults: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Return hyperparameters for the record, with what was found while fitting."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in (dict(defaults) | more).items()}
