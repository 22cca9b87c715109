"""How rows are divided while models are developed: in order of time, or at random with what belongs together on one side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

SMALL = 5_000
"""Training and validation rows up to which candidates are compared on out-of-fold rows of both, not on validation alone."""
SCORED_FOLDS = 5
WATCHED_SHARE = {True: 0.1, False: 0.15}
"""Share of the fitting rows that only say when to stop: by time the latest, which are like what comes next; else any."""
LEAST_WATCHED = 10
FEW_UNITS = 100
"""Groups up to which a fold is balanced by the groups' sizes and classes: that takes 0.6 ms for each group, so of many it is chance."""


@dataclass(frozen=True)
class Fold:
    """Sorted indices of the rows to fit on, and of those to score."""

    fit: np.ndarray
    score: np.ndarray


@dataclass(frozen=True, eq=False)
class Layout:
    """What decides how n rows may be divided.

    `by_time`: rows are in order of time, and nothing may be fitted on what comes after what it is scored on. `moments` and `known`
    (n,) are the times of each question and of its outcome, as numbers of one scale: a row whose outcome was not known when the
    scored rows begin is left out of the fit (the gap for label delay). `groups` (n,) are codes of what has to stay together,
    `strata` (n,) the classes whose shares the parts should keep.
    """

    rows: int
    by_time: bool
    seed: int
    moments: np.ndarray | None = None
    known: np.ndarray | None = None
    groups: np.ndarray | None = None
    strata: np.ndarray | None = None

    def take(self, index: np.ndarray) -> Layout:
        """Return the layout of the rows at `index`."""

        def taken(part: np.ndarray | None) -> np.ndarray | None:
            return None if part is None else part[index]

        return replace(
            self,
            rows=len(index),
            moments=taken(self.moments),
            known=taken(self.known),
            groups=taken(self.groups),
            strata=taken(self.strata),
        )

    def folds(self, count: int) -> list[Fold]:
        """Return up to `count` folds: by time each scores rows after those that it fits on, together the later half; else each row once.

        Fewer where there are fewer groups than that. A fold that could teach nothing, because no outcome or those of only
        one class were known by then, is left out; there may be none.
        """
        divided = self._expanding(count) if self.by_time else self._random(count)
        return [fold for fold in (self.fold(fit, score) for fit, score in divided) if self._teaches(fold.fit)]

    def fold(self, fit: np.ndarray, score: np.ndarray) -> Fold:
        """Return the fold without fitting rows whose outcome was not known when the scored rows begin."""
        if self.known is None or self.moments is None:
            return Fold(fit, score)
        return Fold(fit[self.known[fit] <= self.moments[score].min()], score)

    def watched(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Divide fitting rows into those that teach and those that say when to stop; too few rows leave none to watch."""
        count = int(len(index) * WATCHED_SHARE[self.by_time])
        divided = self._watched(index, count) if count >= LEAST_WATCHED else None
        if divided is None or not self._teaches(divided.fit):
            return index, index[:0]
        return divided.fit, divided.score

    def _watched(self, index: np.ndarray, count: int) -> Fold | None:
        if self.by_time:
            return self.fold(index[:-count], index[-count:])
        first = next(self.take(index)._random(max(2, round(1 / WATCHED_SHARE[False]))), None)
        return None if first is None else Fold(index[first[0]], index[first[1]])

    def _teaches(self, fit: np.ndarray) -> bool:
        if self.strata is None or not len(fit):
            return bool(len(fit))
        return bool(self.strata[fit].min() < self.strata[fit].max() or self.strata.min() == self.strata.max())

    def _expanding(self, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        size = max(1, self.rows // (2 * count))
        for start in range(self.rows - min(count, self.rows // size - 1) * size, self.rows, size):
            yield np.arange(start), np.arange(start, start + size)

    def _random(self, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Divide what belongs together (rows of one group, else each row), keeping the shares of classes."""
        from sklearn.model_selection import KFold, StratifiedGroupKFold, StratifiedKFold

        groups = np.arange(self.rows) if self.groups is None else self.groups
        units, first, unit = np.unique(groups, return_index=True, return_inverse=True)
        count = min(count, len(units))
        if count < 2:
            return
        how: dict[str, Any] = {"n_splits": count, "shuffle": True, "random_state": self.seed}
        if self.strata is None:
            parts = KFold(**how).split(units)
        elif len(units) <= FEW_UNITS and len(units) < self.rows:
            by_row = StratifiedGroupKFold(**how).split(unit, pooled(self.strata, count), unit)
            parts = ((unit[fit], unit[score]) for fit, score in by_row)
        else:
            parts = StratifiedKFold(**how).split(units, pooled(self.strata[first], count))
        for _, score in parts:
            scored = np.isin(unit, score)
            if scored.any() and not scored.all():
                yield np.flatnonzero(~scored), np.flatnonzero(scored)


def pooled(strata: np.ndarray, least: int) -> np.ndarray:
    """Return codes (n,) of the classes, those with fewer than `least` rows as one; with the most frequent where that is still few."""
    _, codes, counts = np.unique(strata, return_inverse=True, return_counts=True)
    rare = counts < least
    together = len(counts) if counts[rare].sum() >= least else int(counts.argmax())
    return np.where(rare[codes], together, codes)


def thinned(rows: int, most: int, *, seed: int = 0) -> np.ndarray:
    """Return at most `most` of `rows` indices in order: one drawn from each of as many equal parts, so that seasons keep their shares.

    Drawn, because every third row of three shops by turns would be rows of one shop.
    """
    if rows <= most:
        return np.arange(rows)
    edges = np.linspace(0, rows, most + 1).astype(int)
    return np.asarray(edges[:-1] + np.random.default_rng(seed).integers(0, np.diff(edges)))


def scored_folds(layout: Layout, train: int, *, small: int = SMALL) -> Sequence[Fold]:
    """Return the folds on whose scored rows candidates are compared; the first `train` rows are the train split.

    The validation split, by models of the train split; of few rows out-of-fold rows of both, since a small split is all noise.
    Where these give no two folds that can teach, it is the validation split again.
    """
    if layout.rows <= small:
        folds = layout.folds(SCORED_FOLDS if layout.rows >= 10 * SCORED_FOLDS else 2)
        if len(folds) > 1:
            return folds
    return [layout.fold(np.arange(train), np.arange(train, layout.rows))]
