"""A problem that cannot work is refused when it is loaded: the message names the field, the value and the fix."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml

from ml_assets import problem as room
from ml_assets.development.candidates.registry import NAMES
from ml_assets.problem import MlProblem
from ml_assets.tasks import task

DECLARED = Path(room.__file__).parent / "defs" / "flights" / "delay" / "defs.yaml"
EXAMPLE = yaml.safe_load((inspect.getdoc(MlProblem) or "").split("```yaml")[1].split("```")[0])


def problem(**changes: Any) -> MlProblem:
    return MlProblem.resolve_from_dict(EXAMPLE["attributes"] | changes)


def query(sql: str) -> dict[str, Any]:
    return {"observations": {"key": ["id"], "query": sql}}


def test_the_example_in_the_docstring_loads() -> None:
    assert EXAMPLE["type"] == "ml_assets.MlProblem"
    assert problem().observations.tables == ["clean/flights"]


def test_the_declared_problem_loads() -> None:
    declared = MlProblem.resolve_from_dict(yaml.safe_load(DECLARED.read_text())["attributes"])
    assert declared.observations.tables == ["clean/flights"]
    assert set(declared.features.ignore) <= {"tailnum"}


def test_all_but_the_essentials_has_a_default() -> None:
    essentials = {"name", "question", "task", "observations", "features", "days"}
    made = MlProblem.resolve_from_dict({name: EXAMPLE["attributes"][name] for name in essentials})
    assert (made.split.train, made.success.metric, made.candidates[0]) == ("8mo", "roc_auc", "baseline")


def test_names_that_are_spelled_twice_agree() -> None:
    assert room.CANDIDATES == NAMES
    assert list(room.METRICS["classification"]) == task("classification").metric_names


def test_the_tables_of_a_query_are_found_in_order() -> None:
    sql = "SELECT * FROM clean_orders o JOIN clean_shops s ON o.s = s.s join raw_towns t ON 1 = 1 JOIN clean_shops x ON 1 = 1"
    assert problem(**query(sql)).observations.tables == ["clean/orders", "clean/shops", "raw/towns"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "Flight Delay"}, "name 'Flight Delay' is not a name; use lower-case letters, digits and underscores"),
        ({"candidates": ["xgboost"]}, r"candidates \['xgboost'\]: name each once, out of .*, with the baseline"),
        ({"candidates": ["baseline", "baseline"]}, "name each once"),
        ({"candidates": ["baseline", "xgbost"]}, r"'xgbost'\]: name each once, out of \['baseline', 'random_forest'"),
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
