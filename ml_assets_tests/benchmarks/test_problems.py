"""Problems that are multiplied are what `new` would have written, and a time that was reached by loading nothing is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.own_data import TARGET, TIME, frame
from benchmarks.problems import LEAST_ASSETS, NOW, ROWS, WRITTEN, more_assets, multiplied
from ml_assets.scaffold.command import new
from ml_assets_tests.scaffold.world import everything, repository


def test_a_multiplied_problem_is_byte_for_byte_what_new_writes(tmp_path: Path) -> None:
    root = multiplied(repository(tmp_path / "many"), 3, table=tmp_path / f"{WRITTEN}.csv")
    other = repository(tmp_path / "one")
    frame(ROWS).write_csv(tmp_path / "problem_02.csv")
    new(other, "problem_02", data=str(tmp_path / "problem_02.csv"), time=TIME, target=TARGET, now=NOW)
    found = {name: data for name, data in everything(root).items() if "problem_02" in name}
    assert found == {name: data for name, data in everything(other).items() if not name.startswith("data/")}
    assert len(found) == 4


def test_there_are_as_many_problems_as_asked_for(tmp_path: Path) -> None:
    root = multiplied(repository(tmp_path / "many"), 3, table=tmp_path / f"{WRITTEN}.csv")
    assert sorted(path.parent.name for path in root.rglob("defs.yaml")) == ["problem_00", "problem_01", "problem_02"]


@pytest.mark.parametrize(
    ("ours", "equal"), [(str(70 + 50 * LEAST_ASSETS), None), (str(69 + 50 * LEAST_ASSETS), False), ("", False)]
)
def test_problems_that_bring_no_assets_are_noticed(ours: str, equal: bool | None) -> None:
    assert more_assets(ours, "70", 50).equal is equal
