"""The benches of ingest compare what they say, and a difference or a lost row is noticed."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from benchmarks.ingest import same_tables
from benchmarks.ingest_memory import Size, all_rows, collected, rows
from benchmarks.quality_pass import ours, same_judgements, suite, table
from ml_assets_tests.benchmarks.small import small

ROOT = Path(__file__).parents[2]


def test_equal_tables_are_equal_and_each_is_told() -> None:
    frames = [pl.DataFrame({"a": [1, None]}), pl.DataFrame({"b": ["x"]})]
    found = same_tables(frames, frames)
    assert found.equal
    assert found.reason == "2 rows × 1 columns are equal; 1 rows × 1 columns are equal"


def test_one_other_value_in_one_table_is_a_difference() -> None:
    same, other = pl.DataFrame({"a": [1, 2]}), pl.DataFrame({"a": [1, 3]})
    assert same_tables([same, same], [same, other]).equal is False


def test_readings_are_seeded_and_differ_from_day_to_day() -> None:
    first, next_ = rows(date(2013, 1, 1), 5), rows(date(2013, 1, 2), 5)
    assert first.equals(rows(date(2013, 1, 1), 5))
    assert first["day"].unique().to_list() == [date(2013, 1, 1)]
    assert not first.drop("day").equals(next_.drop("day"))


def test_a_process_of_its_own_collects_all_rows_and_tells_its_memory(tmp_path: Path) -> None:
    found = collected(Size(files=3, rows_a_file=20), tmp_path)
    assert found.result == {"rows": 60, "delivered": 60}
    assert 0.05 < found.details["peak_gb"] < 1
    assert not (tmp_path / "lake").exists()


@pytest.mark.parametrize("lost", ["ours", "theirs"])
def test_lost_rows_are_a_difference(lost: str) -> None:
    whole, short = {"rows": 60, "delivered": 60}, {"rows": 59, "delivered": 60}
    found = all_rows(short if lost == "ours" else whole, short if lost == "theirs" else whole)
    assert found.equal is False
    assert "59 of 60" in found.reason
    assert all_rows(whole, whole).equal


def test_the_suite_has_sixty_expectations_that_differ_in_type_or_column() -> None:
    wanted = list(suite())
    assert len(wanted) == len({(one.type, one.column) for one in wanted}) == 60


def test_the_table_is_seeded_and_the_suite_finds_good_and_bad_in_it() -> None:
    assert table(50).equals(table(50))
    assert table(50).width == 20
    assert {success for _, success, _ in ours(table(500), suite())} == {True, False}


@pytest.mark.parametrize("other", [("a", False, 1), ("a", True, 2), ("a", True, None)])
def test_another_verdict_or_count_is_a_difference(other: tuple[str, bool, int | None]) -> None:
    assert same_judgements([("a", True, 1)], [other]).equal is False


def test_equal_judgements_are_equal_where_we_count_nothing() -> None:
    found = same_judgements([("a", True, 1), ("b", False, None)], [("a", True, 1), ("b", False, 3)])
    assert found.equal
    assert found.reason == "2 verdicts are equal (1 failed), 1 of them with equal counts"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "compared"),
    [
        ("ingest", "15 columns are equal"),
        ("ingest_memory", "all 300,000 and 10,000 rows"),
        ("quality_pass", "60 verdicts are equal"),
    ],
)
def test_a_bench_of_ingest_works_on_small_data_with_equal_results(name: str, compared: str, tmp_path: Path) -> None:
    assert compared in small(name, tmp_path)["compared"]
