"""Batch scoring: the champion's answer for each observation, from what was known at its moment of prediction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import numpy as np
import polars as pl

from ml_assets.preparation.observations import EVENT_TIMESTAMP
from ml_assets.preparation.writing import PARTITION
from ml_assets.quality import Expectation, Suite, suite_for

SCORE, PREDICTION, MODEL_VERSION, IN_SAMPLE = "score", "prediction", "model_version", "in_sample"


class Scorer(Protocol):
    """What scoring needs of a bundle."""

    @property
    def threshold(self) -> float: ...
    @property
    def features(self) -> Sequence[str]: ...
    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        """Return the probability of the positive class for each row."""


def score(
    frame: pl.DataFrame, model: Scorer, *, version: str, fitted_until: datetime, keep: Sequence[str]
) -> pl.DataFrame:
    """Return one prediction for each row of `frame` (observations with features), in its order.

    Kept are the columns `keep`, the moment of prediction, and the features that the model saw. `in_sample` marks rows from
    before `fitted_until`: the model was fitted or selected on such rows, so they never count as performance.
    """
    probability = pl.Series(SCORE, model.predict(frame), dtype=pl.Float64)
    wanted = dict.fromkeys([*keep, EVENT_TIMESTAMP, *model.features, PARTITION])
    return frame.select(column for column in wanted if column in frame.columns).with_columns(
        probability,
        (probability >= model.threshold).cast(pl.Int64).alias(PREDICTION),
        pl.lit(version).alias(MODEL_VERSION),
        (pl.col(EVENT_TIMESTAMP) < fitted_until).alias(IN_SAMPLE),
    )


def predictions_suite(table: str, *, key: Sequence[str]) -> Suite:
    """Return the suite of predictions: one per observation, each a probability."""
    return suite_for(
        table,
        (),
        extra=[
            Expectation("expect_column_values_to_not_be_null", {"column": SCORE}),
            Expectation("expect_column_values_to_be_between", {"column": SCORE, "min_value": 0, "max_value": 1}),
            Expectation("expect_column_values_to_be_in_set", {"column": PREDICTION, "value_set": [0, 1]}),
            Expectation("expect_compound_columns_to_be_unique", {"column_list": [*key, EVENT_TIMESTAMP]}),
        ],
    )
