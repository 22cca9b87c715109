"""Counts of right and wrong answers: by threshold, by score, by bin of scores. What metrics and plots are made of."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

CALIBRATION_BINS = 10


class Curve(NamedTuple):
    """Counts at each distinct score, from the highest down: `score >= thresholds[i]` finds `tp[i]` and `fp[i]` rows."""

    thresholds: np.ndarray
    tp: np.ndarray
    fp: np.ndarray

    @property
    def positives(self) -> int:
        """All rows with label 1."""
        return int(self.tp[-1])

    @property
    def negatives(self) -> int:
        """All rows with label 0."""
        return int(self.fp[-1])


class Confusion(NamedTuple):
    """Row counts at one threshold."""

    tp: int
    fp: int
    fn: int
    tn: int


class CalibrationBins(NamedTuple):
    """Per bin of about equally many rows: mean score, share of positives, number of rows."""

    mean_score: np.ndarray
    positive_share: np.ndarray
    rows: np.ndarray


def curve(y: np.ndarray, score: np.ndarray) -> Curve:
    """True and false positives at each distinct score, for ROC and precision-recall curves. At least one row."""
    order = np.argsort(score, kind="stable")
    ordered = score[order]
    starts = np.concatenate([[0], np.flatnonzero(np.diff(ordered)) + 1])
    positives_below = np.concatenate([[0], np.cumsum(y[order] == 1)])
    tp = positives_below[-1] - positives_below[starts]
    found = len(y) - starts
    return Curve(ordered[starts][::-1], tp[::-1], (found - tp)[::-1])


def confusion(y: np.ndarray, score: np.ndarray, threshold: float) -> Confusion:
    """Counts of right and wrong decisions when rows with `score >= threshold` are predicted positive."""
    truth, predicted = y == 1, score >= threshold
    tp = int(np.count_nonzero(truth & predicted))
    fp = int(np.count_nonzero(predicted)) - tp
    fn = int(np.count_nonzero(truth)) - tp
    return Confusion(tp, fp, fn, len(y) - tp - fp - fn)


def calibration_bins(y: np.ndarray, score: np.ndarray, bins: int = CALIBRATION_BINS) -> CalibrationBins:
    """Rows grouped by score into at most `bins` bins of equal mass; equal scores always share a bin.

    A row's bin is `floor(bins * mid-rank / rows)`, so the result does not depend on the order of the rows.
    """
    order = np.argsort(score, kind="stable")
    ordered = score[order]
    edges = np.concatenate([[0], np.flatnonzero(np.diff(ordered)) + 1, [len(y)]])
    middle = (edges[:-1] + edges[1:]) / 2
    number = np.repeat((bins * middle / len(y)).astype(int), np.diff(edges))
    rows = np.bincount(number, minlength=bins)
    used = rows > 0
    rows = rows[used]
    scores, positives = (np.bincount(number, weights=w, minlength=bins)[used] for w in (ordered, y[order]))
    return CalibrationBins(scores / rows, positives / rows, rows)


class Tally(NamedTuple):
    """Per class (k,): rows that are of it and found, rows that are said to be of it, rows that are of it."""

    found: np.ndarray
    predicted: np.ndarray
    actual: np.ndarray


def crosstab(y: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Rows (classes, classes) by label code down and predicted code across."""
    return np.bincount(y * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def tally(y: np.ndarray, predicted: np.ndarray, classes: int) -> Tally:
    """Right answers, answers and labels of each class; `y` and `predicted` are codes below `classes`."""
    right = y[y == predicted]
    return Tally(*(np.bincount(codes, minlength=classes) for codes in (right, predicted, y)))


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Element by element `part / whole`, and 0 where there is no whole."""
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
