"""Candidates that cost nothing, and small tables that they are tried on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import polars as pl

from ml_assets.development.candidates.base import Candidate, Fitted, Fitting, Rows
from ml_assets.development.rows import DevelopmentRows, development_rows
from ml_assets.development.training import CandidateResult
from ml_assets.tasks import Task, task

if TYPE_CHECKING:
    import optuna

BINARY, NUMBERS, THREE = task("classification"), task("regression"), task("classification", classes=("a", "b", "c"))
START = datetime(2013, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Repeats(Candidate):
    """Answers with a column of the rows, times `scale`; it keeps what it was shown in `shown`. Column `bad` raises."""

    name: ClassVar[str] = "repeats"
    complexity: ClassVar[int] = 1
    columns: ClassVar[tuple[str, ...]] = ("a", "b")
    shown: ClassVar[list[list[int]]] = []

    column: str = "a"
    scale: float = 1.0

    def space(self, trial: optuna.Trial, rows: Rows, how: Fitting) -> Candidate:
        return replace(
            self,
            column=trial.suggest_categorical("column", list(self.columns)),
            scale=trial.suggest_float("scale", 0.5, 1.0),
        )

    def fit(self, train: Rows, watched: Rows | None, how: Fitting) -> Fitted:
        if self.column == "bad":
            raise FloatingPointError("the loss is not finite")
        self.shown.append(train.frame["row"].to_list() if "row" in train.frame.columns else [])
        return Fitted(
            "lookup", {}, lambda frame: frame[self.column].to_numpy() * self.scale, how.task.output, self.defaults
        )


def table(rows: int, *, seed: int = 0, train: float = 0.6, test: float = 0.2) -> pl.DataFrame:
    """Return rows an hour apart with numbers `x` and `noise`, a binary label of log-odds 2x, split in order of time."""
    random = np.random.default_rng(seed)
    x, place = random.normal(size=rows), np.arange(rows) / rows
    return pl.DataFrame(
        {
            "row": np.arange(rows),
            "x": x,
            "noise": random.normal(size=rows),
            "label": (random.random(rows) < 1 / (1 + np.exp(-2 * x))).astype(np.int64),
            "split": np.where(place < train, "train", np.where(place < 1 - test, "validation", "test")),
        }
    ).with_columns(event_timestamp=pl.lit(START).dt.cast_time_unit("us") + pl.duration(hours="row"))


def numbered(frame: pl.DataFrame, label: np.ndarray) -> pl.DataFrame:
    """Return the frame with another label."""
    return frame.with_columns(label=pl.Series(label))


def development(
    frame: pl.DataFrame, known: Task = BINARY, features: Sequence[str] = ("x", "noise"), *, by_time: bool = True
) -> DevelopmentRows:
    """Return the frame's rows for candidates."""
    return development_rows(frame, known, features=features, seed=0, by_time=by_time)


def fitting(known: Task = BINARY, metric: str = "", *, seed: int = 0) -> Fitting:
    """Return how to fit with one thread."""
    return Fitting(known, known.metric(metric or known.default_metric), seed=seed, threads=1)


def scored(name: str, **metrics: float) -> CandidateResult:
    """Return the result of a candidate that was trained."""
    return CandidateResult(name, "trained", "", metrics=metrics)
