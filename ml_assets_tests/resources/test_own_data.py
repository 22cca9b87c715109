"""One's own data, in a copy of the project without its example: one problem to its report, and fifty that load in seconds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ml_assets.resources.process import prepare
from ml_assets.scaffold.command import new
from ml_assets_tests.scaffold.world import NOW, customers

REPOSITORY = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project without its example, with the problem `churn` over a file."""
    root = bare_project(tmp_path_factory.mktemp("own") / "project")
    customers(400).write_csv(root / "customers.csv")
    done = command(root, "new", "churn", "--data", "customers.csv", "--target", "churned")
    assert done.returncode == 0, done.stderr
    declaration = root / "ml_assets" / "defs" / "churn" / "defs.yaml"
    declaration.write_text(f"{declaration.read_text().rstrip()}\n  search: {{trials: 0}}\n")
    return root


def bare_project(root: Path) -> Path:
    """Return a copy of the project without its example."""
    unwanted = shutil.ignore_patterns("__pycache__", "flights")
    shutil.copytree(REPOSITORY / "ml_assets", root / "ml_assets", ignore=unwanted)
    (root / "feature_repo").mkdir()
    shutil.copy(REPOSITORY / "feature_repo" / "feature_store.yaml", root / "feature_repo")
    for name in ("pyproject.toml", "dagster.yaml", "workspace.yaml"):
        shutil.copy(REPOSITORY / name, root / name)
    return root


def command(root: Path, *arguments: str, module: str = "ml_assets.cli") -> subprocess.CompletedProcess[str]:
    """Run `ml-assets` in the copy, or another module."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("DAGSTER", "ML_ASSETS"))}
    environ |= {"PYTHONPATH": str(root)}
    prepare(environ, root)
    whole = [sys.executable, "-m", module, *arguments]
    return subprocess.run(whole, cwd=root, env=environ, text=True, capture_output=True, timeout=250, check=False)


def test_a_problem_runs_from_its_file_to_its_report(project: Path) -> None:
    done = command(project, "run", "churn")
    print(done.stdout)
    assert done.returncode == 0, done.stderr
    assert "churn/evaluation_report" in done.stdout
    page = project / "data" / "reports" / "churn" / "evaluation_report.html"
    assert page.is_file() and str(page) in done.stdout


def test_a_problem_that_is_not_declared(project: Path) -> None:
    done = command(project, "run", "chrun")
    assert done.returncode == 1
    assert "ml-assets: problem 'chrun' is not declared; declared are churn" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_failing_run_names_step_and_cause(project: Path) -> None:
    declaration = project / "ml_assets" / "defs" / "churn" / "defs.yaml"
    good = declaration.read_text()
    assert "FROM clean_churn" in good
    declaration.write_text(good.replace("FROM clean_churn", "FROM clean_churn WHERE spent > 3"))
    try:
        done = command(project, "run", "churn")
    finally:
        declaration.write_text(good)
    assert done.returncode == 1
    assert "failed: step churn__observations: " in done.stderr and "spent" in done.stderr
    assert "Traceback" not in done.stderr


# -- many problems -----------------------------------------------------------------------------------------------------

FIFTY, LIMIT = 50, 5.0
LOAD = """
import json
import time
from ml_assets.definitions import defs
before = time.process_time()
graph = defs().resolve_asset_graph()
seconds = time.process_time() - before
import sys
heavy = [name for name in ("feast", "mlflow", "pandas", "polars", "sklearn", "xgboost") if name in sys.modules]
print(json.dumps({"seconds": seconds, "assets": len(graph.get_all_asset_keys()), "heavy": heavy}))
"""


def test_fifty_problems_load_in_seconds(tmp_path: Path) -> None:
    """Processor seconds, because other tests run beside this one: what a process pays before it does anything."""
    root = bare_project(tmp_path / "project")
    customers(100).write_csv(root / "customers.csv")
    targets = ("churned", "plan", "Umsatz €", None)
    for number in range(FIFTY):
        new(root, f"problem_{number}", data=str(root / "customers.csv"), target=targets[number % 4], now=NOW)
    (root / "load.py").write_text(LOAD)
    done = command(root, module="load")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    print(found)
    assert found["assets"] > 20 * FIFTY * 0.8
    assert found["seconds"] < LIMIT
    assert found["heavy"] == []
