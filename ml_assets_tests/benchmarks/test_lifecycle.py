"""The plain script agrees with the components on what is declared, and a different outcome is noticed."""

from __future__ import annotations

from dataclasses import fields
from datetime import date
from pathlib import Path

import pytest

from benchmarks.definitions import found_assets
from benchmarks.lifecycle import same_outcome
from benchmarks.plain_lifecycle import Declared, contract_of
from benchmarks.project import DECLARATION, NINE_WEEKS, SPLIT, YEAR, Extent, declare, fresh, kept
from benchmarks.step_overhead import same_events
from ml_assets.preparation.splits import split_windows

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def declared() -> Declared:
    return Declared.read(ROOT)


def test_the_script_reads_the_contracts_that_the_component_makes(declared: Declared) -> None:
    from ml_assets.source import Source

    for source in declared.sources:
        ours, theirs = contract_of(source), Source.resolve_from_dict(dict(source)).contract()
        assert list(ours.columns) == list(theirs.columns)
        for name in ("name", "pattern", "separator", "days"):
            assert getattr(ours, name) == getattr(theirs, name), name
        for name in ("key", "null_values", "day_columns"):
            assert list(getattr(ours, name)) == list(getattr(theirs, name)), name


def test_the_script_knows_the_problem(declared: Declared) -> None:
    assert declared.name == "flight_delay"
    assert declared.metric.name == "roc_auc"
    assert set(declared.view_tables) <= {f"features/{view['name']}" for view in declared.views}
    columns = ["flight_id", "carrier", "tailnum", "temp", "event_timestamp", "label", "label_timestamp", "split"]
    assert declared.features(columns) == ["carrier", "temp"]


def test_the_script_plans_as_the_components_do(declared: Declared) -> None:
    from ml_assets.development.assets import plan_of
    from ml_assets.problem import MlProblem

    problem = MlProblem.resolve_from_dict(dict(declared.problem))
    columns = ["flight_id", "carrier", "tailnum", "temp", "event_timestamp", "label", "label_timestamp", "split"]
    ours, theirs = declared.plan(columns), plan_of(problem, columns)
    for name in (known.name for known in fields(theirs)):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert declared.candidates == list(problem.kinds)


def test_a_copy_of_the_project_has_the_problem_of_the_script_only(tmp_path: Path) -> None:
    (tmp_path / "landing").mkdir()
    copy = fresh(tmp_path / "copy", NINE_WEEKS, landing=tmp_path / "landing")
    found = [
        path.parent.name for path in copy.glob("ml_assets/defs/flights/*/defs.yaml") if "MlProblem" in path.read_text()
    ]
    assert found == ["delay"]
    assert NINE_WEEKS.split in (copy / DECLARATION).read_text()


@pytest.mark.parametrize("extent", [YEAR, NINE_WEEKS])
def test_the_declared_split_fits_the_days(extent: Extent, tmp_path: Path) -> None:
    path = tmp_path / "defs.yaml"
    path.write_text((ROOT / DECLARATION).read_text())
    declare(path, extent.split)
    lengths = dict(item.split(": ") for item in extent.split.removeprefix("split: ").strip("{}").split(", "))
    windows = split_windows(as_known_at=extent.now, **lengths)
    assert windows.train_start.date() >= date(2013, 1, 1)
    assert windows.test_start.date() < extent.last <= windows.end.date()


def test_a_declaration_of_another_split_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "defs.yaml"
    path.write_text(SPLIT.replace("8mo", "9mo"))
    with pytest.raises(ValueError, match="does not declare"):
        declare(path, SPLIT)


def test_what_is_kept_is_made_once_for_each_state_and_never_half(tmp_path: Path) -> None:
    made: list[str] = []

    def make(folder: Path) -> None:
        folder.mkdir()
        made.append(folder.name)

    def fail(folder: Path) -> None:
        folder.mkdir()
        raise OSError("disk full")

    for state in ("1", "1", "2"):
        kept(tmp_path / "lake", make, state=state)
    assert len(made) == 2
    with pytest.raises(OSError, match="disk full"):
        kept(tmp_path / "lake", fail, state="3")
    kept(tmp_path / "lake", make, state="2")
    assert len(made) == 3


def test_equal_outcomes_are_equal() -> None:
    assert same_outcome({"a": 1, "champion": {"roc_auc": 0.7}}, {"champion": {"roc_auc": 0.7}, "a": 1}).equal


@pytest.mark.parametrize("theirs", [{"a": 1, "b": 3}, {"a": 1}, {"a": 1, "b": 2, "c": 1}])
def test_another_missing_or_further_outcome_is_named(theirs: dict[str, int]) -> None:
    found = same_outcome({"a": 1, "b": 2}, theirs)
    assert found.equal is False
    assert ("b: " in found.reason) or ("c: " in found.reason)


def test_other_events_are_a_difference() -> None:
    assert same_events(["START", "END"], ["START", "END"]).equal
    assert same_events(["START", "END"], ["END", "START"]).equal is False


@pytest.mark.parametrize("printed", ["0", "", "Traceback"])
def test_definitions_without_assets_are_no_result(printed: str) -> None:
    assert found_assets(printed, "1.13").equal is False


def test_definitions_and_an_import_are_not_comparable() -> None:
    assert found_assets("28", "1.13").equal is None
