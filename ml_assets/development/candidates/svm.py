"""Support vector machine: exact for small data, a kernel approximation for large."""

from __future__ import annotations

from collections.abc import Callable
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
from ml_assets.development.links import Link, Platt, PlattEach
from ml_assets.development.model_files import Scores, decisions, limited

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Svm(Candidate):
    """A machine with the RBF kernel over the dense matrix; its decisions become probabilities by Platt's method (1999).

    Up to `exact_rows` rows: the exact machine, calibrated on out-of-fold decisions. Above, where the exact one's time
    grows with the square of the rows: Nystroem's approximation (Williams & Seeger 2000) and a linear machine on a
    seeded sample, calibrated on training rows outside of it. The model's notes say which was chosen.

    `cost` is C of the exact machine; the linear one takes `linear_share` of it. `width` multiplies the usual gamma, 1 /
    (columns x variance). `tube` is epsilon, in deviations of the outcome.
    """

    name: ClassVar[str] = "svm"
    complexity: ClassVar[int] = 5
    least_rows: ClassVar[int] = 20
    search_rows: ClassVar[int] = 4_000

    cost: float = 1.0
    width: float = 1.0
    tube: float = 0.1
    exact_rows: int = 5_000
    sample_rows: int = 20_000
    calibration_rows: int = 10_000
    components: int = 300
    linear_share: float = 0.1
    folds: int = 3

    def space(self, trial: optuna.Trial, rows: Rows, how: Fitting) -> Candidate:
        return replace(
            self,
            log_target=suggest_log(trial, rows, how),
            cost=trial.suggest_float("cost", 0.1, 30.0, log=True),
            width=trial.suggest_float("width", 0.05, 5.0, log=True),
        )

    def fit(self, train: Rows, watched: Rows | None, how: Fitting) -> Fitted:
        both_classes(train, how)
        y, target = target_of(train, how, log=self.log_target)
        with limited(how.threads):
            machine, found, note = (self._numbers if target else self._classes)(train.dense, y, how.seed)
            links = (*found, *self._centred(target, machine, watched or train, how))
        return Fitted(
            format="skops",
            estimator=machine,
            raw=_bounded(machine, how.threads),
            output=how.task.output,
            parameters=told(self.defaults, chosen=note.partition(":")[0]),
            notes=(note,),
            links=(*links, *spread(np.unique(y), how)),
            threads=how.threads,
        )

    def _centred(self, target: tuple[Link, ...], machine: Any, seen: Rows, how: Fitting) -> tuple[Link, ...]:
        if not self.log_target:
            return target
        few = seen.take(sampled(len(seen), self.calibration_rows, how.seed))
        return centred(target, decisions(machine, few.dense), few.y, how.metric)

    def _numbers(self, matrix: Matrix, y: np.ndarray, seed: int) -> tuple[Any, tuple[Link, ...], str]:
        from sklearn.svm import SVR, LinearSVR

        if len(y) <= self.exact_rows:
            machine = SVR(C=self.cost, gamma=self._gamma(matrix), epsilon=self.tube, cache_size=500)
            return machine.fit(matrix, y), (), f"exact: {len(y)} rows are at most {self.exact_rows}"
        inside = sampled(len(y), self.sample_rows, seed)
        linear = LinearSVR(
            C=self.cost * self.linear_share,
            epsilon=self.tube,
            loss="squared_epsilon_insensitive",
            dual=False,
            random_state=seed,
        )
        machine = self._approximate(matrix[inside], y[inside], linear, seed)
        return machine, (), self._chosen(len(y), len(inside))

    def _classes(self, matrix: Matrix, y: np.ndarray, seed: int) -> tuple[Any, tuple[Link, ...], str]:
        if len(y) <= self.exact_rows:
            return self._exact_classes(matrix, y, seed)
        from sklearn.svm import LinearSVC

        inside, outside = self._parts(y, seed)
        linear = LinearSVC(C=self.cost * self.linear_share, dual=False, random_state=seed)
        machine = self._approximate(matrix[inside], y[inside], linear, seed)
        found = _platt(decisions(machine, matrix[outside]), y[outside], machine.classes_)
        return machine, (found,), f"{self._chosen(len(y), len(inside))}, calibrated on {len(outside)} others"

    def _exact_classes(self, matrix: Matrix, y: np.ndarray, seed: int) -> tuple[Any, tuple[Link, ...], str]:
        from sklearn.svm import SVC

        def machine() -> Any:
            return SVC(C=self.cost, gamma=self._gamma(matrix), cache_size=500)

        whole = machine().fit(matrix, y)
        common, folds = _common(y, self.folds)
        if not folds:
            found = _platt(decisions(whole, matrix), y, whole.classes_)
            return whole, (found,), "exact: calibrated on its own rows, as classes have only one row"
        said = _out_of_fold(machine, matrix, y, common, folds, seed)
        note = f"exact: {len(y)} rows are at most {self.exact_rows}; calibrated on {folds}-fold out-of-fold decisions"
        return whole, (_platt(said, y[common], whole.classes_),), note

    def _approximate(self, matrix: Matrix, y: np.ndarray, linear: Any, seed: int) -> Any:
        from sklearn.kernel_approximation import Nystroem
        from sklearn.pipeline import Pipeline

        kernel = Nystroem(gamma=self._gamma(matrix), n_components=min(self.components, len(matrix)), random_state=seed)
        return Pipeline([("kernel", kernel), ("linear", linear)]).fit(matrix, y)

    def _chosen(self, rows: int, inside: int) -> str:
        return (
            f"approximate: {rows} rows are more than {self.exact_rows}; Nystroem, {min(self.components, inside)} "
            f"components, and a linear machine on {inside} sampled rows"
        )

    def _gamma(self, matrix: Matrix) -> float:
        return self.width / (matrix.shape[1] * (float(matrix.var()) or 1.0))

    def _parts(self, y: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw disjoint sorted indices for fitting and for calibrating: the first rows of each class go to fitting."""
        order = np.random.default_rng(seed).permutation(len(y))
        share = min(self.sample_rows / len(y), 0.8)
        places = np.empty(len(y), dtype=np.int64)
        for known in np.unique(y):
            own = order[y[order] == known]
            places[own] = np.arange(len(own)) >= max(1, round(share * len(own)))
        inside, outside = order[places[order] == 0], order[places[order] == 1]
        return np.sort(inside), np.sort(outside[: self.calibration_rows])


def _bounded(machine: Any, threads: int) -> Callable[[Matrix], Scores]:
    def raw(matrix: Matrix) -> Scores:
        with limited(threads):
            return decisions(machine, matrix)

    return raw


def _common(y: np.ndarray, folds: int) -> tuple[np.ndarray, int]:
    """Return the rows of classes with two rows or more, and in how many folds they go; 0 when that leaves one class."""
    counts = np.bincount(y)
    usual = np.flatnonzero(counts >= 2)
    return np.flatnonzero(counts[y] >= 2), min(folds, int(counts[usual].min())) if len(usual) > 1 else 0


def _out_of_fold(
    machine: Callable[[], Any], matrix: Matrix, y: np.ndarray, common: np.ndarray, folds: int, seed: int
) -> Scores:
    """Return decisions for the rows `common` by machines that were not fitted on them; all others are in every fit."""
    from sklearn.model_selection import StratifiedKFold

    said: dict[int, Any] = {}
    for _, left in StratifiedKFold(folds, shuffle=True, random_state=seed).split(common, y[common]):
        out = common[left]
        inside = np.setdiff1d(np.arange(len(y)), out)
        said |= dict(zip(out, decisions(machine().fit(matrix[inside], y[inside]), matrix[out]), strict=True))
    return np.array([said[row] for row in common])


def _platt(said: Scores, y: np.ndarray, classes: np.ndarray) -> Link:
    """Return the curves through decisions (n,) or (n, k) and labels: one against the rest each."""
    if said.ndim == 1:
        return Platt(*_curve(said, y == classes[-1]))
    curves = [_curve(said[:, place], y == known) for place, known in enumerate(classes)]
    return PlattEach(tuple(slope for slope, _ in curves), tuple(offset for _, offset in curves))


def _curve(said: Scores, positive: np.ndarray) -> tuple[float, float]:
    """Return slope and offset of the logistic curve; without both outcomes a flat one at about the share."""
    from sklearn.linear_model import LogisticRegression

    if positive.all() or not positive.any():
        share = (positive.sum() + 0.5) / (len(positive) + 1)
        return 0.0, float(np.log(share / (1 - share)))
    curve = LogisticRegression().fit(np.asarray(said, dtype=np.float64).reshape(-1, 1), positive)
    return float(curve.coef_[0, 0]), float(curve.intercept_[0])
