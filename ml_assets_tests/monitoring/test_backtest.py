"""A backtest says whether newer rows teach something: it does when the world changed, and does not when it stayed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from ml_assets.development.lifecycle import Plan, develop_again
from ml_assets.evaluation.fairness import seen_rows
from ml_assets.features.training import TrainingSetError
from ml_assets.monitoring.backtest import (
    Backtest,
    Office,
    Stretch,
    backtest,
    backtest_rows,
    drawn,
    lean,
    weeks_plot,
    window_of,
)
from ml_assets.preparation.splits import SplitPlan
from ml_assets_tests.development.samples import TASKS

START, DAY = datetime(2013, 1, 1, tzinfo=UTC), timedelta(days=1)
DAYS, A_DAY, CHANGE = 120, 30, 80
KEY = ["who"]
SPLIT = SplitPlan(train="40d", validation="20d", test="20d")
LINEAR = {"winner": "linear", "variants": {"linear": {}}}


def world(kind: str = "binary", *, days: int = DAYS, change: int = DAYS, seed: int = 0) -> pl.DataFrame:
    """Return observations whose outcome depends on `x`, and from the day `change` on on the opposite of it.

    An outcome is known a day and an hour after the question. Of a clustering the points move apart instead.
    """
    random, rows = np.random.default_rng(seed), days * A_DAY
    day, x = np.repeat(np.arange(days), A_DAY), random.normal(0, 1, rows)
    sense = np.where(day < change, 1.0, -1.0)
    value = sense * x + random.normal(0, 0.5, rows)
    moments = [START + timedelta(days=int(one), minutes=48 * (number % A_DAY)) for number, one in enumerate(day)]
    labels: dict[str, Any] = {
        "binary": (value > 0).astype(np.int64),
        "regression": value,
        "multiclass": np.array(TASKS["multiclass"].classes)[np.digitize(value, [-0.5, 0.5])],
    }
    frame = pl.DataFrame(
        {
            "who": [str(number) for number in range(rows)],
            "event_timestamp": moments,
            "x": x,
            "noise": random.normal(0, 1, rows),
            "group": [f"{one % 7}" for one in range(rows)],
        },
        schema_overrides={"event_timestamp": pl.Datetime("us", "UTC")},
    )
    if kind == "clustering":
        middle = np.where(random.random(rows) < 0.5, 0.0, 10.0) * np.where(day < change, 1.0, 5.0)
        return frame.with_columns(x=pl.Series(middle + x), noise=pl.Series(middle) + pl.col("noise"))
    late = pl.col("event_timestamp") + timedelta(days=1, hours=1)
    return frame.with_columns(label=pl.Series(labels[kind]), label_timestamp=late)


def plan(kind: str = "binary", **change: Any) -> Plan:
    task = TASKS[kind]
    return Plan(task, task.metric(task.default_metric), ("x", "noise"), **change)


@dataclass
class InOffice:
    """A champion of rows before a day, made by the same code."""

    bundle: Any
    fitted_until: datetime
    version: str = "1"
    data_hash: str = "abc"
    settled: dict[str, Any] = field(default_factory=lambda: LINEAR)


def office(folder: Path, frame: pl.DataFrame, until: int, known: Plan, *, settled: Any = LINEAR) -> Office:
    """Return the office of a model that has learned the rows before the day `until`."""
    edge = START + until * DAY
    learned = frame.filter(pl.col("event_timestamp") < edge)
    cut = pl.when(pl.col("event_timestamp") < edge - 20 * DAY).then(pl.lit("train")).otherwise(pl.lit("validation"))
    learned = learned.with_columns(split=cut)
    made = develop_again(known, learned, settled, folder)
    model = made.result.load()
    bundle = SimpleNamespace(predict=model.predict, threshold=made.threshold, features=("x", "noise"), model=model)
    return Office(InOffice(bundle, edge), settled, learned.lazy())


def tried(
    folder: Path,
    frame: pl.DataFrame,
    *,
    kind: str = "binary",
    settled: Any = LINEAR,
    most: int = 20_000,
    days: int = 14,
    split: SplitPlan = SPLIT,
    **more: Any,
) -> Backtest | str:
    """Return the backtest of a champion of the first 60 days, at the end of the frame."""
    known, supervised, now = plan(kind), TASKS[kind].supervised, START + (DAYS + 5) * DAY
    incumbent = office(folder, frame, 60, known, settled=settled)
    window = window_of(frame.lazy(), now=now, days=days, since=incumbent.since, supervised=supervised)
    assert isinstance(window, Stretch)
    rows, count = backtest_rows(frame.lazy(), split, window, now=now, key=KEY, supervised=supervised, most=most)
    return backtest(known, rows, incumbent, window=window, known=count, key=KEY, most=most, **more)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_newer_rows_help_when_the_world_changed(kind: str, tmp_path: Path) -> None:
    found = tried(tmp_path, world(kind, change=CHANGE), kind=kind)
    assert isinstance(found, Backtest)
    assert found.low > 0 and found.gain > 0.1 and (found.kind, found.rows) == ("linear", 14 * A_DAY)
    assert "better by" in found.sentence() and "within chance" not in found.sentence()
    assert len(found.weeks) == 2 and sum(week.rows for week in found.weeks) == found.rows
    assert found.champion == found.old and found.seconds < 10


@pytest.mark.parametrize("seed", range(2))
def test_newer_rows_do_not_help_when_it_stayed(seed: int, tmp_path: Path) -> None:
    found = tried(tmp_path, world(seed=seed))
    assert isinstance(found, Backtest) and not found.low > 0 and abs(found.gain) < 0.02, found
    assert ", within chance" in found.sentence() or found.high < 0


def test_a_change_within_the_window_is_too_young_to_be_learned(tmp_path: Path) -> None:
    found = tried(tmp_path, world(change=DAYS - 10))
    assert isinstance(found, Backtest) and not found.low > 0 and found.champion is not None and found.champion < 0.7


@pytest.mark.slow
def test_of_many_rows_a_part_is_compared_with_as_large_a_part(tmp_path: Path) -> None:
    """A model of a twentieth of the rows loses to one of all: that says nothing of the rows' age."""
    forest = {"winner": "random_forest", "variants": {"random_forest": {"trees": 20}}}
    found = tried(tmp_path, world(), settled=forest, most=300)
    assert isinstance(found, Backtest) and (found.trained, found.rows) == (300, 300) and found.known > 1_500
    assert found.old != found.champion and "both of 300 training rows" in found.sentence()
    assert abs(found.gain) < 0.03 and not found.low > 0
    changed = tried(tmp_path / "changed", world(change=CHANGE), settled=forest, most=300)
    assert isinstance(changed, Backtest) and changed.low > 0, "what is found on all rows is found on a part"
    assert (found.trainings, changed.trainings) == (
        1,
        2,
    ) and "training rows, the weaker of two trainings)" in changed.sentence()


@pytest.mark.slow
def test_a_clustering_is_compared_without_labels(tmp_path: Path) -> None:
    groups = {"winner": "k_means", "variants": {"k_means": {"clusters": 2}}}
    found = tried(tmp_path, world("clustering"), kind="clustering", settled=groups)
    assert isinstance(found, Backtest) and found.metric == "silhouette" and abs(found.gain) < 0.05


@pytest.mark.parametrize("kind", ["binary", "regression"])
def test_too_few_rows_are_no_answer(kind: str, tmp_path: Path) -> None:
    found = tried(tmp_path, world(kind), kind=kind, minimum_rows=5_000)
    assert isinstance(found, str) and found.startswith("too few labelled rows: 1,7")


def test_what_cannot_be_measured_or_answered_is_said(tmp_path: Path) -> None:
    single = world().with_columns(
        label=pl.when(pl.col("event_timestamp") >= START + 105 * DAY).then(1).otherwise(pl.col("label"))
    )
    found = tried(tmp_path, single)
    assert isinstance(found, str) and "roc_auc does not apply" in found and "only one class" in found
    broken = {"winner": "persistence", "variants": {"persistence": {"last_value": "gone"}}}
    frame, known = world(), plan()
    window = Stretch(START + 100 * DAY, START + 110 * DAY)
    rows, count = backtest_rows(frame.lazy(), SPLIT, window, now=START + DAYS * DAY, key=KEY)
    there = office(tmp_path / "there", frame, 60, known)
    for lost in (Office(there.champion, broken, there.learned), Office(_mute(there), LINEAR, there.learned)):
        said = backtest(known, rows, lost, window=window, known=count, key=KEY)
        assert isinstance(said, str) and said.startswith("the backtest failed"), said


def _mute(there: Office) -> Any:
    def predict(_: pl.DataFrame) -> np.ndarray:
        raise ValueError("column 'gone' is missing")

    bundle = SimpleNamespace(predict=predict, threshold=0.5, features=("x", "noise"))
    return InOffice(bundle, there.champion.fitted_until)


# -- which rows --------------------------------------------------------------------------------------------------------


def test_only_what_was_known_before_the_window_is_trained_on() -> None:
    frame, window = world(), Stretch(START + 100 * DAY, START + 110 * DAY)
    rows, count = backtest_rows(frame.lazy(), SPLIT, window, now=START + DAYS * DAY, key=KEY)
    train, test = rows.filter(pl.col("split") != "test"), rows.filter(pl.col("split") == "test")
    assert train.height == count and train["label_timestamp"].max() <= window.start  # type: ignore[operator]
    assert train["event_timestamp"].min() >= window.start - 60 * DAY  # type: ignore[operator]
    assert (test.height, test["event_timestamp"].min()) == (10 * A_DAY, window.start)
    assert test["event_timestamp"].max() < window.end  # type: ignore[operator]
    assert set(train["split"]) == {"train", "validation"} and not set(train["who"]) & set(test["who"])


def test_shares_and_random_splits_are_cut_in_order_of_time() -> None:
    frame, window = world(), Stretch(START + 100 * DAY, START + 110 * DAY)
    for by_time in (True, False):
        split = SplitPlan(by_time=by_time, train=0.6, validation=0.2, test=0.2)
        rows, count = backtest_rows(frame.lazy(), split, window, now=START + DAYS * DAY, key=KEY)
        sizes = dict(rows["split"].value_counts().iter_rows())
        assert sizes["test"] == 10 * A_DAY and count == sizes["train"] + sizes["validation"]
        assert sizes["train"] == pytest.approx(0.75 * 100 * A_DAY, rel=0.03)


def test_what_the_champion_has_seen_is_not_compared_on(tmp_path: Path) -> None:
    frame, known, window = world(), plan(by_time=False), Stretch(START + 50 * DAY, START + 70 * DAY)
    there = office(tmp_path, frame, 60, known)
    seen = seen_rows(there.learned, key=KEY)
    random = Office(there.champion, LINEAR, there.learned, seen)
    assert random.since < START < there.since
    rows, count = backtest_rows(frame.lazy(), SPLIT, window, now=START + DAYS * DAY, key=KEY)
    found = backtest(known, rows, random, window=window, known=count, key=KEY)
    assert isinstance(found, Backtest) and found.rows == 10 * A_DAY, "of twenty days it has seen ten"
    grouped = backtest(plan(by_time=False, group="group"), rows, random, window=window, known=count, key=KEY)
    assert isinstance(grouped, str) and "0 of 2013-02-20 to 2013-03-11 to compare on" in grouped


def test_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(TrainingSetError):
        early = world().with_columns(label=pl.lit(None, dtype=pl.Int64))
        backtest_rows(early.lazy(), SPLIT, Stretch(START, START + DAY), now=START + DAYS * DAY, key=KEY)


def test_of_sets_with_common_rows_the_same_rows_are_drawn() -> None:
    frame = world()
    early, late = frame.head(2_400), frame.tail(2_400)
    one, two = (set(drawn(part, 1_000, KEY)["who"]) for part in (early, late))
    common = set(early["who"]) & set(late["who"])
    both, either = len(one & two), len((one | two) & common)
    assert len(one) == len(two) == 1_000 and both > 0.9 * either
    parts = [set(drawn(early, 1_000, KEY, turn=turn)["who"]) for turn in (0, 1, 2)]
    assert [len(part) for part in parts] == [1_000] * 3 and not parts[0] & parts[1] and len(parts[1] | parts[2]) < 2_000
    assert drawn(frame, 10**6, KEY) is frame and drawn(early, 500, KEY)["event_timestamp"].is_sorted()


WINDOWS = [
    # now, in days after START; what is changed; the window or the reason
    (125, {}, (92, 120)),
    (110, {}, (80, 108)),  # the outcomes of day 108 are not all known
    (125, {"days": 200, "since": 60}, (60, 120)),
    (61, {"since": 60}, "the champion has learned all before 2013-03-02"),
    (0, {}, "no outcome is known yet"),
]


@pytest.mark.parametrize(("now", "change", "wanted"), WINDOWS, ids=range(len(WINDOWS)))
def test_the_window_is_the_latest_whose_outcomes_are_known(now: int, change: dict[str, int], wanted: Any) -> None:
    told = {"days": 28, "since": 0} | change
    found = window_of(world().lazy(), now=START + now * DAY, days=told["days"], since=START + told["since"] * DAY)
    if isinstance(wanted, str):
        assert isinstance(found, str) and wanted in found
    else:
        assert found == Stretch(*(START + day * DAY for day in wanted))


def test_rows_without_labels_or_their_time_are_mature_at_once() -> None:
    frame, now = world(), START + 110 * DAY + timedelta(hours=5)
    wanted = Stretch(START + 103 * DAY, START + 110 * DAY)
    untimed = frame.drop("label_timestamp")
    assert window_of(untimed.lazy(), now=now, days=7, since=START) == wanted
    assert window_of(frame.lazy(), now=now, days=7, since=START, supervised=False) == wanted
    empty = window_of(frame.clear().lazy(), now=now, days=7, since=START, supervised=False)
    assert empty == "there are no observations yet" and str(wanted) == "2013-04-14 to 2013-04-20"


# -- what is told ------------------------------------------------------------------------------------------------------


def test_of_an_ensemble_only_members_with_a_weight_are_made_again() -> None:
    variants = {"linear": {"a": 1}, "svm": {}, "ensemble": {"weights": {"linear": 1.0, "svm": 0.0}}}
    assert set(lean({"winner": "ensemble", "variants": variants})["variants"]) == {"ensemble", "linear"}
    assert lean({"winner": "svm", "variants": variants}) == {"winner": "svm", "variants": {"svm": {}}}


@pytest.mark.slow
def test_a_lucky_training_is_no_gain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = tried(tmp_path, world(change=CHANGE))
    assert isinstance(found, Backtest)
    lucky, sober = replace(found, trained=10, low=0.01), replace(found, trained=10, low=-0.01, gain=0.0)
    turns: dict[int, Backtest | str] = {0: lucky, 1: sober}
    monkeypatch.setattr("ml_assets.monitoring.backtest._Trial.run", lambda _, turn=0: turns[turn])
    again = tried(tmp_path / "again", world())
    assert isinstance(again, Backtest) and (again.low, again.gain, again.trainings) == (-0.01, 0.0, 2)
    turns[1] = "does not apply"
    assert tried(tmp_path / "third", world()) == "does not apply"
    turns[0] = sober
    once = tried(tmp_path / "fourth", world())
    assert isinstance(once, Backtest) and once.trainings == 1, "what is no gain need not be confirmed"


@pytest.mark.slow
def test_an_ensemble_is_made_again(tmp_path: Path) -> None:
    variants = {"baseline": {}, "linear": {}, "ensemble": {"weights": {"baseline": 0.3, "linear": 0.7}}}
    found = tried(tmp_path, world(change=CHANGE), settled={"winner": "ensemble", "variants": variants})
    assert isinstance(found, Backtest) and found.kind == "ensemble" and found.low > 0


def test_both_models_are_drawn_by_week(tmp_path: Path) -> None:
    found = tried(tmp_path, world("regression"), kind="regression")
    assert isinstance(found, Backtest)
    assert weeks_plot(found.to_dict())[:4] == b"\x89PNG" == weeks_plot(found.to_dict() | {"weeks": []})[:4]
