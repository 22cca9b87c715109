"""Every candidate: learns, is the same again under a seed, says what it did, and refuses what cannot teach it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from ml_assets.development.candidates.base import Candidate, CandidateError, labels, sampled
from ml_assets.development.candidates.registry import CANDIDATES, NAMES, candidate, supported
from ml_assets.development.encoding import Encoder
from ml_assets.development.training import measured
from ml_assets_tests.development.samples import fitted, small


@pytest.fixture(params=NAMES)
def known(request: pytest.FixtureRequest) -> Candidate:
    return small(request.param)


def test_it_learns(known: Candidate, training_set: pl.DataFrame, features: list[str]) -> None:
    test = training_set.filter(pl.col("split") == "test")
    score = fitted(known, training_set, features).predict(test)
    assert score.dtype == np.float64 and score.shape == (test.height,)
    metrics, _ = measured("classification", test["label"].to_numpy(), score)
    assert metrics["roc_auc"] > 0.75 or known.name == "baseline"
    assert metrics["log_loss"] < 0.6 or known.name == "baseline", "the scores are probabilities"


def test_a_seed_gives_the_same_files_again(known: Candidate, training_set: pl.DataFrame, features: list[str]) -> None:
    first, second = (fitted(known, training_set, features, seed=3).files() for _ in range(2))
    assert first == second


@pytest.mark.parametrize("name", ["random_forest", "xgboost", "neural"])
def test_another_seed_is_another_model(name: str, training_set: pl.DataFrame, features: list[str]) -> None:
    first, second = (fitted(small(name), training_set, features, seed=seed).content for seed in (1, 2))
    assert first != second


def test_it_scores_unseen_categories_nulls_and_one_row(
    known: Candidate, training_set: pl.DataFrame, features: list[str]
) -> None:
    model = fitted(known, training_set, features)
    odd = training_set.head(2).with_columns(place=pl.lit("never seen"), delay=None, seats=None, weekend=None)
    assert ((model.predict(odd) >= 0) & (model.predict(odd) <= 1)).all()
    assert model.predict(odd.head(0)).shape == (0,)
    np.testing.assert_allclose(model.predict(odd.head(1)), model.predict(odd)[:1], atol=1e-6)


def test_validation_only_says_when_to_stop(training_set: pl.DataFrame, features: list[str]) -> None:
    """Other validation labels: the same trees, fewer or more of them."""
    train, validation = (training_set.filter(pl.col("split") == split) for split in ("train", "validation"))
    encoder, known = Encoder.fit(train, features), small("xgboost")
    flipped = validation.with_columns(label=1 - pl.col("label"))
    told = {"encoder": encoder, "label": "label", "seed": 0, "threads": 1}
    full, stopped = known.fit(train, validation, **told), known.fit(train, flipped, **told)
    assert stopped.parameters["rounds_kept"] < full.parameters["rounds_kept"]
    for other in (name for name in NAMES if name not in {"xgboost", "neural"}):
        one, two = (small(other).fit(train, rows, **told) for rows in (validation, flipped))
        assert one.files() == two.files()


@pytest.mark.parametrize("name", ["xgboost", "neural"])
def test_without_validation_rows_it_trains_to_the_end(
    name: str, training_set: pl.DataFrame, features: list[str]
) -> None:
    model = fitted(small(name), training_set.filter(pl.col("split") == "train"), features)
    assert {"rounds_kept": 40, "epochs_kept": 15}.items() & dict(model.parameters).items()


@pytest.mark.parametrize("name", NAMES[1:])
def test_one_class_is_refused(name: str, training_set: pl.DataFrame, features: list[str]) -> None:
    with pytest.raises(CandidateError, match=r"holds only \[0\]: a classifier needs rows of both classes"):
        fitted(small(name), training_set.with_columns(label=pl.lit(0)), features)


def test_svm_says_which_machine_was_chosen(training_set: pl.DataFrame, features: list[str]) -> None:
    exact = fitted(candidate("svm"), training_set, features)
    large = fitted(replace(candidate("svm"), exact_rows=100, components=50), training_set, features)
    assert exact.parameters["chosen"] == "exact" and "3-fold out-of-fold" in exact.notes[0]
    assert large.parameters["chosen"] == "approximate"
    assert "50 components, and a linear machine on 480 sampled rows, calibrated on 120 others" in large.notes[0]


def test_svm_with_one_row_of_a_class(training_set: pl.DataFrame, features: list[str]) -> None:
    train = training_set.filter(pl.col("split") == "train").head(60)
    lonely = train.with_columns(label=(pl.int_range(pl.len()) == 7).cast(pl.Int64))
    assert "a class has only one" in fitted(candidate("svm"), lonely, features).notes[0]


def test_order_is_from_simple_to_complex() -> None:
    assert NAMES == ("baseline", "random_forest", "xgboost", "svm", "neural")
    assert len(set(NAMES)) == len(CANDIDATES)


def test_unknown_candidate_is_named_with_the_known() -> None:
    with pytest.raises(CandidateError, match=r"'perceptron' does not exist: use one of \['baseline'"):
        candidate("perceptron")


def test_support_is_said_with_a_reason() -> None:
    assert candidate("neural").supports("classification", 50)
    assert "at least 50 training rows, and there are 49" in candidate("neural").supports("classification", 49).reason
    assert candidate("svm").supports("clustering", 1_000).reason == "svm does ['classification'], not clustering"
    assert [known.name for known in supported("classification", 5)] == ["baseline"]


@pytest.mark.parametrize("values", [[0, 1, None], [0, 2, 1]])
def test_labels_other_than_0_and_1_are_refused(values: list[int | None]) -> None:
    with pytest.raises(CandidateError, match=r"give 0 and 1, without null"):
        labels(pl.DataFrame({"label": values}), "label")


def test_sample_is_seeded_sorted_and_without_repetition() -> None:
    drawn = sampled(100, 10, 5)
    assert len(set(drawn.tolist())) == 10 and (np.diff(drawn) > 0).all()
    np.testing.assert_array_equal(drawn, sampled(100, 10, 5))
    assert sampled(3, 10, 5).tolist() == [0, 1, 2]
