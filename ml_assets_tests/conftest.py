"""What every test finds: no telemetry, no setting of this machine, and the same random numbers each time."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from ml_assets.resources.process import prepare

# Nothing of a person's own environment reaches a test: not their instance, not their lake. A bucket for tests is meant to.
for _name in [name for name in os.environ if name.startswith(("ML_ASSETS_", "DAGSTER_"))]:
    if _name != "ML_ASSETS_TEST_BUCKET":
        del os.environ[_name]
os.environ |= {
    "ML_ASSETS_WEATHER_API": "none",
    "ML_ASSETS_REFERENCE_DB": "none",
}  # files only, unless a test serves them
prepare(os.environ, Path(__file__).parents[1])
del os.environ["DAGSTER_HOME"]  # a test that needs an instance makes its own

settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="module")
def collected() -> Iterator[None]:
    """Collect what a module's clients left to the collector, so that no later test is blamed for their open sockets."""
    yield
    gc.collect()


# Longest first, so that workers who share the files end together.
LONGEST = (
    "e2e/test_six_weeks.py",
    "packaging/test_image_built.py",
    "benchmarks/test_main.py",
    "features/test_feast_commands.py",
    "versions/test_rebuild.py",
    "benchmarks/test_own_data.py",
    "resources/test_own_data.py",
    "packaging/test_assets.py",
    "features/test_differential.py",
    "features/test_sharding.py",
)
_RANK = {str(Path(__file__).parent / name): rank for rank, name in enumerate(LONGEST)}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest before the others, which stay in their order."""
    items.sort(key=lambda item: _RANK.get(str(item.path), len(_RANK)))


def pytest_collection_finish() -> None:
    """Leave what was imported out of the collector's rounds, which cost a tenth of the time otherwise."""
    gc.collect()
    gc.freeze()
