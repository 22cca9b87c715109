"""The data sets of the quality bench: there without a network, cut the same way each time, nothing of the test in sight."""

from __future__ import annotations

from datetime import timedelta
from functools import cache

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from benchmarks.datasets import DATASETS, KNOWN, LABEL, SPLIT, TIME, Dataset, DatasetError, checked, cut, dataset

NAMES = [one.name for one in DATASETS]
QUICK = [name for name in NAMES if not name.startswith("flight")]


@cache
def frame_of(name: str) -> pl.DataFrame:
    return dataset(name).load()


@pytest.mark.parametrize("name", NAMES)
def test_a_data_set_is_a_problem_of_its_kind(name: str) -> None:
    problem, frame = dataset(name), checked(dataset(name), frame_of(name))
    label = frame[LABEL]
    if problem.kind == "binary":
        assert set(label.unique()) == {0, 1}
    elif problem.kind == "multiclass":
        assert label.dtype == pl.String
        assert label.n_unique() >= 3
    else:
        assert label.dtype.is_numeric()
        assert label.n_unique() > 10
    assert {str(kind) for kind in frame.drop(TIME, KNOWN, strict=False).dtypes} <= {
        "Int64",
        "Float64",
        "Boolean",
        "String",
    }
    assert (TIME in frame.columns) == problem.by_time


def test_the_data_sets_cover_what_the_bench_is_about() -> None:
    assert len(set(NAMES)) == len(NAMES) >= 14
    assert {one.kind for one in DATASETS} == {"binary", "multiclass", "regression"}
    assert {one.kind for one in DATASETS if one.by_time} >= {"binary", "regression"}
    skew = {name: frame_of(name)[LABEL].skew() for name in ("doctor_visits", "flight_delay")}
    assert min(skew.values()) > 2  # type: ignore[type-var]
    nulls = [name for name in NAMES if sum(frame_of(name).null_count().row(0))]
    texts = [name for name in NAMES if pl.String in frame_of(name).drop(LABEL).dtypes]
    assert len(nulls) >= 4
    assert len(texts) >= 5


@pytest.mark.parametrize("name", QUICK)
def test_a_cut_is_the_same_each_time_and_leaves_no_row_out(name: str) -> None:
    problem, frame = dataset(name), frame_of(name)
    found, again = cut(problem, frame=frame), cut(problem)
    assert_frame_equal(found.development, again.development)
    assert_frame_equal(found.test, again.test)
    assert found.test.columns == [column for column in found.development.columns if column != SPLIT]
    assert not {LABEL, SPLIT, TIME, KNOWN} & set(found.features)
    shares = {split: count / frame.height for split, count in found.development[SPLIT].value_counts().iter_rows()}
    assert shares["train"] > 0.5
    assert shares["validation"] > 0.1
    assert found.test.height / frame.height == pytest.approx(0.2, abs=0.02)
    if not problem.by_time:
        together = pl.concat([found.development.drop(SPLIT), found.test])
        assert_frame_equal(together, checked(problem, frame), check_row_order=False)


def test_no_test_row_is_in_two_folds_and_classes_are_stratified() -> None:
    problem, frame = dataset("digits"), frame_of("digits").with_row_index("number")
    cuts = [cut(problem, fold=fold, frame=frame) for fold in range(problem.folds)]
    tested = pl.concat([one.test["number"] for one in cuts])
    assert tested.n_unique() == tested.len()
    for one in cuts:
        assert not set(one.test["number"]) & set(one.development["number"])
        assert one.test[LABEL].value_counts()["count"].min() >= 30  # type: ignore[operator]
        assert one.classes == [str(digit) for digit in range(10)]


@pytest.mark.parametrize("name", [one.name for one in DATASETS if one.by_time])
def test_no_label_of_later_is_known_when_a_split_begins(name: str) -> None:
    problem = dataset(name)
    found = cut(problem, frame=frame_of(name))
    train, validation = (found.development.filter(pl.col(SPLIT) == split)[TIME] for split in ("train", "validation"))
    assert problem.label_delay > timedelta()
    assert train.max() + problem.label_delay <= validation.min()  # type: ignore[operator]
    assert validation.max() + problem.label_delay <= found.test[TIME].min()  # type: ignore[operator]


def test_what_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(DatasetError, match="no data set 'titanic'; use one of: breast_cancer"):
        dataset("titanic")
    with pytest.raises(DatasetError, match="iris has no fold 3: give 0 to 2"):
        cut(dataset("iris"), fold=3)
    holes = Dataset("holes", "regression", "", "", lambda: pl.DataFrame({LABEL: [1.0, None]}))
    with pytest.raises(DatasetError, match="holes: 1 labels are null"):
        cut(holes)
