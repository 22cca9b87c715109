"""What another threshold would have earned: on rows with known outcomes, and whether that is more than noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ml_assets.evaluation.metrics import Interval
from ml_assets.tasks.value import Value

PER = 1_000
GRID = 200
"""Thresholds that are tried: quantiles of the scores, the present one, and one above all scores."""
LEAST_DAYS = 10
RESAMPLES = 500


@dataclass(frozen=True, eq=False)
class Sweep:
    """Money of all rows at each of the thresholds (m,), ascending, by decisions of `score >= threshold`.

    `gain` is what a new threshold brings per 1,000 rows over the present one: chosen as the best on resampled days and
    measured on the days that were not drawn, 95 %. None with fewer than 10 days.
    """

    thresholds: np.ndarray
    values: np.ndarray
    present: int
    best: int
    rows: int
    days: int
    gain: Interval | None

    @property
    def earned(self) -> float:
        """Return what the present threshold earned."""
        return float(self.values[self.present])

    @property
    def missed(self) -> float:
        """Return how much more the best threshold would have earned on these very rows: never below 0, and never a promise."""
        return float(self.values[self.best]) - self.earned

    @property
    def pays(self) -> bool:
        """Tell whether another threshold earns more, and surely so on days that it was not chosen on."""
        return self.best != self.present and self.gain is not None and self.gain[0] > 0


def sweep(
    value: Value, y: np.ndarray, score: np.ndarray, days: np.ndarray, *, threshold: float, seed: int = 0
) -> Sweep | None:
    """Return what thresholds would have earned for labels `y` (n,), 0 or 1, and probabilities `score` (n,); None without rows.

    `days` (n,) tells which rows belong together: those of a day share weather and news, so whole days are drawn. The interval is
    the leave-one-out bootstrap of Efron & Tibshirani, JASA 92, 1997: to choose and to measure on the same rows would flatter.
    """
    if not len(y):
        return None
    thresholds = _grid(score, threshold)
    present = int(np.searchsorted(thresholds, threshold))
    names, day = np.unique(days, return_inverse=True)
    by_day = _by_day(value, y, score, day, thresholds)
    values = by_day.sum(axis=0)
    return Sweep(
        thresholds=thresholds,
        values=values,
        present=present,
        best=_best(values[None], present)[0],
        rows=len(y),
        days=len(names),
        gain=_gain(by_day, np.bincount(day), present, seed) if len(names) >= LEAST_DAYS else None,
    )


def _grid(score: np.ndarray, threshold: float) -> np.ndarray:
    above = np.nextafter(max(score.max(), threshold), np.inf)
    return np.unique([*np.quantile(score, np.linspace(0, 1, GRID), method="lower"), threshold, above])


def _by_day(value: Value, y: np.ndarray, score: np.ndarray, day: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Money by day and threshold (d, m): that of never acting, and what acting adds for the scores from the threshold on."""
    rest, act = (value.earned(y, np.full(len(y), one)) for one in (0, 1))
    reached = np.searchsorted(thresholds, score, side="right")  # so many thresholds are at or below the score
    wide = len(thresholds) + 1
    added = np.bincount(day * wide + reached, weights=act - rest, minlength=(day.max() + 1) * wide).reshape(-1, wide)
    from_there = added[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]
    return np.bincount(day, weights=rest)[:, None] + from_there


def _best(values: np.ndarray, present: int) -> np.ndarray:
    """The best threshold of each row of values (b, m); the present one where no other is better by more than rounding."""
    best = values.argmax(axis=1)
    more = values[np.arange(len(values)), best] - values[:, present]
    return np.where(more > 1e-9 * np.abs(values).max(initial=1.0), best, present)


def _gain(by_day: np.ndarray, rows: np.ndarray, present: int, seed: int) -> Interval:
    count = len(rows)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    chosen, left = _best(drawn @ by_day, present), (drawn == 0).astype(float)
    more = left @ (by_day - by_day[:, [present]])
    found = more[np.arange(RESAMPLES), chosen] / np.maximum(left @ rows, 1) * PER
    low, high = np.quantile(found[left.any(axis=1)], [0.025, 0.975])
    return float(low), float(high)
