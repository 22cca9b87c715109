"""The bench of profiling: a small one runs, and another number in a profile is noticed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.profiling import same_numbers
from benchmarks.quality_pass import table
from ml_assets.monitoring.profiles import Profile, cuts_of, profile
from ml_assets_tests.benchmarks.small import small


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("number_0", {"mean": 0.5}),
        ("number_1", {"nulls": 3}),
        ("whole_0", {"counts": np.arange(12)}),
        ("text_1", {"counts": np.arange(5)}),
        ("moment_0", {"high": 1.0}),
    ],
)
def test_another_number_is_a_difference(column: str, change: dict[str, Any]) -> None:
    frame = table(1_000)
    cuts = cuts_of(frame, frame.columns)
    found = profile(frame, cuts=cuts)
    assert same_numbers(found, frame, cuts).equal
    wrong = Profile(found.rows, {**found.columns, column: replace(found.columns[column], **change)}, found.cuts)
    assert same_numbers(wrong, frame, cuts).equal is False
    assert column in same_numbers(wrong, frame, cuts).reason


def test_a_small_bench_runs(tmp_path: Path) -> None:
    assert set(small("profiling", tmp_path)["details"]["profile"]) == {"cpu"}
