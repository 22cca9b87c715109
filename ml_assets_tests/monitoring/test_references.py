"""What a window is held against: training rows, the windows before, last year's season; and the labels that are in."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ml_assets import keys
from ml_assets.evaluation.evidently import with_summary
from ml_assets.lake import Lake
from ml_assets.monitoring.drift import DriftPolicy
from ml_assets.monitoring.evidently import DriftRun
from ml_assets.monitoring.references import ReferenceKind, Watched
from ml_assets.monitoring.watching import WindowDrift, drift_history, report_drift
from ml_assets.monitoring.windows import Window
from ml_assets.packaging.champion import Champion
from ml_assets_tests.monitoring.test_watching import NOW, START, answer, asked, by_day, champion

POLICY = DriftPolicy(minimum_rows=50, windows=2)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


@pytest.fixture
def model(lake: Lake) -> Champion:
    """A champion that was trained on 1,000 rows, and tested on 200."""
    split = pl.when(pl.int_range(pl.len()) < 1_000).then(pl.lit("train")).otherwise(pl.lit("test"))
    rows = asked(24 * 30, seed=1).with_columns(split=split, label=(pl.int_range(pl.len()) % 5 == 0).cast(pl.Int32))
    return champion(data_hash=lake.write("p/training_set", rows, written_at=NOW).version)


def predicted(lake: Lake, frame: pl.DataFrame, *, version: str = "3") -> None:
    by_day(lake, "p/predictions", frame.with_columns(model_version=pl.lit(version), score=answer()))


def reported(lake: Lake, model: Champion, *, reference: ReferenceKind = "training", **told: int) -> list[WindowDrift]:
    return report_drift(
        lake, "p", model, policy=POLICY, window_days=7, reports=None, now=NOW, reference=reference, **told
    )


def warmer(frame: pl.DataFrame, days: int, by: float = 60) -> pl.DataFrame:
    """Shift the delay from so many days after the start on."""
    late = pl.col("event_timestamp") >= START + timedelta(days=days)
    return frame.with_columns(delay=pl.col("delay") + by * late)


def test_a_change_is_suspected_and_drift_in_the_next_window(lake: Lake, model: Champion) -> None:
    predicted(lake, warmer(asked(24 * 28), 7))
    made = reported(lake, model)
    assert [item.report.by_name["delay"].verdict for item in made] == ["stable", "suspected", "drift", "drift"]
    assert [item.report.by_name["delay"].persistent for item in made] == [0, 1, 2, 3]
    history = drift_history(lake, "p").filter(pl.col("feature") == "delay")
    assert history["alarming"].to_list() == [False, False, True, True]
    assert reported(lake, model) == []


def test_what_lasts_is_counted_anew_when_the_window_before_changes(lake: Lake, model: Champion) -> None:
    predicted(lake, warmer(asked(24 * 21), 7))
    reported(lake, model)
    predicted(lake, warmer(asked(24 * 21), 14))  # the second window is delivered again, without the shift
    made = reported(lake, model)
    assert [item.window.first for item in made] == ["2013-11-08", "2013-11-15"]
    assert [item.report.by_name["delay"].verdict for item in made] == ["stable", "suspected"]


def test_another_policy_or_reference_judges_again(lake: Lake, model: Champion) -> None:
    predicted(lake, asked(24 * 14))
    assert len(reported(lake, model)) == 2
    assert len(reported(lake, model, reference="previous")) == 2
    assert reported(lake, model, reference="previous") == []


def test_the_reference_is_stored_once_for_a_champion_and_made_again_when_damaged(lake: Lake, model: Champion) -> None:
    profile, cuts = Watched(lake, "p", model).trained
    (name,) = [name for name in lake.store.names("_profiles") if name.endswith("reference.json.gz")]
    found, read = Watched(lake, "p", model).trained
    assert read == cuts and found.to_dict() == profile.to_dict()
    assert set(cuts) == {"delay", "carrier", "score", "label"}
    assert (profile.columns["delay"].rows, profile.columns["score"].rows) == (1_000, 200)
    lake.store.write(name, b"damaged")
    assert Watched(lake, "p", model).trained[0].to_dict() == profile.to_dict()


def test_the_windows_before_are_the_reference_of_a_slow_change(lake: Lake, model: Champion) -> None:
    """Against the training rows all windows have drifted; against the windows before, the last one has not."""
    predicted(lake, warmer(asked(24 * 35), 0))
    assert reported(lake, model)[-1].report.by_name["delay"].verdict == "drift"
    made = reported(lake, model, reference="previous", earlier=2)
    assert (made[0].report.verdict, made[0].report.reason) == (
        "undecided",
        "nothing to compare with: no rows in the 2 windows before",
    )
    assert [item.report.verdict for item in made[1:]] == ["stable"] * 4
    assert made[-1].report.reference_rows == 2 * 280


def test_the_season_a_year_ago_is_the_reference_when_there_is_one(lake: Lake, model: Champion) -> None:
    warm = warmer(asked(24 * 14), 0)
    predicted(lake, warm)
    (first, _) = reported(lake, model, reference="seasonal")
    assert first.report.verdict == "undecided" and "no rows in the same season of earlier years" in first.report.reason
    past = warm.with_columns(pl.col("event_timestamp") - timedelta(days=364))
    predicted(lake, past, version="1")
    made = reported(lake, model, reference="seasonal")
    assert [item.report.by_name["delay"].verdict for item in made] == ["stable", "stable"]
    assert made[0].report.reference_rows == 2 * 280  # seven days more on either side
    assert made[0].report.by_name["score"].verdict == "missing"  # another model's scores are no reference


def test_a_column_that_some_days_lost_is_a_fault(lake: Lake, model: Champion) -> None:
    predicted(lake, asked(24 * 7))
    days = lake.read("p/predictions", ["2013-11-06"]).drop("delay")
    for day in ("2013-11-06", "2013-11-07"):
        lake.write("p/predictions", days, partition=day, written_at=NOW)
    (made,) = reported(lake, model)
    assert made.report.by_name["delay"].signs == ("null burst",)
    assert made.report.verdict == "drift" and "delay (null burst)" in made.report.reason


# -- labels ------------------------------------------------------------------------------------------------------------


def labelled(lake: Lake, frame: pl.DataFrame, share: float, delay: timedelta) -> None:
    """Write observations whose label is 1 in so many, and known after a while."""
    label = pl.Series("label", np.random.default_rng(0).random(frame.height) < share).cast(pl.Int32)
    by_day(lake, "p/observations", frame.with_columns(label, label_timestamp=pl.col("event_timestamp") + delay))


def test_the_label_is_judged_once_it_is_in(lake: Lake, model: Champion) -> None:
    frame = asked(24 * 14)
    predicted(lake, frame)
    labelled(lake, frame, 0.8, NOW - START - timedelta(days=7))  # those of the second window come later
    first, second = reported(lake, model)
    assert first.report.by_name["label"].role == "label" and first.report.by_name["label"].verdict == "suspected"
    assert "label" not in second.report.by_name
    assert reported(lake, model) == []
    later = report_drift(lake, "p", model, policy=POLICY, window_days=7, reports=None, now=NOW + timedelta(days=8))
    assert [item.window.first for item in later] == ["2013-11-08"]
    assert later[0].report.by_name["label"].verdict == "drift"


def test_labels_that_come_later_leave_the_page_of_the_same_rows_as_it_is(
    lake: Lake, model: Champion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []

    def page(reference: pl.DataFrame, current: pl.DataFrame, *, summary: list[str], **_: object) -> DriftRun:
        drawn.append(summary[0])
        return DriftRun(with_summary("<html><body>charts</body></html>", summary), None)

    monkeypatch.setattr("ml_assets.monitoring.evidently.drift_run", page)
    frame = asked(24 * 14)
    predicted(lake, frame)
    labelled(lake, frame, 0.2, NOW - START - timedelta(days=7))

    def report(now: datetime) -> list[str]:
        made = report_drift(lake, "p", model, policy=POLICY, window_days=7, reports=tmp_path, now=now)
        return [item.window.first for item in made]

    report(NOW)
    before = drift_history(lake, "p").filter(pl.col("window_first") == "2013-11-08").row(0, named=True)
    assert report(NOW + timedelta(days=8)) == ["2013-11-08"] and len(drawn) == 2
    after = drift_history(lake, "p").filter(pl.col("window_first") == "2013-11-08").row(0, named=True)
    assert after["domain"] == before["domain"] and after["domain_auc"] == before["domain_auc"] is not None
    html = (tmp_path / after["html"]).read_text()
    assert html.count("<!--summary-->") == 1 and html.endswith("charts</body></html>") and "of 4 judged" in html
    predicted(lake, warmer(frame, 7))
    assert report(NOW + timedelta(days=8)) == ["2013-11-08"] and len(drawn) == 3  # other rows, another page


def test_without_observations_no_label_is_judged(lake: Lake, model: Champion) -> None:
    predicted(lake, asked(24 * 7))
    (made,) = reported(lake, model)
    assert [one.feature for one in made.report.features] == ["delay", "carrier", "score"]


def test_a_window_without_rows_of_the_champion_is_undecided(lake: Lake, model: Champion) -> None:
    predicted(lake, asked(24 * 7), version="9")
    (made,) = reported(lake, model)
    assert made.report.verdict == "undecided" and made.report.current_rows == 0


def test_the_current_profile_costs_its_days(lake: Lake, model: Champion) -> None:
    predicted(lake, asked(24 * 7))
    days = tuple(keys.days("2013-11-01", "2013-11-07"))
    assert Watched(lake, "p", model).current(Window(days[0], days[-1], days)).rows == 280
