"""A small neural network by scikit-learn, stopped by the validation rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import polars as pl

from ml_assets.development.candidates.base import PARITY_ROWS, Candidate, labels, sampled, told
from ml_assets.development.encoding import Encoder, Matrix
from ml_assets.development.model_files import FittedModel, limited, packed
from ml_assets.tasks import task

if TYPE_CHECKING:
    from sklearn.neural_network import MLPClassifier

Weights = list[np.ndarray]


@dataclass(frozen=True)
class Neural(Candidate):
    """A perceptron with hidden layers over the dense matrix, by Adam; keeps the epoch of least validation log-loss.

    scikit-learn's own early stopping would hold out random rows of the training months, which know nothing of drift;
    here the later rows of the validation split decide.
    """

    name: ClassVar[str] = "neural"
    least_rows: ClassVar[int] = 50

    layers: tuple[int, ...] = (64, 32)
    penalty: float = 0.01
    learning_rate: float = 0.001
    batch_rows: int = 1_024
    epochs: int = 25
    least_steps: int = 2_000
    patience: int = 3
    validation_rows: int = 30_000

    def fit(
        self, train: pl.DataFrame, validation: pl.DataFrame, *, encoder: Encoder, label: str, seed: int, threads: int
    ) -> FittedModel:
        matrix, y = encoder.dense(train), labels(train, label, both=True)
        watched = validation[sampled(validation.height, self.validation_rows, seed)]
        # One thread whatever is allowed: batches are small, and on two busy cores two of BLAS took ten times as long.
        with limited(1):
            network, kept = self._train(matrix, y, encoder.dense(watched), labels(watched, label), seed)
            like = matrix[sampled(len(matrix), PARITY_ROWS, seed)]
            reference = network.predict_proba(like)[:, 1]
        return packed(
            "onnx",
            encoder,
            network,
            like=like,
            reference=reference,
            parameters=told(self.defaults, epochs_kept=kept),
            notes=(f"kept the weights of epoch {kept}",),
            threads=threads,
        )

    def _train(
        self, matrix: Matrix, y: np.ndarray, watched: Matrix, watched_y: np.ndarray, seed: int
    ) -> tuple[MLPClassifier, int]:
        from sklearn.neural_network import MLPClassifier

        batch = min(self.batch_rows, max(16, len(y) // 20))
        network = MLPClassifier(
            self.layers, alpha=self.penalty, learning_rate_init=self.learning_rate, batch_size=batch, random_state=seed
        )
        losses: list[float] = []
        best: tuple[Weights, Weights] | None = None
        for _ in range(self._most_epochs(len(y), batch)):
            network.partial_fit(matrix, y, classes=np.array([0, 1]))
            losses.append(_log_loss(network, watched, watched_y))
            if losses[-1] <= min(losses):
                best = [layer.copy() for layer in network.coefs_], [layer.copy() for layer in network.intercepts_]
            if len(losses) - 1 - int(np.argmin(losses)) >= self.patience:
                break
        if best is not None:
            network.coefs_, network.intercepts_ = best
        return network, int(np.argmin(losses)) + 1

    def _most_epochs(self, rows: int, batch: int) -> int:
        """Return `epochs`, or more when the rows are so few that an epoch is a handful of steps."""
        return max(self.epochs, self.least_steps * batch // rows)


def _log_loss(network: MLPClassifier, matrix: Matrix, y: np.ndarray) -> float:
    """Return the log-loss on the watched rows; without rows it falls always, so all epochs run."""
    if not len(y):
        return -float(network.t_)
    score = network.predict_proba(matrix)[:, 1].astype(np.float64)
    return float(task("classification").metric("log_loss").compute(y, score, 0.5) or 0.0)
