"""Negative controls for the checks of a feature view: each through the asset, on a real Feast repository and lake.

The declared expectations have theirs in `test_declared_expectations`, features in use in `features/test_usage`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from ml_assets.features.assets import FeatureViews, View, feature_asset
from ml_assets.features.point_in_time import FeatureError
from ml_assets.features.retrieval import service_features
from ml_assets.lake import Lake, RedPartitionError
from ml_assets.resources.places import ClockResource, FeatureStoreResource, LakeResource
from ml_assets_tests.features.repos import feature_store_yaml

YAML = feature_store_yaml()
DEFINED = """\
from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Float64, Int64, String

thing = Entity(name="thing", join_keys=["k"], value_type=ValueType.STRING)
source = FileSource(
    name="v", path="lake/features/v", timestamp_field="event_timestamp", created_timestamp_column="created_timestamp")
schema = [Field(name="k", dtype=String), Field(name="x", dtype=Float64, description="Minutes."), Field(name="n", dtype=Int64)]
v = FeatureView(name="v", entities=[thing], schema=schema, source=source, owner="team:ops", description="All of it.")
s = FeatureService(name="s_v1", features=[v], tags={"problem": "churn"})
"""
DAYS = ["2013-06-01", "2013-06-02"]
NOON = datetime(2013, 6, 3, 12, tzinfo=UTC)
TIME = pl.Datetime("us", "UTC")

pytestmark = pytest.mark.filterwarnings("ignore")  # Feast warns of its own deprecations


# -- feature functions: one as declared, the others not ---------------------------------------------------------------


def as_declared(raw: pl.LazyFrame) -> pl.LazyFrame:
    return raw.select("k", "event_timestamp", pl.col("a").alias("x"), "n", "created_timestamp")


def wider(raw: pl.LazyFrame) -> pl.LazyFrame:
    return as_declared(raw).with_columns(pl.col("x").cast(pl.Float32), pl.col("n").cast(pl.Int16))


def without_a_feature(raw: pl.LazyFrame) -> pl.LazyFrame:
    return as_declared(raw).drop("n")


def with_one_too_many(raw: pl.LazyFrame) -> pl.LazyFrame:
    return as_declared(raw).with_columns(y=pl.col("x") * 60)


def as_text(raw: pl.LazyFrame) -> pl.LazyFrame:
    return as_declared(raw).with_columns(pl.col("x").cast(pl.String))


def without_its_key(raw: pl.LazyFrame) -> pl.LazyFrame:
    return as_declared(raw).rename({"k": "thing"})


BROKEN = {
    "without_a_feature": "feature view 'v': column 'n' is declared Int64, but not returned; return it",
    "with_one_too_many": "feature view 'v': column 'y' (Float64) is returned, but not declared; declare it in Feast",
    "as_text": "feature view 'v': column 'x' is String, but declared Float64; cast it, or correct the declaration",
    "without_its_key": "column 'k' is declared String, but not returned",
}


# -- the place: a Feast repository over a lake with two days of a raw table --------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "feature_store.yaml").write_text(YAML)
    (tmp_path / "defined.py").write_text(DEFINED)
    lake = Lake(str(tmp_path / "lake"))
    for number, day in enumerate(DAYS):
        moments = [datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(hours=hour) for hour in range(24)]
        rows = pl.DataFrame(
            {"k": ["a", "b"] * 12, "event_timestamp": moments}, schema={"k": pl.String, "event_timestamp": TIME}
        )
        rows = rows.with_columns(
            a=pl.int_range(24) + 0.5, n=pl.int_range(24) + number, created_timestamp="event_timestamp"
        )
        lake.write("raw/t", rows, partition=day, written_at=NOON)
    return tmp_path


def materialize(
    root: Path, function: str, *, now: datetime = NOON, name: str = "v", **options: Any
) -> dg.ExecuteInProcessResult:
    """Run the view's asset over both days; a red check fails nothing here, it is for the caller to see."""
    entity = options.pop("entity", ["k"])
    view = View(name=name, description="", compute=f"{__name__}.{function}", source="raw/t", entity=entity, **options)
    (root / "clock").write_text(now.isoformat())
    resources = {
        "lake": LakeResource(url=str(root / "lake")),
        "feature_store": FeatureStoreResource(repo=str(root), lake=str(root / "lake")),
        "clock": ClockResource(replay_file=str(root / "clock")),
    }
    tags = dict(zip(("dagster/asset_partition_range_start", "dagster/asset_partition_range_end"), DAYS, strict=True))
    with dg.DagsterInstance.ephemeral() as instance:
        return dg.materialize(
            [feature_asset(FeatureViews(days="2013-06-01/2013-06-02", views=[view]), view)],
            resources=resources,
            instance=instance,
            tags=tags if view.partitioned else {},
            raise_on_error=False,
        )


def checks(done: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {found.check_name: found for found in done.get_asset_check_evaluations()}


def metadata(done: dg.ExecuteInProcessResult) -> dict[str, Any]:
    """What the asset's page shows: the metadata of the last partition."""
    found = [event.materialization for event in done.get_asset_materialization_events()]
    return {name: value.value for name, value in found[-1].metadata.items()}


def asked() -> pl.DataFrame:
    return pl.DataFrame({"k": ["a"], "event_timestamp": [NOON]}, schema={"k": pl.String, "event_timestamp": TIME})


# -- the declaration ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["as_declared", "wider"])
def test_a_view_as_declared_stays_green(root: Path, function: str) -> None:
    done = materialize(root, function, fresh_within_hours=36)
    assert done.success
    assert {name: found.passed for name, found in checks(done).items()} == {
        "expectations": True,
        "declaration": True,
        "freshness": True,
    }
    assert service_features(root, "s_v1", asked(), lake_url=str(root / "lake"))["x"].to_list() == [22.5]


@pytest.mark.parametrize("function", BROKEN)
def test_a_view_that_is_not_as_declared_is_red_and_every_reader_refuses_it(root: Path, function: str) -> None:
    done = materialize(root, function)
    found = checks(done)["declaration"]
    assert (found.passed, found.severity, found.blocking) == (False, dg.AssetCheckSeverity.ERROR, True)
    assert BROKEN[function] in str(found.description)
    later = Lake(str(root / "lake"))
    assert later.read("features/v", allow_red=True).height == 48  # a person can look at it
    for day in DAYS:
        with pytest.raises(RedPartitionError, match=rf"features/v/{day} is red"):
            later.scan("features/v", [day])
    with pytest.raises(RedPartitionError, match=r"features/v/2013-06-0\d is red"):
        service_features(root, "s_v1", asked(), lake_url=later.url)


def test_a_repaired_view_is_green_again(root: Path) -> None:
    materialize(root, "as_text")
    assert checks(materialize(root, "as_declared"))["declaration"].passed
    assert Lake(str(root / "lake")).read("features/v").height == 48


def test_a_view_that_feast_does_not_know_is_red(root: Path) -> None:
    found = checks(materialize(root, "as_declared", name="w"))["declaration"]
    assert not found.passed
    assert "'w' is computed here, but Feast does not know it; declare it" in str(found.description)


def test_an_entity_that_is_not_feasts_is_red(root: Path) -> None:
    found = checks(materialize(root, "as_declared", entity=["k", "n"]))["declaration"]
    assert "its entity here is ['k', 'n'], in Feast ['k']" in str(found.description)


def test_a_feature_that_is_in_use_stops_the_run_before_it_writes(root: Path) -> None:
    materialize(root, "as_declared")
    before = Lake(str(root / "lake")).version("features/v")
    (root / "defined.py").write_text(DEFINED.replace(', Field(name="n", dtype=Int64)', ""))
    done = materialize(root, "without_a_feature")
    assert not done.success
    error = done.get_step_failure_events()[0].step_failure_data.error
    assert error is not None
    assert error.cause is not None
    assert error.cause.cls_name == FeatureError.__name__
    assert "feature 'n' (Int64) is gone, but feature service 's_v1' (problem churn) uses it" in error.cause.message
    assert Lake(str(root / "lake")).version("features/v") == before


# -- freshness ---------------------------------------------------------------------------------------------------------


def test_a_stale_view_is_told_and_blocks_nothing(root: Path) -> None:
    done = materialize(root, "as_declared", now=NOON + timedelta(days=2), fresh_within_hours=36)
    found = checks(done)["freshness"]
    assert (found.passed, found.severity, found.blocking) == (False, dg.AssetCheckSeverity.WARN, False)
    assert "61.0 hours ago, more than 36 hours; materialize newer days" in str(found.description)
    assert done.success
    assert Lake(str(root / "lake")).read("features/v").height == 48


@pytest.mark.parametrize("now", [NOON - timedelta(days=1)])
def test_events_of_the_future_are_not_fresh(root: Path, now: datetime) -> None:
    found = checks(materialize(root, "as_declared", now=now, fresh_within_hours=36))["freshness"]
    assert not found.passed
    assert "which has not come yet" in str(found.description)


def test_where_freshness_does_not_apply_there_is_no_check_that_could_pass(root: Path) -> None:
    assert "freshness" not in checks(materialize(root, "as_declared"))
    assert (
        metadata(materialize(root, "as_declared"))["freshness"] == "not applicable: no fresh_within_hours is declared"
    )
    without_days = materialize(root, "as_declared", partitioned=False)
    assert set(checks(without_days)) == {"expectations", "declaration"}
    assert metadata(without_days)["freshness"] == "not applicable: its rows are of no day"


def test_freshness_of_a_view_without_days_is_refused_at_loading() -> None:
    view = View(
        name="v", description="", compute="a.b", source="raw/t", entity=["k"], partitioned=False, fresh_within_hours=1
    )
    with pytest.raises(ValueError, match=r"view v: without days nothing is fresh or stale; remove fresh_within_hours"):
        FeatureViews(days="2013-06-01/", views=[view]).build_defs(None)  # type: ignore[arg-type]


# -- what the page shows -----------------------------------------------------------------------------------------------


def test_the_page_of_a_view(root: Path) -> None:
    shown = metadata(materialize(root, "as_declared", fresh_within_hours=36))
    assert shown["owner"] == "team:ops"
    assert shown["description"] == "All of it."
    assert shown["entity"] == "k (String)"
    assert shown["time to live"] == "for ever"
    assert shown["used by"] == "feature service 's_v1' (problem churn)"
    assert "| x | Float64 | Minutes. | 0.0% | 0.5 | 12 | 12 | 23.5 | 24 |" in shown["features"]
    assert "| x | k, event_timestamp, a | feature service 's_v1' (problem churn) |" in shown["lineage"]
    assert shown["distributions"].startswith("![distributions of v](data:image/png;base64,")
    deps = shown["dagster/column_lineage"].deps_by_column["n"]
    assert {dep.asset_key for dep in deps} == {dg.AssetKey(["raw", "t"])}
    assert {dep.column_name for dep in deps} == {"k", "event_timestamp", "n"}
