"""Drift: what changed is found and named, what did not stays silent, what cannot be judged says so."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from ml_assets.monitoring.drift import (
    FRAME_SCHEMA,
    DriftPolicy,
    DriftReport,
    FeatureDrift,
    MonitoringError,
    drift_verdict,
)

CARRIERS = ["UA", "B6", "EV", "DL", "AA"]


def window(rows: int, seed: int) -> pl.DataFrame:
    generator = np.random.default_rng(seed)
    gusts = np.where(generator.random(rows) < 0.6, np.nan, generator.gamma(2, 9, rows))
    return pl.DataFrame(
        {
            "delay": generator.normal(12, 30, rows),
            "precip": np.where(generator.random(rows) < 0.93, 0, generator.exponential(0.1, rows)),
            "gust": pl.Series(gusts, nan_to_null=True),
            "weekday": generator.integers(1, 8, rows),
            "carrier": generator.choice(CARRIERS, rows, p=[0.3, 0.25, 0.2, 0.15, 0.1]),
            "dest": generator.zipf(1.4, rows).clip(max=105).astype(str),
            "late": generator.random(rows) < 0.2,
        }
    )


REFERENCE = window(20_000, 0)
CURRENT = window(2_000, 1)


def judge(current: pl.DataFrame, feature: str, reference: pl.DataFrame = REFERENCE, **policy: object) -> FeatureDrift:
    report = drift_verdict(reference, current, features=[feature], policy=DriftPolicy(**policy))
    return report.features[0]


def test_a_window_of_the_same_population_is_stable() -> None:
    report = drift_verdict(REFERENCE, CURRENT, features=REFERENCE.columns)
    assert report.verdict == "stable"
    assert {feature.verdict for feature in report.features} == {"stable"}
    assert report.drifted == []


@pytest.mark.parametrize("rows", [200, 500, 2000])
def test_false_alarms_are_rare_over_many_resamples(rows: int) -> None:
    """At most 1 % of reports raise an alarm; of features, far fewer than Evidently's 26 in 400."""
    reports = [drift_verdict(REFERENCE, window(rows, seed), features=REFERENCE.columns) for seed in range(1, 61)]
    alarms = sum(len(report.drifted) for report in reports)
    red = sum(report.verdict == "drift" for report in reports)
    judged = sum(len(report.features) for report in reports)
    print(f"{rows} rows: {alarms} of {judged} features and {red} of {len(reports)} reports alarmed without drift")
    assert red <= 0.01 * len(reports)
    assert alarms <= 0.002 * judged


def test_small_samples_on_both_sides_are_held_back_by_the_test() -> None:
    pairs = [(window(200, seed), window(200, seed + 500)) for seed in range(100)]
    reports = [drift_verdict(before, now, features=REFERENCE.columns) for before, now in pairs]
    held = sum(len(report.drifted) for report in reports)
    free = sum((feature.psi or 0) > 0.2 for report in reports for feature in report.features)
    print(f"200 against 200 rows: {held} of 700 alarms with false discoveries held back, {free} with PSI > 0.2 alone")
    assert held <= 1
    assert free >= 10


def test_half_a_standard_deviation_in_one_of_the_features_is_found() -> None:
    found = sum(
        "delay" in drift_verdict(REFERENCE, shifted, features=REFERENCE.columns).drifted
        for shifted in (window(2000, seed).with_columns(pl.col("delay") + 15) for seed in range(1, 41))
    )
    print(f"a shift of half a standard deviation at 2,000 rows: found in {found} of 40")
    assert found >= 38


EVERY_8TH = pl.int_range(pl.len()) % 8 == 0
CHANGES: dict[str, tuple[str, pl.Expr, str]] = {
    "shift": ("delay", pl.col("delay") + 30, "shift"),
    "spread": ("delay", (pl.col("delay") - 12) * 2.5 + 12, "shift"),
    "unit change": ("gust", pl.col("gust") * 1000, "unit change"),
    "unit change down": ("gust", pl.col("gust") / 1000, "unit change"),
    "null burst": ("delay", pl.when(pl.int_range(pl.len()) % 10 > 0).then("delay"), "null burst"),
    "NaN burst": ("delay", pl.when(pl.int_range(pl.len()) % 4 > 0).then("delay").otherwise(np.nan), "null burst"),
    "nulls vanished": ("gust", pl.col("gust").fill_null(15.0), "nulls vanished"),
    "new category": ("carrier", pl.when(EVERY_8TH).then(pl.lit("ZZ")).otherwise("carrier"), "new categories"),
    "vanished category": ("carrier", pl.col("carrier").replace("UA", "B6"), "vanished categories"),
    "category swap": ("carrier", pl.col("carrier").replace(["UA", "AA"], ["AA", "UA"]), "shift"),
    "frozen": ("delay", pl.lit(12.0), "frozen"),
    "negative": ("precip", pl.lit(-1.0), "frozen"),
    "infinite": ("delay", pl.when(pl.int_range(pl.len()) % 3 > 0).then("delay").otherwise(np.inf), "shift"),
    "boolean": ("late", ~pl.col("late"), "shift"),
    "type change": ("delay", pl.col("delay").cast(pl.String), "type change"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_found_and_named(name: str) -> None:
    feature, change, sign = CHANGES[name]
    found = judge(CURRENT.with_columns(change.alias(feature)), feature)
    assert found.verdict == "drift"
    assert sign in found.signs
    assert found.alarming
    print(f"{name}: {found.reason}")


def test_reasons_are_in_words_that_a_person_can_act_on() -> None:
    feature, change, _ = CHANGES["new category"]
    assert "new in 12.5% of rows: ZZ" in judge(CURRENT.with_columns(change.alias(feature)), feature).reason
    feature, change, _ = CHANGES["vanished category"]
    assert "gone, once 29.6% of rows: UA" in judge(CURRENT.with_columns(change.alias(feature)), feature).reason
    feature, change, _ = CHANGES["unit change"]
    assert "times the reference's: another unit?" in judge(CURRENT.with_columns(change.alias(feature)), feature).reason
    feature, change, _ = CHANGES["NaN burst"]
    assert "nulls went from 0.0% to 25.0%" in judge(CURRENT.with_columns(change.alias(feature)), feature).reason


def test_five_rows_are_too_few_however_different() -> None:
    found = judge(CURRENT[:5].with_columns(pl.col("delay") + 1000), "delay")
    assert (found.verdict, found.reason) == ("too few rows", "5 rows in the current window, fewer than 200")
    assert not found.alarming
    assert judge(CURRENT, "delay", reference=REFERENCE[:5]).reason == "5 rows in the reference, fewer than 200"


def test_constant_on_both_sides_is_neither_drift_nor_stable() -> None:
    constant = pl.lit(7.0).alias("delay")
    found = judge(CURRENT.with_columns(constant), "delay", REFERENCE.with_columns(constant))
    assert (found.verdict, found.alarming) == ("constant", False)
    other = judge(CURRENT.with_columns(pl.lit(7.5).alias("delay")), "delay", REFERENCE.with_columns(constant))
    assert other.verdict == "drift"
    lower = judge(CURRENT.with_columns(pl.lit(6.5).alias("delay")), "delay", REFERENCE.with_columns(constant))
    assert lower.verdict == "drift"


@pytest.mark.parametrize("dtype", [pl.Float64, pl.String, pl.Null])
def test_all_null_is_an_alarm_unless_the_reference_is_so_too(dtype: type[pl.DataType]) -> None:
    empty = pl.lit(None, dtype).alias("delay")
    lost = judge(CURRENT.with_columns(empty), "delay")
    assert (lost.verdict, lost.alarming) == ("all null", True)
    assert "of the reference 100.0% are not" in lost.reason
    always = judge(CURRENT.with_columns(empty), "delay", REFERENCE.with_columns(empty))
    assert (always.verdict, always.alarming) == ("all null", False)
    came = judge(CURRENT, "delay", REFERENCE.with_columns(empty))
    assert (came.verdict, came.signs) == ("drift", ("nulls vanished",))


def test_a_missing_column_is_an_alarm_when_the_window_lost_it() -> None:
    lost = judge(CURRENT.drop("delay"), "delay")
    assert (lost.verdict, lost.alarming, lost.reason) == ("missing", True, "no such column in the current window")
    added = judge(CURRENT, "delay", REFERENCE.drop("delay"))
    assert (added.verdict, added.alarming, added.reason) == ("missing", False, "no such column in the reference")
    assert judge(CURRENT, "nowhere").reason == "no such column in the reference and the current window"


def test_an_empty_window_is_undecided_not_stable() -> None:
    report = drift_verdict(REFERENCE, CURRENT[:0], features=REFERENCE.columns)
    assert report.verdict == "undecided"
    assert report.reason == "no column could be judged; 7 too few rows"
    assert drift_verdict(REFERENCE[:0], CURRENT[:0], features=["delay"]).verdict == "undecided"
    assert drift_verdict(pl.DataFrame(), pl.DataFrame(), features=["delay"]).verdict == "drift"


def test_the_data_set_drifts_with_the_share_or_with_an_important_feature() -> None:
    moved = CURRENT.with_columns(pl.col("delay") + 60)
    features = REFERENCE.columns
    assert drift_verdict(REFERENCE, moved, features=features).verdict == "stable"
    assert drift_verdict(REFERENCE, moved, features=features).drifted == ["delay"]
    important = drift_verdict(REFERENCE, moved, features=features, policy=DriftPolicy(important=("delay",)))
    assert (important.verdict, "delay alone is enough" in important.reason) == ("drift", True)
    more = moved.with_columns(pl.col("weekday") + 7, carrier=pl.lit("XX"))
    report = drift_verdict(REFERENCE, more, features=features)
    assert report.verdict == "drift"
    assert report.reason.startswith("3 of 7 judged columns drifted: ")


def test_lazy_frames_and_times_are_read_too() -> None:
    times = (
        pl.datetime_range(pl.datetime(2013, 1, 1), pl.datetime(2013, 1, 31), "1h", eager=True).alias("at").to_frame()
    )
    later = times.with_columns(pl.col("at") + pl.duration(days=30))
    assert drift_verdict(times.lazy(), times.lazy(), features=["at"]).verdict == "stable"
    assert drift_verdict(times.lazy(), later.lazy(), features=["at"]).drifted == ["at"]


def test_a_feature_may_be_called_anything() -> None:
    for name in ("rows", "value", "count", "literal"):
        renamed = CURRENT.select(pl.col("carrier").alias(name))
        assert judge(renamed, name, REFERENCE.select(pl.col("carrier").alias(name))).verdict == "stable"


def test_a_list_column_and_no_features_are_refused() -> None:
    with pytest.raises(MonitoringError, match=r"feature 'x' is List\(Int64\): give a number"):
        judge(pl.DataFrame({"x": [[1]]}), "x", pl.DataFrame({"x": [[1]]}))
    with pytest.raises(MonitoringError, match="features is empty"):
        drift_verdict(REFERENCE, CURRENT, features=[])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("minimum_rows", 0),
        ("psi", 0.0),
        ("wasserstein", 0.0),
        ("false_discovery_rate", 1.0),
        ("windows", 0),
        ("share", 0.0),
        ("share", 1.1),
        ("max_categories", 0),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(field: str, value: float) -> None:
    with pytest.raises(MonitoringError, match=rf"DriftPolicy.{field} is {value!r}: it must be"):
        DriftPolicy(**{field: value})


def mixed_report() -> DriftReport:
    window_now = CURRENT.with_columns(pl.col("delay") * 1000, pl.lit(None, pl.Float64).alias("gust")).drop("late")
    return drift_verdict(REFERENCE, window_now, features=REFERENCE.columns)


def test_markdown_has_alarms_first_and_every_feature() -> None:
    lines = mixed_report().markdown().splitlines()
    assert lines[0].startswith("**DRIFT**: 3 of 7 judged columns drifted")
    names = [line.split(" | ")[0].strip("| ") for line in lines[4:]]
    assert names[:3] == ["delay", "gust", "late"]
    assert sorted(names) == sorted(REFERENCE.columns)
    assert all("**" in line for line in lines[4:7])


def test_frame_and_dict_hold_the_report() -> None:
    report = mixed_report()
    frame = report.to_frame()
    assert dict(frame.schema) == FRAME_SCHEMA
    assert frame["feature"].to_list() == REFERENCE.columns
    assert frame.row(0, named=True)["signs"] == "unit change"
    assert json.loads(json.dumps(report.to_dict()))["drifted"] == ["delay", "gust", "late"]
    assert next(iter(report.effects)) == "delay"


def evidently_test(name: str) -> Callable[..., float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Evidently 0.7 warns about numpy and litestar at import time
        from evidently.legacy.calculations.stattests import jensenshannon, psi, wasserstein_distance_norm
        from evidently.legacy.core import ColumnType

    found = {
        "psi": psi._psi,
        "js": lambda *arguments: jensenshannon._jensenshannon(*arguments, base=2),
        "wasserstein": wasserstein_distance_norm._wasserstein_distance_norm,
    }[name]
    return lambda reference, current, kind: found(reference.to_pandas(), current.to_pandas(), ColumnType(kind), 0.1)[0]


def test_evidentlys_effects_are_ours() -> None:
    """The same categories, so the same PSI (but for half a row) and Jensen-Shannon; the same Wasserstein."""
    for current in (CURRENT, CURRENT.with_columns(pl.col("carrier").replace("UA", "DL"), pl.col("delay") + 20)):
        carrier, delay = judge(current, "carrier"), judge(current, "delay")
        sides = REFERENCE["carrier"], current["carrier"], "cat"
        assert carrier.js_distance == pytest.approx(evidently_test("js")(*sides), abs=1e-6)
        if "UA" in current["carrier"]:
            assert carrier.psi == pytest.approx(evidently_test("psi")(*sides), rel=0.02, abs=1e-4)
        numbers = REFERENCE["delay"], current["delay"], "num"
        assert delay.wasserstein == pytest.approx(evidently_test("wasserstein")(*numbers), rel=1e-9)


def test_psi_of_deciles_by_hand() -> None:
    """Bins: below the minimum, ten between deciles (each with its upper edge), above the maximum, null."""
    found = judge(pl.DataFrame({"x": range(500, 1000)}), "x", pl.DataFrame({"x": range(1000)}))
    reference = np.array([0, 101, *[100] * 8, 99, 0, 0]) / 1000 + 0.5 / 500
    current = np.array([0, *[0] * 4, 1, *[100] * 4, 99, 0, 0]) / 500 + 0.5 / 500
    r, c = reference / reference.sum(), current / current.sum()
    assert found.psi == pytest.approx(np.sum((c - r) * np.log(c / r)))
    assert found.wasserstein == pytest.approx(250 / np.std(np.arange(1000)), rel=1e-3)


def test_a_small_reference_has_not_seen_every_category() -> None:
    """Half of the rows have a category of their own on both sides: that new ones come is no news."""
    sides = [pl.DataFrame({"tail": [f"{side}{row}" if row % 2 else "N1" for row in range(1000)]}) for side in "ab"]
    assert judge(sides[1], "tail", sides[0]).verdict == "stable"
    usual = pl.DataFrame({"tail": ["N1", "N2"] * 500})
    assert judge(sides[1], "tail", usual).verdict == "drift"
