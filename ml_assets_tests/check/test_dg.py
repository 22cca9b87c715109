"""Dagster's own `dg` commands work in the repository: they list, scaffold and check the components."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ml_assets
from ml_assets.check import check

ROOT = Path(ml_assets.__file__).parents[1]
pytestmark = pytest.mark.slow  # each command is a process that imports Dagster
COMPONENTS = ("Source", "FeatureViews", "MlProblem")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository, as a person would clone it."""
    root = tmp_path_factory.mktemp("repository")
    for folder in ("ml_assets", "feature_repo"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", root)
    return root


def dg(root: Path, *arguments: str, status: int = 0) -> str:
    """Run `dg` there, with the package of that folder, and return what it prints."""
    # what would be looked at from outside: no instance, no lake, no warnings of other packages
    environ = {**os.environ, "PYTHONPATH": str(root), "VIRTUAL_ENV": sys.prefix, "PYTHONWARNINGS": "ignore"}
    command = [str(Path(sys.executable).parent / "dg"), *arguments]
    done = subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_component_types_are_listed(repository: Path) -> None:
    listed = dg(repository, "list", "components", "--json")
    found = {item["key"]: item["summary"] for item in json.loads(listed[listed.index("{") :])["items"]}
    assert {f"ml_assets.{name}" for name in COMPONENTS} <= set(found)
    assert all(found[f"ml_assets.{name}"] for name in COMPONENTS)


@pytest.mark.filterwarnings("ignore")  # Feast's own, of its deprecations
def test_what_dg_scaffolds_has_no_fault(repository: Path) -> None:
    names = dict(zip(COMPONENTS, ("visits", "orders", "churn"), strict=True))
    for component, name in names.items():
        dg(repository, "scaffold", "defs", f"ml_assets.{component}", name)
        written = repository / "ml_assets" / "defs" / name / "defs.yaml"
        assert written.read_text().count("#") > 5, "an example is commented"
        assert check(repository, name).faults == []
    # folders, not files: of a file `dg check yaml` says that all is well, and looks at nothing
    dg(repository, "check", "yaml", *(str(repository / "ml_assets" / "defs" / name) for name in names.values()))
    assert (repository / "feature_repo" / "orders.py").is_file()


def test_a_name_that_is_none_is_refused_and_leaves_no_folder(repository: Path) -> None:
    told = dg(repository, "scaffold", "defs", "ml_assets.Source", "My-Orders", status=1)
    assert "Error: 'My-Orders' is not a name; use lower-case letters, digits and underscores" in told
    assert not (repository / "ml_assets" / "defs" / "My-Orders").exists()


def test_every_folder_of_the_repository_passes_dg_check_yaml(repository: Path) -> None:
    found = {
        path.parent: path.read_text()
        for path in sorted((repository / "ml_assets" / "defs" / "flights").rglob("defs.yaml"))
    }
    problems = [str(folder) for folder, text in found.items() if "ml_assets.MlProblem" in text]
    others = [str(folder) for folder in found if str(folder) not in problems]
    for folders in ([*others, problems[0]], *([folder] for folder in problems[1:])):  # of each type it looks at one
        dg(repository, "check", "yaml", *folders)


def test_dg_check_yaml_finds_a_typo(repository: Path, tmp_path: Path) -> None:
    folder = repository / "ml_assets" / "defs" / "broken"
    folder.mkdir()
    broken = Path(__file__).parent / "declarations" / "broken" / "problem_typo_two_levels_down.yaml"
    shutil.copy(broken, folder / "defs.yaml")
    try:
        told = dg(repository, "check", "yaml", str(folder), status=1)
    finally:
        shutil.rmtree(folder)
    assert "windows_days" in told


def test_the_definitions_load_and_are_listed(repository: Path) -> None:
    dg(repository, "check", "defs")
    listed = dg(repository, "list", "defs", "--json")
    found = json.loads(listed[listed.index("{") :])
    assert {"raw/flights", "flight_delay/training_set"} <= {asset["asset_key"] for asset in found["assets"]}
