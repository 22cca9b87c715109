"""The online benches: percentiles are those of real answers, and another answer or another state is noticed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.arms.online import at, read
from benchmarks.online import same_answers
from benchmarks.online_increment import same_state


@pytest.mark.parametrize(("share", "expected"), [(50, 50), (99, 99), (100, 100), (1, 1)])
def test_a_percentile_is_one_of_the_times(share: int, expected: int) -> None:
    assert at([float(time) for time in reversed(range(1, 101))], share) == expected


@pytest.mark.parametrize(
    ("times", "expected"), [([3.0], 3.0), ([1.0, 2.0], 2.0), ([float(n) for n in range(1, 51)], 50.0)]
)
def test_of_few_times_the_slowest_is_the_99th_percentile(times: list[float], expected: float) -> None:
    assert at(times, 99) == expected


def test_every_question_is_answered_once_and_told(tmp_path: Path) -> None:
    asked = {"batch": [{"k": ["a", "b"]}, {"k": ["c", "d"]}], "single": [{"k": ["a"]}]}
    (tmp_path / "questions.json").write_text(json.dumps(asked))
    read(lambda keys: {**keys, "x": [1.5] * len(keys["k"])}, tmp_path / "questions.json", tmp_path / "told.json")
    told = json.loads((tmp_path / "told.json").read_text())
    answers = json.loads(Path(told["answers"]).read_text())
    assert answers == [
        {"k": ["a", "b"], "x": [1.5, 1.5]},
        {"k": ["c", "d"], "x": [1.5, 1.5]},
        {"k": ["a"], "x": [1.5]},
    ]
    assert set(told["details"]) == {"batch_p50_ms", "batch_p99_ms", "single_p50_ms", "single_p99_ms"}
    assert told["seconds"] * 1000 == told["details"]["batch_p50_ms"]


def answers(tmp_path: Path, name: str, *found: dict[str, Any]) -> Path:
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps(found))
    return path


def test_equal_answers_are_equal_in_any_order_of_columns(tmp_path: Path) -> None:
    ours = answers(tmp_path, "a", {"k": ["a"], "x": [0.1]})
    found = same_answers(ours, answers(tmp_path, "b", {"x": [0.1], "k": ["a"]}))
    assert found.equal and "100% of their values are no null" in found.reason


@pytest.mark.parametrize("other", [{"k": ["a"], "x": [0.2]}, {"k": ["a"], "x": [None]}, {"k": ["a"]}])
def test_another_answer_is_named_with_its_column(other: dict[str, Any], tmp_path: Path) -> None:
    same = {"k": ["b"], "x": [1.0]}
    ours = answers(tmp_path, "a", same, {"k": ["a"], "x": [0.1]})
    found = same_answers(ours, answers(tmp_path, "b", same, other))
    assert found.equal is False
    assert "1 of 2 answers differ, first answer 1: columns ['x']" in found.reason


def test_another_state_of_the_online_store_is_a_difference() -> None:
    held = {"new": ["2020-01-05"], "entities": 10, "hash": "a"}
    assert same_state(held, dict(held)).equal
    assert same_state(held, held | {"hash": "b"}).equal is False
    assert same_state(held, held | {"new": []}).equal is False
