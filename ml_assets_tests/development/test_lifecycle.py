"""Development as one call: real small data sets of each task, and tables that are tiny, wide or odd, end with a challenger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ml_assets.development.lifecycle import Developed, Plan, default_candidates, develop
from ml_assets.development.search import Budget
from ml_assets.preparation.splits import SplitPlan
from ml_assets.tasks import Task, task
from ml_assets_tests.development.toys import BINARY, NUMBERS, table

QUICK = ("baseline", "linear", "random_forest", "ensemble")
FLOWERS = ("setosa", "versicolor", "virginica")
SMALL = Budget(trials=1, folds=2)


@cache
def data(name: str, known: Task) -> pl.DataFrame:
    """Return scikit-learn's data set, split at random."""
    from sklearn import datasets

    found = getattr(datasets, f"load_{name}")()
    frame = pl.DataFrame(
        np.asarray(found.data), schema=[str(column).replace(" ", "_") for column in found.feature_names]
    )
    if known.supervised:
        target = pl.Series(found.target)
        frame = frame.with_columns(label=target.replace_strict(dict(enumerate(FLOWERS))) if name == "iris" else target)
    split = SplitPlan(by_time=False, seed=0).drawn(frame, features_of(frame))
    return frame.with_columns(split=split)


def features_of(frame: pl.DataFrame) -> tuple[str, ...]:
    return tuple(name for name in frame.columns if name not in ("row", "label", "split", "event_timestamp"))


def plan(known: Task, metric: str, frame: pl.DataFrame, **more: Any) -> Plan:
    settings = {"budget": SMALL, "by_time": False, "threads": 1} | more
    return Plan(known, known.metric(metric), features_of(frame), **settings)


def on_test(found: Developed, known: Plan, frame: pl.DataFrame) -> float:
    """Return the metric of the challenger on the test split."""
    rows = frame.filter(pl.col("split") == "test")
    value = known.metric.compute(
        known.task.labels(rows["label"]), found.model.predict(rows), found.challenger.threshold
    )
    assert value is not None
    return value


@pytest.mark.parametrize(
    ("name", "known", "metric", "least", "most"),
    [
        ("iris", task("classification", classes=FLOWERS), "accuracy", 0.86, 1.0),
        ("breast_cancer", task("classification"), "roc_auc", 0.97, 1.0),
        ("diabetes", task("regression"), "mae", 30.0, 50.0),
    ],
)
def test_real_data_end_with_a_good_challenger_and_the_same_again(
    name: str, known: Task, metric: str, least: float, most: float, tmp_path: Path
) -> None:
    frame = data(name, known)
    made = plan(known, metric, frame)
    found = develop(frame, made, folder=tmp_path / "one", wanted=QUICK)
    assert least <= on_test(found, made, frame) <= most
    assert [one.name for one in found.results] == list(QUICK)
    assert all(one.outcome in ("trained", "not_applicable") for one in found.results)
    develop(frame, made, folder=tmp_path / "two", wanted=QUICK)
    assert files(tmp_path / "one") == files(tmp_path / "two")


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_clustering_ends_with_the_best_by_its_metric(tmp_path: Path) -> None:
    known = task("clustering", clusters=(2, 4))
    frame = data("iris", known)
    made = plan(known, "silhouette", frame)
    found = develop(frame, made, folder=tmp_path, wanted=("k_means", "gaussian_mixture"))
    best = max(found.results, key=lambda one: one.metrics["silhouette"])
    assert found.selection.winner == best.name and found.challenger.threshold == 0.5
    assert len(np.unique(found.model.predict(frame))) == 2


def test_by_time_with_everything_that_a_declaration_can_say(tmp_path: Path) -> None:
    frame = table(600).with_columns(last=pl.col("label").shift(24))
    made = Plan(
        BINARY,
        BINARY.metric("accuracy"),
        ("x", "noise", "last"),
        budget=SMALL,
        gap=timedelta(hours=24),
        value={"true_positive": 3.0, "false_positive": -1.0},
        last_value="last",
        threads=1,
    )
    found = develop(frame, made, folder=tmp_path, wanted=("baseline", "persistence", "linear"))
    assert [one.outcome for one in found.results] == ["trained"] * 3
    assert found.results[1].variant["last_value"] == "last"
    assert found.selection.winner == "linear" and found.challenger.threshold < 0.4
    assert all(fold.score.min() - fold.fit.max() >= 24 for fold in made.rows(frame).folds)


def test_accuracy_decides_by_right_answers_not_by_f1() -> None:
    known = Plan(BINARY, BINARY.metric("accuracy"), ("x",))
    assert known.decides == {"true_positive": 1.0, "true_negative": 1.0}
    assert replace(known, value={"true_positive": 2.0}).decides == {"true_positive": 2.0}
    assert replace(known, metric=BINARY.metric("roc_auc")).decides is None


def test_every_task_has_its_candidates_the_simpler_first() -> None:
    supervised = ("baseline", "persistence", "linear", "random_forest", "xgboost", "svm", "neural", "ensemble")
    for known in (BINARY, NUMBERS, task("classification", classes=FLOWERS)):
        assert default_candidates(known) == supervised
    assert set(default_candidates(task("clustering"))) == {"k_means", "gaussian_mixture", "hdbscan"}


# -- tables that are tiny, wide or odd ---------------------------------------------------------------------------------


def odd(rows: int, **columns: Any) -> pl.DataFrame:
    frame = table(rows).with_columns(**columns)
    return frame.with_columns(split=SplitPlan(by_time=False).drawn(frame, ["x", "noise"]))


def developed(
    frame: pl.DataFrame, folder: Path, known: Task = BINARY, *, wanted: Sequence[str] = QUICK, by_time: bool = False
) -> Developed:
    found = develop(frame, plan(known, known.default_metric, frame, by_time=by_time), folder=folder, wanted=wanted)
    assert np.isfinite(found.model.predict(frame.filter(pl.col("split") == "test"))).all()
    return found


@pytest.mark.parametrize("by_time", [False, True])
@pytest.mark.parametrize("rows", [150, 60, 24])
def test_few_rows(rows: int, by_time: bool, tmp_path: Path) -> None:
    frame = table(rows) if by_time else odd(rows)
    found = developed(frame, tmp_path, by_time=by_time)
    assert {one.name: one.outcome for one in found.results}["linear"] == "trained"


def test_a_class_that_comes_late_in_time(tmp_path: Path) -> None:
    frame = table(150).with_columns(label=pl.when(pl.col("row") < 80).then(0).otherwise("label"))
    found = developed(frame, tmp_path, by_time=True)
    assert found.results[1].outcome == "trained", "the folds before are left out"


def test_a_class_of_three_rows(tmp_path: Path) -> None:
    known = task("classification", classes=("a", "b", "c"))
    label = pl.when(pl.col("row") < 3).then(pl.lit("c")).when(pl.col("x") > 0).then(pl.lit("a")).otherwise(pl.lit("b"))
    found = developed(odd(150, label=label), tmp_path, known)
    assert found.selection.winner != "baseline"


def test_columns_that_say_nothing(tmp_path: Path) -> None:
    nothing = {
        "nulls": pl.lit(None, dtype=pl.Float64),
        "no_text": pl.lit(None, dtype=pl.String),
        "constant": pl.lit(7),
        "word": pl.lit("same"),
        "infinite": pl.lit(float("inf")),
        "own": pl.col("row").cast(pl.String),
    }
    found = developed(odd(200, **nothing), tmp_path)
    assert found.selection.winner in ("linear", "random_forest", "ensemble")


def test_more_columns_than_rows(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(size=(200, 300))
    wide = {f"c{number}": pl.Series(noise[:, number]) for number in range(300)}
    found = developed(odd(200, **wide), tmp_path, wanted=("baseline", "linear", "ensemble"))
    assert found.results[1].outcome == "trained"


def test_rows_that_are_all_the_same(tmp_path: Path) -> None:
    frame = table(150).with_columns(x=1.0, noise=2.0)
    found = developed(frame, tmp_path, wanted=("baseline", "linear"))
    assert found.selection.winner == "baseline"


def test_rows_without_an_outcome_are_left_out(tmp_path: Path) -> None:
    frame = odd(300)
    some = frame.with_columns(label=pl.when(pl.col("row") % 3 > 0).then("label"))
    found = developed(some, tmp_path / "some", wanted=("baseline", "linear"))
    none = developed(some.filter(pl.col("label").is_not_null()), tmp_path / "none", wanted=("baseline", "linear"))
    assert found.challenger.result.sha256 == none.challenger.result.sha256


@pytest.mark.slow
@pytest.mark.parametrize("known", [BINARY, NUMBERS, task("classification", classes=FLOWERS), task("clustering")])
def test_all_candidates_with_a_real_search(known: Task, tmp_path: Path) -> None:
    name = (
        "iris"
        if len(known.classes) == 3 or not known.supervised
        else "diabetes"
        if known == NUMBERS
        else "breast_cancer"
    )
    frame = data(name, known)
    made = plan(known, known.default_metric, frame, budget=Budget(trials=3, folds=2))
    for folder in ("one", "two"):
        found = develop(frame, made, folder=tmp_path / folder)
        outcomes: Sequence[str] = [one.outcome for one in found.results if one.name not in ("persistence", "ensemble")]
        assert set(outcomes) == {"trained"}
    assert files(tmp_path / "one") == files(tmp_path / "two")
