"""What every test finds: no telemetry, no setting of this machine, and the same random numbers each time."""

from __future__ import annotations

import os
from pathlib import Path

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
