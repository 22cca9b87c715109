"""Calibration: whether probabilities mean what they say, and links that make them, applied only where they help."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ml_assets.development.folds import pooled
from ml_assets.development.links import Isotonic, Link, Logistic, Temperature
from ml_assets.tasks import Task

FOLDS = 5
LEAST_ROWS = 100
LEAST_ISOTONIC_ROWS = 1_000
"""Below about a thousand rows isotonic regression overfits (Niculescu-Mizil & Caruana, ICML 2005)."""
TINY = 1e-12

Fit = Callable[[np.ndarray, np.ndarray], Link]


@dataclass(frozen=True)
class Calibration:
    """The links to apply (none when nothing helps), why, and the cross-fitted log-loss of every way that was tried."""

    links: tuple[Link, ...]
    reason: str
    log_loss: dict[str, float]


def calibrate(task: Task, y: np.ndarray, score: np.ndarray, *, seed: int) -> Calibration:
    """Return the way of calibration that helps on rows that the model was not fitted on, or none.

    Each way is fitted on four fifths of the rows and measured on the rest, in turn. It is applied when the mean log-loss
    falls by more than one standard error of the paired differences; of several, the one of least log-loss.
    """
    ways = _ways(task, y)
    if not ways:
        return Calibration((), _why_none(task, y), {})
    before = _losses(y, score)
    losses = {name: _cross_fitted(fit, y, score, seed) for name, fit in ways.items()}
    told = {"as it is": float(before.mean())} | {name: float(one.mean()) for name, one in losses.items()}
    best = min(losses, key=lambda name: losses[name].mean())
    gain = before - losses[best]
    error = float(gain.std() / np.sqrt(len(gain)))
    words = f"log-loss {before.mean():.4f} as it is, {losses[best].mean():.4f} with {best} (standard error {error:.4f})"
    if gain.mean() <= error:
        return Calibration((), f"not applied: {words}", told)
    return Calibration((ways[best](y, score),), f"{best} applied: {words}", told)


def _why_none(task: Task, y: np.ndarray) -> str:
    if task.output not in ("probability", "probabilities"):
        return "not applicable: the answers are no probabilities"
    if len(y) < LEAST_ROWS:
        return f"not applicable: {len(y)} rows are fewer than {LEAST_ROWS}"
    return f"not applicable: of each class there should be {FOLDS} rows"


def _ways(task: Task, y: np.ndarray) -> dict[str, Fit]:
    counts = np.unique(y, return_counts=True)[1] if task.supervised else np.empty(0)
    if len(y) < LEAST_ROWS or len(counts) < 2:
        return {}
    if task.output == "probabilities":
        return {"temperature": _temperature}
    if task.output != "probability" or counts.min() < FOLDS:
        return {}
    return {"logistic": _logistic} | ({"isotonic": _isotonic} if len(y) >= LEAST_ISOTONIC_ROWS else {})


def _cross_fitted(fit: Fit, y: np.ndarray, score: np.ndarray, seed: int) -> np.ndarray:
    """Return each row's log-loss under a link that was fitted on other rows."""
    from sklearn.model_selection import StratifiedKFold

    losses = np.empty(len(y))
    for inside, outside in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(score, pooled(y, FOLDS)):
        losses[outside] = _losses(y[outside], fit(y[inside], score[inside]).apply(score[outside]))
    return losses


def _losses(y: np.ndarray, score: np.ndarray) -> np.ndarray:
    right = np.where(y == 1, score, 1 - score) if score.ndim == 1 else score[np.arange(len(y)), y]
    return -np.log(np.clip(right, TINY, 1))


def _logistic(y: np.ndarray, score: np.ndarray) -> Link:
    from sklearn.linear_model import LogisticRegression

    inside = np.clip(score, TINY, 1 - TINY)
    curve = LogisticRegression(C=1e6).fit(np.log(inside / (1 - inside)).reshape(-1, 1), y)
    return Logistic(float(curve.coef_[0, 0]), float(curve.intercept_[0]))


def _isotonic(y: np.ndarray, score: np.ndarray) -> Link:
    from sklearn.isotonic import IsotonicRegression

    rising = IsotonicRegression(y_min=0, y_max=1).fit(score, y)
    # A probability of exactly 0 or 1 would make one surprise infinitely wrong.
    low = 1 / (len(y) + 2)
    return Isotonic(_floats(rising.X_thresholds_), _floats(np.clip(rising.y_thresholds_, low, 1 - low)))


def _temperature(y: np.ndarray, score: np.ndarray) -> Link:
    from scipy.optimize import minimize_scalar

    def loss(logarithm: float) -> float:
        return float(_losses(y, Temperature(float(np.exp(logarithm))).apply(score)).mean())

    found = minimize_scalar(loss, bounds=(-2.5, 2.5), method="bounded")
    return Temperature(float(np.exp(found.x)))


def _floats(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
