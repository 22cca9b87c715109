"""Regression: labels and scores are finite numbers in the unit of the outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ml_assets.tasks.base import Metric, Output, Task, TaskError

if TYPE_CHECKING:
    import polars as pl


def _mae(y: np.ndarray, score: np.ndarray, _: float) -> float | str:
    return float(np.mean(np.abs(score - y)))


def _rmse(y: np.ndarray, score: np.ndarray, _: float) -> float | str:
    return float(np.sqrt(np.mean((score - y) ** 2)))


METRICS: tuple[Metric, ...] = (
    Metric("mae", False, _mae, "Mean absolute error, in the outcome's unit.", "mean |p - y|", quantile=0.5),
    Metric("rmse", False, _rmse, "Root of the mean squared error, in the outcome's unit.", "sqrt(mean (p - y)^2)"),
)


@dataclass(frozen=True)
class Regression(Task):
    """A number in the unit of the outcome."""

    output: ClassVar[Output] = "value"

    def _check(self, y: np.ndarray, score: np.ndarray) -> None:
        for name, values in (("label", y), ("score", score)):
            wrong = ~np.isfinite(values)
            if wrong.any():
                raise TaskError(
                    f"{name} {values[wrong][0]} is not a finite number ({wrong.sum()} rows): leave such rows out"
                )

    def labels(self, column: pl.Series) -> np.ndarray:
        if not column.dtype.is_numeric():
            raise TaskError(f"label column {column.name!r} is {column.dtype}: a regression needs numbers; cast it")
        values = column.cast(float).to_numpy()
        if column.null_count() or not np.isfinite(values).all():
            raise TaskError(f"label column {column.name!r} holds null, NaN or infinity: leave such rows out")
        return values

    def losses(self, y: np.ndarray, score: np.ndarray) -> np.ndarray:
        return np.abs(y - score)

    def answers(self, score: np.ndarray, threshold: float) -> dict[str, Any]:
        return {"score": score, "prediction": score}

    def stored(self, frame: pl.DataFrame) -> np.ndarray:
        return frame["score"].cast(float).to_numpy()

    def expectations(self) -> list[tuple[str, dict[str, Any]]]:
        return []

    def plots(self, y: np.ndarray, score: np.ndarray, threshold: float) -> dict[str, bytes]:
        raise NotImplementedError

    def evidently(self, threshold: float) -> tuple[Any, Sequence[Any]]:
        raise NotImplementedError


TASK = Regression(kind="regression", metrics=METRICS, default_metric="rmse")
