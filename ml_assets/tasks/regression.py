"""Regression: labels and scores are finite numbers in the unit of the outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ml_assets.tasks import regression_plots
from ml_assets.tasks.base import Metric, MetricFunction, Output, Task, TaskError, known_rows

if TYPE_CHECKING:
    import polars as pl


def _mae(y: np.ndarray, score: np.ndarray, _: float) -> float | str:
    return float(np.mean(np.abs(score - y)))


def _mse(y: np.ndarray, score: np.ndarray, _: float) -> float | str:
    return float(np.mean((score - y) ** 2))


def _rmse(y: np.ndarray, score: np.ndarray, _: float) -> float | str:
    return float(np.sqrt(np.mean((score - y) ** 2)))


def _r2(y: np.ndarray, score: np.ndarray, _: float) -> float | str:
    spread = np.sum((y - np.mean(y)) ** 2)
    if y.min() == y.max() or spread == 0:
        return f"every label is {y[0]:g}: there is no spread to explain"
    return float(1 - np.sum((score - y) ** 2) / spread)


def _mape(y: np.ndarray, score: np.ndarray, _: float) -> float | str:
    zeros = int(np.count_nonzero(y == 0))
    if zeros:
        return f"the label is 0 in {zeros:,} rows: no error is a share of nothing"
    return float(np.mean(np.abs((score - y) / y)))


def _median_ae(y: np.ndarray, score: np.ndarray, _: float) -> float | str:
    return float(np.median(np.abs(score - y)))


def _bias(y: np.ndarray, score: np.ndarray, _: float) -> float | str:
    return float(np.mean(score - y))


def _rmsle(y: np.ndarray, score: np.ndarray, _: float) -> float | str:
    for name, values in (("label", y), ("score", score)):
        if values.min() <= -1:
            return f"{name} {values.min():g} is -1 or less, and has no logarithm of 1 + it"
    return float(np.sqrt(np.mean((np.log1p(score) - np.log1p(y)) ** 2)))


def _pinball(quantile: float) -> MetricFunction:
    def loss(y: np.ndarray, score: np.ndarray, _: float) -> float | str:
        below = y - score
        return float(np.mean(np.maximum(quantile * below, (quantile - 1) * below)))

    return loss


def _pinballs() -> list[Metric]:
    source = "mean max(q (y - p), (q - 1) (y - p)); Koenker & Bassett, Econometrica 46, 1978"
    what = "Pinball loss of the prediction, were it the {}% quantile: too low costs {}, too high {} of the error."
    return [
        Metric(f"pinball_{q}", False, _pinball(q / 100), what.format(q, q / 100, 1 - q / 100), source, quantile=q / 100)
        for q in (10, 50, 90)
    ]


METRICS: tuple[Metric, ...] = (
    Metric("mae", False, _mae, "Mean absolute error, in the outcome's unit.", "mean |p - y|", quantile=0.5),
    Metric("mse", False, _mse, "Mean squared error, in the outcome's unit squared.", "mean (p - y)^2; Gauss, 1821"),
    Metric("rmse", False, _rmse, "Root of the mean squared error, in the outcome's unit.", "sqrt(mean (p - y)^2)"),
    Metric(
        "r2",
        True,
        _r2,
        "Share of the labels' variance that is explained; 0 is the mean of these rows, below 0 is worse.",
        "1 - sum (p - y)^2 / sum (y - mean y)^2; Kvalseth, The American Statistician 39, 1985, no. 1",
    ),
    Metric(
        "mape",
        False,
        _mape,
        "Mean absolute error as a share of the label.",
        "mean |(p - y) / y|; as a share, not in %",
        quantile=0.5,
    ),
    Metric(
        "median_ae",
        False,
        _median_ae,
        "Half of the rows are off by less, in the outcome's unit.",
        "median |p - y|",
        quantile=0.5,
    ),
    *_pinballs(),
    Metric(
        "rmsle",
        False,
        _rmsle,
        "Root of the mean squared error of logarithms: near to relative errors, for skewed outcomes above -1.",
        "sqrt(mean (ln(1 + p) - ln(1 + y))^2)",
        quantile=0.5,
    ),
    Metric(
        "bias",
        False,
        _bias,
        "Mean error, in the outcome's unit; above 0, predictions are too high. Neither direction is better.",
        "mean (p - y)",
        declarable=False,
    ),
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

    def describe(self, y: np.ndarray) -> str:
        if not len(y):
            return "no rows"
        low, middle, high = np.quantile(y, [0.05, 0.5, 0.95])
        return f"median {middle:.4g}, mean {np.mean(y):.4g}, 90% between {low:.4g} and {high:.4g}"

    def plots(self, y: np.ndarray, score: np.ndarray, threshold: float) -> dict[str, bytes]:
        return {
            "predicted over true": regression_plots.predicted_plot(y, score),
            "error over predicted": regression_plots.error_plot(y, score),
            "errors": regression_plots.histogram(y, score),
            "error quantiles": regression_plots.quantile_plot(y, score),
        }

    def evidently_frame(self, frame: pl.DataFrame) -> pl.DataFrame:
        import polars as pl

        return known_rows(frame, ("label", "prediction")).cast(pl.Float64)

    def evidently(self, threshold: float, frames: Sequence[pl.DataFrame] = ()) -> tuple[Any, Sequence[Any]]:
        from evidently import DataDefinition
        from evidently import Regression as Columns
        from evidently.presets import RegressionPreset

        columns = Columns(target="label", prediction="prediction")
        definition = DataDefinition(regression=[columns], numerical_columns=["label", "prediction"])
        return definition, [RegressionPreset()]


TASK = Regression(kind="regression", metrics=METRICS, default_metric="rmse")
