"""How often drift is called where there is none, and missed where there is some: on real flights, drawn at random.

The rows are shuffled over the year, so that windows of them differ by chance alone. Rates are printed, before persistence (a
window by itself) and after it (two windows in a row, as declared by default).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import polars as pl
import pytest

from ml_assets.monitoring.drift import DriftPolicy, DriftReport, FeatureDrift, Sign, judge
from ml_assets.monitoring.profiles import Cuts, Profile, cuts_of, profile

pytestmark = pytest.mark.slow

SAMPLE = Path(__file__).parents[2] / "data" / "sample"
CONTINUOUS = ["air_time", "distance", "dep_delay", "arr_delay", "temp", "dewp", "humid", "wind_speed", "pressure"]
NUMBERS = [
    *CONTINUOUS,
    "sched_dep_time",
    "sched_arr_time",
    "hour",
    "flight",
    "wind_dir",
    "wind_gust",
    "precip",
    "visib",
]
FEATURES = [*NUMBERS, "carrier", "origin", "dest"]
WINDOW, REFERENCE = 2_000, 30_000
POLICY = DriftPolicy(windows=2)


@dataclass(frozen=True)
class World:
    """A reference and windows of the same population, without any order in time."""

    reference: Profile
    cuts: Cuts
    frames: Sequence[pl.DataFrame]
    profiles: Sequence[Profile]

    def judged(self, current: Profile, before: DriftReport | None = None, policy: DriftPolicy = POLICY) -> DriftReport:
        history = [before.by_name] if before else []
        return judge(self.reference, current, features=FEATURES, policy=policy, history=history, cuts=self.cuts)

    def changed(self, at: int, column: str, change: pl.Expr) -> Profile:
        """Return the profile of a window with one column changed."""
        only = profile(self.frames[at].with_columns(change.alias(column)), columns=[column], cuts=self.cuts)
        return replace(self.profiles[at], columns={**self.profiles[at].columns, **only.columns})


@cache
def world(rows: int, seed: int) -> World:
    shuffled = flights().sample(fraction=1, shuffle=True, seed=seed)
    cuts = cuts_of(shuffled[:REFERENCE], FEATURES)
    frames = [shuffled[first : first + rows] for first in range(REFERENCE, REFERENCE + 150 * rows, rows)]
    return World(
        profile(shuffled[:REFERENCE], cuts=cuts), cuts, frames, [profile(frame, cuts=cuts) for frame in frames]
    )


@cache
def flights() -> pl.DataFrame:
    table, weather = (pl.read_parquet(SAMPLE / f"{name}.parquet") for name in ("flights", "weather"))
    hours = weather.unique(["origin", "time_hour"], keep="first", maintain_order=True)
    joined = table.join(hours, on=["origin", "time_hour"], how="left", suffix="_of_weather", maintain_order="left")
    return joined.select(FEATURES)


@pytest.mark.parametrize("rows", [WINDOW, 200])
def test_at_most_one_report_in_a_hundred_alarms_without_drift(rows: int) -> None:
    reports: list[DriftReport] = []
    for seed in (1, 2):
        for one in world(rows, seed).profiles:
            reports.append(world(rows, seed).judged(one, reports[-1] if reports else None))
    single = sum(any(changed(one) for one in report.features) for report in reports)
    lasting = sum(bool(report.drifted) for report in reports)
    print(
        f"{rows} rows, no drift, {len(reports)} reports: any alarm in {single} before persistence, {lasting} after it"
    )
    assert len(reports) >= 300
    assert max(single, lasting) <= 0.01 * len(reports)
    assert sum(report.verdict != "stable" for report in reports) <= 0.01 * len(reports)


def test_without_the_limits_there_would_be_false_alarms() -> None:
    """The control of the test above: p-values are what they say, and a report of twenty columns shows it."""
    lax = DriftPolicy(psi=1e-6, wasserstein=1e-6, false_discovery_rate=0.05)
    found = world(200, 1)
    reports = [found.judged(one, policy=lax) for one in found.profiles]
    p_values = [one.p_value for report in reports for one in report.features if one.p_value is not None]
    small = sum(one < 0.05 for one in p_values) / len(p_values)
    alarms = sum(bool(report.drifted) for report in reports)
    print(
        f"without effect and at 5 %: {alarms} of {len(reports)} reports alarm; p below 0.05 in {small:.1%} of columns"
    )
    assert 0.03 < small < 0.075
    assert alarms > 0.01 * len(reports)


def rates(
    name: str, columns: Sequence[str], change: Callable[[str, float], pl.Expr], sign: Sign, reports: int
) -> tuple[float, float]:
    """Change one column in a row of windows; return in how many it is found and rightly named, before and after persistence.

    Deviations are the reference's. After persistence, the first window of each row does not count.
    """
    found = world(WINDOW, 1)
    single, lasting = [], []
    for column in columns:
        before, told = None, change(column, found.reference.columns[column].std or 0.0)
        for at in range(-(-reports // len(columns)) + 1):
            report = found.judged(found.changed(at, column, told), before)
            one = report.by_name[column]
            single.append(changed(one) and sign in one.signs)
            lasting += [column in report.drifted and sign in one.signs] if before else []
            before = report
    share = sum(single) / len(single), sum(lasting) / len(lasting)
    print(
        f"{name}: found in {share[0]:.1%} of {len(single)} before persistence, {share[1]:.1%} of {len(lasting)} after"
    )
    return share


def changed(one: FeatureDrift) -> bool:
    """Whether one window by itself says that a column changed."""
    return one.alarming or one.verdict == "suspected"


def test_half_a_standard_deviation_in_one_feature_of_twenty_is_found() -> None:
    assert len(FEATURES) == 20
    shift = "a shift by half a standard deviation"
    shares = rates(shift, NUMBERS, lambda name, std: pl.col(name) + std / 2, "shift", reports=200)
    assert min(shares) >= 0.95


FAULTS: dict[str, tuple[Sequence[str], Callable[[str, float], pl.Expr], Sign]] = {
    "category swap": (["carrier"], lambda name, _: pl.col(name).replace(["UA", "WN"], ["WN", "UA"]), "shift"),
    "null burst": (
        [*CONTINUOUS, "carrier", "dest"],
        lambda name, _: pl.when(pl.int_range(pl.len()) % 5 > 0).then(pl.col(name)),
        "null burst",
    ),
    "unit change, a thousandfold": (CONTINUOUS, lambda name, _: pl.col(name) * 1000.0, "unit change"),
    "unit change, a thousandth": (CONTINUOUS, lambda name, _: pl.col(name) / 1000.0, "unit change"),
    "frozen column": (CONTINUOUS, lambda name, _: pl.col(name).median(), "frozen"),
    "new category": (
        ["carrier", "origin"],
        lambda name, _: pl.when(pl.int_range(pl.len()) % 8 > 0).then(pl.col(name)).otherwise(pl.lit("new")),
        "new categories",
    ),
    "vanished category": (["carrier"], lambda name, _: pl.col(name).replace("UA", "DL"), "vanished categories"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_breaks_is_found_and_named(name: str) -> None:
    columns, change, sign = FAULTS[name]
    assert min(rates(name, columns, change, sign, reports=100)) >= 0.99
