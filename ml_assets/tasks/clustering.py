"""Clustering: no labels. `y` is the matrix in which rows were compared, the score a row's cluster, -1 for none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ml_assets.tasks import clustering_plots
from ml_assets.tasks.base import Metric, Output, Task, TaskError
from ml_assets.tasks.grouping import NOISE, SAMPLE_ROWS, distances, grouped, silhouettes

if TYPE_CHECKING:
    import polars as pl

LEAST_VALUES = 2


def _silhouette(y: np.ndarray, score: np.ndarray, _: float) -> float | str:
    found = silhouettes(y, score)
    return found if isinstance(found, str) else float(np.mean(found.value))


def _davies_bouldin(y: np.ndarray, score: np.ndarray, _: float) -> float | str:
    from sklearn.metrics import davies_bouldin_score

    chosen = grouped(y, score)
    return chosen if isinstance(chosen, str) else float(davies_bouldin_score(*chosen))


def _calinski_harabasz(y: np.ndarray, score: np.ndarray, _: float) -> float | str:
    from sklearn.metrics import calinski_harabasz_score

    chosen = grouped(y, score)
    return chosen if isinstance(chosen, str) else float(calinski_harabasz_score(*chosen))


def _noise_share(y: np.ndarray, score: np.ndarray, _: float) -> float | str:
    return float(np.mean(score == NOISE))


def _smallest_share(y: np.ndarray, score: np.ndarray, _: float) -> float | str:
    rows = np.unique(score[score != NOISE], return_counts=True)[1]
    return float(rows.min() / len(score)) if len(rows) else "no row is in a cluster"


METRICS: tuple[Metric, ...] = (
    Metric(
        "silhouette",
        True,
        _silhouette,
        f"How much nearer rows are to their own cluster than to the next, -1 to 1; on at most {SAMPLE_ROWS:,} rows.",
        "mean (b - a) / max(a, b); Rousseeuw, J. Comput. Appl. Math. 20, 1987",
        cheap=False,
    ),
    Metric(
        "davies_bouldin",
        False,
        _davies_bouldin,
        "How wide clusters are for their distance from the most similar other one; 0 is best.",
        "mean over clusters of max (s_i + s_j) / d_ij; Davies & Bouldin, IEEE PAMI 1, 1979",
    ),
    Metric(
        "calinski_harabasz",
        True,
        _calinski_harabasz,
        "Spread between clusters over spread within; comparable on the same rows only.",
        "(B / (k - 1)) / (W / (n - k)); Calinski & Harabasz, Communications in Statistics 3, 1974",
    ),
    Metric(
        "noise_share",
        False,
        _noise_share,
        "Share of rows in no cluster. One cluster of everything has none: no choice should be made by it.",
        "rows with cluster -1 / rows; as in Ester et al., KDD 1996",
        declarable=False,
    ),
    Metric(
        "smallest_share",
        True,
        _smallest_share,
        "Share of rows in the smallest cluster; a sliver is no segment. Equal parts at random have the largest.",
        "min rows of a cluster / rows",
        declarable=False,
    ),
)


@dataclass(frozen=True)
class Clustering(Task):
    """Groups of rows that are alike; between `fewest` and `most` of them are tried."""

    fewest: int = 2
    most: int = 10

    output: ClassVar[Output] = "cluster"
    supervised: ClassVar[bool] = False

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "clusters": [self.fewest, self.most]}

    def check(self, y: np.ndarray, score: np.ndarray) -> None:
        if y.ndim != 2 or score.shape != (len(y),):
            raise TaskError(f"y has shape {y.shape}, score has shape {score.shape}: give n rows and n clusters")
        self._check(y, score)

    def _check(self, y: np.ndarray, score: np.ndarray) -> None:
        if score.dtype.kind not in "iu":
            raise TaskError(f"score is {score.dtype}: clusters are integers; cast them")
        if not np.isfinite(y).all():
            raise TaskError("rows with NaN or infinity cannot be compared: impute them")
        if len(score) and score.min() < NOISE:
            raise TaskError(f"cluster {score.min()} does not exist: clusters are 0, 1, …, and {NOISE} for none")

    def labels(self, column: pl.Series) -> np.ndarray:
        raise TaskError("a clustering has no labels: remove label from the query, or declare another task")

    def losses(self, y: np.ndarray, score: np.ndarray) -> np.ndarray:
        """Return how far each row is from its cluster's centroid (n,), or from the nearest when it is in none."""
        return distances(y, score)

    def answers(self, score: np.ndarray, threshold: float) -> dict[str, Any]:
        return {"prediction": score.astype(np.int64)}

    def stored(self, frame: pl.DataFrame) -> np.ndarray:
        return frame["prediction"].cast(int).to_numpy()

    def expectations(self) -> list[tuple[str, dict[str, Any]]]:
        return [("expect_column_values_to_be_between", {"column": "prediction", "min_value": NOISE})]

    def plots(self, y: np.ndarray, score: np.ndarray, threshold: float) -> dict[str, bytes]:
        return {
            "map": clustering_plots.map_plot(y, score),
            "silhouette": clustering_plots.silhouette_plot(y, score),
            "sizes": clustering_plots.size_plot(score),
        }

    def evidently_frame(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the prediction as text and every column of numbers, texts or booleans: Evidently shows those."""
        import polars as pl

        if "prediction" not in frame.columns:
            raise TaskError(f"the frame lacks 'prediction'; it has: {', '.join(frame.columns)}")
        number, text = [], ["prediction"]
        for name, dtype in frame.drop("prediction").schema.items():
            if dtype.is_numeric():
                number.append(name)
            elif dtype in (pl.String, pl.Categorical, pl.Enum, pl.Boolean):
                text.append(name)
        values = pl.col(number).cast(pl.Float64)
        return frame.select(pl.col(text).cast(pl.String), pl.when(values.is_finite()).then(values))

    def evidently(self, threshold: float, frames: Sequence[pl.DataFrame] = ()) -> tuple[Any, Sequence[Any]]:
        """There is no preset for clusters: a summary of the columns, and their drift when there is a reference."""
        from evidently import DataDefinition
        from evidently.presets import DataDriftPreset, DataSummaryPreset

        if not frames:
            return DataDefinition(), [DataSummaryPreset()]
        shown = [name for name in frames[0].columns if all(_shows(frame, name) for frame in frames)]
        numbers = [name for name in shown if frames[0][name].dtype.is_numeric()]
        definition = DataDefinition(
            numerical_columns=numbers, categorical_columns=[name for name in shown if name not in numbers]
        )
        presets: list[Any] = [DataSummaryPreset(columns=shown)]
        return definition, [*presets, DataDriftPreset(columns=shown)] if len(frames) > 1 else presets


def _shows(frame: pl.DataFrame, name: str) -> bool:
    """Evidently fails on a column that is missing, or has hardly a value."""
    return name in frame.columns and frame[name].len() - frame[name].null_count() >= LEAST_VALUES


def task(clusters: Sequence[int] | None = None) -> Clustering:
    """The task of finding groups; `clusters` are the fewest and the most that are tried, by default 2 and 10."""
    fewest, most = clusters or (2, 10)
    if not 2 <= fewest <= most:
        raise TaskError(f"task.clusters [{fewest}, {most}]: give the fewest (2 or more) and the most, in order")
    return Clustering(kind="clustering", metrics=METRICS, default_metric="silhouette", fewest=fewest, most=most)
