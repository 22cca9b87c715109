"""The small training set as a fixture."""

from __future__ import annotations

import polars as pl
import pytest

from ml_assets.development.model_files import yielding_threads
from ml_assets_tests.development.samples import FEATURES, sample

# Before any test imports scikit-learn: threads that spin while they wait take the cores of the other tests.
yielding_threads()


@pytest.fixture(scope="session")
def training_set() -> pl.DataFrame:
    return sample("binary")


@pytest.fixture(scope="session")
def features() -> list[str]:
    return list(FEATURES)
