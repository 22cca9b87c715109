"""The timeline: the stored reports of a year become one page; what was never made, or made by an older version, is said."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ml_assets.lake import Lake
from ml_assets.monitoring.alerts import Alert
from ml_assets.monitoring.channels import Files
from ml_assets.monitoring.retraining import Decision, enter
from ml_assets.monitoring.story import DRIFT_COLUMNS, TABLES, story
from ml_assets.monitoring.timeline import page, write_timeline
from ml_assets.monitoring.timeline_plots import pictures
from ml_assets.packaging.history import Promotion, record

BEGIN, NOW = datetime(2013, 5, 1, tzinfo=UTC), datetime(2013, 9, 1, tzinfo=UTC)
WEEKS, DAY = 16, timedelta(days=1)
FEATURES = ("temp", "wind_speed", "carrier", "a_feature_with_a_very_long_name_of_its_own")
UNIT_CHANGE = 5
"""Number of the week in which temp changes its unit."""


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def week(number: int) -> datetime:
    return BEGIN + number * 7 * DAY


def with_drift(lake: Lake) -> None:
    random = np.random.default_rng(7)
    for number in range(WEEKS):
        bad = UNIT_CHANGE <= number < UNIT_CHANGE + 2
        rows = [
            {
                "window_first": f"{week(number):%Y-%m-%d}",
                "window_last": f"{week(number + 1) - DAY:%Y-%m-%d}",
                "window_verdict": "drift" if bad else "stable",
                "window_reason": "temp: unit change" if bad else "nothing has drifted",
                "feature": name,
                "verdict": "drift" if bad and name == "temp" else "stable",
                "signs": "unit change" if bad and name == "temp" else "",
                "psi": None
                if name == "carrier" and number == 3
                else float(random.exponential(0.05)) + 3 * (bad and name == "temp"),
                "limit": 0.2,
                "added later": number,
            }
            for name in FEATURES
        ]
        lake.write("late/drift_report", pl.DataFrame(rows), partition=rows[0]["window_first"], written_at=NOW)


def with_performance(lake: Lake) -> None:
    random = np.random.default_rng(8)
    value = [
        0.72 + float(random.normal(0, 0.01)) - 0.1 * (UNIT_CHANGE <= number < UNIT_CHANGE + 2)
        for number in range(WEEKS)
    ]
    frame = pl.DataFrame(
        {
            "start": [week(number) for number in range(WEEKS)],
            "end": [week(number + 1) for number in range(WEEKS)],
            "status": ["realised"] * (WEEKS - 1) + ["estimated"],
            "roc_auc": [*value[:-1], None],
            "estimated_roc_auc": [one + 0.01 for one in value],
            "estimated_low": [one - 0.02 for one in value],
            "estimated_high": [one + 0.04 for one in value],
            "model_versions": ["1"] * 9 + ["2"] * (WEEKS - 9),
        }
    )
    lake.write("late/performance_report", frame, written_at=NOW)


def with_days(lake: Lake) -> None:
    days, random = [f"{BEGIN + number * DAY:%Y-%m-%d}" for number in range(7 * WEEKS)], np.random.default_rng(9)
    earned = random.normal(900, 200, len(days))
    known = [number < len(days) - 3 for number in range(len(days))]
    money = {
        name: [float(one) if know else None for one, know in zip(earned + more, known, strict=True)]
        for name, more in (("earned", 0), ("baseline", -400), ("perfect", 1100))
    }
    lake.write("late/kpi_report", pl.DataFrame({"day": days, **money, "currency": "USD"}), written_at=NOW)
    counts = {
        "arrived": [880 if know else 200 for know in known],
        "pending": [0 if know else 680 for know in known],
        "never": 20,
        "contradictory": 1,
    }
    lake.write("late/label_ledger", pl.DataFrame({"day": days, **counts}), written_at=NOW)


def with_events(lake: Lake) -> None:
    first = Promotion("late", "1", "d1", "", "", "run", BEGIN, "the first champion", number=1)
    record(lake.store, first, after=None)
    record(lake.store, Promotion("late", "2", "d2", "1", "1", "run", week(9), "roc_auc 0.74 against 0.72"), after=first)
    for number, (moment, retrain) in enumerate([(week(6), False), (week(9) - DAY, True)]):
        made = Decision(
            "late",
            moment,
            retrain,
            "drift, and retrained would be better" if retrain else "drift, but retrained is no better",
            outcome="retrain" if retrain else "kept",
            key=str(number),
        )
        enter(lake.store, "late", lambda _, made=made: made)
    for moment, resolved in ((week(6), False), (week(8), True)):
        title = f"{'Resolved: ' if resolved else ''}late/drift_report: no_drift failed"
        Files(lake.store).send(
            Alert("late", "check", "no_drift", title, "temp <changed> its unit.", moment, resolved=resolved)
        )


@pytest.fixture
def year(lake: Lake) -> Lake:
    for part in (with_drift, with_performance, with_days, with_events):
        part(lake)
    return lake


def shown(lake: Lake, metric: str = "roc_auc") -> str:
    told = story(lake, "late")
    return page(told, question="Will it be late?", metric=metric, now=NOW, images=pictures(told, metric=metric))


def test_the_page_tells_the_whole_story(year: Lake, tmp_path: Path) -> None:
    told = story(year, "late")
    images = pictures(told, metric="roc_auc")
    path = tmp_path / "reports" / "timeline.html"
    assert write_timeline(path, told, question="Late?", metric="roc_auc", now=NOW, images=images) == path
    text = path.read_text()
    assert re.findall(r'alt="([^"]+)"', text) == ["What happened", "Performance: roc_auc", "Drift", "Value", "Outcomes"]
    for told in (
        "2 of 16 windows",
        "version 2 took office in place of 1",
        "drift, but retrained is no better",
        "2013-06-05 to 2013-06-11: temp: unit change",
    ):
        assert told in text, told
    assert "Not here" not in text and "<changed>" not in text
    assert "http://" not in text and "https://" not in text  # complete in itself
    assert 30_000 < len(text) < 400_000


def test_what_happened_is_in_order_of_time(year: Lake) -> None:
    events = story(year, "late").events()
    assert [event.at for event in events] == sorted(event.at for event in events)
    assert [event.kind for event in events] == [
        "promotion",
        "kept",
        "alert",
        "drift",
        "drift",
        "resolved",
        "retrain",
        "promotion",
    ]


def test_the_span_covers_everything(year: Lake) -> None:
    assert story(year, "late").span == (BEGIN, week(WEEKS))


def test_nothing_was_made_yet(lake: Lake) -> None:
    told = story(lake, "late")
    assert told.span is None and told.events() == [] and set(told.absent) == set(TABLES)
    text = shown(lake)
    assert "Nothing has happened yet" in text and "<img" not in text
    for part in TABLES:
        assert f"{part} was not made" in text


@pytest.mark.parametrize(
    ("part", "titles"),
    [
        (with_drift, ["What happened", "Drift"]),
        (with_performance, ["Performance: roc_auc"]),
        (with_days, ["Value", "Outcomes"]),
        (with_events, ["What happened"]),
    ],
    ids=["drift", "performance", "days", "events"],
)
def test_each_part_stands_alone(lake: Lake, part: object, titles: list[str]) -> None:
    part(lake)
    assert list(pictures(story(lake, "late"), metric="roc_auc")) == titles
    assert len(shown(lake)) > 1000


def test_empty_and_odd_reports_are_no_crash(lake: Lake) -> None:
    lake.write("late/drift_report", pl.DataFrame(schema=DRIFT_COLUMNS), partition="2013-06-05", written_at=NOW)
    lake.write(
        "late/performance_report", pl.DataFrame({"start": [BEGIN], "end": [BEGIN], "roc_auc": [None]}), written_at=NOW
    )
    lake.write(
        "late/kpi_report",
        pl.DataFrame(
            {"day": ["2013-06-05"], "earned": [None], "baseline": [None], "perfect": [None], "currency": [None]}
        ),
        written_at=NOW,
    )
    lake.write("late/label_ledger", pl.DataFrame(schema={"day": pl.String, "arrived": pl.Int64}), written_at=NOW)
    assert "no outcome is known yet" in shown(lake)
    assert "never measured on live rows" in shown(lake, metric="mae")


def test_weeks_of_earlier_models_are_shown_too(lake: Lake) -> None:
    with_performance(lake)
    weeks = lake.read("late/performance_report")
    early = weeks["model_versions"] == "1"
    lake.write("late/performance_earlier", weeks.filter(early).drop("estimated_low", "status"), written_at=NOW)
    lake.write("late/performance_report", weeks.filter(~early), written_at=NOW)
    told = story(lake, "late").performance
    assert told["start"].to_list() == weeks["start"].to_list()
    assert told["roc_auc"].to_list() == weeks["roc_auc"].to_list()


def test_windows_of_an_older_version_are_read_beside_new_ones(lake: Lake) -> None:
    with_drift(lake)
    old = {
        "window_first": "2013-04-24",
        "window_last": "2013-04-30",
        "window_verdict": "drift",
        "feature": "temp",
        "signs": "shift",
    }
    lake.write("late/drift_report", pl.DataFrame([old]), partition="2013-04-24", written_at=NOW)
    windows = story(lake, "late").windows
    assert windows.height == WEEKS + 1 and windows.row(0, named=True)["features"] == "temp"
    assert date.fromisoformat(windows["window_first"][0]) == date(2013, 4, 24)
