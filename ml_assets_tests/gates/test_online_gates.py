"""Negative controls for what guards the online side, through the assets: a red check stops what comes after it, and is remembered."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import polars as pl
import pytest

from ml_assets.features.online.assets import online_asset, served_asset
from ml_assets.features.online.place import OnlineSide
from ml_assets.features.online.rows import Change
from ml_assets.features.push_log import PushLog
from ml_assets.features.served import ServedLog, served_rows, served_types
from ml_assets.lake import Lake
from ml_assets.resources.places import ClockResource, FeatureStoreResource
from ml_assets_tests.features.repos import PACKED, feature_store_yaml

YAML = feature_store_yaml(online=PACKED)
DEFINED = """\
from datetime import timedelta
from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, ValueType
from feast.types import Float64, String

thing = Entity(name="thing", join_keys=["k"], value_type=ValueType.STRING)
table = FileSource(
    name="v", path="lake/features/v", timestamp_field="event_timestamp", created_timestamp_column="created_timestamp")
v = FeatureView(
    name="v", entities=[thing], ttl=timedelta(days=2), source=PushSource(name="reports", batch_source=table),
    schema=[Field(name="k", dtype=String), Field(name="x", dtype=Float64)])
s = FeatureService(name="s_v1", features=[v])
"""
DAYS = ["2013-06-01", "2013-06-02"]
NOON = datetime(2013, 6, 3, 12, tzinfo=UTC)
TIME = pl.Datetime("us", "UTC")
PROBLEM: Any = SimpleNamespace(
    name="churn",
    owners=["team:ops"],
    clock="replay",
    views=["v"],
    features=SimpleNamespace(service="s_v1", views=["v"]),
    monitoring=SimpleNamespace(served=SimpleNamespace(days=7, lag_minutes=60, late_share=0.0)),
)

pytestmark = pytest.mark.filterwarnings("ignore")  # Feast warns of its own deprecations


def table(hours: list[float], *, day: str, x: float = 0.5) -> pl.DataFrame:
    start = datetime.fromisoformat(day).replace(tzinfo=UTC)
    moments = [start + timedelta(hours=hour) for hour in hours]
    rows = [(k, moment, moment, x + number) for number, moment in enumerate(moments) for k in ("a", "b")]
    schema = {"k": pl.String, "event_timestamp": TIME, "created_timestamp": TIME, "x": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "feature_store.yaml").write_text(YAML)
    (tmp_path / "defined.py").write_text(DEFINED)
    (tmp_path / "clock").write_text(NOON.isoformat())
    for day in DAYS:
        Lake(str(tmp_path / "lake")).write("features/v", table([6, 18], day=day), partition=day, written_at=NOON)
    return tmp_path


def side(root: Path) -> OnlineSide:
    return OnlineSide.open(root, lake_url=str(root / "lake"))


def run(root: Path, made: dg.AssetsDefinition, *, days: bool = True) -> tuple[dg.AssetCheckEvaluation, bool]:
    """Materialize an asset and one that comes after it; return the check, and whether the second one ran."""

    @dg.asset(deps=[made.key], name="after")
    def after() -> None:
        pass

    tags = {"dagster/asset_partition_range_start": DAYS[0], "dagster/asset_partition_range_end": DAYS[1]}
    resources = {
        "feature_store": FeatureStoreResource(repo=str(root), lake=str(root / "lake")),
        "clock": ClockResource(replay_file=str(root / "clock")),
    }
    result = dg.materialize([made, after], resources=resources, tags=tags if days else {}, raise_on_error=False)
    (evaluation,) = result.get_asset_check_evaluations()
    ran = {event.asset_key.to_user_string() for event in result.get_asset_materialization_events() if event.asset_key}
    return evaluation, "after" in ran


def online(root: Path) -> tuple[dg.AssetCheckEvaluation, bool]:
    return run(root, online_asset("v", days=f"{DAYS[0]}/{DAYS[1]}", owners=["team:ops"]))


# -- parity ------------------------------------------------------------------------------------------------------------


def test_parity_is_green_and_what_comes_after_runs(root: Path) -> None:
    check, ran = online(root)
    assert (check.check_name, check.passed, check.blocking, ran) == ("parity", True, True, True)
    assert check.metadata["entities compared"].value == 2
    assert side(root).backend.verdicts() == {"v": ""}


def test_one_broken_online_value_stops_what_comes_after_and_is_remembered(root: Path) -> None:
    online(root)
    backend = side(root).backend
    (row,) = backend.read("v", ['["a"]'])
    assert row is not None
    backend.apply("v", Change([row._replace(values=json.dumps({"x": 99.0}))], revised=DAYS))
    check, ran = online(root)
    assert (check.passed, ran) == (False, False)
    assert '["a"] has x 99.0 online and x 1.5 offline' in (check.description or "")
    assert check.metadata["mismatched"].value == 1
    assert "1 mismatched" in backend.verdicts()["v"]


def test_a_stale_view_stops_what_comes_after(root: Path) -> None:
    online(root)
    later = table([1], day="2013-06-03")
    Lake(str(root / "lake")).write("features/v", later, partition="2013-06-03", written_at=NOON)  # this run is not told
    check, ran = online(root)
    assert (check.passed, ran, check.metadata["stale"].value) == (False, False, 2)


def test_a_push_that_got_lost_on_its_way_is_put_right(root: Path) -> None:
    online(root)
    rows = table([2], day="2013-06-03", x=7.0)
    packed = [json.dumps({"x": 7.0})] * rows.height
    log = PushLog(str(root / "lake"), "features/v")
    log.append(rows, event_timestamp="event_timestamp", received_at=NOON, packed=packed)
    check, ran = online(root)
    assert (check.passed, ran) == (True, True)
    (row,) = side(root).backend.read("v", ['["a"]'])
    assert row is not None
    assert json.loads(row.values) == {"x": 7.0}


# -- served requests ---------------------------------------------------------------------------------------------------


def serve(root: Path, **changes: Any) -> None:
    """Answer one request an hour ago, and log it, with `changes` to what was answered."""
    from ml_assets.features.online.reader import OnlineReader

    one = side(root)
    now = NOON - timedelta(hours=1)
    answer = OnlineReader(one.repo, one.backend).answer("s_v1", {"k": ["a", "z"]}, now=now)
    answer.values.update({name: change(answer.values[name]) for name, change in changes.items()})
    log = ServedLog(str(root / "lake"), "s_v1")
    log.record(served_rows(answer, served_types(one.repo, "s_v1"), request="1", now=now))
    log.flush()


def replayed(root: Path) -> tuple[dg.AssetCheckEvaluation, bool]:
    return run(root, served_asset(PROBLEM), days=False)


def test_what_was_served_right_is_green(root: Path) -> None:
    online(root)
    serve(root)
    check, ran = replayed(root)
    assert (check.check_name, check.passed, check.blocking, ran) == ("replayed", True, True, True)


def test_a_served_value_in_another_unit_stops_what_comes_after(root: Path) -> None:
    online(root)
    serve(root, x=lambda values: [None if value is None else value * 1000 for value in values])
    check, ran = replayed(root)
    assert (check.passed, ran) == (False, False)
    assert "has x 1500.0 online and x 1.5 offline" in (check.description or "")


def test_a_late_push_stops_what_comes_after(root: Path) -> None:
    online(root)
    serve(root)
    rows = table([2], day="2013-06-03", x=7.0)  # of before the request, received after it
    packed = [json.dumps({"x": 7.0})] * rows.height
    log = PushLog(str(root / "lake"), "features/v")
    log.append(rows, event_timestamp="event_timestamp", received_at=NOON, packed=packed)
    check, ran = replayed(root)
    assert (check.passed, ran) == (False, False)
    assert "1 late" in (check.description or "")


def test_without_requests_there_is_nothing_to_judge_and_nothing_stops(root: Path) -> None:
    online(root)
    check, ran = replayed(root)
    assert (check.passed, check.severity, ran) == (False, dg.AssetCheckSeverity.WARN, True)
    assert "not applicable: in the last 7 days no request was answered online" in (check.description or "")
