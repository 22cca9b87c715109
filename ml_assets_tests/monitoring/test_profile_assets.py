"""Profiles as assets: what they show, and their checks, each with a clean table beside one with a planted fault."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import dagster as dg
import polars as pl
import pytest

from ml_assets import keys
from ml_assets.lake import Lake
from ml_assets.monitoring.profile_assets import (
    AS_BEFORE,
    FINITE,
    FRESH,
    Watched,
    prediction_profiles,
    profile_asset,
)
from ml_assets.resources.evidence import UNDECIDED
from ml_assets.resources.places import ClockResource, LakeResource
from ml_assets_tests.monitoring.test_changes import DAYS, FIRST, a_day

NOW = datetime(2013, 2, 5, 9, tzinfo=UTC)
DAY, OPEN = timedelta(days=1), "2013-01-01/"


def fill(lake: Lake, table: str, *, count: int = DAYS, spoilt: bool = False) -> None:
    """Write so many days; with `spoilt` the last seven have NaN and another unit."""
    for number in range(count):
        frame = a_day(number)
        if spoilt and number >= count - 7:
            frame = frame.with_columns(gust=pl.lit(float("nan")), delay=pl.col("delay") * 1000)
        lake.write(table, frame, partition=keys.before(FIRST, -number), written_at=NOW)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the checks (by table and name) and the metadata (by table) of one run over all kinds of tables."""
    root = tmp_path_factory.mktemp("profiles")
    lake, clock = Lake(str(root / "lake")), root / "now"
    clock.write_text(NOW.isoformat())
    fill(lake, "raw/clean")
    fill(lake, "raw/spoilt", spoilt=True)
    fill(lake, "raw/young", count=7)
    fill(lake, "raw/stale", count=DAYS - 3)
    fill(lake, "raw/ended", count=DAYS - 3)
    lake.write("raw/planes", a_day(1), written_at=NOW)
    lake.write("raw/odd", a_day(1).with_columns(gust=pl.lit(float("inf"))), written_at=NOW)
    common: dict[str, Any] = {"owners": ["team:x"], "clock": "replay"}
    names = ("raw/clean", "raw/spoilt", "raw/young", "raw/stale", "raw/never")
    watched = [Watched(name, days=OPEN, fresh=DAY, **common) for name in names]
    watched += [Watched(name, days=None, **common) for name in ("raw/planes", "raw/odd")]
    watched.append(Watched("raw/ended", days="2013-01-01/2013-02-01", fresh=DAY, **common))
    watched.append(Watched("p/served_predictions", days=OPEN, may_be_empty=True, **common))
    run = dg.materialize(
        [profile_asset(one) for one in watched],
        resources={"lake": LakeResource(url=lake.url), "clock": ClockResource(replay_file=str(clock))},
    )
    checks = {("/".join(one.asset_key.path[1:]), one.check_name): one for one in run.get_asset_check_evaluations()}
    events = [event.step_materialization_data.materialization for event in run.get_asset_materialization_events()]
    shown = {"/".join(one.asset_key.path[1:]): one.metadata for one in events if one.asset_key}
    return {"checks": checks, "shown": shown, "lake": lake}


@pytest.mark.parametrize(
    ("table", "check", "passed", "told"),
    [
        ("raw/clean", AS_BEFORE, True, "1,400 rows look as the 5,600 before them"),
        ("raw/spoilt", AS_BEFORE, False, "delay: unit change, values are about"),
        ("raw/clean", FINITE, True, "no NaN and no infinity"),
        ("raw/spoilt", FINITE, False, "gust: 1,400 NaN, 0 infinite, where there were none"),
        ("raw/clean", FRESH, True, "the newest day, 2013-02-04, ended 9 hours ago; 24 are allowed"),
        ("raw/stale", FRESH, False, "the newest day, 2013-02-01, ended 81 hours ago; 24 are allowed"),
        ("raw/ended", FRESH, True, "2013-02-01, the last declared day, is there"),
        ("raw/planes", FINITE, True, "no NaN and no infinity"),
        ("raw/odd", FINITE, False, "gust: 0 NaN, 200 infinite"),
        ("p/served_predictions", AS_BEFORE, True, "not applicable"),
    ],
)
def test_a_check_turns_red_where_it_should_alone(
    made: dict[str, Any], table: str, check: str, passed: bool, told: str
) -> None:
    found = made["checks"][table, check]
    assert (found.passed, told in found.description) == (passed, True), found.description
    assert UNDECIDED not in found.metadata
    assert found.severity == dg.AssetCheckSeverity.WARN


@pytest.mark.parametrize(
    ("table", "check"),
    [("raw/young", AS_BEFORE), ("raw/never", AS_BEFORE), ("raw/never", FINITE), ("raw/never", FRESH)],
)
def test_what_cannot_be_judged_is_undecided_and_does_not_pass(made: dict[str, Any], table: str, check: str) -> None:
    found = made["checks"][table, check]
    assert (found.passed, UNDECIDED in found.metadata) == (False, True)


def test_what_does_not_apply_has_no_check(made: dict[str, Any]) -> None:
    names = {table: {check for other, check in made["checks"] if other == table} for table, _ in made["checks"]}
    assert names["raw/planes"] == {FINITE}
    assert names["p/served_predictions"] == {FINITE, AS_BEFORE}
    assert names["raw/clean"] == {FINITE, AS_BEFORE, FRESH}


def test_the_page_shows_the_columns_and_a_picture(made: dict[str, Any]) -> None:
    shown = made["shown"]["raw/clean"]
    assert (shown["days"].value, shown["newest day"].value) == (DAYS, "2013-02-04")
    assert (shown["rows, last 7 days"].value, shown["columns"].value) == (1_400, 7)
    assert "| carrier | String |" in shown["columns, last 7 days"].value
    assert shown["by day"].value.startswith("![raw/clean](data:image/png")
    assert shown is not made["shown"]["raw/planes"] and "by day" not in made["shown"]["raw/planes"]
    assert made["shown"]["raw/never"]["status"].value == "there is no raw/never yet"


def test_predictions_are_watched_as_their_problem_declares() -> None:
    def of(**how: Any) -> dict[str, list[str]]:
        declared = {"name": "late", "owners": ["team:x"], "clock": "replay", "days": None, "every_day": True} | how
        problem = SimpleNamespace(**declared, observations=SimpleNamespace(every_day=declared["every_day"]))
        found = prediction_profiles(cast(Any, problem))
        return {one.key.to_user_string(): sorted(key.name for key in one.check_keys) for one in found}

    scored, served = "profiles/late/predictions", "profiles/late/served_predictions"
    assert of(days="2013-01-01/") == {scored: [AS_BEFORE, FINITE, FRESH], served: [AS_BEFORE, FINITE]}
    assert of() == {scored: [FINITE], served: [FINITE]}
    assert of(days="2013-01-01/", every_day=False)[scored] == [AS_BEFORE, FINITE]
