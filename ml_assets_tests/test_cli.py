"""The command line: what it prints, and that it fails with a message which names the fix."""

from __future__ import annotations

import json
import shutil
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ml_assets import cli
from ml_assets.lake import Store
from ml_assets.monitoring.alerts import Alert, notify
from ml_assets.monitoring.channels import Log

VARIABLES = ("LANDING", "QUARANTINE", "LAKE", "MODELS", "REPORTS", "MLFLOW_ARTIFACTS")


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty deployment below a folder."""
    for name in VARIABLES:
        monkeypatch.setenv(f"ML_ASSETS_{name}", str(tmp_path / name.lower()))
    monkeypatch.setenv("ML_ASSETS_MLFLOW", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("ML_ASSETS_REPLAY_CLOCK", str(tmp_path / "clock"))
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    return tmp_path


def test_replay_delivers_and_sets_the_clock(deployment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["replay", "--until", "2013-01-03"]) == 0
    assert capsys.readouterr().out.strip() == (
        "6 files for 3 days up to 2013-01-03, 0 broken ones; now is 2013-01-04 12:00 UTC"
    )
    assert len(list((deployment / "landing" / "flights").iterdir())) == 3


def test_replay_goes_on_where_it_stopped(deployment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["replay", "--until", "2013-01-03"])
    cli.main(["replay", "--until", "2013-01-05", "--faults"])
    assert "4 files for 2 days up to 2013-01-05, 8 broken ones" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("day", "told"), [("2014-02-01", "not in the recorded year"), ("yesterday", "Invalid isoformat")]
)
def test_replay_refuses_a_day_that_it_does_not_have(
    deployment: Path, capsys: pytest.CaptureFixture[str], day: str, told: str
) -> None:
    assert cli.main(["replay", "--until", day]) == 1
    assert told in capsys.readouterr().err
    assert not (deployment / "landing").exists()


@pytest.mark.parametrize("command", ["demo", "ui", "feature-server"])
def test_a_taken_port_is_named_before_anything_is_made(
    deployment: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert cli.main([command, "--port", str(port)]) == 1
    assert f"port {port} on 127.0.0.1 is taken" in capsys.readouterr().err
    assert not (deployment / "landing").exists()


def test_run_refuses_a_problem_that_is_not_declared(deployment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "flight_delays"]) == 1
    told = capsys.readouterr().err
    assert "ml-assets: problem 'flight_delays' is not declared; declared are " in told and "flight_delay" in told
    assert not (deployment / "lake").exists()


def test_check_looks_at_a_problem_and_what_it_is_made_from(
    deployment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["check", "flights"]) == 0
    assert capsys.readouterr().out == "No fault: 2 sources.\n"  # flights are repaired with the time zones of airports
    assert cli.main(["check", "flihgts"]) == 1
    assert "did you mean 'flights'?" in capsys.readouterr().err


def test_schema_is_json(deployment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["schema"]) == 0
    assert "MlProblem" in json.dumps(json.loads(capsys.readouterr().out))


def test_new_tells_why_a_file_is_no_problem(deployment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["new", "churn", "--data", str(deployment / "nowhere.csv"), "--target", "left"]) == 1
    assert "nowhere.csv" in capsys.readouterr().err
    assert not (cli.ROOT / "ml_assets" / "defs" / "churn").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # MLflow's own, at import
def test_status_of_an_empty_deployment(deployment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["problems"]["flight_delay"] == {"champion": None, "drift": None, "realised": None}
    assert found["ledger"] == {"ingested": 0, "quarantined": 0, "superseded": 0, "duplicate": 0}
    assert not any(asset["materialized"] for asset in found["assets"].values())
    assert set(found["checks"]["outcomes"]) == {"not run"}
    assert cli.main(["status"]) == 0
    assert "no champion yet" in capsys.readouterr().out


def test_alerts_are_listed(deployment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["alerts"]) == cli.main(["alerts", "flight_delay"]) == 0
    assert capsys.readouterr().out == "no alerts\nno alerts of flight_delay\n"
    moment = datetime(2013, 6, 1, tzinfo=UTC)
    alert = Alert("flight_delay", "check", "k", "no_drift failed", "temp changed its unit.", moment)
    notify(Store(str(deployment / "lake")), [alert], [Log(lambda _: None)], now=moment)
    assert cli.main(["alerts", "flight_delay"]) == 0
    assert "| warning | no_drift failed | temp changed its unit. | - |" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore")  # Feast's own, of its deprecations
def test_features_prints_the_catalog(
    deployment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    repo = deployment / "feature_repo"
    shutil.copytree(cli.ROOT / "feature_repo", repo, ignore=shutil.ignore_patterns("__pycache__"))
    (deployment / "data").mkdir()
    monkeypatch.setenv("ML_ASSETS_FEATURE_REPO", str(repo))
    assert cli.main(["features", "--json"]) == 0
    found = {entry["view"]: entry for entry in json.loads(capsys.readouterr().out)}
    weather = found["origin_weather"]
    assert (weather["owner"], weather["entity"], weather["ttl_seconds"]) == ("team:operations", ["origin"], 21600.0)
    assert (weather["rows"], weather["newest_event"]) == (None, None)
    assert {used["problem"] for used in weather["used_by"]} == {"flight_delay", "arrival_delay"}
    assert cli.main(["features"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("view")
    assert {line.split()[0] for line in lines[1:]} == set(found)


def test_the_quarantine_is_listed_shown_retried_and_discarded(
    deployment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from datetime import UTC, datetime

    from ml_assets.collection.collect import collect
    from ml_assets.resources.environment import resources
    from ml_assets_tests.collection.outside import declared

    name = "flights/flights-2013-01-05.csv.gz"
    places = resources(deployment)["landing"].open()
    places.landing.write(name, b"")
    collect(declared("flights").contract(), places, now=datetime(2013, 1, 10, tzinfo=UTC))
    told = []
    for command in (["list"], ["show", name], ["retry", name], ["discard", name, "--reason", "a test"], ["list"]):
        assert cli.main(["quarantine", *command]) == 0
        told.append(capsys.readouterr().out)
    assert [name in text for text in told] == [True, True, True, True, False]
    assert told[2].startswith("quarantined")
    assert told[3].startswith("discarded")
    assert cli.main(["quarantine", "show", name]) == 1
    assert "is not in quarantine; nothing is" in capsys.readouterr().err
