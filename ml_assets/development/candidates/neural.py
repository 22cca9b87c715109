"""A small neural network by scikit-learn, stopped by the watched rows."""

from __future__ import annotations

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
    sampled,
    spread,
    suggest_log,
    target_of,
    told,
)
from ml_assets.development.encoding import Matrix
from ml_assets.development.links import Target
from ml_assets.development.model_files import limited, said

if TYPE_CHECKING:
    import optuna

Weights = tuple[list[np.ndarray], list[np.ndarray]]


@dataclass(frozen=True)
class Neural(Candidate):
    """A perceptron over the dense matrix, by Adam; keeps the epoch of least loss on the watched rows.

    The first of `depth` hidden layers has `width` units, each further one half as many. scikit-learn's own early stopping
    would hold out random rows of the training months, which know nothing of drift; here the watched rows decide.
    """

    name: ClassVar[str] = "neural"
    complexity: ClassVar[int] = 6
    least_rows: ClassVar[int] = 50
    search_rows: ClassVar[int] = 10_000
    watches: ClassVar[bool] = True

    width: int = 64
    depth: int = 2
    penalty: float = 0.01
    learning_rate: float = 0.001
    batch_rows: int = 1_024
    epochs: int = 25
    least_steps: int = 2_000
    patience: int = 3
    watched_rows: int = 30_000

    @property
    def layers(self) -> tuple[int, ...]:
        """Return the units of each hidden layer."""
        return tuple(max(2, self.width >> place) for place in range(self.depth))

    def space(self, trial: optuna.Trial, rows: Rows, how: Fitting) -> Candidate:
        return replace(
            self,
            log_target=suggest_log(trial, rows, how),
            width=trial.suggest_int("width", 16, 128, log=True),
            depth=trial.suggest_int("depth", 1, 3),
            penalty=trial.suggest_float("penalty", 1e-4, 10.0, log=True),
            learning_rate=trial.suggest_float("learning_rate", 3e-4, 1e-2, log=True),
        )

    def fit(self, train: Rows, watched: Rows | None, how: Fitting) -> Fitted:
        both_classes(train, how)
        y, target = target_of(train, how, log=self.log_target)
        seen = self._watched(watched or train, how)
        # One thread whatever is allowed: batches are small, and on two busy cores two of BLAS took ten times as long.
        with limited(1):
            network, kept = self._train(train.dense, y, seen if watched else None, target, how)
            links = centred(target, said(network, seen.dense), seen.y, how.metric)
        return Fitted(
            format="onnx",
            estimator=network,
            raw=lambda matrix: said(network, matrix),
            output=how.task.output,
            parameters=told(self.defaults, epochs_kept=kept),
            notes=(f"kept the weights of epoch {kept}",),
            links=(*links, *spread(getattr(network, "classes_", y), how)),
            size=kept,
            threads=how.threads,
        )

    def _watched(self, rows: Rows, how: Fitting) -> Rows:
        return rows.take(sampled(len(rows), self.watched_rows, how.seed))

    def _train(
        self, matrix: Matrix, y: np.ndarray, watched: Rows | None, target: tuple[Target, ...], how: Fitting
    ) -> tuple[Any, int]:
        network = self._network(len(y), how)
        first = {} if how.task.output == "value" else {"classes": np.unique(y)}
        losses: list[float] = []
        best: Weights | None = None
        for _ in range(how.size or self._most_epochs(len(y), network.batch_size)):
            network.partial_fit(matrix, y, **first)
            if watched is None:
                continue
            losses.append(_loss(network, watched, target))
            if losses[-1] <= min(losses):
                best = _copied(network)
            if len(losses) - 1 - int(np.argmin(losses)) >= self.patience:
                break
        if best is None:
            return network, how.size or self._most_epochs(len(y), network.batch_size)
        network.coefs_, network.intercepts_ = best
        return network, int(np.argmin(losses)) + 1

    def _network(self, rows: int, how: Fitting) -> Any:
        from sklearn.neural_network import MLPClassifier, MLPRegressor

        return (MLPRegressor if how.task.output == "value" else MLPClassifier)(
            hidden_layer_sizes=self.layers,
            alpha=self.penalty,
            learning_rate_init=self.learning_rate,
            batch_size=min(self.batch_rows, max(16, rows // 20)),
            random_state=how.seed,
        )

    def _most_epochs(self, rows: int, batch: int) -> int:
        """Return `epochs`, or more when the rows are so few that an epoch is a handful of steps."""
        return max(self.epochs, self.least_steps * batch // rows)


def _copied(network: Any) -> Weights:
    return [layer.copy() for layer in network.coefs_], [layer.copy() for layer in network.intercepts_]


def _loss(network: Any, watched: Rows, target: tuple[Target, ...]) -> float:
    """Return the mean loss on the watched rows: squared error of what is fitted, or log-loss over the known classes."""
    if target:
        return float(np.mean((said(network, watched.dense) - target[0].forward(watched.y)) ** 2))
    known = np.isin(watched.y, network.classes_)
    share = network.predict_proba(watched.dense)[known]
    own = share[np.arange(len(share)), np.searchsorted(network.classes_, watched.y[known])]
    return float(-np.log(np.clip(own, 1e-7, 1)).mean()) if len(own) else 0.0
