"""The serving API as an environment wires it: the champion of the registry answers, and what it answered is in the lake."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from ml_assets import cli
from ml_assets.deployment.prediction_log import predicted
from ml_assets.features import retrieval
from ml_assets.features.point_in_time import FeatureError
from ml_assets.lake import Lake, Store
from ml_assets.problem import Serving
from ml_assets.resources.clock import Clock
from ml_assets.resources.local import HOST, free_port
from ml_assets.resources.serving import engine_of, features_of
from ml_assets_tests.development.samples import FEATURES
from ml_assets_tests.features.pushing import PLAIN, compiled
from ml_assets_tests.packaging.offices import PROBLEM, FakeRegistry, stand

CLOCK = SimpleNamespace(open=lambda declared: Clock())


class Registry(FakeRegistry):
    """The same, with bundles that lie here."""

    def bundle_folder(self, found: Any, cache: Path) -> Path:
        return Path(found.source)


def problem(**told: Any) -> Any:
    return SimpleNamespace(name=PROBLEM, clock="system", features=None, serving=Serving(), **told)


def test_the_registrys_champion_answers_and_its_answers_land_in_the_lake(tmp_path: Path) -> None:
    registry, lake = Registry(), str(tmp_path / "lake")
    stand(registry, Store(lake), tmp_path, 0.3)
    places: dict[str, Any] = {
        "lake": SimpleNamespace(url=lake, open=lambda: Lake(lake)),
        "tracking": SimpleNamespace(open=lambda: registry),
    }
    engine = engine_of(problem(), None, data=tmp_path / "data", clock=CLOCK, **places).start()
    try:
        row = dict.fromkeys(FEATURES)
        assert engine.answer([row]).version == "1"
        stand(registry, Store(lake), tmp_path, 0.4)
        engine.refresh()
        assert engine.answer([row]).version == "2"
    finally:
        engine.close()
    landed = predicted(lake, PROBLEM)
    assert landed is not None
    assert landed.collect()["model_version"].sort().to_list() == ["1", "2"]
    assert (tmp_path / "data" / "serving" / PROBLEM).is_dir()


def test_features_are_those_of_the_applied_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    applied: list[str] = []
    monkeypatch.setattr(retrieval, "applied_repo", lambda _: compiled(PLAIN))
    monkeypatch.setenv("ML_ASSETS_ONLINE", str(tmp_path / "online.db"))
    repo = tmp_path / "feature_repo"
    repo.mkdir()
    store = "ml_assets.features.online_store.PackedOnlineStore"
    (repo / "feature_store.yaml").write_text(f"project: test\nonline_store: {{type: {store}}}\n")
    place = SimpleNamespace(repo=str(repo), lake=str(tmp_path / "lake"), declared=lambda: applied.append("yes"))
    asking = problem()
    assert features_of(asking, feature_store=place, clock=CLOCK) is None
    asking.features = SimpleNamespace(service="all")
    found = features_of(asking, feature_store=place, clock=CLOCK)
    assert found is not None
    assert (applied, dict(found.asked().keys)) == (["yes"], {"k": "String"})
    assert found.look_up([{"k": "z"}]).statuses == [{"v": "missing"}]
    asking.features = SimpleNamespace(service="nothing")
    broken = features_of(asking, feature_store=place, clock=CLOCK)
    assert broken is not None
    with pytest.raises(FeatureError, match="no feature service 'nothing'"):
        broken.asked()


def test_a_problem_that_is_not_declared_is_not_served(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", "flight_delays", "--port", str(free_port())]) == 1
    assert "problem 'flight_delays' is not declared; declared are " in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_answers_while_the_registry_is_down_and_ends_in_order(tmp_path: Path) -> None:
    port = free_port()
    places = ("LAKE", "LANDING", "QUARANTINE", "MODELS", "REPORTS", "MLFLOW_ARTIFACTS", "REPLAY_CLOCK")
    moved = {f"ML_ASSETS_{name}": str(tmp_path / name.lower()) for name in places}
    moved |= {"ML_ASSETS_MLFLOW": f"http://{HOST}:{free_port()}", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    moved["ML_ASSETS_ONLINE"] = str(tmp_path / "online.db")
    command = [sys.executable, "-m", "ml_assets.cli", "serve", "airport_segments", "--port", str(port)]
    process = subprocess.Popen(command, env=os.environ | moved, cwd=cli.ROOT, stderr=subprocess.PIPE, text=True)
    try:
        with httpx.Client(base_url=f"http://{HOST}:{port}", trust_env=False) as client:
            wait_until_running(client)
            found = client.get("/ready")
            assert (found.status_code, "no model is in office" in found.json()["reason"]) == (503, True)
            assert client.post("/predict", json={"rows": [{}]}).status_code == 503
            deadline = time.monotonic() + 60
            while not client.get("/ready").json()["warnings"].get("registry") and time.monotonic() < deadline:
                time.sleep(0.1)
            assert "since" in client.get("/ready").json()["warnings"]["registry"]
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == cli.TERMINATED, errors
    assert "Traceback" not in errors


def wait_until_running(client: httpx.Client) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            client.get("/health").raise_for_status()
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise RuntimeError("the server did not start")
