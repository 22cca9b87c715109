"""The benches of drift: they run on little data, and another distance, verdict or index is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.drift import MOVED, same_distances, same_indices
from ml_assets_tests.benchmarks.small import small


def test_another_distance_column_or_verdict_is_a_difference() -> None:
    found = {"values": {"a": 0.5, "b": 0.01}, "drifted": sorted(MOVED)}
    assert same_distances(found, found, rel=1e-6).equal
    other = {"values": {"a": 0.55, "b": 0.02}, "drifted": sorted(MOVED)}
    assert same_distances(found, other, rel=0.03).equal is False and same_distances(found, other, rel=0.15).equal
    for wrong in ({"a": 0.5}, {"a": 0.5, "b": None}, {"a": 0.8, "b": 0.01}):
        assert same_distances(found | {"values": wrong}, found, rel=0.15).equal is False
    assert same_distances(found | {"drifted": ["a"]}, found, rel=0.15).equal is False


def test_another_index_or_window_is_a_difference() -> None:
    found = {"2013-01-01": {"a": 0.5, "b": 0.01}}
    assert same_indices(found, found).equal
    for wrong in ({}, {"2013-01-01": {"a": 0.5}}, {"2013-01-01": {"a": 0.5, "b": 0.02}}, found | {"2013-01-08": {}}):
        assert same_indices(wrong, found).equal is False


@pytest.mark.slow
@pytest.mark.parametrize("name", ["drift", "drift_profiles", "drift_report"])
def test_a_small_bench_runs(tmp_path: Path, name: str) -> None:
    assert small(name, tmp_path)["equal"]
