"""What decisions are worth, where a declaration says what their outcomes are: on test rows, against deciding nothing or everything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ml_assets.evaluation.metrics import Answered, Interval
from ml_assets.tasks.classification import value_of, values_of
from ml_assets.tasks.counting import Confusion, confusion, curve

PER = 1_000
RESAMPLES = 200


@dataclass(frozen=True, eq=False)
class Worth:
    """Values per 1,000 rows in `currency`: of the decisions made (with a 95 % interval), of none, of all positive, of right ones only.

    `thresholds` and `values` (m,) say what other thresholds were worth on these rows, from the highest down.
    """

    chosen: float
    interval: Interval
    nothing: float
    everything: float
    perfect: float
    threshold: float
    thresholds: np.ndarray
    values: np.ndarray
    currency: str = ""

    def sentence(self) -> str:
        """Return the values in words."""
        low, high = self.interval
        return (
            f"per {PER:,} rows the decisions are worth {self._money(self.chosen)} ({low:,.0f} to {high:,.0f}); deciding nothing "
            f"{self._money(self.nothing)}, everything {self._money(self.everything)}, always rightly {self._money(self.perfect)}"
        )

    def _money(self, value: float) -> str:
        return f"{value:,.0f} {self.currency}".rstrip()


def worth(rows: Answered, value: Mapping[str, float], *, currency: str = "", seed: int = 0) -> Worth | None:
    """Return what decisions on these rows were worth; None where nothing is declared or answers are no yes or no."""
    if not value or rows.task.output != "probability" or not len(rows):
        return None
    y, score, share = rows.y, rows.score, PER / len(rows)
    found = curve(y, score)
    positives, negatives = found.positives, found.negatives
    each = _each(y, score >= rows.threshold, value)
    generator = np.random.default_rng(seed)
    draws = [each[generator.integers(0, len(each), len(each))].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(draws, [0.025, 0.975]) * PER
    return Worth(
        chosen=value_of(confusion(y, score, rows.threshold), value) * share,
        interval=(float(low), float(high)),
        nothing=value_of(Confusion(0, 0, positives, negatives), value) * share,
        everything=value_of(Confusion(positives, negatives, 0, 0), value) * share,
        perfect=value_of(Confusion(positives, 0, 0, negatives), value) * share,
        threshold=rows.threshold,
        thresholds=found.thresholds,
        values=values_of(found, value) * share,
        currency=currency,
    )


def _each(y: np.ndarray, decided: np.ndarray, value: Mapping[str, float]) -> np.ndarray:
    """The value of each row's decision (n,)."""
    right = np.where(decided, value.get("true_positive", 0.0), value.get("false_negative", 0.0))
    wrong = np.where(decided, value.get("false_positive", 0.0), value.get("true_negative", 0.0))
    return np.where(y == 1, right, wrong)
