"""The bench of batch scoring: both arms say the same, their memory is told, and another score is noticed."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from benchmarks.arms.batch_scoring import digest
from benchmarks.batch_scoring import same_scores
from benchmarks.scored import FEATURES, rows
from ml_assets_tests.benchmarks.small import small


def test_observations_are_seeded_and_differ_from_day_to_day() -> None:
    first, other = rows(50), rows(50, day=1)
    assert first.equals(rows(50)) and not first.drop("row").equals(other.drop("row"))
    assert set(FEATURES) < set(first.columns) and first["row"].n_unique() == 50
    assert not set(first["row"]) & set(other["row"])


def test_another_score_or_order_is_a_difference(tmp_path: Path) -> None:
    frame = pl.DataFrame({"row": [1, 2], "score": [0.1, 0.2], "prediction": [0, 1]})
    for name, other in {"a": frame, "b": frame, "c": frame.reverse(), "d": frame.with_columns(score=0.1)}.items():
        other.write_parquet(tmp_path / name)
    found = {name: dict(zip(("rows", "sha256"), digest([tmp_path / name]), strict=True)) for name in "abcd"}
    assert same_scores(found["a"], found["b"]).equal
    assert "2 rows" in same_scores(found["a"], found["b"]).reason
    assert [same_scores(found["a"], found[name]).equal for name in "cd"] == [False, False]


@pytest.mark.slow
def test_a_small_bench_runs_and_its_memory_does_not_grow_with_the_days(tmp_path: Path) -> None:
    assert small("batch_scoring", tmp_path)["details"]["score_table"]["growth"] < 1.3
