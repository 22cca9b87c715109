"""Days on which nothing is asked, through the assets: a fault unless the problem declares them, and never a stale row."""

from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import polars as pl
import pytest

from ml_assets.deployment.assets import predictions_asset
from ml_assets.lake import Lake
from ml_assets.packaging.champion import BUNDLE_DIGEST, tags_of
from ml_assets.preparation.assets import observations_asset
from ml_assets.problem import MlProblem
from ml_assets.resources.places import ClockResource, FeatureStoreResource, LakeResource, TrackingResource
from ml_assets_tests.development.samples import model_of, sample
from ml_assets_tests.packaging.bundles import built, stored

DAYS = ["2013-01-01", "2013-01-02", "2013-01-03"]
NOW = datetime(2013, 2, 1, tzinfo=UTC)


class Registry(TrackingResource):
    """A registry that knows one champion, whose bundle lies in a folder."""

    folder: str

    def open(self) -> Any:
        """Return what `incumbent` asks."""
        return SimpleNamespace(
            champion=lambda _: _champion(Path(self.folder)),
            aliases=lambda _: {"champion": _champion(Path(self.folder)).version},
            registered_at=lambda *_: NOW,
        )


@cache
def _champion(folder: Path) -> SimpleNamespace:
    packed = built(folder / "bundle", stored(folder / "model", model_of("binary", "baseline")), problem="p")
    known = {"data_hash": "d", "fitted_until": NOW - timedelta(days=99), "live_from": NOW - timedelta(days=99)}
    tags = tags_of(**known, test_metrics={}, reason="") | {BUNDLE_DIGEST: packed.digest}  # type: ignore[arg-type]
    return SimpleNamespace(version="7", source=packed.folder, tags=tags)


def declared(every_day: bool) -> MlProblem:
    asked = {"key": ["row"], "query": "SELECT * FROM clean_samples", "every_day": every_day}
    return MlProblem.resolve_from_dict(
        {
            "name": "p",
            "question": "?",
            "task": {"kind": "classification"},
            "days": f"{DAYS[0]}/{DAYS[-1]}",
            "observations": asked,
        }
    )


def cleaned(root: Path, rows: dict[str, int]) -> None:
    """Write the clean table, with so many rows by day."""
    frame = sample("binary").drop("split").with_columns(row=pl.int_range(pl.len()).cast(pl.String))
    for number, (day, count) in enumerate(rows.items()):
        moment = pl.lit(datetime.fromisoformat(day).replace(tzinfo=UTC)).dt.cast_time_unit("us")
        part = frame.slice(100 * number, count).with_columns(event_timestamp=moment)
        Lake(str(root / "lake")).write("clean/samples", part, partition=day, written_at=NOW)


def run(root: Path, problem: MlProblem, first: str = DAYS[0], last: str = DAYS[-1]) -> tuple[bool, dict[str, int]]:
    """Observe and score; return whether all went well, and the rows of each day of the predictions."""
    lake = LakeResource(url=str(root / "lake"))
    found = dg.materialize(
        [observations_asset(problem), predictions_asset(problem)],
        resources={
            "lake": lake,
            "feature_store": FeatureStoreResource(repo=str(root), lake=str(root / "lake")),
            "tracking": Registry(uri="", artifacts="", folder=str(root)),
            "clock": ClockResource(),
        },
        tags={"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last},
        raise_on_error=False,
    )
    return found.success, rows_of(root, "p/predictions")


def rows_of(root: Path, table: str) -> dict[str, int]:
    return {day: manifest.rows for day, manifest in Lake(str(root / "lake")).manifests(table).items()}


@pytest.mark.parametrize("every_day", [True, False])
def test_with_rows_on_every_day_both_are_the_same(tmp_path: Path, every_day: bool) -> None:
    cleaned(tmp_path, dict.fromkeys(DAYS, 5))
    assert run(tmp_path, declared(every_day)) == (True, dict.fromkeys(DAYS, 5))


def test_some_days_without_rows(tmp_path: Path) -> None:
    cleaned(tmp_path, {DAYS[0]: 5, DAYS[1]: 0, DAYS[2]: 3})
    assert run(tmp_path, declared(False)) == (True, {DAYS[0]: 5, DAYS[2]: 3})


def test_a_run_without_any_row_is_a_fault_unless_it_is_declared(tmp_path: Path) -> None:
    cleaned(tmp_path, {DAYS[0]: 5, DAYS[1]: 0, DAYS[2]: 3})
    assert run(tmp_path, declared(True), DAYS[1], DAYS[1])[0] is False
    assert run(tmp_path, declared(False), DAYS[1], DAYS[1]) == (True, {})


@pytest.mark.parametrize("last", [DAYS[1], DAYS[2]], ids=["alone", "among others"])
def test_a_day_that_loses_its_rows_keeps_no_stale_prediction(tmp_path: Path, last: str) -> None:
    cleaned(tmp_path, dict.fromkeys(DAYS, 5))
    run(tmp_path, declared(False))
    cleaned(tmp_path, {DAYS[0]: 5, DAYS[1]: 0, DAYS[2]: 5})
    assert run(tmp_path, declared(False), DAYS[1], last) == (True, {DAYS[0]: 5, DAYS[1]: 0, DAYS[2]: 5})
    assert rows_of(tmp_path, "p/observations")[DAYS[1]] == 0
    assert Lake(str(tmp_path / "lake")).read("p/predictions").height == 10
