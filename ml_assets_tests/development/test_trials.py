"""The table of trials: the best is marked in either direction, and one without a value has none."""

from __future__ import annotations

from typing import Any

from ml_assets.development.trials import table
from ml_assets_tests.development.toys import NUMBERS


def trial(number: int, value: float | None, state: str = "complete", **parameters: Any) -> dict[str, Any]:
    return {"number": number, "value": value, "state": state, "seconds": 1.25, "parameters": parameters}


def test_the_best_is_marked_by_the_metrics_direction() -> None:
    trials = [trial(0, 0.5, depth=5), trial(1, 0.25, rate=0.0123456), trial(2, None, "pruned"), trial(3, None, "fail")]
    lines = table(trials, NUMBERS.metric("mae")).splitlines()
    assert lines[0] == "| trial | mae | state | s | hyperparameters |"
    assert lines[2:] == [
        "| 0 | 0.5 | complete | 1.2 | depth 5 |",
        "| 1 (best) | 0.25 | complete | 1.2 | rate 0.0123 |",
        "| 2 |  | pruned | 1.2 |  |",
        "| 3 |  | fail | 1.2 |  |",
    ]
    assert "| 0 (best) |" in table(trials, NUMBERS.metric("r2"))


def test_without_any_value_none_is_best() -> None:
    assert "best" not in table([trial(0, None, "fail")], NUMBERS.metric("mae"))
    assert table([], NUMBERS.metric("mae")).count("\n") == 1


def test_of_equals_the_first_is_best() -> None:
    assert "| 0 (best) |" in table([trial(0, 0.5), trial(1, 0.5)], NUMBERS.metric("mae"))
