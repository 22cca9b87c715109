"""Gaussian mixture: clusters as ellipsoids of their own size and direction."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ml_assets.development.candidates.base import Candidate, Fitted, Fitting, Rows, told
from ml_assets.development.clusters import CHOICE_ROWS, Arrays, best_of, by_size, clustered, numbers, some
from ml_assets.development.encoding import Matrix
from ml_assets.development.model_files import limited
from ml_assets.tasks.base import Output


@dataclass(frozen=True)
class GaussianMixture(Candidate):
    """Normal densities fitted by EM (scikit-learn), over the dense matrix; a row belongs to the most likely one.

    With `clusters` 0 every number that the task declares is tried, and the one of the best metric is kept: by the Bayesian
    information criterion alone, one-hot columns, which are not normal, would always ask for more. For each number that
    criterion chooses between full and diagonal covariances (Fraley & Raftery 2002); above `full_columns` columns, or
    with less than `full_rows` rows for a column of a cluster, only diagonal ones are fitted. `ridge` is added to each variance.
    """

    name: ClassVar[str] = "gaussian_mixture"
    complexity: ClassVar[int] = 2
    outputs: ClassVar[frozenset[Output]] = frozenset({"cluster"})
    least_rows: ClassVar[int] = 20

    clusters: int = 0
    ridge: float = 1e-2
    full_columns: int = 40
    full_rows: int = 5
    steps: int = 50
    most_rows: int = 10_000

    def fit(self, train: Rows, watched: Rows | None, how: Fitting) -> Fitted:
        matrix = some(train.dense, self.most_rows, how).astype(np.float64)
        few = some(matrix, CHOICE_ROWS, how)
        with limited(how.threads):
            tried = numbers(self.clusters, matrix, how)
            choice = best_of(tried, lambda number: self._mixture(few, number, how), few, how)
            arrays = self._mixture(matrix, choice.setting, how)
        covariances = "full" if arrays["precisions"].ndim == 3 else "diagonal"
        note = f"{choice.setting} clusters with {covariances} covariances"
        parameters = told(self.defaults, clusters=choice.setting, covariances=covariances)
        return clustered(arrays, choice, parameters, note, how)

    def _mixture(self, matrix: Matrix, number: int, how: Fitting) -> Arrays:
        kinds = ("diag", "full") if self._may_be_full(matrix, number) else ("diag",)
        machine = min((self._fitted(matrix, number, kind, how) for kind in kinds), key=lambda one: one.bic(matrix))
        order = by_size(machine.predict(matrix))
        # A component that no row is most likely of keeps its place at the end, so that the densities stay as fitted.
        order = np.concatenate([order, np.setdiff1d(np.arange(number), order)])
        return {
            "kind": np.array("mixture"),
            "means": machine.means_[order],
            "precisions": machine.precisions_cholesky_[order],
            "log_weights": np.log(machine.weights_[order]),
        }

    def _may_be_full(self, matrix: Matrix, number: int) -> bool:
        rows, columns = matrix.shape
        return columns <= self.full_columns and rows >= self.full_rows * columns * number

    def _fitted(self, matrix: Matrix, number: int, kind: str, how: Fitting) -> Any:
        from sklearn import mixture
        from sklearn.exceptions import ConvergenceWarning

        machine = mixture.GaussianMixture(
            number, covariance_type=kind, reg_covar=self.ridge, max_iter=self.steps, tol=1e-2, random_state=how.seed
        )
        with warnings.catch_warnings():
            # The last steps move few rows, and the metric judges what came out.
            warnings.simplefilter("ignore", ConvergenceWarning)
            return machine.fit(matrix)
