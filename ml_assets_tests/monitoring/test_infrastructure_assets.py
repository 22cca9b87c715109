"""The deployment's report on a real instance: an asset that got slow turns the check red, and a server that is down the other one."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from ml_assets.monitoring.infrastructure_assets import REPORT, RUNS, SAMPLES, infrastructure_asset
from ml_assets.resources.places import ClockResource, LakeResource
from ml_assets_tests.deployment.api_samples import ROW
from ml_assets_tests.monitoring.test_serving_health import Server

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance on SQLite that lives as long as the test."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made


class Deployment:
    """An asset that takes as long as it is told, and the report, on one instance and one lake."""

    def __init__(self, instance: dg.DagsterInstance, folder: Path) -> None:
        self.instance, self.lake = instance, LakeResource(url=str(folder / "lake"))

    def run(self, *seconds: float, fails: bool = False) -> None:
        waits = iter(seconds)

        @dg.asset
        def work() -> None:
            time.sleep(next(waits))
            if fails:
                raise ValueError("on purpose")

        for _ in seconds:
            dg.materialize([work], instance=self.instance, raise_on_error=False, run_config=QUIET)

    def report(self) -> tuple[dict[str, dg.AssetCheckEvaluation], dict[str, object]]:
        """Make the report, and return its checks by name and its metadata."""
        resources = {"lake": self.lake, "clock": ClockResource()}
        asset = infrastructure_asset(seconds=1.0)
        found = dg.materialize([asset], instance=self.instance, resources=resources, run_config=QUIET)
        (made,) = found.asset_materializations_for_node(REPORT.replace("/", "__"))
        checks = {one.check_name: one for one in found.get_asset_check_evaluations()}
        return checks, {name: value.value for name, value in made.metadata.items()}


@pytest.fixture
def deployment(instance: dg.DagsterInstance, tmp_path: Path) -> Deployment:
    return Deployment(instance, tmp_path)


def test_an_asset_that_got_slow_turns_the_check_red_until_it_is_quick_again(deployment: Deployment) -> None:
    checks, told = deployment.report()
    assert not checks["no_regression"].passed and "nothing to compare yet" in str(checks["no_regression"].description)
    deployment.run(0, 0, 0, 0)
    checks, told = deployment.report()
    assert checks["no_regression"].passed and told["regressions"] == 0
    deployment.run(1.5)
    checks, told = deployment.report()
    assert not checks["no_regression"].passed and told["regressions"] == 1
    assert checks["no_regression"].severity is dg.AssetCheckSeverity.WARN
    said = r"work: \d\.\d s for 1 partition, 0\.\d s were expected from 4 runs before"
    assert re.fullmatch(said, str(checks["no_regression"].description))
    assert "slower: " in str(told["assets"]) and "data:image/png" in str(told["durations"])
    deployment.run(0)
    assert deployment.report()[0]["no_regression"].passed


def test_failed_runs_are_counted_and_each_run_is_taken_once(deployment: Deployment) -> None:
    deployment.run(0, 0)
    deployment.run(0, fails=True)
    for _ in range(2):
        _, told = deployment.report()
    assert (told["failed steps"], told["runs"]) == (1, 4)  # two, one that failed, and the report's own first
    lake = deployment.lake.open()
    found = {row["asset"]: row for row in lake.read(REPORT).to_dicts()}
    assert (found["work"]["runs"], found["work"]["failed"], found["work"]["last_status"]) == (2, 1, "failed")
    assert lake.read(RUNS).height == 4


def test_a_server_that_is_down_is_a_sentence(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    checks, told = deployment.report()
    assert told["servers"] == 0
    assert checks["serving_healthy"].passed and "not applicable" in str(checks["serving_healthy"].description)
    monkeypatch.setenv("ML_ASSETS_SERVING_METRICS", "http://127.0.0.1:9/metrics no.address")
    checks, told = deployment.report()
    reason = str(checks["serving_healthy"].description)
    assert not checks["serving_healthy"].passed and told["servers"] == 2
    assert "http://127.0.0.1:9/metrics: does not answer" in reason and "no.address: is no address" in reason
    assert deployment.lake.open().read(SAMPLES).height == 0


def test_a_server_that_does_well_is_sampled_at_each_report(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server()
    server.start()
    monkeypatch.setenv("ML_ASSETS_SERVING_METRICS", server.address)
    monkeypatch.setenv("ML_ASSETS_SERVING_KEY", "a key")
    deployment.report()
    server.ask([ROW, ROW], 3)
    checks, told = deployment.report()
    server.stop()
    said = str(checks["serving_healthy"].description)
    assert checks["serving_healthy"].passed and said.startswith(f"{server.address}: up, 3 requests")
    assert server.address in str(told["serving"]) and "a key" not in str(told)
    assert deployment.lake.open().read(SAMPLES)["at"].n_unique() == 2


@pytest.mark.parametrize("limit", ["fast", "0", "-1", "inf", "nan"])
def test_a_limit_that_is_none_is_refused(deployment: Deployment, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setenv("ML_ASSETS_SERVING_P99", limit)
    with pytest.raises(ValueError, match=f"ML_ASSETS_SERVING_P99: '{limit}' is no number of seconds"):
        deployment.report()
