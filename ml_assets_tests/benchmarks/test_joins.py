"""The joins' processes tell time, memory and a right answer; other values and another order are noticed."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from benchmarks.joins import bare_join, joined, same_rows
from benchmarks.processes import python
from benchmarks.synthetic import CREATED_AFTER, PIECE, START, STEP, History

ROOT = Path(__file__).parents[2]
MEASURE = """
from benchmarks.arms.memory import Memory
before = bytearray(300_000_000)
del before
memory = Memory()
during = bytearray(100_000_000)
del during
told = memory.told()
print(told["added_mb"], told["peak_mb"])
"""
BOUND = """
from benchmarks.arms.memory import bound
bound(1.0)
try:
    bytearray(2_000_000_000)
except MemoryError:
    print("refused")
"""


def write(tmp_path: Path, name: str, **columns: list[object]) -> Path:
    path = tmp_path / f"{name}.parquet"
    pl.DataFrame(columns).write_parquet(path)
    return path


def test_memory_counts_what_was_taken_meanwhile_even_if_it_was_given_back(tmp_path: Path) -> None:
    added, peak = map(float, python(["-c", MEASURE], root=ROOT, log=tmp_path / "log").output.split())
    assert 95 < added < 130
    assert 300 < peak < 400


def test_a_bound_process_is_refused_more_memory(tmp_path: Path) -> None:
    assert python(["-c", BOUND], root=ROOT, log=tmp_path / "log").output == "refused\n"


def test_a_bare_join_in_a_process_of_its_own_answers_in_order(tmp_path: Path) -> None:
    history = History(entities=3, per_entity=4, width=2)
    rows, asking = history.file(tmp_path), history.asking(tmp_path, 20)
    found = joined(bare_join(history, rows, asking), tmp_path / "bare" / "told.json")
    answer, asked = pl.read_parquet(found.result), pl.read_parquet(asking)
    assert answer.columns == ["row", "x0", "x1"]
    assert answer["row"].to_list() == list(range(20))
    stored = pl.read_parquet(rows)
    for row, entity, moment in asked.iter_rows():
        known = stored.filter(pl.col("entity") == entity, pl.col("event_timestamp") <= moment).sort("event_timestamp")
        expected = known.tail(1).select("x0", "x1").rows() or [(None, None)]
        assert answer.select("x0", "x1").row(row) == expected[0]
    assert {"added_mb", "peak_mb", "peak_gb", "process"} == set(found.details)


def test_equal_rows_are_equal_whatever_order_the_other_arm_returns(tmp_path: Path) -> None:
    ours, theirs = write(tmp_path, "a", row=[0, 1], x=[0.5, None]), write(tmp_path, "b", row=[1, 0], x=[None, 0.5])
    assert same_rows(ours, theirs).equal


def test_our_rows_in_another_order_are_a_difference(tmp_path: Path) -> None:
    ours, theirs = write(tmp_path, "a", row=[1, 0], x=[None, 0.5]), write(tmp_path, "b", row=[0, 1], x=[0.5, None])
    found = same_rows(ours, theirs)
    assert found.equal is False and "order" in found.reason


@pytest.mark.parametrize("other", [0.6, None])
def test_another_value_is_a_difference(other: float | None, tmp_path: Path) -> None:
    ours, theirs = write(tmp_path, "a", row=[0, 1], x=[0.5, 0.25]), write(tmp_path, "b", row=[0, 1], x=[other, 0.25])
    assert same_rows(ours, theirs).equal is False


def test_histories_are_seeded_and_have_one_row_per_entity_and_hour() -> None:
    history = History(entities=5, per_entity=7)
    rows = pl.concat(history.pieces())
    assert rows.equals(pl.concat(history.pieces()))
    assert not rows.equals(pl.concat(History(5, 7, seed=8).pieces()))
    hour = pl.col("event_timestamp").dt.truncate(STEP)
    assert rows.select("entity", hour).unique().height == history.rows == 35
    assert rows.filter(pl.col("created_timestamp") != pl.col("event_timestamp") + CREATED_AFTER).is_empty()
    assert not rows["event_timestamp"].is_sorted()


def test_long_histories_come_in_pieces_that_continue_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.synthetic.PIECE", 20)
    history = History(entities=8, per_entity=5)
    pieces = list(history.pieces())
    assert [piece.height for piece in pieces] == [16, 16, 8]
    assert pl.concat(pieces).group_by("entity").len()["len"].to_list() == [5] * 8
    assert PIECE == 1_000_000


def test_entity_rows_are_numbered_and_some_find_nothing(tmp_path: Path) -> None:
    asked = pl.read_parquet(History(entities=3, per_entity=10).asking(tmp_path, 500))
    assert asked["row"].to_list() == list(range(500))
    assert 0 < asked.filter(pl.col("event_timestamp") < START).height < 100
    assert not asked["event_timestamp"].is_sorted()
