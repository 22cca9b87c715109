"""The plots of a classification into several classes: codes (n,), probabilities (n, classes); each returns a PNG."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ml_assets.tasks import classification_plots, drawing
from ml_assets.tasks.counting import crosstab, curve, ratio, tally

MATRIX_CLASSES = 20
WRITTEN_CLASSES = 12
CURVES = 8


def confusion_plot(y: np.ndarray, score: np.ndarray, *, classes: Sequence[str], title: str = "Confusion") -> bytes:
    """Shares of each label's rows by answer; of more than 20 classes, the 20 that are found least."""
    if len(y) == 0:
        return drawing.sorry(title, "no rows")
    table = crosstab(y, score.argmax(axis=1), len(classes))
    rows = table.sum(axis=1)
    shown = np.sort(_least_found(table.diagonal(), rows)[:MATRIX_CLASSES])
    shares = table[np.ix_(shown, shown)] / np.maximum(rows[shown, None], 1)
    canvas, axes = drawing.figure(_of(title, len(shown), len(classes), "worst"), "predicted", "label")
    drawing.squares(axes, shares, [classes[code] for code in shown], _cells(shares), size=11 - 0.5 * len(shown))
    crowded = len(shown) > 6 or max(len(classes[code]) for code in shown) > 8
    axes.tick_params(axis="x", labelrotation=90 if crowded else 0, labelsize=8 if len(shown) <= 10 else 6)
    axes.tick_params(axis="y", labelsize=8 if len(shown) <= 10 else 6)
    return drawing.png(canvas)


def roc_plot(y: np.ndarray, score: np.ndarray, *, classes: Sequence[str], title: str = "ROC by class") -> bytes:
    """True over false positive rate of each class against the rest; of more than 8 classes, the 8 most frequent."""
    rows = np.bincount(y, minlength=len(classes))
    there = [code for code in np.argsort(-rows, kind="stable") if 0 < rows[code] < len(y)]
    if not there:
        return drawing.sorry(title, "needs rows of two classes")
    canvas, axes = drawing.figure(_of(title, min(len(there), CURVES), len(classes), "most frequent"), "", "")
    axes.set(xlabel="false positive rate", ylabel="true positive rate")
    axes.plot([0, 1], [0, 1], **drawing.DASHED)
    for color, code in zip(drawing.PALETTE, there[:CURVES], strict=False):
        _, tp, fp = curve((y == code).astype(float), score[:, code])
        name = drawing.shorten(classes[code], 18)
        drawing.line(axes, np.append(0, fp / fp[-1]), np.append(0, tp / tp[-1]), name, color=color)
    drawing.unit_square(axes)
    drawing.legend(axes, "lower right")
    return drawing.png(canvas)


def calibration_plot(right: np.ndarray, score: np.ndarray) -> bytes:
    """Share of right answers over the answers' probability, in ten bins of equal mass."""
    return classification_plots.calibration_plot(
        right, score, title="Calibration of the answer", share="share of right answers"
    )


def recall_plot(y: np.ndarray, score: np.ndarray, *, classes: Sequence[str], title: str = "Recall by class") -> bytes:
    """Share of each class's rows that are found, worst first, with the rows; of more than 15 classes, the worst."""
    if len(y) == 0:
        return drawing.sorry(title, "no rows")
    counts = tally(y, score.argmax(axis=1), len(classes))
    order = _least_found(counts.found, counts.actual)[: drawing.BARS]
    values = [counts.found[code] / counts.actual[code] if counts.actual[code] else None for code in order]
    texts = [
        "no rows" if value is None else f"{value:.1%} of {counts.actual[code]:,}"
        for code, value in zip(order, values, strict=True)
    ]
    canvas, axes = drawing.figure(_of(title, len(order), len(classes), "worst"), "share of the class's rows found", "")
    names = [classes[code] for code in order]
    drawing.bars(axes, names=names, values=values, colors=[drawing.BLUE] * len(names), texts=texts)
    axes.set_xlim(0, 1.4)
    axes.set_xticks(np.linspace(0, 1, 6))
    return drawing.png(canvas)


def _least_found(found: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Codes of the classes by recall, lowest first; classes without rows last."""
    return np.argsort(np.where(rows > 0, ratio(found, rows), 2), kind="stable")


def _of(title: str, shown: int, there: int, which: str) -> str:
    return title if shown == there else f"{title} ({which} {shown} of {there} classes)"


def _cells(shares: np.ndarray) -> list[list[str]]:
    """Per cell its share in percent; nothing in empty cells, and nothing at all where there are too many to read."""
    written = len(shares) <= WRITTEN_CLASSES
    return [[f"{100 * share:.0f}" if written and share >= 0.005 else "" for share in row] for row in shares]
