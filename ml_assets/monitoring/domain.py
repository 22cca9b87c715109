"""Can a model tell the window from its reference? What no column shows by itself, such as a broken link between two, it finds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from ml_assets.evaluation.evidently import bounded_sample
from ml_assets.monitoring.profiles import kind_of

MOST_ROWS = 5_000
"""Rows of each side that are looked at."""
LEAST_ROWS = 100
FOLDS = 3
MOST_CATEGORIES = 250
"""Categories of a column that the trees tell apart, the commonest; the others are one."""
NAMED = 5
NORMAL_99 = 2.576


@dataclass(frozen=True)
class Domain:
    """How well a classifier tells rows of the window from rows of the reference, out of fold.

    auc: area under its ROC curve, 0.5 for not at all; low and high: 99 % interval. All None when nothing could be told, and
    `reason` says why. features: those that it needs, with the area lost when they are shuffled, the largest first.
    """

    auc: float | None
    low: float | None
    high: float | None
    rows: int
    features: tuple[tuple[str, float], ...] = ()
    reason: str = ""

    @property
    def apart(self) -> bool:
        """Tell whether the windows differ beyond chance."""
        return self.low is not None and self.low > 0.5

    @property
    def text(self) -> str:
        """All of it in one sentence."""
        if self.auc is None:
            return f"Whether window and reference can be told apart is not known: {self.reason}."
        interval = f"{self.low:.3f} to {self.high:.3f}, {self.rows:,} rows"
        told = f"A classifier tells window and reference apart with AUC {self.auc:.3f} ({interval})"
        by = ", ".join(f"{name} {loss:.3f}" for name, loss in self.features)
        return f"{told}, by {by}." if by else f"{told}{'' if self.apart else ': no better than chance'}."


class _Fold(NamedTuple):
    model: Any
    x: np.ndarray
    y: np.ndarray
    score: np.ndarray


def domain_classifier(
    reference: pl.DataFrame,
    current: pl.DataFrame,
    *,
    features: Sequence[str],
    seed: int = 0,
    most_rows: int = MOST_ROWS,
) -> Domain:
    """Learn to tell `current` from `reference` by the features that both have, on a seeded sample of at most `most_rows` each.

    Gradient-boosted trees, scored on the folds that they did not see. The interval is of the mean of the folds' areas, by
    DeLong et al. (Biometrics 44, 1988), and wide because folds share rows that they learn from. The data sets differ where it
    lies above 0.5: Lopez-Paz & Oquab, Revisiting Classifier Two-Sample Tests, ICLR 2017.
    """
    sides = [bounded_sample(side, rows=most_rows, seed=seed) for side in (reference, current)]
    names = [name for name in features if all(_usable(side, name) for side in sides)]
    rows = sum(side.height for side in sides)
    fewest = min(side.height for side in sides)
    if fewest < LEAST_ROWS or not names:
        why = f"{fewest} rows on a side, fewer than {LEAST_ROWS}" if names else "no column that both sides have"
        return Domain(None, None, None, rows, reason=why)
    x = np.column_stack([_encoded(*(side[name] for side in sides)) for name in names])
    y = np.repeat([0, 1], [side.height for side in sides])
    folds = list(_folds(x, y, seed))
    auc, error = _area(folds)
    low, high = max(auc - NORMAL_99 * error, 0.0), min(auc + NORMAL_99 * error, 1.0)
    return Domain(auc, low, high, rows, _needed(folds, names, auc, seed) if low > 0.5 else ())


def roc_area(positive: np.ndarray, negative: np.ndarray) -> tuple[float, float]:
    """Return the area under the ROC curve of two arrays of scores, and its variance by DeLong et al. (1988)."""
    from scipy.stats import rankdata

    m, n = len(positive), len(negative)
    together = rankdata(np.concatenate([positive, negative]))
    of_positive = (together[:m] - rankdata(positive)) / n  # share of negatives below each positive
    of_negative = 1 - (together[m:] - rankdata(negative)) / m
    return float(of_positive.mean()), float(of_positive.var(ddof=1) / m + of_negative.var(ddof=1) / n)


def _usable(side: pl.DataFrame, name: str) -> bool:
    return name in side.columns and kind_of(side[name].dtype) in ("numeric", "categorical")


def _encoded(before: pl.Series, now: pl.Series) -> np.ndarray:
    """One column of both sides as numbers, NaN where nothing is known: categories by how common they are."""
    if {kind_of(before.dtype), kind_of(now.dtype)} == {"numeric"}:
        return pl.concat([_number(before), _number(now)]).to_numpy()
    return _codes(pl.concat([before.cast(pl.String), now.cast(pl.String)]))


def _number(column: pl.Series) -> pl.Series:
    """Finite numbers; all else is unknown."""
    values = column.to_physical().cast(pl.Float64)
    return pl.select(pl.when(values.is_finite()).then(values)).to_series()


def _codes(column: pl.Series) -> np.ndarray:
    counted = (
        column.alias("value").drop_nulls().value_counts(name="rows").sort(["rows", "value"], descending=[True, False])
    )
    common = counted["value"].head(MOST_CATEGORIES).to_list()
    known = column.replace_strict(common, range(len(common)), default=len(common), return_dtype=pl.Float64)
    return pl.select(pl.when(column.is_not_null()).then(known)).to_series().to_numpy()


def _folds(x: np.ndarray, y: np.ndarray, seed: int) -> Iterator[_Fold]:
    """Trees on one thread: the table is small, and threads of a busy machine would wait for each other."""
    from sklearn.model_selection import StratifiedKFold
    from xgboost import XGBClassifier

    for train, test in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(x, y):
        model = XGBClassifier(n_estimators=40, max_depth=4, min_child_weight=5, n_jobs=1, random_state=seed)
        model.fit(x[train], y[train])
        yield _Fold(model, x[test], y[test], model.predict_proba(x[test])[:, 1])


def _area(folds: Sequence[_Fold]) -> tuple[float, float]:
    """The mean area of the folds, and its standard error."""
    found = [roc_area(fold.score[fold.y == 1], fold.score[fold.y == 0]) for fold in folds]
    return float(np.mean([area for area, _ in found])), float(np.sqrt(sum(variance for _, variance in found))) / len(
        found
    )


def _needed(folds: Sequence[_Fold], names: Sequence[str], auc: float, seed: int) -> tuple[tuple[str, float], ...]:
    """The features without whose order the area is smaller, and by how much: Breiman, Machine Learning 45, 2001."""
    random = np.random.default_rng(seed)
    losses = [auc - float(np.mean([_shuffled(fold, at, random) for fold in folds])) for at in range(len(names))]
    ranked = sorted(zip(names, losses, strict=True), key=lambda item: (-item[1], item[0]))
    return tuple((name, loss) for name, loss in ranked[:NAMED] if loss > 0.001)


def _shuffled(fold: _Fold, column: int, random: np.random.Generator) -> float:
    """The fold's area with the values of one column dealt out anew."""
    x = fold.x.copy()
    x[:, column] = random.permutation(x[:, column])
    score = fold.model.predict_proba(x)[:, 1]
    return roc_area(score[fold.y == 1], score[fold.y == 0])[0]
