"""Clustering: no labels. `y` is the matrix in which rows were compared, the score a row's cluster, -1 for none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ml_assets.tasks.base import Metric, Output, Task, TaskError

if TYPE_CHECKING:
    import polars as pl

NOISE = -1


def _silhouette(y: np.ndarray, score: np.ndarray, _: float) -> float | str:
    from sklearn.metrics import silhouette_score

    inside = score != NOISE
    if len(np.unique(score[inside])) < 2 or inside.sum() <= len(np.unique(score[inside])):
        return "fewer than two clusters"
    return float(silhouette_score(y[inside], score[inside]))


METRICS: tuple[Metric, ...] = (
    Metric(
        "silhouette",
        True,
        _silhouette,
        "How much nearer rows are to their own cluster than to the next, -1 to 1.",
        "mean (b - a) / max(a, b); Rousseeuw, J. Comput. Appl. Math. 20, 1987",
    ),
)


@dataclass(frozen=True)
class Clustering(Task):
    """Groups of rows that are alike; between `fewest` and `most` of them are tried."""

    fewest: int = 2
    most: int = 10

    output: ClassVar[Output] = "cluster"
    supervised: ClassVar[bool] = False

    def check(self, y: np.ndarray, score: np.ndarray) -> None:
        if y.ndim != 2 or score.shape != (len(y),):
            raise TaskError(f"y has shape {y.shape}, score has shape {score.shape}: give n rows and n clusters")
        self._check(y, score)

    def _check(self, y: np.ndarray, score: np.ndarray) -> None:
        if not np.isfinite(y).all():
            raise TaskError("rows with NaN or infinity cannot be compared: impute them")
        if len(score) and score.min() < NOISE:
            raise TaskError(f"cluster {score.min()} does not exist: clusters are 0, 1, …, and {NOISE} for none")

    def labels(self, column: pl.Series) -> np.ndarray:
        raise TaskError("a clustering has no labels: remove label from the query, or declare another task")

    def losses(self, y: np.ndarray, score: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def answers(self, score: np.ndarray, threshold: float) -> dict[str, Any]:
        return {"prediction": score.astype(np.int64)}

    def stored(self, frame: pl.DataFrame) -> np.ndarray:
        return frame["prediction"].cast(int).to_numpy()

    def expectations(self) -> list[tuple[str, dict[str, Any]]]:
        return []

    def plots(self, y: np.ndarray, score: np.ndarray, threshold: float) -> dict[str, bytes]:
        raise NotImplementedError

    def evidently(self, threshold: float) -> tuple[Any, Sequence[Any]]:
        raise NotImplementedError


def task(clusters: Sequence[int] | None = None) -> Clustering:
    """The task of finding groups; `clusters` are the fewest and the most that are tried, by default 2 and 10."""
    fewest, most = clusters or (2, 10)
    if not 2 <= fewest <= most:
        raise TaskError(f"task.clusters [{fewest}, {most}]: give the fewest (2 or more) and the most, in order")
    return Clustering(kind="clustering", metrics=METRICS, default_metric="silhouette", fewest=fewest, most=most)
