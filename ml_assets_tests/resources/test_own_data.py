"""From a file to an evaluation report by two commands, in a copy of the project that has no other problem."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ml_assets.resources.process import prepare
from ml_assets_tests.scaffold.world import customers

REPOSITORY = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project without its example, with the problem `churn` over a file."""
    root = tmp_path_factory.mktemp("own") / "project"
    flights = REPOSITORY / "ml_assets" / "defs" / "flights"
    unwanted = shutil.ignore_patterns("__pycache__")
    shutil.copytree(
        REPOSITORY / "ml_assets",
        root / "ml_assets",
        ignore=lambda folder, names: {
            *unwanted(folder, names),
            *(["flights"] if folder == str(flights.parent) else []),
        },
    )
    (root / "feature_repo").mkdir()
    shutil.copy(REPOSITORY / "feature_repo" / "feature_store.yaml", root / "feature_repo")
    for name in ("pyproject.toml", "dagster.yaml", "workspace.yaml"):
        shutil.copy(REPOSITORY / name, root / name)
    customers(400).write_csv(root / "customers.csv")
    done = command(root, "new", "churn", "--data", "customers.csv", "--target", "churned")
    assert done.returncode == 0, done.stderr
    declaration = root / "ml_assets" / "defs" / "churn" / "defs.yaml"
    declaration.write_text(f"{declaration.read_text().rstrip()}\n  search: {{trials: 0}}\n")
    return root


def command(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `ml-assets` in the copy."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("DAGSTER", "ML_ASSETS"))}
    environ |= {"PYTHONPATH": str(root)}
    prepare(environ, root)
    whole = [sys.executable, "-m", "ml_assets.cli", *arguments]
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
