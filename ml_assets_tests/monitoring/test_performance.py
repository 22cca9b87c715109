"""Realised performance: labels count when they are known, and an empty window is never green."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from ml_assets.evaluation.metrics import evaluate
from ml_assets.monitoring.drift import MonitoringError
from ml_assets.monitoring.performance import PerformanceReport, performance
from ml_assets.tasks import task

START = datetime(2013, 11, 1, tzinfo=UTC)
DAY = timedelta(days=1)
TASK = task("classification")
ROWS = 2100  # 100 a day, three weeks


def predicted() -> pl.DataFrame:
    generator = np.random.default_rng(0)
    return pl.DataFrame(
        {
            "flight_id": [f"f{row}" for row in range(ROWS)],
            "event_timestamp": pl.datetime_range(START, START + 21 * DAY, DAY / 100, closed="left", eager=True),
            "score": generator.random(ROWS),
            "model_version": ["1"] * 700 + ["2"] * 1400,
            "in_sample": [False] * ROWS,
        }
    )  # fmt: skip


def arrived(predictions: pl.DataFrame, delay: timedelta = DAY) -> pl.DataFrame:
    late = np.random.default_rng(1).random(predictions.height) < predictions["score"].to_numpy()
    return predictions.select(
        "flight_id",
        label=pl.Series(late.astype(int)),
        label_timestamp=pl.col("event_timestamp") + delay,
    )


PREDICTIONS = predicted()
LABELS = arrived(PREDICTIONS)
END = START + 21 * DAY


def measure(
    predictions: pl.DataFrame = PREDICTIONS, labels: pl.DataFrame = LABELS, now: datetime = END + DAY, **options: object
) -> PerformanceReport:
    given = {"task": TASK, "threshold": 0.5, "window_end": END} | options
    return performance(predictions, labels, now=now, **({"key": "flight_id"} | given))


def test_all_labels_in_gives_the_metrics_of_all_rows() -> None:
    report = measure()
    joined = PREDICTIONS.join(LABELS, on="flight_id")
    expected = evaluate(joined["label"].to_numpy(), joined["score"].to_numpy(), threshold=0.5, task=TASK)
    assert report.status == "realised"
    assert report.metrics == expected
    assert (report.overall.expected, report.overall.matured, report.overall.pending) == (ROWS, ROWS, 0)


def test_weeks_start_with_the_window_and_carry_their_versions() -> None:
    periods = measure().periods
    assert [(period.start, period.expected) for period in periods] == [
        (START, 700),
        (START + 7 * DAY, 700),
        (START + 14 * DAY, 700),
    ]
    assert [period.model_versions for period in periods] == [("1",), ("2",), ("2",)]
    assert measure().overall.model_versions == ("1", "2")


def test_labels_later_than_now_are_not_used() -> None:
    now = START + 7 * DAY
    report = measure(now=now, window_end=now)
    assert (report.overall.expected, report.overall.matured, report.overall.pending) == (700, 601, 99)
    changed = LABELS.with_columns(
        label=pl.when(pl.col("label_timestamp") > now).then(1 - pl.col("label")).otherwise("label")
    )
    assert measure(labels=changed, now=now, window_end=now).metrics == report.metrics


def test_the_week_after_shows_what_was_pending() -> None:
    early = measure(now=START + 14 * DAY)
    assert [period.status for period in early.periods] == ["realised", "realised", "nothing matured"]
    assert early.periods[2].note == "none of 700 predictions has a label yet"
    assert set(early.periods[2].metrics.values()) == {None}
    assert [period.pending for period in measure().periods] == [0, 0, 0]


def test_a_null_label_never_comes_but_only_once_that_is_known() -> None:
    cancelled = LABELS.with_columns(label=pl.when(pl.int_range(pl.len()) >= 300).then("label"))
    undated = cancelled.with_columns(label_timestamp=pl.when(pl.col("label").is_not_null()).then("label_timestamp"))
    assert measure(labels=cancelled).overall.never == 300
    assert measure(labels=undated).overall.never == 300
    hour = START + DAY / 24
    assert measure(labels=cancelled, now=hour).overall.never == 0
    assert measure(labels=undated, now=hour).overall.never == 300


def test_a_label_without_a_time_is_pending() -> None:
    undated = LABELS.with_columns(label_timestamp=pl.lit(None, pl.Datetime("us", "UTC")))
    report = measure(labels=undated)
    assert (report.status, report.overall.pending) == ("nothing matured", ROWS)


def test_predictions_without_any_label_row_are_pending() -> None:
    report = measure(labels=LABELS[:500])
    assert (report.overall.matured, report.overall.pending) == (500, ROWS - 500)


@pytest.mark.parametrize("seen", [True, None])
def test_in_sample_rows_never_count(seen: bool | None) -> None:
    mixed = PREDICTIONS.with_columns(in_sample=pl.when(pl.int_range(pl.len()) < 700).then(seen).otherwise(False))
    report = measure(mixed)
    assert [period.status for period in report.periods] == ["only in-sample rows", "realised", "realised"]
    assert (report.overall.in_sample, report.overall.expected) == (700, 1400)
    assert report.metrics == measure(PREDICTIONS[700:], window_start=START).metrics


def test_an_empty_window_says_so() -> None:
    report = measure(PREDICTIONS[:0], window_start=START)
    assert report.status == "empty window"
    assert [period.status for period in report.periods] == ["empty window"] * 3
    assert set(report.metrics.values()) == {None}
    assert report.counted().endswith("0 expected, 0 matured, 0 pending.")
    assert measure(PREDICTIONS[:0], window_end=None).status == "empty window"


def test_a_gap_in_the_predictions_keeps_its_row() -> None:
    report = measure(PREDICTIONS.filter(~pl.col("event_timestamp").is_between(START + 7 * DAY, START + 14 * DAY)))
    assert [period.status for period in report.periods] == ["realised", "empty window", "realised"]


def test_too_few_labels_give_no_metrics() -> None:
    report = measure(labels=LABELS[:99])
    assert (report.status, report.overall.note) == ("too few labels", "99 labels, fewer than 100")
    assert set(report.metrics.values()) == {None}


def test_one_class_is_noted_not_passed() -> None:
    report = measure(labels=LABELS.with_columns(label=pl.lit(0)))
    assert report.status == "realised"
    assert report.metrics["roc_auc"] is None
    assert "roc_auc: only one class: every label is 0" in report.overall.note


def test_the_newest_label_counts_and_those_that_disagree_are_left_out() -> None:
    corrected = LABELS[:400].with_columns(pl.col("label_timestamp") + DAY, label=1 - pl.col("label"))
    expected = pl.concat([corrected, LABELS[400:]])
    report = measure(labels=pl.concat([corrected, LABELS]))
    assert report.metrics == measure(labels=expected).metrics
    again = measure(labels=pl.concat([LABELS, LABELS]))
    assert (again.overall.matured, again.metrics) == (ROWS, measure().metrics)
    disagree = measure(labels=pl.concat([LABELS, LABELS[:50].with_columns(label=1 - pl.col("label"))]))
    assert (disagree.overall.contradictory, disagree.overall.matured) == (50, ROWS - 50)


def test_a_flight_predicted_twice_counts_once_by_its_latest() -> None:
    again = PREDICTIONS[:10].with_columns(pl.col("event_timestamp") + DAY / 48, score=pl.lit(0.5))
    report = measure(pl.concat([PREDICTIONS, again.select(PREDICTIONS.columns)]))
    assert (report.duplicates, report.overall.expected) == (10, ROWS)
    assert "10 duplicates, left out" in report.counted()


def test_the_parts_add_up_to_what_was_expected() -> None:
    mixed = PREDICTIONS.with_columns(in_sample=pl.int_range(pl.len()) < 100)
    some = LABELS.with_columns(label=pl.when(pl.int_range(pl.len()) % 7 > 0).then("label"))[:1500]
    for part in (measure(mixed, some).overall, *measure(mixed, some).periods):
        assert part.expected == part.matured + part.pending + part.never + part.contradictory
    assert sum(period.expected for period in measure(mixed, some).periods) == measure(mixed, some).overall.expected


def test_frame_dict_and_counts() -> None:
    report = measure(now=START + 14 * DAY)
    frame = report.to_frame()
    assert frame.height == 3
    assert frame["roc_auc"].null_count() == 1
    assert frame["start"].dtype == pl.Datetime("us", "UTC")
    assert json.loads(json.dumps(report.to_dict()))["overall"]["status"] == "realised"
    assert report.counted().endswith("2,100 expected, 1,301 matured, 799 pending.")


def test_what_does_not_fit_is_refused_with_the_fix() -> None:
    with pytest.raises(MonitoringError, match=r"predictions lacks the columns \['score'\]"):
        measure(PREDICTIONS.drop("score"))
    with pytest.raises(MonitoringError, match=r"labels lacks the columns \['label_timestamp'\]"):
        measure(labels=LABELS.drop("label_timestamp"))
    with pytest.raises(MonitoringError, match="without a time zone"):
        measure(now=datetime(2013, 12, 1))
    with pytest.raises(MonitoringError, match="before it starts"):
        measure(window_start=END + DAY)
    with pytest.raises(MonitoringError, match="longer than nothing"):
        measure(period=timedelta(0))


def test_every_task_with_outcomes_is_measured() -> None:
    kind = task("classification", classes=["late", "early", "on time"])
    scores = np.random.default_rng(2).dirichlet([1, 1, 1], ROWS)
    names = pl.Series(np.array(kind.classes)[scores.argmax(axis=1)].tolist())
    several = PREDICTIONS.drop("score").with_columns(
        score=pl.Series(scores.max(axis=1)), scores=pl.Series(scores.tolist())
    )
    report = measure(several, LABELS.with_columns(label=names), task=kind)
    assert (report.status, report.metrics["accuracy"]) == ("realised", 1.0)
    assert "on time" in report.overall.outcomes
    minutes = LABELS.with_columns(label=pl.Series(PREDICTIONS["score"] + 2.0))
    report = measure(labels=minutes, task=task("regression"))
    assert report.metrics["mae"] == pytest.approx(2.0)
    assert report.overall.outcomes.startswith("median")


def test_labels_without_a_time_of_their_own_are_known_from_the_question_on() -> None:
    undated = LABELS.drop("label_timestamp").with_columns(PREDICTIONS["event_timestamp"])
    report = measure(labels=undated)
    assert (report.status, report.metrics) == ("realised", measure().metrics)


def test_one_thing_that_is_asked_about_again_counts_each_time_by_key_and_moment() -> None:
    same = PREDICTIONS.with_columns(flight_id=pl.lit("f"))
    labels = LABELS.with_columns(PREDICTIONS["event_timestamp"], flight_id=pl.lit("f"))
    report = measure(same, labels, key=["flight_id", "event_timestamp"])
    assert (report.overall.matured, report.duplicates) == (ROWS, 0)
    assert report.metrics == measure().metrics
