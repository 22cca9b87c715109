"""Classification into several classes; scikit-learn is the oracle."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.tasks import Task, TaskError, task
from ml_assets.tasks.multiclass import METRICS, top_label

METRIC = {metric.name: metric for metric in METRICS}
PROPERTY = settings(max_examples=60)
AVERAGED = {"precision": sk.precision_score, "recall": sk.recall_score, "f1": sk.f1_score}


@st.composite
def rows(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities of 3 to 5 classes, some of which may be absent; probabilities often tie."""
    classes = draw(st.integers(3, 5))
    weights = st.lists(st.sampled_from([1, 1, 2, 5, 9]), min_size=classes, max_size=classes)
    found = draw(st.lists(st.tuples(st.integers(0, classes - 1), weights), min_size=1, max_size=40))
    score = np.array([weight for _, weight in found], dtype=float)
    return np.array([label for label, _ in found]), score / score.sum(axis=1, keepdims=True)


@pytest.mark.filterwarnings("ignore::UserWarning")  # scikit-learn warns of classes that are predicted and not there
@PROPERTY
@given(found=rows())
def test_what_is_counted_equals_scikit_learn(found: tuple[np.ndarray, np.ndarray]) -> None:
    y, score = found
    answer = score.argmax(axis=1)
    assert METRIC["accuracy"].compute(y, score) == pytest.approx(sk.accuracy_score(y, answer))
    assert METRIC["balanced_accuracy"].compute(y, score) == pytest.approx(sk.balanced_accuracy_score(y, answer))
    for name, oracle in AVERAGED.items():
        for average in ("macro", "micro", "weighted"):
            expected = oracle(y, answer, average=average, zero_division=0)
            assert METRIC[f"{name}_{average}"].compute(y, score) == pytest.approx(expected), f"{name}_{average}"


@PROPERTY
@given(found=rows())
def test_losses_of_probabilities_equal_scikit_learn(found: tuple[np.ndarray, np.ndarray]) -> None:
    y, score = found
    labels = list(range(score.shape[1]))
    assert METRIC["log_loss"].compute(y, score) == pytest.approx(sk.log_loss(y, score, labels=labels))
    expected = sk.brier_score_loss(y, score, labels=labels, scale_by_half=False)
    assert METRIC["brier"].compute(y, score) == pytest.approx(expected)


@PROPERTY
@given(found=rows())
def test_areas_are_means_over_the_classes_that_are_there(found: tuple[np.ndarray, np.ndarray]) -> None:
    y, score = found
    there = np.unique(y)
    if len(there) == 1:
        assert METRIC["roc_auc_macro"].why_not(y, score) == f"only one class: every label is {y[0]}"
        return
    support = [np.sum(y == code) for code in there]
    roc = [sk.roc_auc_score(y == code, score[:, code]) for code in there]
    precision = [sk.average_precision_score(y == code, score[:, code]) for code in there]
    assert METRIC["roc_auc_macro"].compute(y, score) == pytest.approx(np.mean(roc))
    assert METRIC["roc_auc_weighted"].compute(y, score) == pytest.approx(np.average(roc, weights=support))
    assert METRIC["pr_auc_macro"].compute(y, score) == pytest.approx(np.mean(precision))
    if len(there) == score.shape[1]:
        for average in ("macro", "weighted"):
            expected = sk.roc_auc_score(y, score, multi_class="ovr", average=average)
            assert METRIC[f"roc_auc_{average}"].compute(y, score) == pytest.approx(expected)


def test_calibration_error_is_of_the_answer_by_hand() -> None:
    score = np.array([[0.6, 0.3, 0.1]] * 4 + [[0.1, 0.9, 0.0]] * 4)
    y = np.array([0, 0, 2, 1, 1, 1, 1, 0])
    assert METRIC["expected_calibration_error"].compute(y, score) == pytest.approx((0.1 + 0.15) / 2)
    right, confidence = top_label(y, score)
    assert right.tolist() == [1, 1, 0, 0, 1, 1, 1, 0]
    assert confidence.tolist() == [0.6] * 4 + [0.9] * 4


@pytest.mark.parametrize("name", METRIC)
def test_no_rows_is_not_applicable_with_a_reason(name: str) -> None:
    assert METRIC[name].why_not(np.empty(0, dtype=int), np.empty((0, 3))) == "no rows"


@pytest.mark.parametrize("name", METRIC)
def test_a_perfect_answer_has_the_best_value_and_the_opposite_is_worse(name: str) -> None:
    y = np.array([0, 1, 2, 0, 1, 2])
    right, wrong = np.eye(3)[y], np.eye(3)[(y + 1) % 3]
    metric = METRIC[name]
    best, worst = metric.compute(y, right), metric.compute(y, wrong)
    assert best == pytest.approx(1.0 if metric.greater_is_better else 0.0, abs=1e-12)
    assert worst is not None
    assert metric.better(best, worst)


COLORS = ("red", "green", "blue")


@pytest.fixture(scope="module")
def colors() -> Task:
    return task("classification", classes=COLORS)


@pytest.mark.parametrize("dtype", [pl.String, pl.Categorical, pl.Enum(["blue", "green", "red", "unused"])])
def test_labels_of_text_columns(colors: Task, dtype: pl.DataType) -> None:
    column = pl.Series("label", ["blue", "red", "blue", "green"], dtype=dtype)
    assert colors.labels(column).tolist() == [2, 0, 2, 1]


@pytest.mark.parametrize(
    ("column", "classes", "codes"),
    [
        (pl.Series([3, 1, 2, 1]), (1, 2, 3), [2, 0, 1, 0]),
        (pl.Series([3.0, 1.0]), (1, 2, 3), [2, 0]),
        (pl.Series([1.5, 2.0]), (1.5, 2.0, 2.5), [0, 1]),
        (pl.Series([True, False]), (True, False, "unknown"), [0, 1]),
        (pl.Series([True, False]), ("false", "true", "unknown"), [1, 0]),
        (pl.Series([], dtype=pl.String), ("a", "b", "c"), []),
    ],
)
def test_labels_of_other_columns(column: pl.Series, classes: tuple, codes: list[int]) -> None:
    found = task("classification", classes=classes).labels(column.alias("label"))
    assert found.tolist() == codes
    assert found.dtype == np.int64


@pytest.mark.parametrize("strange", ["violet", None])
def test_a_label_that_is_no_class_is_named(colors: Task, strange: str | None) -> None:
    message = rf"label column 'label' holds \['{strange}'\]: declared classes are \['red', 'green', 'blue'\]"
    with pytest.raises(TaskError, match=message):
        colors.labels(pl.Series("label", ["red", strange]))


@given(codes=st.lists(st.integers(0, 2), max_size=30))
def test_labels_are_places_in_the_declared_order(colors: Task, codes: list[int]) -> None:
    column = pl.Series("label", [COLORS[code] for code in codes], dtype=pl.String)
    assert colors.labels(column).tolist() == codes


def test_answers_can_be_stored_and_read_back(colors: Task) -> None:
    score = np.array([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]])
    frame = pl.DataFrame(colors.answers(score, 0.5))
    assert frame["prediction"].to_list() == ["green", "red"]  # of equals, the class that is declared first
    assert frame["score"].to_list() == [0.5, 0.4]
    np.testing.assert_array_equal(colors.stored(frame), score)
    np.testing.assert_array_equal(colors.stored(frame.cast({"scores": pl.List(pl.Float64)})), score)
    assert colors.stored(frame.clear()).shape == (0, 3)


def test_losses_are_what_the_true_class_lacks(colors: Task) -> None:
    assert colors.losses(np.array([0, 2]), np.array([[1, 0, 0], [0.1, 0.1, 0.8]])) == pytest.approx([0, 0.2])


def test_describe_tells_the_largest_classes_first(colors: Task) -> None:
    assert colors.describe(np.array([2, 2, 0])) == "66.7% blue, 33.3% red, 0.0% green"
    many = task("classification", classes=[f"c{number}" for number in range(9)])
    assert many.describe(np.arange(9)).endswith("11.1% c4, and 4 more classes")


@pytest.mark.parametrize(
    ("y", "score", "message"),
    [
        ([0, 3], [[1, 0, 0], [1, 0, 0]], "label code 3 is none of the 3 classes"),
        ([0.0, 1.0], [[1, 0, 0], [1, 0, 0]], "y is float64: give codes of classes as integers"),
        ([0, 1], [[1, 0, 0], [0.5, 0, 0]], "are not probabilities that sum to 1"),
        ([0, 1], [[1, 0, 0], [np.nan, 0, 1]], "are not probabilities that sum to 1"),
        ([0, 1], [[1, 0], [0, 1]], "give n labels and n rows of 3 probabilities"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(colors: Task, y: list, score: list, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        colors.check(np.array(y), np.array(score))


@pytest.mark.parametrize("classes", [["a", "b"], ["a", "b", "a"], [1, "1", 2]])
def test_classes_that_are_no_choice_are_refused(classes: list) -> None:
    with pytest.raises(TaskError, match="name three distinct classes or more"):
        task("classification", classes=classes)
