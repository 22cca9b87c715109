"""The plots of a yes-or-no classification: labels 0 and 1 (n,), scores in [0, 1] (n,); each returns a PNG."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ml_assets.tasks import drawing
from ml_assets.tasks.counting import calibration_bins, confusion, curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMES = ("negative", "positive")


def roc_plot(y: np.ndarray, score: np.ndarray, *, threshold: float | None = None, title: str = "ROC") -> bytes:
    """True positive rate over false positive rate; a dot marks the threshold. Needs both classes, else it says so."""
    if not _both_classes(y):
        return drawing.sorry(title, "needs rows of both classes")
    _thresholds, tp, fp = curve(y, score)
    canvas, axes = drawing.figure(title, "false positive rate", "true positive rate")
    axes.plot([0, 1], [0, 1], label="chance", **drawing.DASHED)
    drawing.line(axes, np.append(0, fp / fp[-1]), np.append(0, tp / tp[-1]), "model")
    if threshold is not None:
        counts = confusion(y, score, threshold)
        _dot(axes, counts.fp / fp[-1], counts.tp / tp[-1], threshold)
    drawing.unit_square(axes)
    drawing.legend(axes, "lower right")
    return drawing.png(canvas)


def pr_plot(
    y: np.ndarray, score: np.ndarray, *, threshold: float | None = None, title: str = "Precision and recall"
) -> bytes:
    """Precision over recall; the dashed line is the share of positives. Needs both classes, else it says so."""
    if not _both_classes(y):
        return drawing.sorry(title, "needs rows of both classes")
    _thresholds, tp, fp = curve(y, score)
    canvas, axes = drawing.figure(title, "recall", "precision")
    axes.axhline(tp[-1] / len(y), label="chance", **drawing.DASHED)
    drawing.line(axes, tp / tp[-1], tp / (tp + fp), "model")
    if threshold is not None:
        counts = confusion(y, score, threshold)
        if counts.tp + counts.fp:
            _dot(axes, counts.tp / tp[-1], counts.tp / (counts.tp + counts.fp), threshold)
    drawing.unit_square(axes)
    drawing.legend(axes, "upper right")
    return drawing.png(canvas)


def calibration_plot(
    y: np.ndarray, score: np.ndarray, *, title: str = "Calibration", share: str = "share of positives"
) -> bytes:
    """Share of positives over mean score, in ten bins of equal mass; on the diagonal, a score means what it says."""
    if len(y) == 0:
        return drawing.sorry(title, "no rows")
    bins = calibration_bins(y, score)
    canvas, axes = drawing.figure(title, "mean score of the bin", share)
    top = min(1.02, 1.08 * max(bins.mean_score.max(), bins.positive_share.max(), 0.05))
    axes.plot([0, top], [0, top], label="perfect", **drawing.DASHED)
    axes.plot(bins.mean_score, bins.positive_share, label="model", **drawing.DOTTED)
    axes.set(xlim=(0, top), ylim=(0, top))
    drawing.legend(axes, "upper left")
    return drawing.png(canvas)


def confusion_plot(y: np.ndarray, score: np.ndarray, *, threshold: float, title: str = "Confusion") -> bytes:
    """Rows by label and decision at the threshold: counts, and shares of the label's rows."""
    if len(y) == 0:
        return drawing.sorry(title, "no rows")
    counts = confusion(y, score, threshold)
    table = np.array([[counts.tn, counts.fp], [counts.fn, counts.tp]])
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    canvas, axes = drawing.figure(f"{title} at threshold {threshold:.3g}", "predicted", "label")
    drawing.squares(axes, shares, NAMES, [[f"{table[i, j]:,}\n{shares[i, j]:.1%}" for j in (0, 1)] for i in (0, 1)])
    return drawing.png(canvas)


def _both_classes(y: np.ndarray) -> bool:
    return len(y) > 0 and y.min() != y.max()


def _dot(axes: Axes, x: float, y: float, threshold: float) -> None:
    label = f"threshold {threshold:.3g}"
    axes.plot([x], [y], "o", color=drawing.ORANGE, markersize=7, label=label, clip_on=False)
