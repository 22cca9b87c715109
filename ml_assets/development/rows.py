"""The rows that candidates may learn from and be compared on: a training set's train and validation splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

import numpy as np
import polars as pl

from ml_assets.development.candidates.base import Rows
from ml_assets.development.encoding import Encoder
from ml_assets.development.folds import Fold, Layout, scored_folds
from ml_assets.development.model_files import yielding_threads
from ml_assets.preparation.splits import together
from ml_assets.tasks import Task

LABEL, SPLIT, MOMENT, KNOWN = "label", "split", "event_timestamp", "label_timestamp"


class TrainingError(ValueError):
    """The training set cannot train any candidate: a column or a split is missing."""


@dataclass(frozen=True, eq=False)
class DevelopmentRows:
    """Labelled rows (those of the train split first), their labels `y`, and how they may be divided."""

    frame: pl.DataFrame
    y: np.ndarray
    train: int
    layout: Layout
    features: tuple[str, ...]

    @cached_property
    def folds(self) -> Sequence[Fold]:
        """Return the folds on whose scored rows candidates are compared."""
        return scored_folds(self.layout, self.train)

    @cached_property
    def scored(self) -> np.ndarray:
        """Return the indices of the rows on which candidates are compared, in order of the folds."""
        return np.concatenate([fold.score for fold in self.folds])

    @property
    def cross_fitted(self) -> bool:
        """Tell whether candidates are compared on out-of-fold rows, not on the validation split."""
        return len(self.folds) > 1

    def rows(self, index: np.ndarray, encoder: Encoder) -> Rows:
        """Return rows for candidates."""
        return Rows(self.frame[index], self.y[index] if len(self.y) else self.y, encoder)

    def encoder(self, index: np.ndarray) -> Encoder:
        """Return an encoder that was fitted on these rows."""
        return Encoder.fit(self.frame[index], self.features)


def development_rows(
    training_set: pl.DataFrame,
    task: Task,
    *,
    features: Sequence[str],
    seed: int,
    by_time: bool = True,
    group: str | None = None,
    gap: timedelta = timedelta(0),
) -> DevelopmentRows:
    """Return the rows of splits `train` and `validation`; supervised tasks leave out those without a label.

    By time an outcome is known at its `label_timestamp`; where there is none, `gap` after the question. Raises `TrainingError`
    for a missing column, a label among the features, or a split without rows.
    """
    yielding_threads()  # here, because the first that asks for folds imports scikit-learn
    _refuse_unfit(training_set, task, [*features, *([MOMENT] if by_time else [group] if group else [])])
    parts = [_part(training_set, split, task, by_time) for split in ("train", "validation")]
    frame = pl.concat(parts)
    y = task.labels(frame[LABEL]) if task.supervised else np.empty(0)
    layout = Layout(
        rows=frame.height,
        by_time=by_time,
        seed=seed,
        moments=_microseconds(frame[MOMENT]) if by_time else None,
        known=_known(frame, gap) if by_time else None,
        groups=None if by_time else together(frame, features, group).rank("dense").fill_null(0).to_numpy(),
        strata=y if task.supervised and task.output != "value" else None,
    )
    return DevelopmentRows(frame.select(features), y, parts[0].height, layout, tuple(features))


def _refuse_unfit(training_set: pl.DataFrame, task: Task, read: Sequence[str]) -> None:
    needed = [SPLIT, *([LABEL] if task.supervised else []), *read]
    missing = [name for name in needed if name not in training_set.columns]
    if missing:
        raise TrainingError(f"the training set has no column {missing}: it has {training_set.columns}")
    if LABEL in read:
        raise TrainingError(f"the label {LABEL!r} is among the features: leave it out")


def _part(training_set: pl.DataFrame, split: str, task: Task, by_time: bool) -> pl.DataFrame:
    rows = training_set.filter(pl.col(SPLIT) == split)
    if task.supervised:
        rows = rows.filter(pl.col(LABEL).is_not_null())
    if rows.is_empty():
        raise TrainingError(
            f"the training set has no labelled rows of split {split!r}: check the split's dates and the labels"
        )
    return rows.sort(MOMENT, maintain_order=True) if by_time else rows


def _known(frame: pl.DataFrame, gap: timedelta) -> np.ndarray | None:
    """Return when each outcome was known; None where that was at once."""
    if KNOWN in frame.columns:
        return _microseconds(frame[KNOWN])
    return _microseconds(frame[MOMENT] + gap) if gap else None


def _microseconds(times: pl.Series) -> np.ndarray:
    """Return times as numbers of one scale, whatever the unit of the column."""
    return times.dt.epoch("us").fill_null(0).to_numpy()
