"""Partitions are whole or invisible, versions are meanings, and what is red stays unread."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any
from uuid import uuid4

import polars as pl
import pytest
from hypothesis import given, settings
from polars.testing import assert_frame_equal

from ml_assets.lake import Lake, Manifest, MissingPartitionError, RedPartitionError, content_hash
from ml_assets_tests.lake.frames import frames

NOW = datetime(2013, 1, 2, tzinfo=UTC)
ONE, TWO = pl.DataFrame({"a": [1, 2]}), pl.DataFrame({"a": [3]})
RED = {"suite": "raw/t", "success": False, "reason": "a: 2 of 2 values are negative"}
GREEN = {"suite": "raw/t", "success": True, "reason": ""}
TABLE = "raw/t"


@pytest.fixture(params=["folder", "memory URL"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    """An empty lake."""
    return Lake(str(tmp_path / "lake") if request.param == "folder" else f"memory://{uuid4().hex}/lake")


def write(lake: Lake, frame: pl.DataFrame = ONE, partition: str | None = "2013-01-01", **how: Any) -> Manifest:
    return lake.write(TABLE, frame, partition=partition, **({"written_at": NOW} | how))


@settings(max_examples=25)
@given(frame=frames())
def test_what_was_written_is_read(tmp_path_factory: pytest.TempPathFactory, frame: pl.DataFrame) -> None:
    lake = Lake(str(tmp_path_factory.mktemp("lake")))
    manifest = write(lake, frame)
    assert_frame_equal(lake.read(TABLE), frame)
    assert (manifest.rows, manifest.version) == (frame.height, content_hash(frame))
    assert list(manifest.schema) == frame.columns
    assert lake.manifest(TABLE, "2013-01-01") == manifest


def test_partitions_come_back_in_order_with_their_names(lake: Lake) -> None:
    write(lake, TWO, "2013-01-02")
    write(lake, ONE, "2013-01-01")
    assert lake.partitions(TABLE) == ["2013-01-01", "2013-01-02"]
    assert lake.read(TABLE)["a"].to_list() == [1, 2, 3]
    assert lake.read(TABLE, ["2013-01-02", "2013-01-09"])["a"].to_list() == [3]
    days = lake.read(TABLE, partition_column="day")["day"]
    assert days.to_list() == ["2013-01-01", "2013-01-01", "2013-01-02"]
    assert lake.tables() == [TABLE]


def test_a_table_without_partitions(lake: Lake) -> None:
    manifest = write(lake, ONE, None)
    assert lake.partitions(TABLE) == []
    assert list(lake.manifests(TABLE)) == ["_"]
    assert lake.manifest(TABLE) == manifest
    assert lake.read(TABLE, partition_column="day")["day"].to_list() == ["_", "_"]


def test_writing_the_same_again_changes_nothing(lake: Lake) -> None:
    first = write(lake, verdicts=[GREEN])
    again = write(lake, ONE.clone(), verdicts=[GREEN], written_at=NOW + timedelta(days=1))
    assert again == first
    assert write(lake, verdicts=[RED]) != first  # the verdict is part of what is written


def test_the_same_rows_of_other_origin_keep_their_file_and_time(lake: Lake) -> None:
    first = write(lake, verdicts=[GREEN], inputs={"landing/f": "1"}, code_version="a")
    again = write(lake, verdicts=[GREEN], inputs={"landing/f": "2"}, code_version="b", written_at=NOW + timedelta(1))
    assert (again.inputs, again.code_version) == ({"landing/f": "2"}, "b")
    assert (again.version, again.files, again.written_at) == (first.version, first.files, first.written_at)
    assert lake.manifest(TABLE, "2013-01-01") == again


def test_each_partition_has_inputs_of_its_own(lake: Lake) -> None:
    frame = pl.DataFrame({"a": [1, 2], "day": ["2013-01-01", "2013-01-02"]})
    lake.write_partitions(TABLE, frame, by="day", written_at=NOW, inputs=lambda day: {f"landing/{day}": "1"})
    inputs = {day: manifest.inputs for day, manifest in lake.manifests(TABLE).items()}
    assert inputs == {day: {f"landing/{day}": "1"} for day in ("2013-01-01", "2013-01-02")}


def test_a_new_version_replaces_the_old_which_stays_for_those_who_hold_it(lake: Lake) -> None:
    old, new = write(lake, ONE), write(lake, TWO)
    assert lake.read(TABLE)["a"].to_list() == [3]
    assert lake.scan_version(TABLE, old.version, "2013-01-01").collect().equals(ONE)
    assert lake.scan_version(TABLE, new.version, "2013-01-01").collect().equals(TWO)
    with pytest.raises(MissingPartitionError, match="no version"):
        lake.scan_version(TABLE, "0" * 64, "2013-01-01")


def test_the_version_of_a_table_is_that_of_its_partitions(lake: Lake) -> None:
    write(lake, ONE, "2013-01-01")
    first = lake.version(TABLE)
    write(lake, TWO, "2013-01-02")
    both = lake.version(TABLE)
    assert lake.version(TABLE, ["2013-01-01"]) == first != both
    write(lake, TWO, "2013-01-01")
    write(lake, ONE, "2013-01-02")
    assert lake.version(TABLE) != both  # the same rows in other partitions
    write(lake, ONE, "2013-01-01")
    write(lake, TWO, "2013-01-02")
    assert lake.version(TABLE) == both


def test_data_without_a_manifest_is_invisible(lake: Lake) -> None:
    name = f"{TABLE}/2013-01-03/0123.parquet"
    lake.store.write(name, b"half a file")
    lake.store.write("raw/u/_/0123.parquet", b"half a file")
    write(lake)
    assert lake.partitions(TABLE) == ["2013-01-01"]
    assert lake.manifest(TABLE, "2013-01-03") is None
    assert lake.read(TABLE).equals(ONE)
    assert len(lake.files(TABLE)) == 1
    assert lake.tables() == [TABLE]


def test_a_leftover_temporary_file_is_invisible(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    write(lake)
    (tmp_path / TABLE / "2013-01-01" / ".tmp-12").write_bytes(b"half a file")
    assert lake.read(TABLE).equals(ONE)


def test_a_crash_before_the_manifest_leaves_the_old_version(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    write(lake, ONE)
    written = lake.store.write

    def crash(name: str, data: bytes, **how: Any) -> None:
        if name.endswith("manifest.json"):
            raise OSError("killed")
        written(name, data, **how)

    monkeypatch.setattr(lake.store, "write", crash)
    with pytest.raises(OSError, match="killed"):
        write(lake, TWO)
    assert lake.read(TABLE).equals(ONE)
    monkeypatch.undo()
    write(lake, TWO)
    assert lake.read(TABLE).equals(TWO)


def test_lost_data_is_repaired_by_writing_it_again(lake: Lake) -> None:
    manifest = write(lake)
    lake.store.remove(f"{TABLE}/2013-01-01/{manifest.files[0].name}")
    write(lake)
    assert lake.read(TABLE).equals(ONE)


def test_readers_beside_a_writer_see_whole_versions(tmp_path: Path) -> None:
    lake, done = Lake(str(tmp_path)), Event()
    versions = [pl.DataFrame({"a": [turn] * (turn + 1)}) for turn in range(30)]
    write(lake, versions[0])

    def read() -> list[pl.DataFrame]:
        seen = []
        while not done.is_set():
            seen.append(Lake(str(tmp_path)).read(TABLE))
        return seen

    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(read)
        for version in versions:
            write(lake, version)
        done.set()
    assert all(seen.height == seen["a"][0] + 1 for seen in reader.result())


READERS: dict[str, Callable[..., Any]] = {"scan": Lake.scan, "files": Lake.files, "read": Lake.read}


@pytest.mark.parametrize("reader", READERS)
def test_a_red_partition_is_refused_in_every_later_run(lake: Lake, reader: str) -> None:
    write(lake, ONE, "2013-01-01", verdicts=[GREEN])
    write(lake, TWO, "2013-01-02", verdicts=[GREEN, RED])
    later = Lake(lake.url)
    with pytest.raises(RedPartitionError, match=r"raw/t/2013-01-02 is red: check 'raw/t'.*2 of 2 values are negative"):
        READERS[reader](later, TABLE)
    READERS[reader](later, TABLE, ["2013-01-01"])
    READERS[reader](later, TABLE, allow_red=True)
    write(lake, TWO, "2013-01-02", verdicts=[GREEN])
    READERS[reader](later, TABLE)


def test_a_red_table_is_named(lake: Lake) -> None:
    write(lake, ONE, None, verdicts=[{"suite": "s", "success": False}])
    with pytest.raises(RedPartitionError, match=r"^raw/t is red: check 's' failed \(no reason stored\)"):
        lake.scan(TABLE)


def test_what_was_never_written_is_named(lake: Lake) -> None:
    with pytest.raises(MissingPartitionError, match="table 'raw/t' has no data; materialize it first"):
        lake.scan(TABLE)
    write(lake)
    days = [f"2013-02-0{day}" for day in range(1, 6)]
    with pytest.raises(MissingPartitionError, match=r"in partitions 2013-02-01 … 2013-02-05 \(5\)"):
        lake.scan(TABLE, days)
    with pytest.raises(MissingPartitionError, match=r"in partitions \[\]"):
        lake.scan(TABLE, [])
    assert (lake.partitions("raw/none"), lake.manifests("raw/none"), lake.files("raw/none")) == ([], {}, [])


@pytest.mark.parametrize("partition", ["", "_", "a/b", "../a"])
def test_a_name_that_is_no_partition_is_refused(lake: Lake, partition: str) -> None:
    with pytest.raises(ValueError, match="cannot be a partition"):
        write(lake, ONE, partition)


@pytest.mark.parametrize("table", ["../t", "raw/../../t", "/t"])
def test_a_table_outside_the_lake_is_refused(lake: Lake, table: str) -> None:
    for use in (lake.scan, lake.partitions, lambda name: lake.write(name, ONE, written_at=NOW)):
        with pytest.raises(ValueError, match="leaves its folder"):
            use(table)


def test_many_partitions_at_once(lake: Lake) -> None:
    days = [f"2013-01-{day:02}" for day in range(1, 21)]
    frame = pl.DataFrame({"_day": [*days, *days], "a": range(40)})
    manifests = lake.write_partitions(TABLE, frame, by="_day", written_at=NOW, verdicts={days[3]: [RED]})
    assert list(manifests) == days == lake.partitions(TABLE)
    assert [manifest.partition for manifest in manifests.values() if manifest.red] == [days[3]]
    read = lake.read(TABLE, [days[0], days[1]], partition_column="_day")
    assert read.rows() == [(0, days[0]), (20, days[0]), (1, days[1]), (21, days[1])]


def test_a_column_that_came_later_is_null_before(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    write(lake, ONE.with_columns(b=pl.lit("x")), "2013-01-01")
    write(lake, TWO, "2013-01-02")
    assert lake.read(TABLE)["b"].to_list() == ["x", "x", None]


def test_a_path_tells_its_lake_and_table(lake: Lake) -> None:
    write(lake)
    lake.write("whole", ONE, written_at=NOW)
    for table in (TABLE, "raw/never", "whole", "p/candidates/x"):
        found = Lake.at_table_path(f"{lake.url}/{table}/")
        assert found is not None
        assert (found[0].url, found[1]) == (lake.url, table)


def test_a_path_without_a_lake_is_none(tmp_path: Path) -> None:
    assert Lake.at_table_path(str(tmp_path / "features" / "x")) is None
    assert Lake.at_table_path("x") is None
