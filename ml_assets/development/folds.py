"""How rows are divided while models are developed: in order of time, or at random with what belongs together on one side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

SMALL = 5_000
"""Training and validation rows up to which candidates are compared on out-of-fold rows of both, not on validation alone."""
SCORED_FOLDS = 5
WATCHED_SHARE = {True: 0.1, False: 0.15}
"""Share of the fitting rows that only say when to stop: by time the latest, which are like what comes next; else any."""
LEAST_WATCHED = 10


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
        """Return `count` folds: by time each scores rows after those that it fits on, together the later half; else each row once."""
        if self.by_time:
            return [self.fold(fit, score) for fit, score in self._expanding(count)]
        return [Fold(fit, score) for fit, score in self._random(count)]

    def fold(self, fit: np.ndarray, score: np.ndarray) -> Fold:
        """Return the fold without fitting rows whose outcome was not known when the scored rows begin."""
        if self.known is None or self.moments is None:
            return Fold(fit, score)
        usable = fit[self.known[fit] <= self.moments[score].min()]
        return Fold(usable if len(usable) else fit, score)

    def watched(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Divide fitting rows into those that teach and those that say when to stop; too few rows leave none to watch."""
        count = int(len(index) * WATCHED_SHARE[self.by_time])
        if count < LEAST_WATCHED:
            return index, index[:0]
        if self.by_time:
            divided = self.fold(index[:-count], index[-count:])
            return divided.fit, divided.score
        inside = self.take(index)
        fit, score = next(inside._random(max(2, round(1 / WATCHED_SHARE[False]))))
        return index[fit], index[score]

    def _expanding(self, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        size = max(1, self.rows // (2 * count))
        for number in range(count, 0, -1):
            start = self.rows - number * size
            yield np.arange(start), np.arange(start, start + size)

    def _random(self, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

        nothing = np.zeros(self.rows)
        stratified = self.strata is not None and np.unique(self.strata, return_counts=True)[1].min() >= count
        how: dict[str, object] = {"n_splits": count, "shuffle": True, "random_state": self.seed}
        if self.groups is not None and len(np.unique(self.groups)) >= count:
            kind = StratifiedGroupKFold if stratified else GroupKFold
            yield from kind(**how).split(nothing, self.strata, self.groups)
        elif stratified:
            yield from StratifiedKFold(**how).split(nothing, self.strata)
        else:
            yield from KFold(**how).split(nothing)


def thinned(rows: int, most: int) -> np.ndarray:
    """Return at most `most` of `rows` indices, evenly spaced: rows in order of time keep their seasons."""
    if rows <= most:
        return np.arange(rows)
    return np.unique(np.linspace(0, rows - 1, most).astype(int))


def scored_folds(layout: Layout, train: int, *, small: int = SMALL) -> Sequence[Fold]:
    """Return the folds on whose scored rows candidates are compared; the first `train` rows are the train split.

    The validation split, by models of the train split; of few rows out-of-fold rows of both, since a small split is all noise.
    """
    if layout.rows > small:
        return [layout.fold(np.arange(train), np.arange(train, layout.rows))]
    return layout.folds(SCORED_FOLDS if layout.rows >= 10 * SCORED_FOLDS else 2)
