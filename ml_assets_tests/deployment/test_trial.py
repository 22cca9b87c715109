"""Which entities a challenger answers, and what stops it."""

from __future__ import annotations

from math import sqrt
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ml_assets.deployment.trial import LOOK_EVERY, ServingPolicy, StopRule, Trial, entity_of, p95
from ml_assets.problem import Serving

ROWS = 1_000
ENTITIES = [[number, "JFK"] for number in range(ROWS)]


def trial(version: str = "8", canary: float = 0.5, **rule: Any) -> Trial:
    return Trial(version, canary=canary, rule=StopRule(**rule))


@settings(max_examples=40)
@given(share=st.floats(0, 1), version=st.text(max_size=20))
def test_the_challenger_answers_its_share_of_entities_and_always_the_same(share: float, version: str) -> None:
    taken = [trial(version, share).takes(entity) for entity in ENTITIES]
    five_deviations = 5 * sqrt(share * (1 - share) / ROWS)
    assert abs(sum(taken) / ROWS - share) <= five_deviations + 1 / ROWS
    assert taken == [trial(version, share).takes(entity) for entity in ENTITIES]


@given(low=st.floats(0, 1), high=st.floats(0, 1))
def test_a_larger_share_adds_entities_and_moves_none(low: float, high: float) -> None:
    fewer, more = (trial(canary=share) for share in sorted((low, high)))
    assert not any(fewer.takes(entity) and not more.takes(entity) for entity in ENTITIES[:300])


def test_another_version_is_tried_on_others() -> None:
    both = sum(trial("8").takes(entity) and trial("9").takes(entity) for entity in ENTITIES)
    assert abs(both / ROWS - 0.25) < 5 * sqrt(0.25 * 0.75 / ROWS)


def test_the_extremes_are_nobody_and_everybody() -> None:
    assert not any(trial(canary=0).takes(entity) for entity in ENTITIES)
    assert all(trial(canary=1).takes(entity) for entity in ENTITIES)


def test_an_entity_is_its_key_or_else_all_that_was_asked() -> None:
    one, other = {"flight": 7, "hour": 3}, {"hour": 4, "flight": 7}
    assert entity_of(one, ["flight"]) == entity_of(other, ["flight"]) == [7]
    assert entity_of(one, []) == [("flight", 7), ("hour", 3)]
    rows = [{"flight": number, "hour": hour} for hour in range(3) for number in range(10)]
    taken = trial().taken(rows, ["flight"])
    assert taken and [place + 10 for place in taken if place < 10] == [place for place in taken if 10 <= place < 20]


def test_one_failure_more_than_allowed_stops_it_at_once() -> None:
    found = trial(errors=0.01, window=200)
    for _ in range(2):
        found.failed("ValueError: no")
    assert not found.stopped and found.canary == 0.5
    found.failed("ValueError: no")
    assert found.stopped.startswith("3 of the last 3 requests failed, 2 of 200 are allowed")
    assert not any(found.takes(entity) for entity in ENTITIES)


def test_failures_that_left_the_window_are_forgiven() -> None:
    found = trial(errors=0.1, window=10)
    for _ in range(20):
        found.failed("once")
        for _ in range(9):
            found.answered(None)
    assert not found.stopped and found.failures == 20


def test_with_no_failure_allowed_the_first_one_stops_it() -> None:
    found = trial(errors=0)
    found.failed("MemoryError: ")
    assert found.stopped


def answered(found: Trial, *, own: float, champion: float, times: int = 400) -> Trial:
    for _ in range(times):
        found.champion_answered(champion)
        found.answered(own)
    return found


@pytest.mark.parametrize(("own", "stopped"), [(0.0019, False), (0.0021, True)])
def test_a_slow_challenger_is_stopped(own: float, stopped: bool) -> None:
    assert bool(answered(trial(latency=2), own=own, champion=0.001).stopped) == stopped


def test_less_than_a_millisecond_is_not_slow() -> None:
    assert not answered(trial(latency=2), own=0.0009, champion=0.00001).stopped


def test_a_few_slow_answers_prove_nothing() -> None:
    found = trial(latency=2, window=200)
    assert not answered(found, own=1, champion=0.001, times=40).stopped
    assert answered(found, own=1, champion=0.001, times=LOOK_EVERY).stopped


def test_rare_slow_answers_do_not_stop_it() -> None:
    found = trial(latency=2, window=100)
    for number in range(1_000):
        found.champion_answered(0.001)
        found.answered(1.0 if number % 25 == 0 else 0.001)
    assert not found.stopped


def test_answers_of_requests_that_both_answered_are_not_compared() -> None:
    found = trial()
    for _ in range(400):
        found.champion_answered(0.001)
        found.answered(None)
    assert not found.stopped and found.state()["milliseconds"] == {"challenger": None, "champion": 1.0}


def test_the_percentile_is_a_value_that_was_there() -> None:
    assert p95([]) is None
    assert p95([3.0]) == 3.0
    assert p95([float(number) for number in range(1, 101)]) == 95.0


def test_what_is_declared_is_the_policy() -> None:
    assert Serving().plain() == ServingPolicy()
    declared = Serving.resolve_from_dict({"canary": 0.1, "durable": True, "stop": {"errors": 0, "window": 50}})
    assert declared.plain() == ServingPolicy(canary=0.1, durable=True, stop=StopRule(errors=0, window=50))


@pytest.mark.parametrize(
    "wrong", [{"log": 1.5}, {"canary": -0.1}, {"stop": {"window": 0}}, {"stop": {"latency": 0}}], ids=str
)
def test_what_is_no_share_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Serving.model_validate(wrong)
