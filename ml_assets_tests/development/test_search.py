"""The search tries the defaults first, sees no validation row, follows the declared metric, and carries failures."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest

from ml_assets.development import search as module
from ml_assets.development.candidates.base import Fitted, Fitting, Rows
from ml_assets.development.candidates.baseline import Baseline
from ml_assets.development.candidates.linear import Linear
from ml_assets.development.candidates.registry import candidates
from ml_assets.development.rows import DevelopmentRows
from ml_assets.development.search import Budget, Found, best_variant, measured, refitting, search
from ml_assets_tests.development.samples import TASKS
from ml_assets_tests.development.toys import BINARY, NUMBERS, Repeats, development, fitting, table


def probabilities(rows: int = 200) -> pl.DataFrame:
    """Return a table whose columns `a` and `b` are scores: `b` ranks better."""
    frame = table(rows)
    chance = 1 / (1 + np.exp(-frame["x"].to_numpy()))
    return frame.with_columns(a=pl.Series(1 - chance), b=pl.Series(chance))


@pytest.fixture
def rows() -> DevelopmentRows:
    return development(probabilities(), features=["a", "b", "row"])


def test_the_defaults_are_tried_first_then_what_an_earlier_search_found(rows: DevelopmentRows) -> None:
    warm = {"column": "b", "scale": 0.75, "gone": [1, 2]}
    found = search(Repeats(), rows, fitting(), Budget(trials=4), warm=warm)
    assert [trial.number for trial in found.trials] == [0, 1, 2, 3]
    assert found.trials[0].parameters == {"column": "a", "scale": 1.0}
    assert found.trials[1].parameters == {"column": "b", "scale": 0.75}
    assert found.parameters["column"] == "b", "the better one"
    assert best_variant(Repeats(), found) == Repeats(column="b", scale=found.parameters["scale"])


def test_what_is_known_twice_is_tried_once(rows: DevelopmentRows) -> None:
    found = search(Repeats(), rows, fitting(), Budget(trials=2), warm=Repeats().defaults)
    assert found.trials[1].parameters != found.trials[0].parameters


def test_the_same_seed_gives_the_same_trials(rows: DevelopmentRows) -> None:
    def trials(seed: int) -> list[tuple[Mapping[str, Any], float | None]]:
        found = search(Repeats(), rows, fitting(seed=seed), Budget(trials=7))
        return [(trial.parameters, trial.value) for trial in found.trials]

    assert trials(3) == trials(3) != trials(4)


def test_of_equals_the_defaults_stay(rows: DevelopmentRows) -> None:
    # The scale moves no rank.
    found = search(
        replace(Repeats(), column="b"), rows, fitting(), Budget(trials=8), warm={"column": "b", "scale": 0.6}
    )
    assert found.parameters == {"column": "b", "scale": 1.0}


@dataclass(frozen=True)
class Shaky(Repeats):
    """Fails on column `bad`."""

    columns: ClassVar[tuple[str, ...]] = ("a", "bad", "b")


def test_a_trial_that_fails_is_recorded_and_the_search_goes_on(rows: DevelopmentRows) -> None:
    heard: list[str] = []
    warm = {"column": "bad", "scale": 1.0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna warns of each trial that fails
        found = search(Shaky(), rows, fitting(seed=2), Budget(trials=12), warm=warm, tell=heard.append)
        nothing = search(Shaky(column="bad"), rows, fitting(), Budget(trials=1))
    assert (found.trials[1].state, found.trials[1].value) == ("fail", None)
    assert len(found.trials) == 12 and found.parameters["column"] == "b"
    assert heard[0].startswith("repeats trial 0: roc_auc 0.") and heard[1] == "repeats trial 1: roc_auc -, fail"
    assert nothing.parameters == {} and best_variant(Shaky(), nothing) == Shaky()


@dataclass(frozen=True)
class Wrong(Repeats):
    """Has a bug."""

    def fit(self, train: Rows, watched: Rows | None, how: Fitting) -> Fitted:
        raise TypeError("a bug")


def test_a_bug_stops_the_search(rows: DevelopmentRows) -> None:
    with pytest.raises(TypeError, match="a bug"):
        search(Wrong(), rows, fitting(), Budget(trials=1))


def test_hopeless_trials_are_cut_short_and_have_no_value(rows: DevelopmentRows) -> None:
    Repeats.shown.clear()
    found = search(Repeats(column="b"), rows, fitting(metric="log_loss"), Budget(trials=20, folds=4))
    pruned = [trial for trial in found.trials if trial.state == "pruned"]
    assert pruned and all(trial.value is None for trial in pruned)
    assert {trial.state for trial in found.trials} == {"pruned", "complete"}
    assert len(Repeats.shown) < 4 * 20


def test_seconds_stop_the_search(rows: DevelopmentRows) -> None:
    found = search(Repeats(), rows, fitting(), Budget(trials=100_000, seconds=0.3))
    assert 1 <= len(found.trials) < 10_000


@pytest.mark.parametrize("budget", [Budget(trials=0), Budget(trials=-1)])
def test_no_trials_or_nothing_to_search_finds_nothing(rows: DevelopmentRows, budget: Budget) -> None:
    assert search(Repeats(), rows, fitting(), budget) == Found()
    assert search(Baseline(), rows, fitting(), Budget()) == Found()


def test_without_a_fold_that_could_teach_nothing_is_found() -> None:
    frame = probabilities(7_000).with_columns(label=pl.when(pl.col("split") == "train").then(0).otherwise("label"))
    late = frame.with_columns(label=pl.when(pl.col("row") == 4_199).then(1).otherwise("label"))
    assert search(Repeats(), development(late, features=["a", "b"]), fitting(), Budget()) == Found()


# -- which rows are seen -----------------------------------------------------------------------------------------------


def test_of_many_rows_validation_stays_unseen() -> None:
    frame = probabilities(6_300)
    marked = frame.with_columns(
        b=pl.when(pl.col("split") == "train").then("b").otherwise(float("nan")),  # a score that NumPy's metrics refuse
    )
    rows = development(marked, features=["a", "b", "row"])
    assert not rows.cross_fitted
    Repeats.shown.clear()
    found = search(Repeats(), rows, fitting(), Budget(trials=3, rows=1_000, folds=3))
    clean = search(Repeats(), development(frame, features=["a", "b", "row"]), fitting(), Budget(3, None, 1_000, 3))
    assert [trial.value for trial in found.trials] == [trial.value for trial in clean.trials]
    seen = {row for fold in Repeats.shown for row in fold}
    assert max(seen) < rows.train and max(len(fold) for fold in Repeats.shown) <= 1_000


def test_of_few_rows_all_are_used_and_each_fold_looks_forward(rows: DevelopmentRows) -> None:
    assert rows.cross_fitted
    Repeats.shown.clear()
    search(Repeats(), rows, fitting(), Budget(trials=1, folds=3))
    assert [len(fold) for fold in Repeats.shown] == [82, 108, 134]


@pytest.mark.parametrize(("columns", "most"), [(1, 4_000), (1_000, 600), (10_000, 500)])
def test_wide_tables_are_thinned_more(columns: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    rows = replace(development(table(6_300)), features=("x",) * columns)

    def stop(count: int, limit: int, *, seed: int) -> np.ndarray:
        asked.append(limit)
        raise ValueError("seen enough")

    monkeypatch.setattr(module, "thinned", stop)
    with pytest.raises(ValueError, match="seen enough"):
        search(Repeats(), rows, fitting(), Budget(rows=4_000))
    assert asked == [most]


# -- what is optimised -------------------------------------------------------------------------------------------------


def ranked(order: list[int]) -> np.ndarray:
    """Return scores by which the rows with these labels come in this order."""
    return np.linspace(1, 0, len(order))


def test_the_declared_metric_is_optimised() -> None:
    # Of each 100 rows 10 are positive. By `a` 5 negatives come first, then all positives: ROC-AUC 0.94, accuracy 0.95.
    # By `b` 8 positives come first, and 2 last: ROC-AUC 0.8, accuracy 0.98.
    a, b, labels = np.empty(100), np.empty(100), np.array([1] * 10 + [0] * 90)
    a[[*range(10, 15), *range(10), *range(15, 100)]] = ranked([0] * 100)
    b[[*range(8), *range(10, 100), 8, 9]] = ranked([0] * 100)
    frame = table(800).with_columns(
        label=pl.Series(np.tile(labels, 8)), a=pl.Series(np.tile(a, 8)), b=pl.Series(np.tile(b, 8))
    )
    rows = development(frame, features=["a", "b"])
    right = {"true_positive": 1.0, "true_negative": 1.0}
    by_rank = search(Repeats(), rows, fitting(metric="roc_auc"), Budget(trials=6, folds=2), value=right)
    by_decision = search(Repeats(), rows, fitting(metric="accuracy"), Budget(trials=6, folds=2), value=right)
    assert (by_rank.parameters["column"], by_decision.parameters["column"]) == ("a", "b")


def test_skewed_outcomes_try_logarithms_which_the_metric_accepts_or_not() -> None:
    random = np.random.default_rng(1)
    frame = table(1_500)
    frame = frame.with_columns(label=8 + 2 * pl.col("x") + pl.Series(random.lognormal(1, 1.2, 1_500)))
    rows = development(frame.filter(pl.col("label") > 0), NUMBERS)
    found = {
        metric: search(Linear(), rows, fitting(NUMBERS, metric), Budget(trials=2, folds=2))
        for metric in ("mae", "rmse")
    }
    for one in found.values():
        assert [trial.parameters["log_target"] for trial in one.trials] == [False, True]
    assert found["mae"].parameters["log_target"] and not found["rmse"].parameters["log_target"]


def test_decisions_are_measured_at_the_threshold_that_would_be_chosen() -> None:
    y, score = np.array([0, 0, 1, 1]), np.array([0.01, 0.02, 0.03, 0.04])
    assert measured(BINARY, BINARY.metric("f1"), y, score, None) == 1.0
    assert np.isnan(measured(BINARY, BINARY.metric("roc_auc"), y[:2], score[:2], None))


def test_a_fold_without_the_metric_does_not_count_and_prunes_nothing() -> None:
    # The first scored fold has one class only: ROC-AUC is not defined there.
    frame = probabilities(300)
    gap = pl.col("row").is_between(110, 170)
    rows = development(frame.with_columns(label=pl.when(gap).then(0).otherwise("label")), features=["a", "b"])
    found = search(Repeats(column="b"), rows, fitting(), Budget(trials=10, folds=3))
    assert all(
        trial.value is not None and np.isfinite(trial.value) for trial in found.trials if trial.state == "complete"
    )
    assert sum(trial.state == "complete" for trial in found.trials) >= 6


def test_a_metric_that_is_defined_nowhere_fails_the_trials() -> None:
    rows = development(probabilities(100).with_columns(label=0), features=["a", "b"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = search(Repeats(), rows, fitting(), Budget(trials=2))
    assert [trial.state for trial in found.trials] == ["fail", "fail"] and found.parameters == {}


# -- candidates' own spaces --------------------------------------------------------------------------------------------

SEARCHED = [(kind, one) for kind in ("binary", "regression") for one in candidates() if one.searches]


@pytest.mark.parametrize(("kind", "one"), SEARCHED, ids=lambda value: getattr(value, "name", value))
def test_every_candidates_defaults_lie_in_its_space(kind: str, one: Any) -> None:
    known = TASKS[kind]
    how = fitting(known)
    study = module._study(how)
    study.enqueue_trial(one.defaults)
    y = np.array([1.0, 2.0, 3.0])
    train = Rows(pl.DataFrame({"x": y}), y, development(table(50)).encoder(np.arange(10)))
    trial = study.ask()
    one.space(trial, train, how)
    assert trial.params == {name: one.defaults[name] for name in trial.params}


# -- refitting ---------------------------------------------------------------------------------------------------------


def test_a_refit_takes_as_many_rounds_and_a_little_more_for_more_rows() -> None:
    how = fitting()
    assert refitting(how, [None, 0], growth=2).size is None
    assert refitting(how, [100, 200], growth=1).size == 150
    assert refitting(how, [100], growth=1.21).size == 110
    assert refitting(how, [100], growth=50).size == 122, "not without end"


def test_the_search_survives_json(rows: DevelopmentRows) -> None:
    import json

    found = search(Repeats(), rows, fitting(), Budget(trials=2))
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert told["parameters"] == found.parameters and [one["number"] for one in told["trials"]] == [0, 1]
    assert isinstance(Repeats().fit(rows.rows(np.arange(5), rows.encoder(np.arange(5))), None, fitting()), Fitted)
