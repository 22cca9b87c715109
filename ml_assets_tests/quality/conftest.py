"""Great Expectations itself, as the oracle."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ml_assets.quality import Expectation, Suite


@pytest.fixture(scope="session")
def oracle() -> Iterator[Callable[[dict[str, list[Any]], Expectation], dict[str, Any]]]:
    """A function that asks real Great Expectations, on pandas: column lists and an expectation in, its result out."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own deprecations, and those of the libraries it imports
        import great_expectations as gx
        import pandas as pd

        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False}
        batches = context.data_sources.add_pandas("frames").add_dataframe_asset("frame")
        definition = batches.add_batch_definition_whole_dataframe("whole")

    def ask(columns: dict[str, list[Any]], expectation: Expectation) -> dict[str, Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frame = pd.DataFrame(columns)
            real = Suite("oracle", (expectation,)).to_great_expectations().expectations[0]
            found = definition.get_batch({"dataframe": frame}).validate(real)
        assert not found.exception_info.get("raised_exception"), found.exception_info
        return {"success": found.success, **found.result}

    yield ask
