"""The graph: it answers what the model answers, whatever a frame holds, and steps aside where it cannot."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.development.candidates.svm import Svm
from ml_assets.development.encoding import Column, Encoder
from ml_assets.development.links import Isotonic, Link, Logistic, Spread, Target, Temperature
from ml_assets.development.model_files import FORMATS, Model, ensemble
from ml_assets.packaging import bundle, graph
from ml_assets.packaging.graph import GraphError, measure, pipeline, scored
from ml_assets.packaging.inference import PIPELINE, TOLERANCE, scorer
from ml_assets_tests.development.samples import EVERY, SUPERVISED, features_of, fitted, made, model_of, sample, small

MEMBERS = {"linear": 0.4, "random_forest": 0.3, "xgboost": 0.2, "svm": 0.1}
NUMBERS = st.none() | st.floats(width=64) | st.sampled_from([1e39, -1e39, 1e-45, 16_777_217.0, 0.0, -0.0])
TEXTS = st.none() | st.sampled_from(["x", "y", "z", "", "\0", "x\0", "X", "ü", "null"]) | st.text(max_size=3)
ROWS = st.lists(st.tuples(NUMBERS, TEXTS, st.none() | st.booleans(), NUMBERS, NUMBERS), min_size=1, max_size=6)


def model(kind: str, name: str) -> Model:
    """Return a small fitted model; the ensemble is of four that have different formats."""
    return (
        ensemble({one: model_of(kind, one) for one in MEMBERS}, MEMBERS) if name == "ensemble" else model_of(kind, name)
    )


def worst(one: Model, frame: pl.DataFrame, outside: tuple[str, ...] = ()) -> float:
    """Return the largest difference between a model and its graph."""
    written = pipeline(one, outside=outside)
    found = scored(scorer(written.files, written.outside, 1), frame, one.encoder)
    assert found.dtype == one.predict(frame).dtype and found.shape == one.predict(frame).shape
    return measure(found, one.predict(frame), TOLERANCE).difference


@pytest.mark.parametrize(("kind", "name"), [*EVERY, *((kind, "ensemble") for kind in SUPERVISED)])
def test_graph_answers_like_the_model_on_any_row(kind: str, name: str) -> None:
    one = model(kind, name)
    say = scorer(pipeline(one).files, (), 1)

    @settings(max_examples=15)
    @given(ROWS)
    def check(rows: list[Any]) -> None:
        types = {
            "delay": pl.Float64,
            "place": pl.String,
            "weekend": pl.Boolean,
            "seats": pl.Float64,
            "empty": pl.Float64,
        }
        frame = pl.DataFrame(rows, schema=types, orient="row").select(features_of(kind))
        parity = measure(scored(say, frame, one.encoder), one.predict(frame), TOLERANCE)
        assert parity.differing == 0, (parity, rows)

    check()
    assert worst(one, sample(kind)) <= TOLERANCE


@pytest.mark.parametrize("name", ["xgboost", "svm", "ensemble"])
@pytest.mark.parametrize("kind", SUPERVISED)
def test_equal_models_give_equal_bytes(kind: str, name: str) -> None:
    assert pipeline(model(kind, name)) == pipeline(model(kind, name))


def test_trees_with_sets_of_categories() -> None:
    """Many categories, so that XGBoost splits them by sets and not one by one."""
    frame = made(2_000).with_columns(place=pl.Series([f"p{row % 37}" for row in range(2_000)]))
    hot = pl.col("place").str.slice(1).cast(int).is_in([1, 5, 6, 11, 17, 18, 29, 35])
    frame = frame.with_columns(label=(hot ^ (pl.col("seats") > 200)).cast(int))
    one = fitted(small("xgboost"), frame, ("place", "seats"))
    assert b"BRANCH_EQ" in pipeline(one).files[PIPELINE], "the model splits by sets"
    unseen = frame.with_columns(place=pl.when(pl.col("seats") % 5 != 0).then("place"))
    for rows in (frame, unseen, unseen.with_columns(pl.col("place") + "?")):
        assert worst(one, rows) <= TOLERANCE


@pytest.mark.parametrize("name", ["linear", "random_forest", "xgboost"])
def test_texts_that_were_null_in_training(name: str) -> None:
    frame = sample("binary").with_columns(place=pl.when(pl.col("seats") % 4 != 0).then("place"))
    one = fitted(small(name), frame, ("place", "delay"))
    assert one.encoder.columns[0].nulls
    assert worst(one, frame) <= TOLERANCE
    assert worst(one, frame.with_columns(place=pl.lit("unseen"))) <= TOLERANCE


@pytest.mark.parametrize("kind", SUPERVISED)
def test_approximate_kernel(kind: str) -> None:
    one = fitted(Svm(exact_rows=10, components=40), sample(kind), features_of(kind), kind=kind)
    assert "approximate" in one.parameters["chosen"]
    assert worst(one, sample(kind)) <= TOLERANCE


@pytest.mark.parametrize(
    ("kind", "name", "link"),
    [
        ("binary", "linear", Logistic(1.3, -0.2)),
        ("binary", "linear", Isotonic((0.1, 0.3, 0.3, 0.8), (0.0, 0.2, 0.4, 0.9))),
        ("binary", "linear", Isotonic((0.5,), (0.25,))),
        ("binary", "linear", Spread((0, 2), 4)),
        ("multiclass", "linear", Spread((0, 2, 3), 4)),
        ("multiclass", "neural", Temperature(1.7)),
        ("regression", "linear", Target(1.0, 0.4, log=True, low=-3.0, smear=1.1)),
    ],
)
def test_links(kind: str, name: str, link: Link) -> None:
    known = model_of(kind, name)
    assert worst(replace(known, links=(*known.links, link)), sample(kind)) <= TOLERANCE


@pytest.mark.parametrize(
    ("kind", "name", "outside"),
    [
        ("binary", "xgboost", ("model",)),
        ("multiclass", "svm", ("model",)),
        ("regression", "xgboost", ("model",)),
        ("binary", "ensemble", ("xgboost", "svm")),
        ("multiclass", "ensemble", ("xgboost",)),
        ("regression", "ensemble", tuple(MEMBERS)[2:]),
    ],
)
def test_a_part_can_stay_outside(kind: str, name: str, outside: tuple[str, ...]) -> None:
    assert worst(model(kind, name), sample(kind), outside) <= TOLERANCE


def test_a_model_whose_graph_answers_otherwise_stays_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    one, right = model_of("binary", "xgboost"), graph._boosted
    wrong = lambda known, model: known.affine(right(known, model), 1.0, 1e-5)  # noqa: E731
    monkeypatch.setitem(graph._RAW, "ubj", wrong)
    written, parity = bundle._pipeline(one, sample("binary"))
    assert [part["format"] for part in written.outside] == ["ubj"] and written.files["model.ubj"] == one.content
    assert parity.differing == 0 and parity.rows == 3_000


def test_a_last_class_that_is_a_number() -> None:
    """NaN is a class of its own in the table; a request cannot hold it, and null is not it."""
    last = pl.Series([1.0, 2.0, float("nan"), None] * 250)
    frame = sample("binary").with_columns(delay=last, label=(last.fill_null(0) > 1).cast(int))
    known = replace(small("persistence"), last_value="delay")
    one = fitted(known, frame, ("delay", "place"))
    assert {"1.0", "2.0", "NaN"} == set(json.loads(one.content)["table"])
    assert bundle._pipeline(one, frame)[1].difference == 0.0


def test_a_model_without_any_graph_is_no_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "_RAW", {})
    with pytest.raises(bundle.BundleError, match="has no graph: known are"):
        bundle._pipeline(model_of("binary", "linear"), sample("binary"))
    with pytest.raises(GraphError, match="format 'onnx' has no graph"):
        pipeline(model_of("binary", "linear"))


def test_columns_of_one_kind_and_without_categories() -> None:
    number = Encoder((Column("a", "number", nulls=True, median=2.0),))
    text = Encoder((Column("t", "category"),))
    content = FORMATS["prior"].dump(np.array(0.25), np.empty(0))
    for encoder, frame in ((number, pl.DataFrame({"a": [1.0, None]})), (text, pl.DataFrame({"t": ["x", None]}))):
        assert worst(Model("prior", encoder, content), frame) == 0.0
        assert worst(model_over(encoder), frame) <= TOLERANCE


def model_over(encoder: Encoder) -> Model:
    """Return a clustering of two places over all dense columns of an encoder."""
    width = len(encoder.dense_names)
    arrays = {"kind": np.array("centres"), "centres": np.array([[0.0] * width, [1.0] * width])}
    return Model("clusters", encoder, FORMATS["clusters"].dump(arrays, np.empty(0)), output="cluster")


def test_measure_counts_rows() -> None:
    wanted = np.array([[0.5, 0.5], [0.1, 0.9]])
    found = measure(wanted + np.array([[0, 0], [0, 1e-3]]), wanted, 1e-6)
    assert (found.rows, found.differing) == (2, 1) and found.difference == pytest.approx(1e-3)
    assert measure(np.array([np.nan]), np.array([0.5]), 1e-6).differing == 1, "NaN is no answer"
