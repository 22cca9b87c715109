"""A problem that cannot work is refused when it is loaded: the message names the field, the value and the fix."""

from __future__ import annotations

import inspect
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from ml_assets import problem as room
from ml_assets.development.lifecycle import default_candidates
from ml_assets.problem import MlProblem, candidates_of
from ml_assets.tasks import task
from ml_assets.tasks.multiclass import Multiclass

DECLARED = sorted(Path(room.__file__).parent.glob("defs/**/defs.yaml"))
EXAMPLE = yaml.safe_load((inspect.getdoc(MlProblem) or "").split("```yaml")[1].split("```")[0])
CLASSES = ["low", "middle", "high"]
TASKS: dict[str, dict[str, Any]] = {
    "binary": {"kind": "classification", "positive": "late"},
    "multiclass": {"kind": "classification", "classes": CLASSES},
    "regression": {"kind": "regression", "unit": "minutes"},
    "clustering": {"kind": "clustering", "clusters": [2, 5]},
}
NEITHER: dict[str, Any] = {"success": {}, "features": None, "days": None}
"""What the example declares for its own task, left out."""


def problem(**changes: Any) -> MlProblem:
    return MlProblem.resolve_from_dict(EXAMPLE["attributes"] | changes)


def of(kind: str, **changes: Any) -> MlProblem:
    """Return a problem of a kind of task that declares little else."""
    return problem(**({"task": TASKS[kind]} | NEITHER | changes))


def query(sql: str) -> dict[str, Any]:
    return {"observations": {"key": ["id"], "query": sql}}


def test_the_example_in_the_docstring_loads() -> None:
    assert EXAMPLE["type"] == "ml_assets.MlProblem"
    assert problem().observations.tables == ["clean/flights"]


def test_the_declared_problems_load() -> None:
    documents = [document for path in DECLARED for document in yaml.safe_load_all(path.read_text())]
    found = [MlProblem.resolve_from_dict(one["attributes"]) for one in documents if one["type"] == EXAMPLE["type"]]
    assert {one.task.kind for one in found} >= {"classification", "regression", "clustering"}
    delay = next(one for one in found if one.name == "flight_delay")
    assert delay.observations.tables == ["clean/flights"]
    assert delay.features and set(delay.features.ignore) <= {"tailnum"}


def test_all_but_the_essentials_has_a_default() -> None:
    essentials = ("name", "question", "task", "observations")
    made = MlProblem.resolve_from_dict({name: EXAMPLE["attributes"][name] for name in essentials})
    assert (made.split.by, made.split.train, made.metric, made.kinds[0], made.search.trials) == (
        "time",
        "8mo",
        "roc_auc",
        "baseline",
        10,
    )
    assert (made.days, made.clock, made.features, made.views, made.value) == (None, "replay", None, (), {})


# -- each kind of task -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TASKS)
def test_each_task_has_its_metrics_and_candidates(kind: str) -> None:
    made = of(kind)
    plain = made.task.plain()
    assert plain == task(
        TASKS[kind]["kind"], classes=TASKS[kind].get("classes", ()), clusters=TASKS[kind].get("clusters")
    )
    assert made.metric == plain.default_metric
    assert set(made.kinds) == set(candidates_of(made.task.kind)) == set(default_candidates(plain))
    for metric in plain.declarable_names:
        assert of(kind, success={"metric": metric}).metric == metric


def test_three_classes_are_another_task_than_two() -> None:
    assert isinstance(of("multiclass").task.plain(), Multiclass)
    assert of("multiclass").metric != "roc_auc"
    assert of("binary").metric == "roc_auc"


def test_the_ensemble_comes_last_wherever_it_is_declared() -> None:
    assert problem(candidates=["ensemble", "xgboost", "baseline"]).kinds == ["xgboost", "baseline", "ensemble"]
    assert problem().kinds[-1] == "ensemble"
    assert "ensemble" not in of("clustering").kinds


@pytest.mark.parametrize("kind", TASKS)
def test_less_is_better_is_declared_by_at_most_more_by_at_least(kind: str) -> None:
    for metric in of(kind).task.plain().metrics:
        if not metric.declarable:
            continue
        right, wrong = ("at_least", "at_most") if metric.greater_is_better else ("at_most", "at_least")
        assert getattr(of(kind, success={"metric": metric.name, right: 0.5}).success, right) == 0.5
        with pytest.raises(Exception, match=f"{wrong} does not fit metric '{metric.name}'.*; write {right}"):
            of(kind, success={"metric": metric.name, wrong: 0.5})


# -- features, days, splits --------------------------------------------------------------------------------------------


def test_a_problem_without_features_sees_its_own_columns() -> None:
    made = of("binary", observations=EXAMPLE["attributes"]["observations"])
    assert (made.features, made.views, made.ignored) == (None, (), ["flight_id"])


def test_what_a_model_may_not_see() -> None:
    features = {"service": "s", "views": ["v", "w"], "ignore": ["tailnum"]}
    made = problem(features=features, split={"by": "random", **SHARES, "group": "carrier"})
    assert made.views == ["v", "w"]
    assert made.ignored == ["flight_id", "tailnum", "carrier"]


SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}


@pytest.mark.parametrize(
    ("split", "lengths"),
    [
        ({"train": "4w", "validation": "7d", "test": "7d", "gap": "1d"}, ("4w", "7d", "7d")),
        ({"train": 0.7, "validation": 0.1, "test": 0.2, "gap": "2d"}, (0.7, 0.1, 0.2)),
        ({"by": "random", **SHARES}, (0.6, 0.2, 0.2)),
        ({"by": "random", **SHARES, "group": "carrier"}, (0.6, 0.2, 0.2)),
        ({"by": "random", "train": 1 / 3, "validation": 1 / 3, "test": 1 / 3}, (1 / 3, 1 / 3, 1 / 3)),
    ],
)
def test_splits_by_time_and_at_random(split: dict[str, Any], lengths: tuple[Any, ...]) -> None:
    plan = problem(split=split).split.plain(7)
    assert (plan.train, plan.validation, plan.test) == lengths
    assert (plan.by_time, plan.group, plan.seed) == (split.get("by") != "random", split.get("group"), 7)
    assert plan.gap == {None: timedelta(0), "1d": timedelta(days=1), "2d": timedelta(days=2)}[split.get("gap")]


def test_the_tables_of_a_query_are_found_in_order() -> None:
    sql = "SELECT * FROM clean_orders o JOIN clean_shops s ON o.s = s.s join raw_towns t ON 1 = 1 JOIN clean_shops x ON 1 = 1"
    assert problem(**query(sql)).observations.tables == ["clean/orders", "clean/shops", "raw/towns"]


GOOD: dict[str, dict[str, Any]] = {
    "candidates": {"candidates": ["xgboost", "baseline"]},
    "clustering candidates": {"task": TASKS["clustering"], "candidates": ["k_means"], **NEITHER},
    "value": {"value": {"true_positive": 40, "false_positive": -15.5, "currency": "USD"}},
    "value of classes": {"task": TASKS["multiclass"], **NEITHER, "value": {"right": 5, "wrong": -2}},
    "value by class": {"task": TASKS["multiclass"], **NEITHER, "value": {"right": 5, "wrong": {CLASSES[0]: -9}}},
    "value of errors": {
        "task": TASKS["regression"],
        **NEITHER,
        "value": {"per_unit_of_error": -1.5, "currency": "USD"},
    },
    "availability": {"availability": {"history_from": "2013-01-01", "label_delay": "1d", "refreshed": "daily"}},
    "search": {"search": {"trials": 0, "seconds": 1.5, "rows": 100, "folds": 2}},
    "lower case": query("select * from clean_flights"),
    "clock": {"clock": "system"},
    "days without an end": {"days": "2013-01-01/"},
}


@pytest.mark.parametrize("changes", GOOD.values(), ids=list(GOOD))
def test_what_may_be_declared_loads(changes: dict[str, Any]) -> None:
    assert problem(**changes).name == "flight_delay"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "Flight Delay"}, "name 'Flight Delay' is not a name; use lower-case letters, digits and underscores"),
        ({"candidates": ["xgboost"]}, r"candidates \['xgboost'\]: name each once, out of .*, with the baseline"),
        ({"candidates": ["baseline", "baseline"]}, "name each once"),
        ({"candidates": ["baseline", "xgbost"]}, r"'xgbost'\]: name each once, out of \['baseline', "),
        ({"success": {"metric": "rmse"}}, "metric 'rmse' does not fit task 'classification'; use one of: accuracy, "),
        (
            {"split": {"train": "8 months"}},
            "'8 months' is not a span of time; write a number and d, w or mo, such as 8mo",
        ),
        ({"split": {"holdout": "1mo"}}, "holdout"),
        (query("FROM clean_flights SELECT *"), "query 'FROM clean_flights SELECT \\*': must begin with SELECT"),
        (query("SELECT * FROM flights"), "names no table; write FROM clean_<source> or raw_<source>"),
        ({"task": {"kind": "clasification"}}, "clasification|classification"),
        ({"task": {}}, "kind"),
        ({"questions": "?"}, "questions"),
        ({"features": {"service": "x"}}, "views"),
        # the task
        (
            {"task": {"kind": "classification", "classes": ["yes", "no"]}},
            r"task.classes \['yes', 'no'\]",
        ),
        ({"task": {"kind": "classification", "classes": ["a", "b", "a"]}}, "task.classes"),
        ({"task": {"kind": "clustering", "clusters": [5, 2]}, **NEITHER}, r"task.clusters \[5, 2\]: give the fewest"),
        ({"task": {"kind": "clustering", "clusters": [1, 4]}, **NEITHER}, r"fewest \(2 or more\) and the most"),
        # candidates and metrics of another task
        (
            {"task": TASKS["clustering"], "candidates": ["xgboost"], **NEITHER},
            r"candidates \['xgboost'\]: name each once, out of \['gaussian_mixture', 'hdbscan', 'k_means'\]",
        ),
        ({"candidates": ["baseline", "k_means"]}, r"'k_means'\]: name each once, out of \['baseline'"),
        ({"task": TASKS["regression"]}, "metric 'roc_auc' does not fit task 'regression'; use one of: .*mae"),
        (
            {"task": TASKS["clustering"], "success": {"metric": "noise_share"}},
            "metric 'noise_share' does not fit task 'clustering'; use one of: silhouette",
        ),
        (
            {"task": TASKS["regression"], "success": {"metric": "mae", "at_least": 10}},
            "at_least does not fit metric 'mae', of which less is better; write at_most",
        ),
        (
            {"success": {"at_most": 0.5}},
            "at_most does not fit metric 'roc_auc', of which more is better; write at_least",
        ),
        # splits
        (
            {"split": {**SHARES, "test": 0.3}},
            r"split \[0.6, 0.2, 0.3\]: write three spans .* or three shares .* that sum to 1",
        ),
        ({"split": {"train": "8mo", "validation": 0.1, "test": "1mo"}}, "write three spans"),
        ({"split": {"train": 0.9, "validation": 0.1, "test": 0.0}}, "three shares above 0"),
        ({"split": {"by": "random"}}, "at random: write shares, such as train: 0.6"),
        (
            {"split": {**SHARES, "group": "carrier"}},
            "split.group 'carrier': rows are grouped in a random split only; write by: random",
        ),
        ({"split": {"by": "chance"}}, "chance"),
        ({"split": {"gap": "soon"}}, "soon"),
        # what is worth what, and how long is searched
        ({"value": {"true_positives": 40}}, r"value \['true_positives'\]: give numbers for any of \['true_positive', "),
        (
            {"task": {"kind": "regression"}, "value": {"true_positive": 4}, "success": {}},
            r"value \['true_positive'\]: give a number for \['per_unit_of_error'\]",
        ),
        ({"value": {"true_positive": "much"}}, r"value \['true_positive'\]: give numbers"),
        ({"value": {"true_positive": 4, "currency": 3}}, "value.currency 3 is no text: write a unit of money"),
        (
            {"task": TASKS["clustering"], **NEITHER, "value": {"right": 4}},
            r"value \{'right': 4\} does not fit task 'clustering', which has no outcome: leave value out",
        ),
        (
            {"task": TASKS["regression"], **NEITHER, "value": {"per_unit_of_error": 1.5}},
            "value.per_unit_of_error 1.5 is not below 0: an error costs",
        ),
        (
            {"task": TASKS["multiclass"], **NEITHER, "value": {"right": 5, "wrong": {"nobody": -1}}},
            r"value.wrong \['nobody'\]: give one number, or numbers for any of the classes",
        ),
        (
            {"task": TASKS["multiclass"], **NEITHER, "value": {"right": -5}},
            "is above value.right -5: a wrong answer cannot be worth more",
        ),
        ({"search": {"trials": -1}}, "trials"),
        ({"search": {"seconds": 0}}, "seconds"),
        ({"search": {"rows": 10}}, "rows"),
        ({"search": {"folds": 1}}, "folds"),
        ({"availability": {"label_delay": "a day"}}, "a day"),
        ({"clock": "sun"}, "clock"),
    ],
)
def test_a_mistake_is_named_with_its_fix(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(Exception, match=words):
        problem(**changes)


def test_a_mistake_is_named_with_its_line() -> None:
    text = yaml.safe_dump(EXAMPLE["attributes"] | {"split": {"train": "8 months"}}, sort_keys=True)
    line = next(number for number, content in enumerate(text.splitlines(), 1) if content == "split:")
    with pytest.raises(Exception, match=f":{line} - split"):
        MlProblem.resolve_from_yaml(text)


def test_when_to_retrain_is_declared_with_defaults() -> None:
    retrain = problem(retrain={"cooldown": "2w", "least_gain": 0.01}).retrain
    assert (retrain.plain().cooldown, retrain.plain().least_gain) == (timedelta(days=14), 0.01)
    assert problem().retrain.when_needed and problem().retrain.plain().cooldown == timedelta(days=7)


@pytest.mark.parametrize("wrong", [{"cooldown": "soon"}, {"window_days": 0}, {"least_gain": -1}, {"weeks": 0}], ids=str)
def test_what_cannot_be_meant_by_retraining_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=next(iter(wrong))):
        problem(retrain=wrong)


def test_who_wants_no_retraining_by_itself_has_no_sensor() -> None:
    for needed in (True, False):
        made = problem(retrain={"when_needed": needed}).build_defs(cast(Any, None))
        assert [one.name for one in made.sensors or ()] == (["flight_delay_retrain_when_needed"] if needed else [])
