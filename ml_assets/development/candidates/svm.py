"""Support vector machine: exact for small data, a kernel approximation for large."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import polars as pl

from ml_assets.development.candidates.base import PARITY_ROWS, Candidate, labels, sampled, told
from ml_assets.development.encoding import Encoder
from ml_assets.development.model_files import FittedModel, limited, packed, platt


@dataclass(frozen=True)
class Svm(Candidate):
    """A machine with the RBF kernel over the dense matrix, calibrated to probabilities by Platt's method (1999).

    Up to `exact_rows` rows: the exact machine, calibrated on out-of-fold decisions. Above, where the exact one's time
    grows with the square of the rows: Nystroem's approximation (Williams & Seeger 2000) and a linear machine on a
    seeded sample, calibrated on training rows outside of it. The model's notes say which was chosen.
    """

    name: ClassVar[str] = "svm"
    least_rows: ClassVar[int] = 20

    exact_rows: int = 5_000
    exact_penalty: float = 1.0
    sample_rows: int = 40_000
    calibration_rows: int = 20_000
    components: int = 300
    linear_penalty: float = 0.1
    folds: int = 3

    def fit(
        self, train: pl.DataFrame, validation: pl.DataFrame, *, encoder: Encoder, label: str, seed: int, threads: int
    ) -> FittedModel:
        y, matrix = labels(train, label, both=True), encoder.dense(train)
        with limited(threads):
            fitted = (
                self._exact(matrix, y, seed) if train.height <= self.exact_rows else self._approximate(matrix, y, seed)
            )
            machine, (slope, offset), chosen = fitted
            like = matrix[sampled(len(matrix), PARITY_ROWS, seed)]
            reference = platt(machine.decision_function(like), slope, offset)
        return packed(
            "skops",
            encoder,
            machine,
            like=like,
            reference=reference,
            parameters=told(self.defaults, chosen=chosen.split(":")[0]),
            notes=(chosen,),
            detail={"slope": slope, "offset": offset},
            threads=threads,
        )

    def _exact(self, matrix: np.ndarray, y: np.ndarray, seed: int) -> tuple[Any, tuple[float, float], str]:
        from sklearn.model_selection import StratifiedKFold, cross_val_predict
        from sklearn.svm import SVC

        machine = SVC(C=self.exact_penalty)
        folds = min(self.folds, int(np.bincount(y).min()))
        chosen = f"exact: {len(y)} rows are at most {self.exact_rows}; calibrated on {folds}-fold out-of-fold decisions"
        if folds < 2:
            fitted = machine.fit(matrix, y)
            return (
                fitted,
                _platt(fitted.decision_function(matrix), y),
                "exact: calibrated on its own rows, a class has only one",
            )
        split = StratifiedKFold(folds, shuffle=True, random_state=seed)
        decisions = cross_val_predict(machine, matrix, y, cv=split, method="decision_function")
        return machine.fit(matrix, y), _platt(decisions, y), chosen

    def _approximate(self, matrix: np.ndarray, y: np.ndarray, seed: int) -> tuple[Any, tuple[float, float], str]:
        from sklearn.kernel_approximation import Nystroem
        from sklearn.pipeline import Pipeline
        from sklearn.svm import LinearSVC

        inside, outside = self._parts(y, seed)
        kernel = Nystroem(n_components=min(self.components, len(inside)), random_state=seed)
        linear = LinearSVC(C=self.linear_penalty, dual=False, random_state=seed)
        machine = Pipeline([("kernel", kernel), ("linear", linear)]).fit(matrix[inside], y[inside])
        chosen = (
            f"approximate: {len(y)} rows are more than {self.exact_rows}; Nystroem, {kernel.n_components} components, "
            f"and a linear machine on {len(inside)} sampled rows, calibrated on {len(outside)} others"
        )
        return machine, _platt(machine.decision_function(matrix[outside]), y[outside]), chosen

    def _parts(self, y: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw disjoint sorted indices for fitting and for calibrating, each with the classes in their true shares."""
        from sklearn.model_selection import train_test_split

        fitting = min(self.sample_rows, int(0.8 * len(y)))
        calibrating = min(self.calibration_rows, len(y) - fitting)
        parts = train_test_split(
            np.arange(len(y)), train_size=fitting, test_size=calibrating, random_state=seed, stratify=y
        )
        return np.sort(parts[0]), np.sort(parts[1])


def _platt(decisions: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Return slope and offset of the logistic curve through decisions and labels."""
    from sklearn.linear_model import LogisticRegression

    curve = LogisticRegression().fit(np.asarray(decisions, dtype=np.float64).reshape(-1, 1), y)
    return float(curve.coef_[0, 0]), float(curve.intercept_[0])
