"""The past is kept: versions that were superseded, and what a whole table was at one moment."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.lake import Lake, MissingPartitionError, RedPartitionError

NOW = datetime(2013, 1, 2, tzinfo=UTC)
TABLE = "raw/t"
DAYS = ["2013-01-01", "2013-01-02", "2013-01-03"]


@pytest.fixture(params=["folder", "memory URL"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    """An empty lake."""
    return Lake(str(tmp_path / "lake") if request.param == "folder" else f"memory://{uuid4().hex}/lake")


def frame(*values: int) -> pl.DataFrame:
    return pl.DataFrame({"a": list(values)}, schema={"a": pl.Int64})


def write(lake: Lake, day: str | None, *values: int, table: str = TABLE) -> str:
    return lake.write(table, frame(*values), partition=day, written_at=NOW).version


def data(day: str, version: str) -> str:
    return f"{TABLE}/{day}/{version[:20]}.parquet"


def test_a_snapshot_is_read_as_the_table_was(lake: Lake) -> None:
    versions = {DAYS[0]: write(lake, DAYS[0], 1, 2), DAYS[1]: write(lake, DAYS[1], 3)}
    then, days = lake.read(TABLE), lake.read(TABLE, partition_column="day")
    snapshot = lake.snapshot(TABLE)
    assert snapshot == lake.version(TABLE)
    write(lake, DAYS[0], 9)
    write(lake, DAYS[2], 8)
    assert lake.versions_in(snapshot) == versions
    assert lake.scan_snapshot(TABLE, snapshot).collect().equals(then)
    assert lake.scan_snapshot(TABLE, snapshot, partition_column="day").collect().equals(days)
    assert lake.read(TABLE)["a"].to_list() == [9, 3, 8]
    assert lake.tables() == [TABLE]


def test_some_partitions_and_whole_tables(lake: Lake) -> None:
    write(lake, DAYS[0], 1)
    second = write(lake, DAYS[1], 2)
    whole = write(lake, None, 3, table="raw/u")
    some, all_of_it = lake.snapshot(TABLE, [DAYS[1]]), lake.snapshot("raw/u")
    assert lake.versions_in(some) == {DAYS[1]: second}
    assert lake.versions_in(all_of_it) == {"_": whole}
    write(lake, None, 4, table="raw/u")
    assert lake.scan_snapshot("raw/u", all_of_it).collect()["a"].to_list() == [3]


def test_a_version_that_comes_again_keeps_its_file(lake: Lake) -> None:
    first = write(lake, DAYS[0], 1)
    write(lake, DAYS[0], 2)
    kept = lake.store.read(data(DAYS[0], first))
    assert write(lake, DAYS[0], 1) == first
    assert lake.store.read(data(DAYS[0], first)) == kept
    assert lake.read(TABLE)["a"].to_list() == [1]


def test_what_was_judged_since_does_not_hide_the_past(lake: Lake) -> None:
    write(lake, DAYS[0], 1)
    snapshot = lake.snapshot(TABLE)
    red = {"suite": "s", "success": False}
    lake.write(TABLE, frame(1), partition=DAYS[0], written_at=NOW, verdicts=[red])
    with pytest.raises(RedPartitionError):
        lake.scan(TABLE)
    assert lake.scan_snapshot(TABLE, snapshot).collect().equals(frame(1))


def test_what_is_not_there_is_named(lake: Lake) -> None:
    version = write(lake, DAYS[0], 1)
    snapshot, empty = lake.snapshot(TABLE), lake.snapshot("raw/never")
    with pytest.raises(MissingPartitionError, match="there is no snapshot 000000000000"):
        lake.versions_in("0" * 64)
    with pytest.raises(MissingPartitionError, match="has no data of 'raw/u', but of 'raw/t'"):
        lake.scan_snapshot("raw/u", snapshot)
    with pytest.raises(MissingPartitionError, match="has no data of 'raw/never'"):
        lake.scan_snapshot("raw/never", empty)
    write(lake, DAYS[0], 2)
    lake.store.remove(f"{TABLE}/{DAYS[0]}/{version[:20]}.parquet")
    with pytest.raises(MissingPartitionError, match="'raw/t/2013-01-01' has no version"):
        lake.scan_snapshot(TABLE, snapshot)


STEPS = st.one_of(
    st.tuples(st.sampled_from(DAYS), st.lists(st.integers(0, 2), max_size=2)),  # write a partition
    st.just("snapshot"),
    st.just("crash"),  # of a writer, between data and manifest
)


@settings(max_examples=40)
@given(steps=st.lists(STEPS, max_size=12))
def test_a_lake_is_a_dictionary_that_forgets_nothing(tmp_path_factory: pytest.TempPathFactory, steps: list) -> None:  # type: ignore[type-arg]
    lake = Lake(str(tmp_path_factory.mktemp("lake")))
    now: dict[str, pl.DataFrame] = {}
    ever: dict[tuple[str, str], pl.DataFrame] = {}
    snapshots: dict[str, dict[str, pl.DataFrame]] = {}
    for step in steps:
        if step == "snapshot":
            snapshots[lake.snapshot(TABLE)] = dict(now)
        elif step == "crash":
            lake.store.write(f"{TABLE}/{DAYS[0]}/{'0' * 20}.parquet", b"half a file")
        else:
            day, values = step
            ever[day, write(lake, day, *values)] = now[day] = frame(*values)
        assert lake.partitions(TABLE) == sorted(now)
        assert not now or lake.read(TABLE).equals(pl.concat(now[day] for day in sorted(now)))
    for (day, version), written in ever.items():
        assert lake.scan_version(TABLE, version, day).collect().equals(written)
    for name, then in snapshots.items():
        assert list(lake.versions_in(name)) == sorted(then)
        assert not then or lake.scan_snapshot(TABLE, name).collect().equals(
            pl.concat(then[day] for day in sorted(then))
        )
