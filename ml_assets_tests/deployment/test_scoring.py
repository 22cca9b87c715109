"""One prediction for each observation, in order, with what the model saw; rows it was fitted on are marked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from ml_assets.deployment.scoring import predictions_suite, score
from ml_assets.preparation.writing import PARTITION
from ml_assets.quality import evaluate
from ml_assets.tasks import task

UNTIL = datetime(2013, 10, 1, tzinfo=UTC)
ROWS = pl.DataFrame(
    {
        PARTITION: ["2013-09-30", "2013-10-01", "2013-10-01"],
        "flight_id": ["b", "c", "a"],
        "tailnum": ["N1", None, "N2"],
        "event_timestamp": [UNTIL - timedelta(seconds=1), UNTIL, UNTIL + timedelta(days=1)],
        "delay": [0.25, 0.5, 0.75],
        "unseen": [1, 2, 3],
    },
    schema_overrides={"event_timestamp": pl.Datetime("us", "UTC")},
)


class Model:
    """Says that the delay is the probability."""

    task = task("classification")
    threshold = 0.5
    features = ("delay",)

    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        return frame["delay"].to_numpy().copy()


def scored(frame: pl.DataFrame = ROWS, keep: tuple[str, ...] = ("flight_id", "tailnum")) -> pl.DataFrame:
    return score(frame, Model(), version="7", fitted_until=UNTIL, keep=keep)


def test_each_row_is_answered_in_order() -> None:
    found = scored()
    assert found["flight_id"].to_list() == ["b", "c", "a"]
    assert found["score"].to_list() == [0.25, 0.5, 0.75]
    assert found["prediction"].to_list() == [0, 1, 1]  # the threshold itself is positive
    assert found["model_version"].to_list() == ["7"] * 3


def test_rows_from_before_the_end_of_fitting_are_in_sample() -> None:
    assert scored()["in_sample"].to_list() == [True, False, False]


def test_what_is_kept_is_the_key_the_moment_and_what_the_model_saw() -> None:
    kept = ["flight_id", "tailnum", "event_timestamp", "delay", PARTITION]
    assert scored().columns == [*kept, "score", "prediction", "model_version", "in_sample"]
    types = scored().schema
    assert [types[name] for name in ("score", "prediction", "model_version", "in_sample")] == [
        pl.Float64,
        pl.Int64,
        pl.String,
        pl.Boolean,
    ]


def test_no_rows_give_no_predictions_of_the_same_form() -> None:
    assert scored(ROWS.clear()).schema == scored().schema


def test_a_column_that_is_asked_for_twice_is_there_once() -> None:
    assert scored(keep=("delay", "delay")).columns.count("delay") == 1


def judged(**changes: Any) -> bool:
    suite = predictions_suite("p/predictions", key=["flight_id"], task=Model.task)
    return evaluate(scored().with_columns(**changes), suite)[""].success


def test_good_predictions_are_green() -> None:
    assert judged()


@pytest.mark.parametrize(
    "changes",
    [
        {"score": pl.lit(1.5)},
        {"score": pl.lit(-0.1)},
        {"score": pl.lit(None, pl.Float64)},
        {"score": pl.lit(float("nan"))},
        {"prediction": pl.lit(2)},
        {"prediction": pl.lit(None, pl.Int64)},
        {"flight_id": pl.lit("a"), "event_timestamp": pl.lit(UNTIL)},
    ],
)
def test_bad_predictions_are_red(changes: dict[str, pl.Expr]) -> None:
    assert not judged(**changes)


class Classes(Model):
    """Says that the delay is the probability of the first of three classes."""

    task = task("classification", classes=["late", "early", "never"])

    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        delay = frame["delay"].to_numpy()
        return np.column_stack([delay, 1 - delay, 0 * delay])


class Minutes(Model):
    """Says that the delay is the outcome."""

    task = task("regression")


class Segments(Model):
    """Says that the delay in quarters is the cluster."""

    task = task("clustering")

    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        return (frame["delay"].to_numpy() * 4).astype(np.int64) - 1


@pytest.mark.parametrize(
    ("model", "answers"),
    [
        (Classes(), {"score": [0.75, 0.5, 0.75], "prediction": ["early", "late", "late"]}),
        (Minutes(), {"score": [0.25, 0.5, 0.75], "prediction": [0.25, 0.5, 0.75]}),
        (Segments(), {"prediction": [0, 1, 2]}),
    ],
)
def test_every_task_has_its_answers(model: Model, answers: dict[str, list[Any]]) -> None:
    found = score(ROWS, model, version="7", fitted_until=UNTIL, keep=("flight_id",))
    assert {name: found[name].to_list() for name in answers} == answers
    suite = predictions_suite("p/predictions", key=["flight_id"], task=model.task)
    assert evaluate(found, suite)[""].success
    assert not evaluate(found.with_columns(prediction=pl.lit(None)), suite)[""].success
    assert score(ROWS.clear(), model, version="7", fitted_until=UNTIL, keep=()).schema == found.drop("flight_id").schema


NOTHING, NAN, BEYOND = pl.lit(None, pl.Float64), pl.lit(float("nan")), pl.lit(1.5)


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        *[(Classes(), {"score": wrong}) for wrong in (NOTHING, NAN, BEYOND, pl.lit(-0.1))],
        *[(Classes(), {"prediction": wrong}) for wrong in (pl.lit("other"), pl.lit(None, pl.String))],
        *[(Minutes(), {name: wrong}) for name in ("score", "prediction") for wrong in (NOTHING, NAN)],
        *[(Segments(), {"prediction": wrong}) for wrong in (pl.lit(-2), pl.lit(None, pl.Int64))],
    ],
)
def test_a_wrong_answer_of_any_task_is_red(model: Model, changes: dict[str, pl.Expr]) -> None:
    found = score(ROWS, model, version="7", fitted_until=UNTIL, keep=("flight_id",))
    spoiled = found.with_columns(
        pl.when(pl.int_range(pl.len()) == 1).then(v).otherwise(n).alias(n) for n, v in changes.items()
    )
    suite = predictions_suite("p/predictions", key=["flight_id"], task=model.task)
    assert evaluate(found, suite)[""].success and not evaluate(spoiled, suite)[""].success


def test_the_probabilities_of_all_classes_are_kept_as_a_list() -> None:
    found = score(ROWS, Classes(), version="7", fitted_until=UNTIL, keep=())
    assert found.schema["scores"] == pl.List(pl.Float64)
    assert found["scores"].to_list()[0] == [0.25, 0.75, 0.0]
    np.testing.assert_array_equal(Classes.task.stored(found), Classes().predict(ROWS))
