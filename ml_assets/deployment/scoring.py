"""Batch scoring: the champion's answer for each observation, from what was known at its moment of prediction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import numpy as np
import polars as pl

from ml_assets.evaluation.metrics import nothing, with_answers
from ml_assets.preparation.observations import EVENT_TIMESTAMP
from ml_assets.preparation.writing import PARTITION
from ml_assets.quality import Expectation, Suite, suite_for
from ml_assets.tasks import Task

PREDICTION, MODEL_VERSION, IN_SAMPLE = "prediction", "model_version", "in_sample"


class Scorer(Protocol):
    """What scoring needs of a bundle."""

    @property
    def task(self) -> Task: ...
    @property
    def threshold(self) -> float: ...
    @property
    def features(self) -> Sequence[str]: ...
    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        """Return the model's answer for each row, as its task has it."""


def score(
    frame: pl.DataFrame, model: Scorer, *, version: str, fitted_until: datetime, keep: Sequence[str]
) -> pl.DataFrame:
    """Return one prediction for each row of `frame` (observations with features), in its order.

    Kept are the columns `keep`, the moment of prediction, and the features that the model saw; the task's columns of answers
    come after them. `in_sample` marks rows from before `fitted_until`: the model was fitted or selected on such rows, so they
    never count as performance.
    """
    wanted = dict.fromkeys([*keep, EVENT_TIMESTAMP, *model.features, PARTITION])
    kept = frame.select(column for column in wanted if column in frame.columns)
    return with_answers(kept, model.predict(frame), model.task, model.threshold).with_columns(
        pl.lit(version).alias(MODEL_VERSION),
        (pl.col(EVENT_TIMESTAMP) < fitted_until).alias(IN_SAMPLE),
    )


def predictions_suite(table: str, *, key: Sequence[str], task: Task) -> Suite:
    """Return the suite of predictions: one per observation, each an answer of the task."""
    return suite_for(
        table,
        (),
        extra=[
            *(Expectation("expect_column_values_to_not_be_null", {"column": name}) for name in _numbers(task)),
            *(Expectation(kind, arguments) for kind, arguments in task.expectations()),
            Expectation("expect_compound_columns_to_be_unique", {"column_list": [*key, EVENT_TIMESTAMP]}),
        ],
    )


def _numbers(task: Task) -> list[str]:
    """The columns of answers that hold one value, not a list."""
    return [name for name, value in task.answers(nothing(task), 0.5).items() if value.ndim == 1]
