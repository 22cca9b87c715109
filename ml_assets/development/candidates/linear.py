"""Linear models: logistic regression for classes, ridge regression for numbers."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ml_assets.development.candidates.base import (
    Candidate,
    Fitted,
    Fitting,
    Rows,
    both_classes,
    centred,
    spread,
    suggest_log,
    target_of,
    told,
)
from ml_assets.development.encoding import Matrix
from ml_assets.development.model_files import limited, said

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Linear(Candidate):
    """A weight for each column of the dense matrix, drawn to 0 by `penalty`, by scikit-learn.

    `penalty` counts as rows do: a weight of 1 costs as much as `penalty` rows that each lose 1/2. For a metric of a quantile
    the mean is still what is fitted: scikit-learn's quantile regression took 40 s for 5,000 rows. The logarithm of the
    outcome comes near the median of one that leans to the right.
    """

    name: ClassVar[str] = "linear"
    complexity: ClassVar[int] = 2
    least_rows: ClassVar[int] = 10

    penalty: float = 1.0
    steps: int = 200

    def space(self, trial: optuna.Trial, rows: Rows, how: Fitting) -> Candidate:
        return replace(
            self,
            log_target=suggest_log(trial, rows, how),
            penalty=trial.suggest_float("penalty", 1e-2, 1e4, log=True),
        )

    def fit(self, train: Rows, watched: Rows | None, how: Fitting) -> Fitted:
        both_classes(train, how)
        y, target = target_of(train, how, log=self.log_target)
        with limited(how.threads):
            model = self._numbers(train.dense, y) if how.task.output == "value" else self._classes(train.dense, y)
            seen = watched or train
            links = centred(target, said(model, seen.dense), seen.y, how.metric)
        return Fitted(
            format="onnx",
            estimator=model,
            raw=lambda matrix: said(model, matrix),
            output=how.task.output,
            parameters=told(self.defaults),
            links=(*links, *spread(getattr(model, "classes_", y), how)),
            threads=how.threads,
        )

    def _classes(self, matrix: Matrix, y: np.ndarray) -> Any:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        with warnings.catch_warnings():
            # The last steps move no score that matters, and the watched rows judge what came out.
            warnings.simplefilter("ignore", ConvergenceWarning)
            return LogisticRegression(C=1 / self.penalty, max_iter=self.steps, tol=1e-3).fit(matrix, y)

    def _numbers(self, matrix: Matrix, y: np.ndarray) -> Any:
        from sklearn.linear_model import Ridge

        # In float64: with float32, columns that nearly depend on each other cost digits.
        return Ridge(alpha=self.penalty).fit(matrix.astype(np.float64), y)
