"""Classification into three classes or more: labels are codes into `classes`, scores a row of probabilities each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ml_assets.tasks.base import Metric, Output, Task, TaskError

if TYPE_CHECKING:
    import polars as pl

SUM_TOLERANCE = 1e-4


def _accuracy(y: np.ndarray, score: np.ndarray, _: float) -> float | str:
    return float(np.mean(score.argmax(axis=1) == y))


def _log_loss(y: np.ndarray, score: np.ndarray, _: float) -> float | str:
    tiny = np.finfo(np.float64).eps
    return float(-np.mean(np.log(np.clip(score[np.arange(len(y)), y], tiny, 1))))


METRICS: tuple[Metric, ...] = (
    Metric("accuracy", True, _accuracy, "Share of rows whose most probable class is the true one.", "right / rows"),
    Metric(
        "log_loss",
        False,
        _log_loss,
        "Mean negative log-likelihood of the labels, in nats; probabilities are clipped at 2.2e-16.",
        "-mean(ln p_y); Good, J. R. Stat. Soc. B 14, 1952",
    ),
)


@dataclass(frozen=True)
class Multiclass(Task):
    """One of several classes, of which the most probable is the answer."""

    output: ClassVar[Output] = "probabilities"

    def check(self, y: np.ndarray, score: np.ndarray) -> None:
        if y.ndim != 1 or score.shape != (len(y), len(self.classes)):
            raise TaskError(
                f"y has shape {y.shape}, score has shape {score.shape}: give n labels and n rows of {len(self.classes)} probabilities"
            )
        self._check(y, score)

    def _check(self, y: np.ndarray, score: np.ndarray) -> None:
        wrong = ~((y >= 0) & (y < len(self.classes)))
        if wrong.any():
            raise TaskError(f"label code {y[wrong][0]} is none of the {len(self.classes)} classes ({wrong.sum()} rows)")
        outside = ~((score >= 0) & (score <= 1)).all(axis=1) | (abs(score.sum(axis=1) - 1) > SUM_TOLERANCE)
        if outside.any():
            raise TaskError(
                f"scores {score[outside][0]} are not probabilities that sum to 1 ({outside.sum()} rows): normalise them"
            )

    def labels(self, column: pl.Series) -> np.ndarray:
        places = {name: place for place, name in enumerate(self.classes)}
        strange = sorted({str(value) for value in column.unique() if str(value) not in places})
        if strange or column.null_count():
            raise TaskError(
                f"label column {column.name!r} holds {strange[:5]}: declared classes are {list(self.classes)}"
            )
        return np.array([places[str(value)] for value in column], dtype=np.int64)

    def losses(self, y: np.ndarray, score: np.ndarray) -> np.ndarray:
        return 1 - score[np.arange(len(y)), y]

    def answers(self, score: np.ndarray, threshold: float) -> dict[str, Any]:
        names = np.array(self.classes, dtype=object)
        return {"score": score.max(axis=1), "prediction": names[score.argmax(axis=1)], "scores": score}

    def stored(self, frame: pl.DataFrame) -> np.ndarray:
        return np.array(frame["scores"].to_list(), dtype=np.float64).reshape(-1, len(self.classes))

    def expectations(self) -> list[tuple[str, dict[str, Any]]]:
        return [
            ("expect_column_values_to_be_between", {"column": "score", "min_value": 0, "max_value": 1}),
            ("expect_column_values_to_be_in_set", {"column": "prediction", "value_set": list(self.classes)}),
        ]

    def plots(self, y: np.ndarray, score: np.ndarray, threshold: float) -> dict[str, bytes]:
        raise NotImplementedError

    def evidently(self, threshold: float) -> tuple[Any, Sequence[Any]]:
        raise NotImplementedError


def task(classes: Sequence[str]) -> Multiclass:
    """The task of telling `classes` apart; a TaskError when they are fewer than three or not distinct."""
    names = tuple(str(name) for name in classes)
    if len(names) < 3 or len(set(names)) < len(names):
        raise TaskError(
            f"task.classes {list(names)}: name three distinct classes or more; for two, declare positive instead"
        )
    return Multiclass(kind="classification", metrics=METRICS, default_metric="log_loss", classes=names)
