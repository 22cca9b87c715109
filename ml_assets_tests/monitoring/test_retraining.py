"""Whether to retrain: what asks, what speaks against it, never a storm, and a log that two may write at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.lake import Lake, Store
from ml_assets.monitoring.backtest import Backtest, Stretch, Week
from ml_assets.monitoring.retraining import (
    DRIFT,
    SCHEDULE,
    Decision,
    Facts,
    RetrainingError,
    RetrainPolicy,
    Trigger,
    asked,
    decide,
    decisions,
    drift_trigger,
    enter,
    loss_triggers,
    table,
)
from ml_assets.tasks import task

NOW = datetime(2013, 12, 1, 7, tzinfo=UTC)
DAY = timedelta(days=1)
DRIFTED = Trigger(DRIFT, "drift in 1 feature (temp) in 2013-11-22 to 2013-11-28")
MONTHLY = Trigger(SCHEDULE, "the schedule 0 6 1 * *")
AUC, MAE = task("classification").metric("roc_auc"), task("regression").metric("mae")


def found(gain: float, low: float, high: float, **change: Any) -> Backtest:
    """Return a backtest in which the retrained model is so much better."""
    told: dict[str, Any] = {
        "metric": "roc_auc",
        "kind": "xgboost",
        "window": Stretch(NOW - 28 * DAY, NOW),
        "rows": 1_000,
        "trained": 5_000,
        "known": 5_000,
        "fresh": 0.7 + gain,
        "old": 0.7,
        "champion": 0.7,
        "gain": gain,
        "low": low,
        "high": high,
        "seconds": 1.5,
        "weeks": (Week(NOW - 28 * DAY, 250, 0.7, None),),
    }
    return Backtest(**told | change)


BETTER, SAME, WORSE = found(0.02, 0.01, 0.03), found(0.002, -0.01, 0.014), found(-0.002, -0.003, -0.001)


def facts(*triggers: Trigger, **more: Any) -> Facts:
    """Return what is known of a problem whose model has been in office for long."""
    told: dict[str, Any] = {"champion": "3", "inputs": {"p/drift_report": "a1"}, "promoted": NOW - 60 * DAY}
    return Facts("p", NOW, triggers, **told | more)


def ruled(known: Facts, answer: Backtest | str = BETTER, **policy: Any) -> Decision:
    return decide(known, lambda: answer, policy=RetrainPolicy(**policy))


def never() -> Backtest | str:
    raise AssertionError("a backtest costs half a minute: it is made only when its answer decides")


CASES = [
    # what asks, what is known, what the backtest says, what is decided, a part of the reason
    ((), {}, BETTER, "quiet", "no report asks"),
    ((DRIFTED,), {}, BETTER, "retrain", "and a retrained model would be 0.02 better by roc_auc on the last 28 days"),
    (
        (DRIFTED,),
        {},
        SAME,
        "kept",
        "0.002 better by roc_auc on the last 28 days (-0.01 to +0.014, within chance): kept",
    ),
    ((DRIFTED,), {}, WORSE, "kept", "but a retrained model would be 0.002 worse"),
    ((DRIFTED,), {}, "too few labelled rows: 3", "undecided", "not decided: too few labelled rows: 3"),
    ((DRIFTED,), {"champion": ""}, BETTER, "undecided", "there is no champion; run job train"),
    (
        (DRIFTED,),
        {"promoted": NOW - 3 * DAY},
        BETTER,
        "waiting",
        "a model took office on 2013-11-28 07:00, and retrain.coo",
    ),
    ((DRIFTED,), {"running": "run 5ad3"}, BETTER, "waiting", "but run 5ad3 trains already: waits"),
    ((MONTHLY,), {}, "too few labelled rows", "retrain", "the schedule 0 6 1 * *: retrain"),
    ((MONTHLY,), {"champion": "", "promoted": None}, "", "retrain", "the schedule"),
    ((MONTHLY,), {"promoted": NOW - DAY}, "", "waiting", "retrain.cooldown is 7 days"),
    ((MONTHLY,), {"running": "run 5ad3"}, "", "waiting", "trains already"),
]


@pytest.mark.parametrize(("triggers", "known", "answer", "outcome", "reason"), CASES, ids=range(len(CASES)))
def test_what_is_decided(
    triggers: Sequence[Trigger], known: dict[str, Any], answer: Backtest | str, outcome: str, reason: str
) -> None:
    made = ruled(facts(*triggers, **known), answer)
    assert (made.outcome, made.retrain) == (outcome, outcome == "retrain") and reason in made.reason
    assert made.triggers == tuple(one.text for one in triggers) and made.at == NOW and made.number == 0
    assert (made.backtest is not None) == (outcome in ("retrain", "kept") and MONTHLY not in triggers)


def test_a_backtest_is_made_only_when_its_answer_decides() -> None:
    policy = RetrainPolicy()
    known = replace(ruled(facts(DRIFTED), SAME), number=1)
    for case in (facts(), facts(MONTHLY), facts(DRIFTED, running="run 1"), facts(DRIFTED, promoted=NOW)):
        decide(case, never, policy=policy)
    assert decide(facts(DRIFTED, log=[known]), never, policy=policy) is known, "the same facts are decided once"


def test_what_waited_or_could_not_be_decided_is_decided_later() -> None:
    for early in (ruled(facts(DRIFTED, running="run 1")), ruled(facts(DRIFTED), "no labels")):
        assert not early.settled and ruled(facts(DRIFTED, log=[replace(early, number=1)])).outcome == "retrain"


def test_other_reports_or_another_champion_are_other_facts() -> None:
    keys = {
        facts(DRIFTED).key,
        facts(DRIFTED, champion="4").key,
        facts(DRIFTED, inputs={"p/drift_report": "b2"}).key,
        facts(MONTHLY).key,
        replace(facts(DRIFTED), problem="q").key,
    }
    assert len(keys) == 5 and facts(DRIFTED, log=[ruled(facts(DRIFTED))]).key in keys


def test_a_gain_must_be_as_large_as_is_declared() -> None:
    assert ruled(facts(DRIFTED), BETTER, least_gain=0.01).retrain
    refused = ruled(facts(DRIFTED), BETTER, least_gain=0.05)
    assert refused.outcome == "kept" and "but a retrained model would be 0.02 better" in refused.reason
    assert "retrain.least_gain is 0.05" in refused.reason


@pytest.mark.parametrize("change", [{"cooldown": timedelta(0)}, {"least_gain": -0.1}], ids=["cooldown", "least_gain"])
def test_a_policy_that_would_storm_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(RetrainingError):
        RetrainPolicy(**change)


HOURS = st.integers(1, 24 * 5)
STEPS = st.lists(
    st.tuples(
        HOURS,  # since the step before
        st.sampled_from([(), (DRIFTED,), (MONTHLY,), (DRIFTED, MONTHLY)]),
        st.sampled_from([BETTER, SAME, "no labels"]),
        st.integers(0, 3),  # which version the report has
        HOURS,  # that a training runs, if one begins
        st.booleans(),  # whether it promotes
    ),
    max_size=40,
)


@given(STEPS, st.integers(1, 10))
def test_never_a_storm(steps: list[Any], cooldown_days: int) -> None:
    policy, log, at = RetrainPolicy(cooldown=cooldown_days * DAY), list[Decision](), NOW
    promoted, ends, promotes = NOW - 60 * DAY, NOW, False
    for hours, triggers, answer, version, lasts, will_promote in steps:
        at += timedelta(hours=hours)
        if promotes and ends <= at:
            promoted, promotes = ends, False
        running = "run 1" if at < ends else ""
        known = Facts("p", at, triggers, {"r": str(version)}, "3", log, promoted, running)
        made = decide(known, lambda answer=answer: answer, policy=policy)  # type: ignore[misc]
        if made.number:
            assert made in log and made.key == known.key
            continue
        assert made.retrain <= bool(triggers), "nothing asked"
        if made.retrain:
            assert not running, "two would train at once"
            assert all(at - one.at >= policy.cooldown for one in log if one.retrain)
            assert at - promoted >= policy.cooldown
            assert answer is BETTER or MONTHLY in triggers
            ends, promotes = at + timedelta(hours=lasts), will_promote
        if made.outcome != "quiet":
            log.append(replace(made, number=len(log) + 1))


# -- the log -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def test_decisions_are_kept_as_they_were_made(store: Store) -> None:
    made = [
        enter(store, "p", lambda log: ruled(facts(DRIFTED, log=log, who="run 1"), BETTER)),
        enter(store, "p", lambda log: ruled(facts(MONTHLY, log=log, promoted=NOW), "")),
    ]
    assert decisions(store, "p") == made and [one.number for one in made] == [1, 2]
    assert made[0].id.startswith("p-000001-") and made[0].backtest is not None and made[0].backtest["gain"] == 0.02
    assert made[0].who == "run 1" and made[1].scheduled and decisions(store, "q") == []
    lines = table(made).splitlines()
    assert lines[2].startswith("| 2 | 2013-12-01 07:00 | waiting |") and lines[3].startswith("| 1 |")


def test_nothing_is_entered_twice(store: Store) -> None:
    def again(answer: Backtest | str = SAME, *triggers: Trigger) -> Decision:
        return enter(store, "p", lambda log: ruled(facts(*triggers, log=log), answer))

    again()
    assert decisions(store, "p") == []
    for _ in range(3):
        again("no labels", DRIFTED)
    assert [one.outcome for one in decisions(store, "p")] == ["undecided"]
    first, second = again(SAME, DRIFTED), again(BETTER, DRIFTED)
    assert first == second and [one.outcome for one in decisions(store, "p")] == ["undecided", "kept"]


def test_of_two_who_decide_at_once_one_decides_again(store: Store) -> None:
    seen = []

    def slow(log: Sequence[Decision]) -> Decision:
        seen.append(len(log))
        if not log:  # somebody else is faster
            enter(store, "p", lambda other: ruled(facts(DRIFTED, log=other)))
        return ruled(facts(DRIFTED, log=log, inputs={"p/drift_report": "b2"}))

    made = enter(store, "p", slow)
    assert seen == [0, 1] and made.outcome == "waiting" and "it was decided to retrain" in made.reason
    assert [one.retrain for one in decisions(store, "p")] == [True, False]


# -- what asks ---------------------------------------------------------------------------------------------------------


def test_drift_asks_when_it_is_a_verdict() -> None:
    (told,) = drift_trigger("drift", list("abcdefg"), "2013-11-22 to 2013-11-28")
    assert told.text == "drift in 7 features (a, b, c, d, e, …) in 2013-11-22 to 2013-11-28"
    assert all(drift_trigger(verdict, ["a"], "") == [] for verdict in ("stable", "suspected", "undecided"))


def weeks(*rows: tuple[str, float | None, float | None]) -> pl.DataFrame:
    """Return a performance report: status, the metric, and the better end of its estimate, week by week."""
    return pl.DataFrame(
        {
            "start": [NOW + 7 * number * DAY for number in range(len(rows))],
            "status": [row[0] for row in rows],
            "roc_auc": pl.Series([row[1] for row in rows], dtype=pl.Float64),
            "mae": pl.Series([row[1] for row in rows], dtype=pl.Float64),
            "estimated_low": pl.Series([row[2] for row in rows], dtype=pl.Float64),
            "estimated_high": pl.Series([row[2] for row in rows], dtype=pl.Float64),
        }
    )


LOST, WELL = ("realised", 0.60, None), ("realised", 0.69, None)
LOSSES = [
    ((LOST, LOST), ["realised loss"]),
    ((WELL, LOST, LOST), ["realised loss"]),
    ((LOST, WELL), []),
    ((LOST,), []),
    ((), []),
    ((LOST, ("nothing matured", None, None), LOST), ["realised loss"]),
    ((LOST, ("mixed", 0.5, None)), []),
    ((WELL, ("estimated", None, 0.6), ("estimated", None, 0.61)), ["estimated loss"]),
    ((WELL, ("estimated", None, 0.6), ("estimated", None, 0.68)), []),
    ((LOST, LOST, ("estimated", None, 0.6), ("estimated", None, 0.6)), ["realised loss", "estimated loss"]),
]


@pytest.mark.parametrize(("rows", "kinds"), LOSSES, ids=range(len(LOSSES)))
def test_loss_asks_when_it_persists(rows: Any, kinds: list[str]) -> None:
    told = loss_triggers(weeks(*rows), AUC, expected=0.7, tolerance=0.03, weeks=2)
    assert [one.kind for one in told] == kinds
    assert loss_triggers(weeks(*rows), AUC, expected=None, tolerance=0.03, weeks=2) == []


def test_of_an_error_more_is_a_loss() -> None:
    report = weeks(("realised", 21.0, None), ("realised", 22.0, None))
    (told,) = loss_triggers(report, MAE, expected=17.0, tolerance=3.0, weeks=2)
    assert told.text == "realised loss: mae 21, 22 in the last 2 weeks, 17 on the test split, tolerated loss 3"
    assert loss_triggers(report, MAE, expected=19.0, tolerance=3.0, weeks=2) == []
    assert loss_triggers(report.drop("mae"), MAE, expected=17.0, tolerance=3.0, weeks=2) == []


def report(lake: Lake, champion: str, verdict: str = "drift", signs: str = "shift") -> None:
    """Store a drift report on a champion."""
    columns = dict.fromkeys(("window_last", "window_reason", "html", "markdown"), "")
    row = columns | {"window_first": "2013-11-22", "window_verdict": verdict, "feature": "temp", "signs": signs}
    frame = pl.DataFrame([row | {"current_rows": 500, "limit": 0.2}])
    lake.write("p/drift_report", frame, partition="2013-11-22", written_at=NOW, inputs={"champion": f"{champion} abc"})


def test_only_reports_on_the_model_in_office_ask(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))

    def what(since: datetime = NOW - 60 * DAY) -> tuple[list[str], list[str]]:
        limits: dict[str, Any] = {"expected": 0.7, "tolerance": 0.03, "weeks": 2}
        triggers, inputs = asked(lake, "p", AUC, version="3", since=since, **limits)
        return [one.kind for one in triggers], sorted(inputs)

    assert what() == ([], [])
    report(lake, "2")
    assert what() == ([], []), "the drift of the model before"
    report(lake, "3", "stable")
    assert what() == ([], [])
    report(lake, "3")
    lake.write("p/performance_report", weeks(LOST, LOST), written_at=NOW)
    assert what() == (["drift", "realised loss"], ["p/drift_report", "p/performance_report"])
    assert what(since=NOW + DAY) == (["drift"], ["p/drift_report"]), "the report is of the model before"


def test_what_the_change_looks_like_is_named_in_the_reason(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    limits: dict[str, Any] = {"version": "3", "since": NOW, "expected": None, "tolerance": 0.03, "weeks": 2}
    told = []
    for signs in ("shift", "unit change"):
        report(lake, "3", signs=signs)
        told += asked(lake, "p", AUC, **limits)[0]
    assert [one.text.split(" in ")[1] for one in told] == ["1 feature (temp)", "1 feature (temp (unit change))"]
