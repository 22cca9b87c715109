"""Judging from profiles: the same verdict as from rows, false discoveries held back, what lasts, roles, and bad input."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest

from ml_assets.monitoring.drift import DriftPolicy, DriftReport, FeatureDrift, drift_verdict, findings, judge
from ml_assets.monitoring.errors import MonitoringError
from ml_assets.monitoring.profiles import Profile, cuts_of, merge, profile


def rows(count: int, seed: int, *, shift: float = 0.0) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "amount": random.normal(100, 20, count) + shift,
            "fee": random.gamma(2, 3, count),
            "shop": random.choice(["north", "south", "east", "west"], count, p=[0.4, 0.3, 0.2, 0.1]),
            "score": 1 / (1 + np.exp(-random.normal(0, 1, count))),
            "label": random.integers(0, 2, count),
        }
    )


REFERENCE = rows(20_000, 0)
FEATURES = ["amount", "fee", "shop"]
CUTS = cuts_of(REFERENCE, REFERENCE.columns)
BEFORE = profile(REFERENCE, cuts=CUTS)


def judged(frame: pl.DataFrame, history: Sequence[DriftReport] = (), **policy: object) -> DriftReport:
    told = DriftPolicy(**policy)
    past = [one.by_name for one in history]
    return judge(BEFORE, profile(frame, cuts=CUTS), features=FEATURES, policy=told, history=past, cuts=CUTS)


CHANGES = {
    "nothing": pl.col("amount"),
    "shift": pl.col("amount") + 10,
    "unit change": pl.col("amount") * 1000,
    "frozen": pl.lit(100.0),
    "null burst": pl.when(pl.int_range(pl.len()) % 4 > 0).then("amount"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_seven_merged_days_are_judged_like_their_rows(name: str) -> None:
    window = rows(2_100, 1).with_columns(CHANGES[name].alias("amount"))
    days = [profile(window[first : first + 300], cuts=CUTS) for first in range(0, 2_100, 300)]
    found = judge(BEFORE, merge(days), features=FEATURES, cuts=CUTS)
    exact = drift_verdict(REFERENCE, window, features=FEATURES)
    for one, other in zip(found.features, exact.features, strict=True):
        assert (one.verdict, one.signs, one.persistent) == (other.verdict, other.signs, other.persistent)
        assert (one.psi, one.js_distance, one.p_value) == pytest.approx((other.psi, other.js_distance, other.p_value))
        assert (one.wasserstein is None) == (other.wasserstein is None)
        assert (one.wasserstein or 0) == pytest.approx(other.wasserstein or 0, rel=0.35, abs=0.05)


def test_without_cuts_the_distance_is_that_of_the_means() -> None:
    now = profile(rows(2_000, 1, shift=10), cuts=CUTS)
    found = judge(BEFORE, now, features=["amount"]).features[0]
    gap = (now.columns["amount"].mean or 0) - (BEFORE.columns["amount"].mean or 0)
    assert found.wasserstein == pytest.approx(gap / (BEFORE.columns["amount"].std or 1))


def test_profiles_of_other_cuts_are_refused() -> None:
    other = profile(REFERENCE, cuts=cuts_of(REFERENCE[:500], ["amount"]))
    with pytest.raises(MonitoringError, match="use the reference's for both"):
        judge(BEFORE, other, features=["amount"])


# -- false discoveries -------------------------------------------------------------------------------------------------


def test_a_large_effect_that_chance_explains_is_no_drift() -> None:
    """Twenty rows with a PSI far above 0.2: without the test every window of them would be an alarm."""
    small = [rows(20, seed) for seed in range(40)]
    reports = [judged(one, minimum_rows=10) for one in small]
    above = sum((one.psi or 0) > 0.2 for report in reports for one in report.features)
    assert above > 40
    assert not any(report.drifted for report in reports)
    told = next(one.reason for report in reports for one in report.features if (one.psi or 0) > 0.2)
    assert "chance alone may do that (q = " in told


def test_the_more_columns_the_less_chance_counts() -> None:
    """One column with p = 0.004 is a discovery by itself, and none among forty that show nothing."""
    alone, among = [rows_with(0.17, others) for others in (0, 39)]
    assert alone.features[0].p_value == among.features[0].p_value
    assert alone.features[0].p_value is not None and alone.features[0].p_value < 0.01
    assert alone.drifted == ["x"] and among.drifted == []


def rows_with(shift: float, others: int) -> DriftReport:
    random = np.random.default_rng(0)
    names = ["x", *(f"o{at}" for at in range(others))]
    still = {name: np.random.default_rng(at).permutation(np.arange(1_000.0)) for at, name in enumerate(names[1:])}
    before = pl.DataFrame({"x": random.normal(0, 1, 1_000), **still})
    now = pl.DataFrame({"x": random.normal(shift, 1, 1_000), **still})
    return drift_verdict(before, now, features=names, policy=DriftPolicy(psi=0.01, wasserstein=0.01))


# -- what lasts --------------------------------------------------------------------------------------------------------


def test_a_change_is_suspected_until_it_lasted() -> None:
    shifted = [judged(rows(2_000, seed, shift=20), windows=3) for seed in (1,)]
    for seed in (2, 3, 4):
        shifted.append(judged(rows(2_000, seed, shift=20), shifted, windows=3))
    amounts = [report.by_name["amount"] for report in shifted]
    assert [one.verdict for one in amounts] == ["suspected", "suspected", "drift", "drift"]
    assert [one.persistent for one in amounts] == [1, 2, 3, 4]
    assert [report.verdict for report in shifted] == ["suspected", "suspected", "drift", "drift"]
    assert [report.drifted for report in shifted] == [[], [], ["amount"], ["amount"]]
    assert "window 2 of 3" in amounts[1].reason and "1 suspected: amount" in shifted[1].reason


def test_a_quiet_window_begins_the_count_anew_and_one_without_rows_does_not() -> None:
    shifted, quiet = rows(2_000, 1, shift=20), rows(2_000, 2)
    first = judged(shifted, windows=2)
    after_quiet = judged(shifted, [first, judged(quiet, [first], windows=2)], windows=2)
    assert after_quiet.by_name["amount"].verdict == "suspected"
    after_nothing = judged(shifted, [first, judged(quiet[:50], [first], windows=2)], windows=2)
    assert after_nothing.by_name["amount"].verdict == "drift"


@pytest.mark.parametrize("name", ["unit change", "frozen", "null burst"])
def test_a_fault_needs_no_second_window_and_is_enough_for_the_data_set(name: str) -> None:
    report = judged(rows(2_000, 1).with_columns(CHANGES[name].alias("amount")), windows=4)
    assert (report.verdict, report.drifted) == ("drift", ["amount"])
    assert f"faults: amount ({name})" in report.reason


def test_findings_come_back_from_the_stored_form() -> None:
    report = judged(rows(2_000, 1, shift=20))
    assert findings(report.to_frame().with_columns(more=pl.lit(1))) == report.by_name
    suspected = judged(rows(2_000, 1, shift=20), windows=2).to_frame()
    assert suspected["signs"].to_list() == ["", "", ""] and findings(suspected)["amount"].persistent == 1
    old = report.to_frame().drop("role", "persistent", "q_value")
    assert findings(old)["amount"].persistent == 0


# -- roles -------------------------------------------------------------------------------------------------------------


def test_prediction_and_label_are_judged_beside_the_features() -> None:
    moved = rows(2_000, 1).with_columns(score=pl.col("score") ** 3, label=pl.lit(1) * (pl.int_range(pl.len()) % 10 > 0))
    found = judge(BEFORE, profile(moved, cuts=CUTS), features=FEATURES, cuts=CUTS, prediction="score", label="label")
    assert {one.feature: one.role for one in found.features} == {
        "amount": "feature",
        "fee": "feature",
        "shop": "feature",
        "score": "prediction",
        "label": "label",
    }
    assert sorted(found.drifted) == ["label", "score"]
    assert "score (prediction)" in found.markdown() and "label (label)" in found.markdown()
    important = DriftPolicy(important=("score",))
    alone = judge(
        BEFORE,
        profile(rows(2_000, 1).with_columns(score=pl.col("score") ** 3), cuts=CUTS),
        features=FEATURES,
        cuts=CUTS,
        prediction="score",
        policy=important,
    )
    assert (alone.verdict, "score alone is enough" in alone.reason) == ("drift", True)


# -- bad input ---------------------------------------------------------------------------------------------------------

NOW = rows(2_000, 1)
BAD: dict[str, tuple[pl.DataFrame, str, str, bool]] = {
    "empty window": (NOW[:0], "undecided", "too few rows", False),
    "one row": (NOW[:1], "undecided", "too few rows", False),
    "missing column": (NOW.drop("amount"), "drift", "missing", True),
    "changed type": (NOW.with_columns(pl.col("amount").cast(pl.String)), "drift", "drift", True),
    "all null": (NOW.with_columns(amount=pl.lit(None, pl.Float64)), "drift", "all null", True),
    "all NaN": (NOW.with_columns(amount=pl.lit(np.nan)), "drift", "all null", True),
    "null type": (NOW.with_columns(amount=pl.lit(None)), "drift", "all null", True),
    "all infinite": (NOW.with_columns(amount=pl.lit(np.inf)), "drift", "drift", True),
    "constant": (NOW.with_columns(amount=pl.lit(7.0)), "drift", "drift", True),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told_and_never_green(name: str) -> None:
    frame, verdict, amount, alarm = BAD[name]
    for report in (judged(frame), drift_verdict(REFERENCE, frame, features=FEATURES)):
        found = report.by_name["amount"]
        assert (report.verdict, found.verdict, found.alarming) == (verdict, amount, alarm)
        assert found.reason and report.reason
        assert isinstance(report.to_frame(), pl.DataFrame) and report.markdown() and report.to_dict()


def test_a_new_column_is_told_and_no_alarm() -> None:
    report = drift_verdict(REFERENCE, NOW.with_columns(tip=1.0), features=[*FEATURES, "tip"])
    assert report.by_name["tip"].reason == "no such column in the reference"
    assert report.verdict == "stable" and report.reason.endswith("1 missing")


def test_a_type_that_changed_within_the_window_is_told() -> None:
    halves = [NOW[:1_000], NOW[1_000:].with_columns(pl.col("amount").cast(pl.String))]
    found = judge(BEFORE, merge([profile(half, cuts=CUTS) for half in halves]), features=FEATURES, cuts=CUTS)
    assert found.by_name["amount"].signs == ("type change",)


def test_nothing_at_all_is_undecided() -> None:
    nothing = Profile(0, {}, "")
    assert judge(nothing, nothing, features=FEATURES).verdict == "drift"  # no column is there: all of them are lost
    empty = profile(REFERENCE[:0], cuts=CUTS)
    assert judge(empty, empty, features=FEATURES).verdict == "undecided"


def test_a_finding_without_anything_wrong_has_no_signs() -> None:
    assert FeatureDrift("x", "numeric", "stable", "").alarming is False
    assert not any(one.signs for one in judged(NOW).features)
