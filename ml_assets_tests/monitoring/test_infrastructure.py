"""Runs against those before: what is slower or takes more memory is named, what differs in size is not compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.monitoring.infrastructure import (
    RUNS,
    AssetRuns,
    RunPolicy,
    appended,
    durations_plot,
    judge_runs,
    no_regression,
    regressions,
    runs_markdown,
    to_frame,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = RunPolicy()
USUAL = [10.0, 11.0, 9.5, 10.2, 10.4, 9.9, 10.1, 10.0, 10.3, 9.8]


def step(number: int, seconds: float | None, **told: Any) -> dict[str, Any]:
    """Return one step of a run: of 7 partitions with 1,000 rows each, and 100 MB more than at its start."""
    moment = START + timedelta(hours=number)
    usual = {"run": f"run {number:03}", "job": "j", "ended": moment, "step": "a__b", "asset": "a/b", "started": moment}
    usual |= {"status": "succeeded", "seconds": seconds, "partitions": 7, "unchanged": 0, "rows": 7_000}
    return usual | {"began": 200_000_000, "peak": 300_000_000} | told


def judged(steps: Sequence[Mapping[str, Any]], policy: RunPolicy = POLICY) -> AssetRuns:
    (found,) = judge_runs(appended(None, steps), policy)
    return found


def history(*last: float, **told: Any) -> list[dict[str, Any]]:
    """Return ten usual runs, and others after them."""
    usual = [step(number, seconds) for number, seconds in enumerate(USUAL)]
    return usual + [step(10 + number, seconds, **told) for number, seconds in enumerate(last)]


# -- what is a regression ----------------------------------------------------------------------------------------------


def test_three_times_the_time_is_named_with_its_numbers() -> None:
    found = judged(history(30.0))
    assert found.verdict == "slower"
    assert found.reason == "30.0 s for 7,000 rows in 7 partitions, 10.1 s were expected from 10 runs before"
    passed, reason = no_regression([found])
    assert not passed and reason.startswith("a/b: 30.0 s")
    assert regressions([found]) == [found]


def test_as_long_as_before_is_no_regression() -> None:
    found = judged(history(10.6))
    assert (found.verdict, found.runs, found.last_seconds) == ("as before", 11, 10.6)
    assert no_regression([found]) == (True, "1 asset as before")


@pytest.mark.parametrize(
    ("before", "last", "verdict"),
    [
        ([0.1] * 10, 1.0, "as before"),  # ten times, and less than five seconds more
        ([2.0] * 10, 7.5, "slower"),
        ([100.0] * 10, 190.0, "as before"),  # less than twice
        ([10, 60, 12, 55, 9, 70, 11, 64, 10, 58], 80.0, "as before"),  # who varies so much may take that long
        ([10.0] * 9 + [500.0], 30.0, "slower"),  # one that hung does not hide it
        ([10.0] * 10, 1.0, "as before"),  # faster
    ],
)
def test_all_three_measures_must_say_so(before: list[float], last: float, verdict: str) -> None:
    assert judged([step(number, seconds) for number, seconds in enumerate([*before, last])]).verdict == verdict


def test_more_memory_is_named() -> None:
    found = judged(history(10.0, peak=900_000_000))
    assert (found.verdict, found.reason) == ("more memory", "700 MB added, 100 MB in 10 runs before")
    assert (found.peak, found.took_more) == (900.0, 700.0)


def test_what_the_process_held_before_is_not_the_steps() -> None:
    assert judged(history(10.0, began=5_000_000_000, peak=5_100_000_000)).verdict == "as before"


# -- sizes -------------------------------------------------------------------------------------------------------------


def test_a_run_over_a_year_is_not_compared_with_one_over_a_week() -> None:
    found = judged(history(400.0, partitions=304, rows=304_000))
    assert found.verdict == "not judged"
    assert "0 of 10 runs before are of like size (304,000 rows in 304 partitions)" in found.reason


def test_runs_of_like_size_are_compared_by_the_row() -> None:
    assert judged(history(19.0, partitions=13, rows=13_000)).verdict == "as before"  # 10.1 s for 7,000: 18.8 s
    assert judged(history(19.0, partitions=4, rows=4_000)).verdict == "slower"  # 5.8 s


def test_partitions_that_were_found_unchanged_are_no_work() -> None:
    quick = [step(10 + number, 0.1, unchanged=7) for number in range(4)]
    assert judged([*history(), *quick]).verdict == "as before"
    found = judged([*history(), *quick, step(20, 10.0)])
    assert (found.verdict, found.reason) == ("as before", "compared with 10 runs of like size")
    assert judged([*history(), step(20, 0.1, unchanged=7)]).verdict == "not judged"


def test_rows_that_nobody_tells_are_left_out() -> None:
    steps = [step(number, seconds, rows=None) for number, seconds in enumerate([*USUAL, 30.0])]
    assert judged(steps).reason.startswith("30.0 s for 7 partitions")
    assert judged(steps).rows_per_second is None


@given(st.lists(st.floats(0.01, 1000), min_size=3, max_size=12), st.floats(0.01, 1000), st.floats(0.55, 1.8))
def test_a_verdict_does_not_depend_on_the_size(before: list[float], last: float, ratio: float) -> None:
    """The same speed at another size is the same verdict, as long as the floor in seconds is passed either way."""
    policy = RunPolicy(seconds=0.0)
    plain = [step(number, seconds) for number, seconds in enumerate([*before, last])]
    scaled = [*plain[:-1], step(99, last * ratio, rows=round(7_000 * ratio))]
    expected = median(before[-10:])
    if abs(last - 2 * expected) > 0.01 * expected and judged(plain, policy).verdict != judged(scaled, policy).verdict:
        spread = 1.4826 * median(abs(one - expected) for one in before[-10:])
        assert abs(last - expected - 3 * spread) < 0.01 * expected  # rounding of rows, at the limit


# -- what cannot be judged ---------------------------------------------------------------------------------------------


def test_a_first_run_is_not_judged_and_says_so() -> None:
    found = judged([step(0, 100.0)])
    assert (found.verdict, found.reason) == ("not judged", "the first run")
    assert no_regression([found]) == (False, "nothing to compare yet: none of 1 asset has enough runs of like size")


def test_nothing_at_all_is_no_pass() -> None:
    assert judge_runs(appended(None, [])) == []
    assert no_regression([])[0] is False
    assert runs_markdown([]) and to_frame([]).height == 0 and durations_plot(appended(None, []))


def test_memory_that_nobody_measured_is_not_judged() -> None:
    found = judged([step(number, 10.0, began=None, peak=None) for number in range(11)])
    assert (found.verdict, found.peak, found.took_more) == ("as before", None, None)


def test_failed_and_skipped_steps_are_counted_and_never_compared() -> None:
    lost = [step(20, 90.0, status="failed"), step(21, None, status="skipped", started=None)]
    found = judged([*history(10.0), *lost])
    assert (found.runs, found.failed, found.skipped, found.last_status) == (11, 1, 1, "skipped")
    assert (found.verdict, found.last_seconds) == ("as before", 10.0)
    only = judged([step(0, 1.0, status="failed")])
    assert (only.verdict, only.reason, only.median_seconds) == ("not judged", "no run has succeeded", None)


# -- keeping -----------------------------------------------------------------------------------------------------------


def test_a_step_is_kept_once_and_of_each_asset_the_newest() -> None:
    first = appended(None, [step(number, 1.0) for number in range(6)], keep=5)
    again = appended(first, [step(5, 1.0), step(6, 2.0), step(0, 3.0, asset="c", step="c")], keep=5)
    assert again.filter(asset="a/b")["run"].to_list() == [f"run {number:03}" for number in range(2, 7)]
    assert again.filter(asset="c").height == 1
    assert again.schema == appended(None, []).schema and list(again.schema) == list(RUNS)


def test_people_see_what_got_worse_first_and_a_plot() -> None:
    slow = [step(number, 100.0, asset="slow", step="slow") for number in range(11)]
    found = judge_runs(appended(None, [*history(30.0), *slow]))
    lines = runs_markdown(found).splitlines()
    assert lines[2].startswith("| a/b | 11 |") and lines[3].startswith("| slow |")
    assert to_frame(found)["verdict"].to_list() == ["slower", "as before"]
    assert durations_plot(appended(None, history(30.0))).startswith(b"\x89PNG")
