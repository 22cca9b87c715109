"""The small training set as a fixture."""

from __future__ import annotations

import polars as pl
import pytest

from ml_assets_tests.development.samples import FEATURES, made


@pytest.fixture(scope="session")
def training_set() -> pl.DataFrame:
    return made(1_000)


@pytest.fixture(scope="session")
def features() -> list[str]:
    return list(FEATURES)
