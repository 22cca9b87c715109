"""What the log holds becomes a checked table: each day's rows once, by known models, and nothing where nothing was asked."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ml_assets.deployment.assets import served_predictions_asset
from ml_assets.deployment.prediction_log import Entry, PredictionLog
from ml_assets.deployment.served_predictions import Merged, merge_log, summary_markdown
from ml_assets.development.tracking import ChampionRef
from ml_assets.lake import Lake
from ml_assets.problem import MlProblem
from ml_assets.resources.places import ClockResource, LakeResource, TrackingResource
from ml_assets.tasks import task

MIDNIGHT = datetime(2013, 11, 3, tzinfo=UTC)
DAYS = ["2013-11-03", "2013-11-04"]
TABLE = "late/served_predictions"


def entry(number: int, **change: Any) -> Entry:
    told: dict[str, Any] = {
        "request": f"r{number}",
        "moment": MIDNIGHT + timedelta(hours=number),
        "arm": "champion",
        "version": "7",
        "seconds": 0.001 * (number + 1),
        "types": {"delay": "Float64"},
        "numbers": [0, 1],
        "rows": [{"delay": 1.0}, {"delay": None}],
        "answers": [{"prediction": 1, "score": 0.75}, {"prediction": 0, "score": 0.25}],
    }
    return Entry(**{**told, **change})


def served(folder: Path, *entries: Entry) -> Lake:
    log = PredictionLog(str(folder / "lake"), "late", folder / "spool", clock=lambda: MIDNIGHT)
    for one in entries:
        log.add(one)
    log.close()
    return Lake(str(folder / "lake"))


def merged(lake: Lake, days: list[str] | None = DAYS, versions: tuple[str, ...] = ("7", "8")) -> Merged:
    return merge_log(lake, TABLE, "late", task=task("classification"), versions=versions, days=days, now=MIDNIGHT)


def test_each_day_has_its_rows_and_another_run_changes_nothing(tmp_path: Path) -> None:
    lake = served(tmp_path, *(entry(number) for number in (0, 23, 24)))
    first, again = merged(lake), merged(lake)
    assert first.verdict and first.verdict.success, first.verdict
    assert {day: manifest.rows for day, manifest in first.manifests.items()} == dict(zip(DAYS, (4, 2), strict=True))
    assert [one.version for one in first.manifests.values()] == [one.version for one in again.manifests.values()]
    assert lake.read(TABLE, DAYS[1:])["_request"].to_list() == ["r24", "r24"]
    assert set(first.manifests[DAYS[0]].inputs) == {f"predicted/{DAYS[0]}"}


def test_rows_that_land_late_are_taken_up(tmp_path: Path) -> None:
    merged(served(tmp_path, entry(0)))
    found = merged(served(tmp_path, entry(1)))
    assert found.manifests[DAYS[0]].rows == 4


def test_arms_and_versions_are_told_with_their_latency(tmp_path: Path) -> None:
    others = [entry(2, arm="canary", version="8"), entry(3, arm="shadow", version="8", seconds=9)]
    found = merged(served(tmp_path, entry(0), entry(1), *others))
    assert found.summary.rows() == [
        ("canary", "8", 1, 2, 3.0, 3.0),
        ("champion", "7", 2, 4, 1.5, 2.0),
        ("shadow", "8", 1, 2, 9000.0, 9000.0),
    ]
    assert "| champion | 7 | 2 | 4 | 1.5 | 2 |" in summary_markdown(found.summary)
    assert found.hours["p95"].to_list() == [1.0, 2.0, 3.0]  # of those that were answered


def test_of_one_request_two_models_may_have_answered_the_same_row(tmp_path: Path) -> None:
    found = merged(served(tmp_path, entry(0), entry(0, arm="shadow", version="8")))
    assert found.verdict and found.verdict.success


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ({"version": "9"}, "model_version"),
        ({"arm": "nobody"}, "_arm"),
        ({"seconds": -1.0}, "_milliseconds"),
        ({"answers": [{"prediction": 1, "score": float("nan")}, {"prediction": 1, "score": 0.5}]}, "score"),
        ({"answers": [{"prediction": 1, "score": 1.5}, {"prediction": 1, "score": 0.5}]}, "score"),
        ({"answers": [{"prediction": None, "score": 0.5}, {"prediction": 1, "score": 0.5}]}, "prediction"),
        ({"request": "r0"}, "_request"),
    ],
    ids=["unknown version", "unknown arm", "negative time", "NaN", "no probability", "no prediction", "twice"],
)
def test_what_cannot_be_is_red_and_readers_refuse_it(tmp_path: Path, change: dict[str, Any], column: str) -> None:
    lake = served(tmp_path, entry(0), entry(1, **change))
    found = merged(lake)
    assert found.verdict and not found.verdict.success
    assert column in found.verdict.reason()
    with pytest.raises(ValueError, match="red"):
        lake.read(TABLE, DAYS[:1])


def test_without_days_all_is_one_table(tmp_path: Path) -> None:
    found = merged(served(tmp_path, entry(0), entry(30)), days=None)
    assert [manifest.rows for manifest in found.manifests.values()] == [4]
    assert merged(served(tmp_path / "other"), days=None).verdict is None


# -- the asset ---------------------------------------------------------------------------------------------------------


class Registry(TrackingResource):
    """Knows version 7."""

    def open(self) -> Any:
        return self

    def versions(self) -> list[ChampionRef]:
        return [ChampionRef("late", "7", "", ""), ChampionRef("other", "9", "", "")]


@pytest.fixture
def run(tmp_path: Path) -> Callable[[], dg.ExecuteInProcessResult]:
    problem = MlProblem.resolve_from_dict(
        {
            "name": "late",
            "question": "?",
            "task": {"kind": "classification"},
            "days": f"{DAYS[0]}/{DAYS[-1]}",
            "observations": {"key": ["row"], "query": "SELECT * FROM clean_samples"},
        }
    )
    return lambda: dg.materialize(
        [served_predictions_asset(problem)],
        resources={
            "lake": LakeResource(url=str(tmp_path / "lake")),
            "tracking": Registry(uri="", artifacts=""),
            "clock": ClockResource(),
        },
        tags={"dagster/asset_partition_range_start": DAYS[0], "dagster/asset_partition_range_end": DAYS[-1]},
        raise_on_error=False,
    )


def test_the_asset_shows_rows_models_and_latency(run: Any, tmp_path: Path) -> None:
    served(tmp_path, entry(0), entry(1))
    found = run()
    assert found.success
    assert found.get_asset_check_evaluations()[0].passed
    shown = {
        event.partition: event.metadata for event in found.asset_materializations_for_node("late__served_predictions")
    }
    assert [shown[day]["dagster/row_count"].value for day in DAYS] == [4, 0]
    assert "| champion | 7 | 2 | 4 |" in shown[DAYS[1]]["served"].value
    assert shown[DAYS[1]]["latency"].value.startswith("![95th percentile")


def test_a_version_of_another_problem_blocks(run: Any, tmp_path: Path) -> None:
    served(tmp_path, entry(0, version="9"))
    (check,) = run().get_asset_check_evaluations()
    assert not check.passed and check.blocking


def test_days_without_answers_are_said_to_have_none(run: Any) -> None:
    found = run()
    (check,) = found.get_asset_check_evaluations()
    assert found.success and check.passed
    assert "no prediction was answered online" in check.description
