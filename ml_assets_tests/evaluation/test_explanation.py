"""Importance, SHAP, worst errors, learning curve, breakdown: against models of which the truth is known."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ml_assets.development.encoding import Encoder
from ml_assets.development.training import CandidateResult
from ml_assets.evaluation.breakdown import breakdown
from ml_assets.evaluation.challenge import Examination, examine
from ml_assets.evaluation.effects import effects
from ml_assets.evaluation.errors import worst, worst_rows
from ml_assets.evaluation.explanation import Explanation, explain
from ml_assets.evaluation.importance import LEAST_ROWS, MOST_COLUMNS, Importance, affordable, importance, sensitivity
from ml_assets.evaluation.learning import LearningCurve, learning_curve
from ml_assets.evaluation.metrics import Answered, answered
from ml_assets.tasks import task
from ml_assets_tests.evaluation import problems

ROWS = 400
NUMBER = task("regression")


def frame(rows: int = ROWS) -> pl.DataFrame:
    random = np.random.default_rng(0)
    return pl.DataFrame(
        {
            "strong": random.normal(size=rows),
            "weak": np.where(random.random(rows) < 0.1, np.nan, random.normal(size=rows)),
            "place": random.choice(["x", "y", None], rows).tolist(),
            "idle": random.normal(size=rows),
            "constant": np.ones(rows),
        }
    )


@dataclass
class Known:
    """A model of which everything is known: 3 strong + weak + 2 (place is y), with nothing for null."""

    encoder: Encoder = field(default_factory=lambda: Encoder.fit(frame(), frame().columns))
    format: str = "ubj"
    content: bytes = b""

    def predict(self, rows: pl.DataFrame) -> np.ndarray:
        weak = rows["weak"].fill_nan(0.0).to_numpy()
        return 3 * rows["strong"].to_numpy() + weak + 2.0 * (rows["place"] == "y").fill_null(False).to_numpy()


KNOWN: Any = Known()


def rows(given: pl.DataFrame | None = None) -> Answered:
    given = frame() if given is None else given
    score = KNOWN.predict(given)
    noise = np.random.default_rng(1).normal(0, 0.1, given.height)
    return answered(given.with_columns(label=pl.Series(score + noise)), score, task=NUMBER, threshold=0.5)


# -- importance ------------------------------------------------------------------------------------------------------------


def test_what_the_model_uses_is_important_in_that_order_and_the_rest_is_not() -> None:
    found = importance(KNOWN, rows(), NUMBER.metric("rmse"))
    assert isinstance(found, Importance)
    assert found.names[:3] == ["strong", "weak", "place"] or found.names[:3] == ["strong", "place", "weak"]
    assert found.losses["idle"] == found.losses["constant"] == 0
    low, high = found.intervals["strong"]
    assert 3 < low < found.losses["strong"] < high < 5.5, "shuffled, 3 strong differs by 3 sqrt(2)"


def test_importance_is_the_same_for_the_same_seed_only() -> None:
    first, again, other = (importance(KNOWN, rows(), NUMBER.metric("mae"), seed=seed) for seed in (0, 0, 1))
    assert first == again != other


def test_a_wide_table_is_bounded_and_says_what_was_not_tried() -> None:
    noise = np.random.default_rng(2).normal(size=(ROWS, 200))
    wide = pl.concat([frame(), pl.DataFrame(noise, schema=[f"n{i}" for i in range(200)])], how="horizontal")
    found = importance(Known(Encoder.fit(wide, wide.columns)), rows(wide), NUMBER.metric("rmse"))  # type: ignore[arg-type]
    assert isinstance(found, Importance)
    assert len(found.losses) == MOST_COLUMNS
    assert set(found.names[:3]) == {"strong", "weak", "place"}
    assert found.note.startswith("145 of 205 features were not tried")


def test_the_first_ranking_sees_features_that_matter_only_together() -> None:
    class Product(Known):
        def predict(self, rows: pl.DataFrame) -> np.ndarray:
            return (rows["strong"] * rows["idle"]).to_numpy()

    model: Any = Product()
    found = sensitivity(model, frame(), frame().columns)
    assert found["strong"] > 0.5 and found["idle"] > 0.5
    assert found["weak"] == found["place"] == found["constant"] == 0
    assert found == sensitivity(model, frame(), frame().columns)


def test_a_slow_model_answers_fewer_rows_for_that() -> None:
    slow: Any = Known(format="skops", content=bytes(5_000_000))
    assert affordable(slow, 300, most=2_000) < LEAST_ROWS < affordable(KNOWN, 300, most=2_000) == 2_000


def test_a_metric_that_does_not_apply_is_a_reason() -> None:
    flat = rows().take(np.zeros(30, dtype=int))
    assert "r2 does not apply" in str(importance(KNOWN, flat, NUMBER.metric("r2")))


# -- SHAP ------------------------------------------------------------------------------------------------------------------


def test_effects_of_a_sum_are_exact_and_add_up() -> None:
    """Without interactions, a feature's effect is its own part less the background's mean part."""
    sample, background = rows().take(np.arange(40)), frame(60)
    found = effects(KNOWN, sample, background, ["strong", "weak", "place", "idle"])
    assert found.values.shape == (40, 4)
    used = background.filter(pl.int_range(pl.len()).is_in(_background_places()))
    np.testing.assert_allclose(
        found.values[:, 0], 3 * (sample.frame["strong"] - used["strong"].mean()).to_numpy(), atol=1e-6
    )
    np.testing.assert_allclose(found.values[:, 3], 0, atol=1e-9)
    np.testing.assert_allclose(found.values.sum(axis=1), sample.score - KNOWN.predict(used).mean(), atol=1e-6)
    assert np.isnan(found.numbers[:, 2]).all(), "a text is no number"
    assert next(iter(found.means())) == "strong"


def _background_places() -> list[int]:
    from ml_assets.development.candidates.base import sampled
    from ml_assets.evaluation.effects import BACKGROUND

    return sampled(60, BACKGROUND, 0).tolist()


def test_features_that_are_not_asked_for_keep_the_rows_own_values() -> None:
    sample = rows().take(np.arange(5))
    found = effects(KNOWN, sample, frame(60), ["strong"])
    assert found.values.shape == (5, 1)
    assert "the other 4 kept each row's own values" in found.note


def test_numpys_global_generator_is_left_as_it_was() -> None:
    np.random.seed(7)
    expected = np.random.random()
    np.random.seed(7)
    effects(KNOWN, rows().take(np.arange(2)), frame(30), ["strong"])
    assert np.random.random() == expected


# -- worst errors, breakdown -----------------------------------------------------------------------------------------------


def test_the_worst_rows_come_first_with_what_moved_them() -> None:
    made = rows()
    spoiled = made.frame.with_columns(label=pl.when(pl.int_range(pl.len()) == 17).then(99.0).otherwise("label"))
    test = answered(spoiled.with_columns(key=pl.int_range(pl.len())), made.score, task=NUMBER, threshold=0.5)
    places = worst(test)
    assert (places[0], len(places)) == (17, 10)
    moved = effects(KNOWN, test.take(places), frame(60), ["strong", "weak", "place"])
    records = worst_rows(test, places, moved, key=["key"])
    assert records[0]["key"] == 17
    assert records[0]["loss"] == pytest.approx(99 - made.score[17])
    assert "strong = " in records[0]["moved by"] and "idle" not in records[0]["moved by"]
    assert worst_rows(test, places, None, key=["key"])[0].keys() == {"key", "label", "prediction", "loss"}


def test_a_breakdown_by_score_counts_every_row_once() -> None:
    random = np.random.default_rng(0)
    score = random.random(1_003)
    labels = pl.DataFrame({"label": (random.random(1_003) < score).astype(int)})
    found = breakdown(answered(labels, score, task=task("classification"), threshold=0.5), [])
    assert found is not None
    assert sum(record["rows"] for record in found.records) == 1_003
    assert found.records[-1]["of all positives, found so far"] == 1
    shares = [record["share of positives"] for record in found.records]
    assert shares[0] > 0.85 and shares[-1] < 0.15


def test_confusions_are_told_most_frequent_first() -> None:
    kind = task("classification", classes=["a", "b", "c"])
    labels = pl.DataFrame({"label": ["a"] * 5 + ["b"] * 4 + ["c"]})
    score = np.eye(3)[[0, 1, 1, 1, 2, 1, 1, 0, 1, 2]]
    found = breakdown(answered(labels, score, task=kind, threshold=0.5), [])
    assert found is not None
    assert [(one["label"], one["predicted"], one["rows"]) for one in found.records] == [
        ("a", "b", 3),
        ("a", "c", 1),
        ("b", "a", 1),
    ]
    assert found.records[0]["share of the label's rows"] == pytest.approx(0.6)
    right = breakdown(answered(labels, np.eye(3)[[0] * 5 + [1] * 4 + [2]], task=kind, threshold=0.5), [])
    assert right is not None and right.sentences == ("No row was confused.",)


# -- the learning curve ----------------------------------------------------------------------------------------------------


def test_more_rows_help_a_model_of_classes_that_overlap(tmp_path: Path) -> None:
    subject, made = problems.binary(tmp_path)
    curve = learning_curve(subject.challenger.result, subject.results, subject.plan.rows(made), subject.plan)
    assert isinstance(curve, LearningCurve)
    train = made.filter(pl.col("split") == "train").height
    assert curve.rows == (train // 8, train // 4, train // 2, train)
    assert all(value is not None and 0.9 < value <= 1 for value in (*curve.train, *curve.validation))


def test_a_slow_candidate_has_a_shorter_curve_or_none(tmp_path: Path) -> None:
    subject, made = problems.regression(tmp_path)
    rows = subject.plan.rows(made)
    result = subject.challenger.result
    slow = CandidateResult(**{**result.to_dict(), "seconds": 1e6, "trials": ()})
    assert "takes too long" in str(learning_curve(slow, [slow], rows, subject.plan))
    trial = {"number": 0, "state": "complete", "seconds": 0.1, "value": 1.0, "parameters": {}}
    searched = CandidateResult(**{**result.to_dict(), "seconds": 1e6, "trials": (trial,)})
    assert isinstance(learning_curve(searched, [searched], rows, subject.plan), LearningCurve)


def test_of_an_ensemble_the_heaviest_member_is_shown(tmp_path: Path) -> None:
    subject, made = problems.regression(tmp_path)
    weights = {"weights": {"baseline": 0.2, "linear": 0.8}}
    whole = CandidateResult("ensemble", "trained", "", variant=weights)
    curve = learning_curve(whole, subject.results, subject.plan.rows(made), subject.plan)
    assert isinstance(curve, LearningCurve) and curve.candidate == "linear"


# -- all of it, of real problems -------------------------------------------------------------------------------------------


def both(found: tuple[Any, pl.DataFrame]) -> tuple[Examination, Explanation]:
    subject, made = found
    examined = examine(subject, made, made_at=problems.MADE_AT)
    return examined, explain(examined, made, key=["row"])


@pytest.mark.parametrize("kind", ["multiclass", "regression"])
def test_a_supervised_problem_is_explained_the_same_each_time(kind: str, tmp_path: Path) -> None:
    made = getattr(problems, kind)(tmp_path)
    examined, found = both(made)
    assert isinstance(found.importance, Importance) and set(found.importance.names) == set(examined.model.encoder.names)
    assert len(found.errors) == 10
    assert {"row", "event_timestamp", "label", "prediction", "loss", "moved by"} <= set(found.errors[0])
    assert found.told() == both(made)[1].told()
    best = {"multiclass": {"petal_length", "petal_width"}, "regression": {"s5", "bmi", "s1"}}[kind]
    assert set(found.importance.names[:1]) <= best


def test_a_clustering_is_told_in_words(tmp_path: Path) -> None:
    _, found = both(problems.clustering(tmp_path))
    assert found.parts is not None and len(found.parts.sentences) == 3
    assert "petal" in found.parts.sentences[0]
    assert {title for title, _ in found.absent()} == {"Permutation importance", "SHAP", "Learning curve"}
    distances = [row["distance"] for row in found.errors]
    assert distances == sorted(distances, reverse=True) and distances[-1] > 0
