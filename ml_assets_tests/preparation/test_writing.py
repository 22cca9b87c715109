"""A table is written with its verdict, day by day; what is red is there to be looked at, and refused to readers."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from ml_assets.lake import Lake, RedPartitionError
from ml_assets.preparation.writing import PARTITION, Written, empty, write_checked
from ml_assets.quality import Expectation, Result, Suite, Verdict, suite_for

NOW = datetime(2013, 2, 1, tzinfo=UTC)
DAYS = ["2013-01-01", "2013-01-02", "2013-01-03"]
SUITE = Suite("clean/t", (Expectation("expect_column_values_to_be_between", {"column": "a", "min_value": 0}),))
TABLE = "clean/t"


def rows(**values: list[int]) -> pl.DataFrame:
    """Values by day, `_1` for the first of January."""
    days = [(f"2013-01-0{name[-1]}", value) for name, found in values.items() for value in found]
    return pl.DataFrame(days, schema={PARTITION: pl.String, "a": pl.Int64}, orient="row")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path))


def write(lake: Lake, frame: pl.DataFrame, days: list[str] | None = DAYS, **how: object) -> Written:
    return write_checked(lake, TABLE, frame, SUITE, now=NOW, partitions=days, **how)  # type: ignore[arg-type]


def test_each_day_is_written_with_its_own_verdict(lake: Lake) -> None:
    written = write(lake, rows(_1=[1, 2], _2=[-1], _3=[3]), inputs={"raw/t": "v1"}, code_version="c0de")
    assert not written.verdict.success
    assert "2013-01-02" in written.verdict.reason()
    assert list(written.manifests) == DAYS
    assert [bool(manifest.red) for manifest in written.manifests.values()] == [False, True, False]
    first = written.manifests[DAYS[0]]
    assert (first.rows, first.inputs, first.code_version, list(first.schema)) == (2, {"raw/t": "v1"}, "c0de", ["a"])
    assert first.verdicts[0]["suite"] == "clean/t"


def test_a_red_day_is_kept_and_refused_to_readers(lake: Lake) -> None:
    write(lake, rows(_1=[1], _2=[-1]))
    later = Lake(lake.url)
    with pytest.raises(RedPartitionError, match=r"clean/t/2013-01-02 is red: check 'clean/t'"):
        later.read(TABLE)
    assert later.read(TABLE, [DAYS[0]])["a"].to_list() == [1]
    assert later.read(TABLE, allow_red=True)["a"].to_list() == [1, -1]


def test_a_repaired_day_is_green_again(lake: Lake) -> None:
    write(lake, rows(_1=[-1]))
    assert write(lake, rows(_1=[1])).verdict.success
    assert lake.read(TABLE)["a"].to_list() == [1]


def test_only_the_wanted_days_are_judged_and_written(lake: Lake) -> None:
    write(lake, rows(_1=[7]))
    written = write(lake, rows(_1=[-1], _2=[2], _3=[-3]), [DAYS[1]])
    assert written.verdict.success
    assert list(written.manifests) == [DAYS[1]]
    assert lake.read(TABLE)["a"].to_list() == [7, 2]


def test_nothing_at_all_is_red_and_nothing_is_written(lake: Lake) -> None:
    written = write(lake, rows())
    assert (written.verdict.success, written.manifests, lake.partitions(TABLE)) == (False, {}, [])


def test_a_day_that_never_had_rows_needs_none(lake: Lake) -> None:
    written = write(lake, rows(_1=[1]))
    assert written.verdict.success
    assert lake.partitions(TABLE) == [DAYS[0]]


def test_a_day_whose_rows_have_gone_does_not_keep_the_old_ones(lake: Lake) -> None:
    write(lake, rows(_1=[1], _2=[2]))
    written = write(lake, rows(_1=[1]))
    assert not written.verdict.success
    assert written.manifests[DAYS[1]].rows == 0
    with pytest.raises(RedPartitionError, match=r"2013-01-02 is red.*no rows"):
        lake.read(TABLE)


def test_rows_of_no_day_are_not_dropped_in_silence(lake: Lake) -> None:
    homeless = rows(_1=[1]).with_columns(pl.lit(None, pl.String).alias(PARTITION))
    written = write(lake, pl.concat([rows(_2=[2]), homeless]))
    assert not written.verdict.success
    assert "belong to no partition" in written.verdict.reason()
    assert lake.partitions(TABLE) == [DAYS[1]]


def test_a_table_without_days_is_one_partition(lake: Lake) -> None:
    written = write(lake, rows(_1=[1, 2]), None)
    assert (written.verdict.success, list(written.manifests)) == (True, ["_"])
    assert lake.read(TABLE).columns == ["a"]
    assert not write(lake, rows(_1=[-1]), None).verdict.success
    with pytest.raises(RedPartitionError, match="clean/t is red"):
        lake.read(TABLE)


def test_the_same_again_changes_nothing(lake: Lake) -> None:
    first = write(lake, rows(_1=[1], _2=[-2]))
    again = write_checked(lake, TABLE, rows(_1=[1], _2=[-2]), SUITE, now=NOW.replace(year=2014), partitions=DAYS)
    assert again == first


def schema(*, right: bool, rows: int) -> Verdict:
    names = Expectation("expect_table_columns_to_match_set", {"column_set": ["a"]})
    return Verdict("schema", right, rows, (Result(names, right, rows, note="" if right else "b is missing"),))


def test_a_verdict_on_the_whole_table_is_stored_with_each_day_and_refuses_each(lake: Lake) -> None:
    written = write(lake, rows(_1=[1, 2], _2=[3]), besides=[schema(right=False, rows=3)])
    assert written.verdict.success  # of the suite, as ever
    assert [[told["rows"] for told in item.verdicts] for item in written.manifests.values()] == [[2, 2], [1, 1]]
    for day in DAYS[:2]:
        with pytest.raises(RedPartitionError, match=rf"{day} is red: check 'schema' failed .*b is missing"):
            lake.read(TABLE, [day])
    assert write(lake, rows(_1=[1, 2]), besides=[schema(right=True, rows=2)]).manifests[DAYS[1]].rows == 0
    assert lake.read(TABLE, [DAYS[0]])["a"].to_list() == [1, 2]


def test_a_day_is_written_the_same_in_a_run_of_any_length(lake: Lake) -> None:
    together = write(lake, rows(_1=[1, 2], _2=[3]), besides=[schema(right=True, rows=3)])
    alone = write_checked(
        lake,
        TABLE,
        rows(_2=[3]),
        SUITE,
        now=NOW.replace(year=2014),
        partitions=[DAYS[1]],
        besides=[schema(right=True, rows=1)],
    )
    assert alone.manifests[DAYS[1]] == together.manifests[DAYS[1]]


def test_a_table_without_days_keeps_it_too(lake: Lake) -> None:
    write(lake, rows(_1=[1]), None, besides=[schema(right=False, rows=1)])
    with pytest.raises(RedPartitionError, match="schema"):
        lake.read(TABLE)


def test_a_day_may_lose_its_rows_where_none_are_no_fault(lake: Lake) -> None:
    suite = suite_for(TABLE, (), extra=SUITE)  # which asks for rows
    for may_be_empty in (False, True):
        write_checked(lake, TABLE, rows(_1=[1], _2=[2]), suite, now=NOW, partitions=DAYS)
        left = write_checked(lake, TABLE, rows(_2=[2]), suite, now=NOW, partitions=DAYS, may_be_empty=may_be_empty)
        assert left.verdict.success is may_be_empty
        assert {name: manifest.rows for name, manifest in left.manifests.items()} == {DAYS[0]: 0, DAYS[1]: 1}
    assert lake.read(TABLE)["a"].to_list() == [2]  # no reader refuses it


def test_emptying_touches_only_days_that_exist_and_keeps_their_columns(lake: Lake) -> None:
    write(lake, rows(_1=[1], _2=[-1]))
    assert list(empty(lake, TABLE, DAYS[1:], written_at=NOW)) == [DAYS[1]]
    assert lake.partitions(TABLE) == DAYS[:2]
    assert lake.read(TABLE, [DAYS[1]]).schema == {"a": pl.Int64}
    assert lake.read(TABLE)["a"].to_list() == [1]
