"""Monitoring over the lake: tables with and without days, windows that are new or have changed, outcomes as they become known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets import keys
from ml_assets.lake import Lake
from ml_assets.monitoring import watching
from ml_assets.monitoring.drift import DriftPolicy
from ml_assets.monitoring.realised import latest_performance, report_performance, within_tolerance
from ml_assets.monitoring.watching import days_of, latest_drift, report_drift
from ml_assets.packaging.bundle import Bundle
from ml_assets.packaging.champion import Champion
from ml_assets.tasks import Task, task
from ml_assets_tests.development.samples import TASKS

START = datetime(2013, 11, 1, tzinfo=UTC)
NOW = datetime(2013, 12, 1, tzinfo=UTC)
PREDICTIONS, OBSERVATIONS = "p/predictions", "p/observations"
POLICY = DriftPolicy(minimum_rows=50)


class FakeBundle:
    """What monitoring asks of a bundle."""

    features = ("delay", "carrier")
    threshold = 0.5

    def __init__(self, kind: Task) -> None:
        self.task = kind

    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        """Answer by the delay."""
        return frame.select(answer()).to_series().to_numpy()


def answer() -> pl.Expr:
    """Return what the fake says of a row."""
    return (0.5 + pl.col("delay") / 200).clip(0, 1)


def champion(
    kind: str = "binary", *, version: str = "3", data_hash: str = "", metrics: dict[str, float] | None = None
) -> Champion:
    made = cast(Bundle, FakeBundle(TASKS[kind]))
    return Champion(version, made, data_hash, START - timedelta(days=30), START, metrics or {})


def asked(hours: int, *, every: int = 6, seed: int = 0) -> pl.DataFrame:
    """Return questions from START on, `every` so many hours, ten at a time."""
    random, moments = np.random.default_rng(seed), range(0, hours, every)
    rows = 10 * len(moments)
    return pl.DataFrame(
        {
            "who": [f"{number}" for _ in moments for number in range(10)],
            "event_timestamp": [START + timedelta(hours=hour) for hour in moments for _ in range(10)],
            "delay": random.normal(10, 20, rows),
            "carrier": random.choice(["UA", "B6", "EV"], rows),
        },
        schema_overrides={"event_timestamp": pl.Datetime("us", "UTC")},
    )


def by_day(lake: Lake, table: str, frame: pl.DataFrame) -> None:
    """Write a table by the days of its moments."""
    for (day,), rows in frame.group_by(pl.col("event_timestamp").dt.date().dt.to_string(), maintain_order=True):
        lake.write(table, rows, partition=str(day), written_at=NOW)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


# -- a table by days ---------------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(hours=st.sets(st.integers(0, 100), min_size=1, max_size=20), data=st.data())
def test_a_table_without_days_reads_like_one_with_days(
    tmp_path_factory: pytest.TempPathFactory, hours: set[int], data: st.DataObject
) -> None:
    lake = Lake(str(tmp_path_factory.mktemp("lake")))
    moments = [START + timedelta(hours=hour) for hour in sorted(hours)]
    frame = pl.DataFrame({"event_timestamp": moments, "x": range(len(moments))})
    by_day(lake, "t/daily", frame)
    lake.write("t/whole", frame, written_at=NOW)
    daily, whole = days_of(lake, "t/daily"), days_of(lake, "t/whole")
    assert (daily.whole, whole.whole) == (False, True)
    assert list(daily.days) == list(whole.days) == sorted({keys.day(moment) for moment in moments})
    wanted = data.draw(st.lists(st.sampled_from(list(daily.days)), unique=True))
    assert whole.read(wanted).equals(daily.read(sorted(wanted)))
    assert whole.read(wanted).schema == frame.schema


def test_a_day_is_utc_and_of_a_table_without_days_only_the_newest_rows_count(lake: Lake) -> None:
    midnight = pl.DataFrame({"event_timestamp": [START - timedelta(microseconds=1), START]})
    lake.write("t/whole", midnight, written_at=NOW)
    assert list(days_of(lake, "t/whole").days) == ["2013-10-31", "2013-11-01"]
    before = days_of(lake, "t/whole").version(["2013-11-01"])
    lake.write("t/whole", midnight.tail(1), written_at=NOW)
    table = days_of(lake, "t/whole")
    assert list(table.days) == ["2013-11-01"] and table.version(["2013-11-01"]) != before


def test_the_version_of_days_says_when_one_of_them_changes(lake: Lake) -> None:
    by_day(lake, "t/daily", asked(72))
    table = days_of(lake, "t/daily")
    first, second = table.version(["2013-11-01"]), table.version(["2013-11-02"])
    by_day(lake, "t/daily", asked(24, seed=9))
    assert table.version(["2013-11-01"]) != first and table.version(["2013-11-02"]) == second


def test_a_table_that_was_never_written_has_no_days(lake: Lake) -> None:
    assert list(days_of(lake, "t/nothing").days) == []


# -- drift -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evidently's page costs seconds and decides nothing."""
    monkeypatch.setattr(watching, "_write_html", lambda path, *_: path.name)


def trained(lake: Lake) -> Champion:
    """Write a training set, and return the champion that was fitted on it."""
    split = pl.when(pl.int_range(pl.len()) < 1_000).then(pl.lit("train")).otherwise(pl.lit("test"))
    written = lake.write("p/training_set", asked(24 * 30, seed=1).with_columns(split=split), written_at=NOW)
    return champion(data_hash=written.version)


def drift(lake: Lake, model: Champion, tmp_path: Path) -> list[watching.WindowDrift]:
    return report_drift(lake, "p", model, policy=POLICY, window_days=7, reports=tmp_path, now=NOW)


@pytest.mark.usefixtures("no_page")
@pytest.mark.parametrize("days", [True, False], ids=["by days", "without days"])
def test_each_window_is_judged_once_until_its_rows_change(lake: Lake, tmp_path: Path, days: bool) -> None:
    model = trained(lake)

    def write(frame: pl.DataFrame) -> None:
        known = frame.with_columns(model_version=pl.lit("3"), score=answer())
        by_day(lake, PREDICTIONS, known) if days else lake.write(PREDICTIONS, known, written_at=NOW)

    frame = asked(24 * 14)
    write(frame)
    made = drift(lake, model, tmp_path)
    assert [(item.window.first, item.window.last) for item in made] == [
        ("2013-11-01", "2013-11-07"),
        ("2013-11-08", "2013-11-14"),
    ]
    assert [item.report.verdict for item in made] == ["stable", "stable"]
    assert [item.report.current_rows for item in made] == [280, 280]
    assert drift(lake, model, tmp_path) == []
    later = pl.col("event_timestamp") >= START + timedelta(days=7)
    assert [one.feature for one in made[0].report.features] == ["delay", "carrier", "score"]
    write(frame.with_columns(delay=pl.col("delay") + 60 * later))
    judged = {item.window.first: item.report for item in drift(lake, model, tmp_path)}
    assert judged["2013-11-08"].verdict == "drift" and sorted(judged["2013-11-08"].drifted) == ["delay", "score"]
    assert set(judged) == ({"2013-11-08"} if days else {"2013-11-01", "2013-11-08"})  # a whole table has one version
    latest = latest_drift(lake, "p")
    assert latest and (latest.first, latest.verdict, sorted(latest.drifted), latest.count) == (
        "2013-11-08",
        "drift",
        ["delay", "score"],
        2,
    )


@pytest.mark.usefixtures("no_page")
def test_another_champion_is_another_reference_and_only_its_predictions_count(lake: Lake, tmp_path: Path) -> None:
    model = trained(lake)
    both = pl.concat([asked(24 * 7).with_columns(model_version=pl.lit(one), score=answer()) for one in ("3", "2")])
    lake.write(PREDICTIONS, both, written_at=NOW)
    (made,) = drift(lake, model, tmp_path)
    assert made.report.current_rows == 280
    (again,) = drift(lake, champion(version="2", data_hash=model.data_hash), tmp_path)
    assert again.window == made.window


def test_without_predictions_there_is_no_report(lake: Lake, tmp_path: Path) -> None:
    assert drift(lake, champion(), tmp_path) == []
    assert latest_drift(lake, "p") is None


# -- performance -------------------------------------------------------------------------------------------------------


def outcomes(frame: pl.DataFrame, label: pl.Expr, *, timed: bool = True) -> pl.DataFrame:
    known = {"label_timestamp": pl.col("event_timestamp") + timedelta(days=1)} if timed else {}
    return frame.select("who", "event_timestamp", label=label, **known)


def scored(frame: pl.DataFrame, kind: str, score: np.ndarray) -> pl.DataFrame:
    from ml_assets.evaluation.metrics import with_answers

    told = {"model_version": pl.lit("3"), "in_sample": pl.lit(False)}
    return with_answers(frame, score, TASKS[kind], 0.5).with_columns(**told)


CASES: dict[str, tuple[str, pl.Expr, Any]] = {
    "binary": ("accuracy", (pl.col("delay") > 10).cast(pl.Int64), lambda delay: (delay > 10) * 0.8 + 0.1),
    "regression": ("mae", pl.col("delay"), lambda delay: delay + 2.0),
    "multiclass": (
        "accuracy",
        pl.when(pl.col("delay") > 10).then(pl.lit("high")).otherwise(pl.lit("low")),
        lambda delay: np.stack([delay <= 10, 0 * delay, delay > 10], axis=1).astype(float),
    ),
}


@pytest.mark.parametrize("days", [True, False], ids=["by days", "without days"])
@pytest.mark.parametrize("kind", CASES)
def test_the_realised_metric_of_each_task_is_stored(lake: Lake, kind: str, days: bool) -> None:
    metric, label, say = CASES[kind]
    frame, expected = asked(24 * 14), 2.0 if metric == "mae" else 1.0
    predictions = scored(frame, kind, say(frame["delay"].to_numpy()))
    for table, rows in ((PREDICTIONS, predictions), (OBSERVATIONS, outcomes(frame, label))):
        by_day(lake, table, rows) if days else lake.write(table, rows, written_at=NOW)
    found = report_performance(lake, "p", champion(kind, metrics={metric: expected}), key=["who"], now=NOW)
    assert found.report.overall.matured == frame.height  # each question counts, though ten are asked again and again
    assert found.report.overall.metrics[metric] == pytest.approx(expected)
    assert [period.matured for period in found.report.periods] == [280, 280]
    stored = latest_performance(lake, "p")
    assert stored and stored["status"] == "realised" and stored[metric] == pytest.approx(expected)
    assert lake.read("p/performance_report").height == 2
    passed, reason = within_tolerance(found, TASKS[kind].metric(metric), 0.03)
    assert passed, reason


def test_worse_than_tolerated_is_told_for_both_directions(lake: Lake) -> None:
    frame = asked(24 * 14)
    lake.write(PREDICTIONS, scored(frame, "regression", frame["delay"].to_numpy() + 2.0), written_at=NOW)
    lake.write(OBSERVATIONS, outcomes(frame, pl.col("delay")), written_at=NOW)
    mae = task("regression").metric("mae")
    for expected, tolerance, right in ((1.9, 0.2, True), (1.9, 0.05, False), (9.0, 0.0, True)):
        found = report_performance(lake, "p", champion("regression", metrics={"mae": expected}), key=["who"], now=NOW)
        passed, reason = within_tolerance(found, mae, tolerance)
        assert passed is right
        assert reason == f"mae is 2.0000, on the test split it was {expected:.4f}; tolerated loss {tolerance}"


def test_without_a_label_timestamp_outcomes_are_known_with_their_question(lake: Lake) -> None:
    frame = asked(24 * 14)
    lake.write(PREDICTIONS, scored(frame, "regression", frame["delay"].to_numpy()), written_at=NOW)
    lake.write(OBSERVATIONS, outcomes(frame, pl.col("delay"), timed=False), written_at=NOW)
    early = START + timedelta(days=7)
    found = report_performance(lake, "p", champion("regression", metrics={"mae": 0.0}), key=["who"], now=early)
    whole = found.report.overall
    assert (whole.matured, whole.pending) == (290, 270)


def test_a_local_day_that_ends_in_the_next_one_of_utc_counts_whole(lake: Lake) -> None:
    frame = asked(24)
    evening = frame.with_columns(
        pl.col("event_timestamp") + timedelta(hours=5)
    )  # 00:00 to 05:00 UTC of the next day too
    lake.write(
        PREDICTIONS, scored(evening, "regression", evening["delay"].to_numpy()), partition="2013-11-01", written_at=NOW
    )
    lake.write(OBSERVATIONS, outcomes(evening, pl.col("delay")), partition="2013-11-01", written_at=NOW)
    found = report_performance(lake, "p", champion("regression", metrics={"mae": 0.0}), key=["who"], now=NOW)
    assert found.report.overall.matured == evening.height == found.ledger["arrived"].sum()


@pytest.mark.parametrize("days", [True, False], ids=["by days", "without days"])
def test_what_lies_before_the_end_of_the_test_split_is_not_live(lake: Lake, days: bool) -> None:
    frame = asked(24 * 2).with_columns(pl.col("event_timestamp") - timedelta(days=2))
    for table, rows in (
        (PREDICTIONS, scored(frame, "regression", frame["delay"].to_numpy())),
        (OBSERVATIONS, outcomes(frame, pl.col("delay"))),
    ):
        by_day(lake, table, rows) if days else lake.write(table, rows, written_at=NOW)
    found = report_performance(lake, "p", champion("regression", metrics={"mae": 0.0}), key=["who"], now=NOW)
    assert found.report.overall.status == "empty window"
    passed, reason = within_tolerance(found, task("regression").metric("mae"), 1.0)
    assert (passed, reason) == (False, "undecided: mae is not known yet: empty window")
