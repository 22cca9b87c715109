"""The runner: equality comes first, rounds are interleaved, and numbers are medians."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from benchmarks.runner import Arm, Bench, Comparison, Limit, Measured, Outcome, details, measure, timed


def same(ours: Any, theirs: Any) -> Comparison:
    return Comparison(ours == theirs, f"{ours} and {theirs}")


def replay(name: str, seconds: Sequence[float], calls: list[str], result: Any = 1) -> Arm:
    """An arm that takes the given seconds, one after the other, and notes that it was called."""
    left = iter(seconds)

    def run() -> Measured:
        calls.append(name)
        return Measured(result, next(left))

    return Arm(name, run)


def a_bench(ours: Arm, theirs: Arm, **changes: Any) -> Bench:
    return Bench(
        **{"name": "b", "title": "", "target": 2.0, "ours": ours, "theirs": theirs, "compare": same, **changes}
    )


def measured(ours: Sequence[float], theirs: Sequence[float], **changes: Any) -> Outcome:
    calls: list[str] = []
    arms = replay("ours", [0.0, *ours], calls), replay("theirs", [0.0, *theirs], calls)
    return measure(a_bench(*arms, **changes), rounds=len(ours))


def test_arms_take_turns_after_one_untimed_round() -> None:
    calls: list[str] = []
    bench = a_bench(replay("A", [99, 1, 2], calls), replay("B", [99, 3, 4], calls))
    outcome = measure(bench, rounds=2)
    assert calls == ["A", "B", "A", "B", "A", "B"]
    assert [run.seconds for run in outcome.ours] == [1, 2]
    assert [run.seconds for run in outcome.theirs] == [3, 4]


def test_without_warm_up_the_compared_runs_are_the_first_round() -> None:
    calls: list[str] = []
    bench = a_bench(replay("A", [1, 2], calls), replay("B", [3, 4], calls), warm_up=False)
    outcome = measure(bench, rounds=2)
    assert calls == ["A", "B", "A", "B"]
    assert [run.seconds for run in outcome.ours] == [1, 2]


def test_different_results_are_not_measured_and_fail() -> None:
    calls: list[str] = []
    bench = a_bench(replay("A", [1, 1], calls, result=1), replay("B", [9, 9], calls, result=2))
    outcome = measure(bench, rounds=1)
    assert calls == ["A", "B"]
    assert outcome.differs and not outcome.met
    assert outcome.comparison.reason == "1 and 2"


def test_results_that_are_not_comparable_are_measured_and_do_not_fail() -> None:
    outcome = measured([1], [1], compare=lambda ours, theirs: Comparison(None, "different things"))
    assert not outcome.differs and outcome.met


def test_ratio_is_of_medians_and_spread_is_within_rounds() -> None:
    outcome = measured([2, 3, 100], [1, 2, 50])
    assert outcome.ratio == 3 / 2
    assert outcome.spread == (3 / 2, 2.0)


@pytest.mark.parametrize(("ours", "met"), [(2.0, True), (2.1, False)])
def test_a_ratio_meets_its_target_up_to_and_with_it(ours: float, met: bool) -> None:
    assert measured([ours], [1.0]).met is met


@pytest.mark.parametrize(("ours", "met"), [(0.1, True), (0.11, False)])
def test_an_absolute_target_ignores_the_other_arm(ours: float, met: bool) -> None:
    assert measured([ours], [0.001], judged="seconds", target=0.1).met is met


@pytest.mark.parametrize("rounds", [0, -1])
def test_no_rounds_are_refused(rounds: int) -> None:
    with pytest.raises(ValueError, match="give at least 1"):
        measure(a_bench(replay("A", [], []), replay("B", [], [])), rounds=rounds)


def test_rounds_of_the_bench_are_used_unless_others_are_asked_for() -> None:
    calls: list[str] = []
    bench = a_bench(replay("A", [1] * 4, calls), replay("B", [1] * 4, calls), rounds=3)
    assert len(measure(bench).ours) == 3


def test_every_run_is_told() -> None:
    told: list[str] = []
    measure(a_bench(replay("A", [1, 1], []), replay("B", [1, 1], [])), rounds=1, tell=told.append)
    assert len(told) == 5  # two untimed runs, the comparison, two timed runs


def test_timed_returns_the_result_and_a_time() -> None:
    work: Callable[[], str] = lambda: "made"  # noqa: E731
    run = timed(work)()
    assert run.result == "made"
    assert run.seconds >= 0


def test_details_are_medians_of_the_runs_that_have_them() -> None:
    runs = [Measured(None, 1, {"a": 1.0}), Measured(None, 1, {"a": 3.0, "b": 5.0}), Measured(None, 1, {"a": 9.0})]
    assert details(runs) == {"a": 3.0, "b": 5.0}


def arm_of(name: str, runs: Sequence[Measured]) -> Arm:
    left = iter(runs)
    return Arm(name, lambda: next(left))


def with_details(ours: Sequence[float], theirs: Sequence[float], detail: str, **changes: Any) -> Outcome:
    arms = (arm_of("a", [Measured(1, 1.0, {detail: value}) for value in values]) for values in (ours, theirs))
    return measure(a_bench(*arms, warm_up=False, **changes), rounds=len(ours))


@pytest.mark.parametrize(("ours", "met"), [(20.0, True), (21.0, False)])
def test_a_limit_on_a_ratio_must_hold_beside_the_target(ours: float, met: bool) -> None:
    outcome = with_details([ours], [100.0], "mb", limits=[Limit("mb", 0.2)])
    assert outcome.judged_value <= outcome.bench.target
    assert outcome.met is met


@pytest.mark.parametrize(("ours", "met"), [(2.0, True), (2.1, False)])
def test_a_limit_on_our_value_ignores_the_other_arm(ours: float, met: bool) -> None:
    assert with_details([ours], [0.1], "ms", limits=[Limit("ms", 2.0, "value")]).met is met


def test_all_limits_must_hold() -> None:
    limits = [Limit("mb", 0.2), Limit("mb", 5.0, "value")]
    assert with_details([5.0], [100.0], "mb", limits=limits).met
    assert not with_details([6.0], [100.0], "mb", limits=limits).met
    assert not with_details([5.0], [10.0], "mb", limits=limits).met


def test_a_limit_on_what_is_not_told_is_an_error() -> None:
    with pytest.raises(KeyError):
        _ = with_details([1.0], [1.0], "mb", limits=[Limit("other", 1.0)]).met


def test_memory_is_judged_by_the_highest_peak_of_any_round() -> None:
    assert with_details([1.0, 4.0, 1.0], [9.0] * 3, "peak_gb", judged="memory", target=4.0).met
    assert not with_details([1.0, 4.1, 1.0], [9.0] * 3, "peak_gb", judged="memory", target=4.0).met
