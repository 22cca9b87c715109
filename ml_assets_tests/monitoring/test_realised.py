"""Performance over the lake: realised where labels are in, estimated where they are waited for, and never green without a judgement."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pytest

from ml_assets.evaluation.metrics import evaluate, with_answers
from ml_assets.lake import Lake
from ml_assets.monitoring.realised import (
    Performance,
    as_declared,
    estimate_within_tolerance,
    performance_plot,
    report_performance,
    within_tolerance,
)
from ml_assets.packaging.bundle import Bundle
from ml_assets.packaging.champion import Champion
from ml_assets.tasks import Task
from ml_assets_tests.development.samples import TASKS

START = datetime(2013, 11, 1, tzinfo=UTC)
DAY = timedelta(days=1)
A_DAY = 40
TEST = 1_000
METRIC = {"binary": "roc_auc", "regression": "mae", "multiclass": "log_loss"}


@dataclass(frozen=True)
class FakeBundle:
    """A model that knows the chance of a class, or the mean of a number, from `x`."""

    task: Task
    features: tuple[str, ...] = ("x", "place")
    threshold: float = 0.5

    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        x = frame["x"].to_numpy()
        if self.task.output == "value":
            return 10 + 5 * x
        if self.task.output == "probability":
            return 1 / (1 + np.exp(-2 * x))
        weight = np.exp(np.stack([x, 0 * x, -x], axis=1))
        return weight / weight.sum(axis=1, keepdims=True)

    def truth(self, frame: pl.DataFrame) -> np.ndarray:
        return self.task.labels(frame["label"])

    def outcome(self, frame: pl.DataFrame, random: np.random.Generator) -> pl.Series:
        """Draw what really happens: as the model says."""
        score = self.predict(frame)
        if self.task.output == "value":
            return pl.Series(score + np.exp(frame["x"].to_numpy()) * random.normal(0, 2, len(score)))
        if self.task.output == "probability":
            return pl.Series((random.random(len(score)) < score).astype(np.int64))
        code = (random.random((len(score), 1)) > score.cumsum(axis=1)[:, :2]).sum(axis=1)
        return pl.Series([self.task.classes[place] for place in code])


@dataclass
class World:
    """A lake with a champion's training set, and what is asked and known of some weeks after its test split."""

    lake: Lake
    kind: str = "binary"
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def __post_init__(self) -> None:
        self.bundle = FakeBundle(TASKS[self.kind])
        test = self.rows(TEST, START - 30 * DAY, 30 * DAY / TEST).with_columns(split=pl.lit("test"))
        kept = self.lake.write("p/training_set", test, written_at=START)
        score = self.bundle.predict(test)
        known = evaluate(self.bundle.truth(test), score, threshold=0.5, task=self.bundle.task)
        metrics = {name: value for name, value in known.items() if not isinstance(value, str)}
        self.champion = Champion("2", cast(Bundle, self.bundle), kept.version, START - 60 * DAY, START, metrics)
        self.metric = self.bundle.task.metric(METRIC[self.kind])

    def rows(self, count: int, start: datetime, step: timedelta, shift: float = 0.0) -> pl.DataFrame:
        places = self.random.choice(["here", "there", "rare"], count, p=[0.5, 0.48, 0.02])
        frame = pl.DataFrame(
            {
                "who": [f"{start:%j} {number}" for number in range(count)],
                "event_timestamp": [start + number * step for number in range(count)],
                "x": self.random.normal(shift, 1, count),
                "place": places,
            },
            schema_overrides={"event_timestamp": pl.Datetime("us", "UTC")},
        )
        return frame.with_columns(label=self.bundle.outcome(frame, self.random))

    def live(self, weeks: int, *, delay: timedelta = DAY, shift: float = 0.0, **changes: pl.Expr) -> pl.DataFrame:
        """Write some weeks of predictions and their labels, which come after `delay`; `changes` are made to the labels."""
        frame = self.rows(7 * A_DAY * weeks, START, DAY / A_DAY, shift)
        self.predict(frame.drop("label"))
        labels = frame.select("who", "event_timestamp", "label", label_timestamp=pl.col("event_timestamp") + delay)
        self.observe(labels.with_columns(**changes))
        return frame

    def predict(self, frame: pl.DataFrame, **told: Any) -> None:
        said = {"model_version": pl.lit("2"), "in_sample": pl.lit(False)} | told
        scored = with_answers(frame, self.bundle.predict(frame), self.bundle.task, 0.5).with_columns(**said)
        self.lake.write("p/predictions", scored, written_at=START)

    def observe(self, labels: pl.DataFrame) -> None:
        self.lake.write("p/observations", labels, written_at=START)

    def report(self, now: datetime, **options: Any) -> Performance:
        asked: dict[str, Any] = {"metric": self.metric.name, "label_delay": DAY} | options
        return report_performance(self.lake, "p", self.champion, key=["who"], now=now, **asked)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


@pytest.mark.parametrize("kind", METRIC)
def test_weeks_are_realised_mixed_and_estimated(lake: Lake, kind: str) -> None:
    world = World(lake, kind)
    frame = world.live(4)
    found = world.report(START + 19 * DAY)
    assert [week.status for week in found.weeks] == ["realised", "realised", "mixed", "estimated"]
    assert [week.waiting for week in found.weeks] == [0, 0, 3 * A_DAY - 1, 7 * A_DAY]
    name = world.metric.name
    first = frame.head(7 * A_DAY)
    truth = evaluate(world.bundle.truth(first), world.bundle.predict(first), threshold=0.5, task=world.bundle.task)
    assert found.weeks[0].period.metrics[name] == pytest.approx(truth[name])
    assert found.weeks[0].covered(name) is True and found.weeks[2].covered(name) is None
    stored = lake.read("p/performance_report")
    assert stored["status"].to_list() == [week.status for week in found.weeks]
    assert stored[name].is_null().to_list() == [False, False, False, True]
    assert stored.select(pl.col("estimated_low", f"estimated_{name}", "estimated_high").is_null().sum()).row(0) == (
        0,
        0,
        0,
    )
    assert (
        (stored["estimated_low"] <= stored[f"estimated_{name}"])
        & (stored[f"estimated_{name}"] <= stored["estimated_high"])
    ).all()
    assert stored["estimate_error"][0] == pytest.approx(stored[f"estimated_{name}"][0] - stored[name][0])
    assert lake.read("p/label_ledger").select("expected", "arrived").sum().row(0) == (28 * A_DAY, 18 * A_DAY + 1)
    for passed, reason in (
        within_tolerance(found, world.metric, 0.5),
        estimate_within_tolerance(found, world.metric, 0.5),
    ):
        assert passed, reason
    assert "of 2 estimates 2 held" in estimate_within_tolerance(found, world.metric, 0.5)[1]


def test_realised_metrics_are_those_of_scikit_learn(lake: Lake) -> None:
    from sklearn.metrics import roc_auc_score

    world = World(lake)
    frame = world.live(2)
    found = world.report(START + 20 * DAY)
    score = world.bundle.predict(frame)
    assert found.recent is not None
    assert found.recent.metrics["roc_auc"] == pytest.approx(roc_auc_score(frame["label"].to_numpy(), score))


def test_a_changed_concept_shows_in_the_labels_and_in_the_estimates_error(lake: Lake) -> None:
    world = World(lake)
    world.live(3, label=1 - pl.col("label"))
    early = world.report(START + DAY / 2)
    passed, reason = estimate_within_tolerance(early, world.metric, 0.1)
    assert passed and "no estimate has been held against labels yet" in reason
    assert within_tolerance(early, world.metric, 0.1) == (False, "undecided: roc_auc is not known yet: nothing matured")
    late = world.report(START + 30 * DAY)
    assert not within_tolerance(late, world.metric, 0.1)[0]
    assert late.weeks[0].covered("roc_auc") is False
    assert (late.weeks[0].error("roc_auc") or 0) > 0.5
    assert "(outside)" in late.markdown()
    widths = [week.estimates["roc_auc"].high - week.estimates["roc_auc"].low for week in late.weeks]
    assert widths[1] > 2 * widths[0]  # who was wrong is less sure of the next


def test_rows_that_are_harder_turn_the_estimate_red_before_their_labels(lake: Lake) -> None:
    world = World(lake, "regression")
    world.live(2, shift=1.5)
    found = world.report(START + DAY / 2)
    passed, reason = estimate_within_tolerance(found, world.metric, 1.0)
    assert not passed and "mae of the week of 2013-11-08 is estimated at" in reason
    realised = world.report(START + 30 * DAY)
    assert not within_tolerance(realised, world.metric, 1.0)[0]
    assert realised.coverage[1] == 2


def test_only_the_latest_realised_weeks_are_judged(lake: Lake) -> None:
    world = World(lake)
    old = pl.col("event_timestamp") < START + 21 * DAY
    world.live(7, label=pl.when(old).then(1 - pl.col("label")).otherwise("label"))
    found = world.report(START + 60 * DAY)
    assert within_tolerance(found, world.metric, 0.1)[0]
    assert found.recent is not None and found.recent.start == START + 21 * DAY


def test_labels_that_never_come_are_no_success(lake: Lake) -> None:
    world = World(lake)
    world.live(2, delay=400 * DAY)
    found = world.report(START + 60 * DAY)
    assert [week.status for week in found.weeks] == ["estimated", "estimated"]
    assert not within_tolerance(found, world.metric, 1.0)[0]
    passed, reason = as_declared(found)
    assert not passed and "560 overdue" in reason
    assert estimate_within_tolerance(found, world.metric, 0.5)[0]


def test_labels_that_disagree_are_counted_and_named(lake: Lake) -> None:
    world = World(lake)
    frame = world.live(1)
    labels = frame.select("who", "event_timestamp", "label", label_timestamp=pl.col("event_timestamp") + DAY)
    world.observe(pl.concat([labels, labels.head(50).with_columns(label=1 - pl.col("label"))]))
    found = world.report(START + 60 * DAY)
    assert found.report.overall.contradictory == 50
    assert found.ledger["contradictory"].sum() == 50 and found.ledger["mature"].all()
    assert "50 contradictory labels" in found.markdown()


def test_early_labels_are_a_fault(lake: Lake) -> None:
    world = World(lake)
    world.live(1, delay=-DAY)
    passed, reason = as_declared(world.report(START + 9 * DAY))
    assert not passed and "known before their prediction" in reason


def test_without_a_declared_delay_there_is_nothing_to_hold_labels_against(lake: Lake) -> None:
    world = World(lake)
    world.live(1)
    passed, reason = as_declared(world.report(START + 9 * DAY, label_delay=None))
    assert passed and reason.startswith("not applicable: availability.label_delay is not declared; 98% of 280 labels")


def test_without_the_test_split_nothing_is_estimated_and_the_check_says_so(lake: Lake) -> None:
    world = World(lake)
    world.live(1)
    world.champion = Champion("2", world.champion.bundle, "0" * 64, START, START, world.champion.test_metrics)
    passed, reason = estimate_within_tolerance(world.report(START), world.metric, 0.5)
    assert not passed and reason.endswith("the champion's training set is not in the lake any more")


def test_a_feature_that_the_predictions_lack_is_named(lake: Lake) -> None:
    world = World(lake, "regression")
    world.live(1)
    world.lake.write("p/predictions", lake.read("p/predictions").drop("place"), written_at=START)
    passed, reason = estimate_within_tolerance(world.report(START), world.metric, 0.5)
    assert not passed and reason.endswith("the predictions lack the features ['place']")


def test_without_live_predictions_nothing_is_green(lake: Lake) -> None:
    world = World(lake)
    world.live(1)
    world.lake.write("p/predictions", lake.read("p/predictions").clear(), written_at=START)
    found = world.report(START + DAY)
    verdicts = [
        within_tolerance(found, world.metric, 1.0),
        estimate_within_tolerance(found, world.metric, 1.0),
        as_declared(found),
    ]
    assert [passed for passed, _ in verdicts] == [False, False, False]
    assert verdicts[0][1] == "undecided: roc_auc is not known yet: empty window"
    assert found.markdown() and performance_plot(found, world.metric, 0.1)


def test_one_row_is_too_few_to_say_anything(lake: Lake) -> None:
    world = World(lake)
    world.live(1)
    world.lake.write("p/predictions", lake.read("p/predictions").head(1), written_at=START)
    found = world.report(START + 20 * DAY)
    assert found.weeks[0].status == "too few labels"
    assert not within_tolerance(found, world.metric, 1.0)[0]
    assert estimate_within_tolerance(found, world.metric, 1.0)[1].startswith("not applicable: no week waits for labels")


BAD: dict[str, tuple[str, pl.Expr, str]] = {
    "labels of another type": ("observations", pl.lit("abc").alias("label"), "unreadable"),
    "infinite labels": ("observations", pl.lit(float("inf")).alias("label"), "unreadable"),
    "only null labels": ("observations", pl.lit(None).alias("label"), "nothing matured"),
    "answers that are null": ("predictions", pl.lit(None, pl.Float64).alias("score"), "unreadable"),
    "answers that are no number": ("predictions", pl.lit(float("nan")).alias("score"), "unreadable"),
    "one class only": ("observations", pl.lit(0).alias("label"), "realised"),
}


@pytest.mark.parametrize("kind", ["binary", "regression"])
@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_read_is_a_report_that_says_so(lake: Lake, case: str, kind: str) -> None:
    world = World(lake, kind)
    world.live(1)
    table, change, status = BAD[case]
    lake.write(f"p/{table}", lake.read(f"p/{table}").with_columns(change), written_at=START)
    found = world.report(START + 30 * DAY)
    assert [week.status for week in found.weeks] == [status]
    assert not within_tolerance(found, world.metric, 0.1)[0]
    assert found.markdown() and performance_plot(found, world.metric, 0.1)
    early = world.report(START)
    assert not within_tolerance(early, world.metric, 0.1)[0]
    if table == "predictions":
        assert estimate_within_tolerance(early, world.metric, 0.1) == (
            False,
            f"undecided: {world.metric.name} of 2013-11-01 is not estimated: fewer than 100 rows with an answer wait for labels",
        )


def test_slices_have_their_metric_or_a_reason(lake: Lake) -> None:
    world = World(lake)
    world.live(3)
    found = world.report(START + 60 * DAY, slices=["place", "carrier"])
    rows = {(row["slice"], row["value"]): row for row in found.slices.to_dicts()}
    assert rows["place", "here"]["roc_auc"] > 0.7 and rows["place", "here"]["rows"] > 300
    assert rows["place", "rare"]["roc_auc"] is None and rows["place", "rare"]["note"].startswith("too small")
    assert rows["carrier", None]["note"] == "no such column in the predictions"
    assert found.slices.equals(lake.read("p/performance_slices"))


def test_weeks_of_models_that_were_in_office_before_stay_to_be_seen(lake: Lake) -> None:
    world = World(lake)
    before = world.rows(14 * A_DAY, START - 10 * DAY, DAY / A_DAY)
    after = world.rows(7 * A_DAY, START + 4 * DAY, DAY / A_DAY)
    first = pl.col("event_timestamp") < START + 4 * DAY
    version = pl.when(first).then(pl.lit("1")).otherwise(pl.lit("2"))
    sample = pl.col("event_timestamp") < START - 7 * DAY
    both = pl.concat([before, after])
    world.predict(both.drop("label"), model_version=version, in_sample=sample)
    world.observe(both.select("who", "event_timestamp", "label", label_timestamp=pl.col("event_timestamp") + DAY))
    found = world.report(START + 60 * DAY)
    assert [(one.start, one.model_versions, one.matured) for one in found.earlier] == [
        (START - 7 * DAY, ("1",), 7 * A_DAY),
        (START, ("1",), 4 * A_DAY),
    ]
    assert (found.earlier[0].metrics["roc_auc"] or 0) > 0.7
    assert [week.period.matured for week in found.weeks] == [3 * A_DAY, 4 * A_DAY]
    assert lake.read("p/performance_earlier").height == 2
    assert found.ledger["day"][0] == "2013-10-25" and set(found.ledger["expected"]) == {
        A_DAY
    }  # labels know no versions
    assert "Models that were in office before" in found.markdown()
    assert performance_plot(found, world.metric, 0.1)[:4] == b"\x89PNG"
