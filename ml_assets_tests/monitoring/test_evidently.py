"""Evidently's drift report: made, self-contained, bounded, and not killed by awkward columns."""

from __future__ import annotations

import re

import numpy as np
import polars as pl
import pytest

from ml_assets.monitoring.drift import MonitoringError
from ml_assets.monitoring.evidently import drift_run

# Evidently 0.7 and what it imports warn about numpy and litestar at import time
pytestmark = pytest.mark.filterwarnings("ignore")


def window(rows: int, seed: int) -> pl.DataFrame:
    generator = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "delay": generator.normal(12, 30, rows),
            "gust": pl.Series([None, None, 1.0, 2.0, 3.0] * (rows // 5)),
            "carrier": generator.choice(["UA", "B6"], rows),
            "late": generator.random(rows) < 0.2,
            "infinite": np.where(generator.random(rows) < 0.1, np.inf, generator.random(rows)),
            "null": pl.Series([None] * rows, dtype=pl.Float64),
            "constant": [1.0] * rows,
            "retyped": ["a" if seed else 1] * rows,
        },
    )  # fmt: skip


REFERENCE, CURRENT = window(3000, 0), window(700, 1)


@pytest.fixture(scope="module")
def html() -> str:
    columns = [*REFERENCE.columns, "nowhere"]
    return drift_run(REFERENCE, CURRENT, columns=columns, summary=["DRIFT: 1 < 2"], sample_rows=1000).html


def test_the_page_is_self_contained_and_not_huge(html: str) -> None:
    assert re.findall(r"<(?:script|link|img)[^>]*\b(?:src|href)\s*=\s*[\"']?https?:", html) == []
    assert 1_000_000 < len(html) < 6_000_000


def test_the_page_says_what_it_was_made_from_and_what_was_left_out(html: str) -> None:
    for note in (
        "DRIFT: 1 &lt; 2",
        "reference: 1,000 of 3,000 rows",
        "current window: 700 of 700 rows",
        "left out: null (0 values in the reference)",
        "left out: constant (constant on both sides)",
        "left out: retyped (the type changed from Int64 to String)",
        "left out: nowhere (no such column in the reference)",
    ):
        assert note in html
    assert "left out: infinite" not in html


@pytest.mark.parametrize("rows", [0, 1])
def test_a_window_without_rows_is_a_small_page_that_says_so(rows: int) -> None:
    html = drift_run(REFERENCE, CURRENT[:rows], columns=["delay", "carrier"]).html
    assert len(html) < 5_000
    assert f"left out: delay ({rows} values in the current window)" in html
    assert "No column is left to compare." in html


def test_a_column_that_froze_is_shown() -> None:
    html = drift_run(REFERENCE, CURRENT.with_columns(pl.lit(3.0).alias("delay")), columns=["delay"]).html
    assert "left out" not in html


def test_no_columns_are_refused() -> None:
    with pytest.raises(MonitoringError, match="columns is empty"):
        drift_run(REFERENCE, CURRENT, columns=[])
