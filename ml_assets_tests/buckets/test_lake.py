"""Partitions in a bucket: whole or invisible, one winner of every race, and what was read stays what it was."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Barrier, Event
from typing import Any

import polars as pl
import pytest

from ml_assets.lake import Lake, Manifest, PreconditionFailed, RedPartitionError, Store
from ml_assets_tests.buckets.conftest import Bucket
from ml_assets_tests.fakes.gcs_server import Fault, GcsServer

NOW = datetime(2013, 1, 2, tzinfo=UTC)
DAY = "2013-01-01"
TABLE = "raw/t"
RED = {"suite": "raw/t", "success": False, "reason": "a: 2 of 2 values are negative"}


def opened(bucket: Bucket) -> Lake:
    """The lake in a bucket, as a new process has it."""
    return Lake(f"{bucket.url}/lake")


def rows(*values: int) -> pl.DataFrame:
    return pl.DataFrame({"a": values}, schema={"a": pl.Int64})


def write(lake: Lake, frame: pl.DataFrame, partition: str | None = DAY, **how: Any) -> Manifest:
    return lake.write(TABLE, frame, partition=partition, **({"written_at": NOW} | how))


def test_what_was_written_is_read(bucket: Bucket) -> None:
    lake = opened(bucket)
    assert (lake.tables(), lake.partitions(TABLE), lake.manifest(TABLE, DAY)) == ([], [], None)
    manifest = write(lake, rows(1, 2))
    write(lake, rows(3), "2013-01-02")
    again = opened(bucket)
    assert (again.tables(), again.partitions(TABLE)) == ([TABLE], [DAY, "2013-01-02"])
    assert again.read(TABLE)["a"].to_list() == [1, 2, 3]
    assert again.read(TABLE, partition_column="day")["day"].to_list() == [DAY, DAY, "2013-01-02"]
    assert again.manifest(TABLE, DAY) == write(again, rows(1, 2)) == manifest
    assert Lake.at_table_path(f"{lake.url}/{TABLE}") is not None


def test_versions_and_snapshots_stay(bucket: Bucket) -> None:
    lake = opened(bucket)
    first = write(lake, rows(1, 2))
    snapshot = lake.snapshot(TABLE)
    write(lake, rows(3))
    again = opened(bucket)
    assert again.read(TABLE)["a"].to_list() == [3]
    assert again.scan_version(TABLE, first.version, DAY).collect()["a"].to_list() == [1, 2]
    assert again.scan_snapshot(TABLE, snapshot).collect()["a"].to_list() == [1, 2]
    assert again.versions_in(snapshot) == {DAY: first.version}


def test_a_red_partition_is_refused(bucket: Bucket) -> None:
    write(opened(bucket), rows(1), verdicts=[RED])
    with pytest.raises(RedPartitionError, match="2 of 2 values are negative"):
        opened(bucket).read(TABLE)


def together(*works: Callable[[], Any]) -> list[Any]:
    """Do all at once, each in a thread; return what each returned, or how it lost the race."""
    ready = Barrier(len(works))

    def one(work: Callable[[], Any]) -> Any:
        ready.wait()
        try:
            return work()
        except PreconditionFailed as error:
            return error

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(one, works))


def test_of_two_writers_who_read_the_same_state_one_wins(exact: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both know the old manifest before either replaces it; the loser is told, and its data is not what readers see."""
    write(opened(exact), rows(0))
    both_read, stat = Barrier(2), Store.stat

    def slow(store: Store, name: str) -> Any:
        found = stat(store, name)
        if name.endswith(f"{DAY}/manifest.json"):
            both_read.wait(10)
        return found

    monkeypatch.setattr(Store, "stat", slow)
    ended = together(lambda: write(opened(exact), rows(1)), lambda: write(opened(exact), rows(2)))
    monkeypatch.undo()
    won = [number for number, end in enumerate(ended, start=1) if isinstance(end, Manifest)]
    assert len(won) == 1
    assert opened(exact).read(TABLE)["a"].to_list() == won
    assert opened(exact).manifest(TABLE, DAY) == ended[won[0] - 1]


def test_many_writers_of_a_new_partition(exact: Bucket) -> None:
    ended = together(*[lambda value=value: write(opened(exact), rows(value)) for value in range(4)])
    versions = {end.version for end in ended if isinstance(end, Manifest)}
    current = opened(exact).manifest(TABLE, DAY)
    assert current is not None
    assert current.version in versions
    assert opened(exact).read(TABLE).height == 1


def test_writers_of_the_same_rows_all_succeed(exact: Bucket) -> None:
    ended = together(*[lambda: write(opened(exact), rows(1)) for _ in range(3)])
    assert {end.version for end in ended if isinstance(end, Manifest)} == {ended[0].version}
    assert [end for end in ended if isinstance(end, PreconditionFailed)] == []


def test_a_reader_beside_a_writer_sees_the_old_or_the_new(exact: Bucket) -> None:
    """Two partitions of equal rows in one version: a mixture of two versions of a partition would show."""
    versions, done = [rows(*[turn] * (turn + 1)) for turn in range(12)], Event()
    write(opened(exact), versions[0])

    def read() -> list[pl.DataFrame]:
        seen = [opened(exact).read(TABLE)]
        while not done.is_set():
            seen.append(opened(exact).read(TABLE))
        return seen

    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(read)
        for version in versions:
            write(opened(exact), version)
        done.set()
    seen = reader.result()
    assert all(frame.height == frame["a"][0] + 1 and frame["a"].n_unique() == 1 for frame in seen)
    assert [frame.height for frame in seen] == sorted(frame.height for frame in seen)


# -- what a network does -----------------------------------------------------------------------------------------------


def test_lost_answers_are_read_back(strict: tuple[Bucket, GcsServer]) -> None:
    bucket, server = strict
    for turn in range(3):
        server.faults.append(Fault("lost", operation="insert", times=3))
        write(opened(bucket), rows(turn))
        assert server.faults.pop().times == 0
        assert opened(bucket).read(TABLE)["a"].to_list() == [turn]
    assert server.asked("delete") == []


@pytest.mark.parametrize("name", ["*.parquet", "*manifest.json", "*_lake.json"])
def test_a_write_that_breaks_off_leaves_the_old(strict: tuple[Bucket, GcsServer], name: str) -> None:
    bucket, server = strict
    if not name.endswith("_lake.json"):
        write(opened(bucket), rows(0))
    server.faults.append(Fault("503", operation="insert", name=name, times=1000))
    with pytest.raises(OSError, match="gs://"):
        write(opened(bucket), rows(1))
    server.faults.clear()
    assert opened(bucket).tables() == ([] if name.endswith("_lake.json") else [TABLE])
    if not name.endswith("_lake.json"):
        assert opened(bucket).read(TABLE)["a"].to_list() == [0]
    write(opened(bucket), rows(1))
    assert opened(bucket).read(TABLE)["a"].to_list() == [1]


@pytest.mark.parametrize("kind", ["flipped", "short", "truncated", "429", "503"])
def test_a_reader_gets_the_bytes_that_were_written(strict: tuple[Bucket, GcsServer], kind: Any) -> None:
    bucket, server = strict
    write(opened(bucket), rows(1, 2))
    server.faults = [Fault(kind, operation="download", name=name, times=2) for name in ("*.parquet", "*manifest.json")]
    assert opened(bucket).read(TABLE)["a"].to_list() == [1, 2]
    assert [fault.times for fault in server.faults] == [0, 0]


def test_bytes_that_changed_in_the_bucket_are_refused(exact: Bucket) -> None:
    lake = opened(exact)
    manifest = write(lake, rows(1, 2))
    name = f"{TABLE}/{DAY}/{manifest.files[0].name}"
    data = bytearray(lake.store.read(name))
    data[len(data) // 2] ^= 1
    lake.store.write(name, bytes(data))
    with pytest.raises(ValueError, match=manifest.files[0].name):
        opened(exact).read(TABLE)
    assert write(opened(exact), rows(1, 2)).version == manifest.version  # writing it again repairs it
    assert opened(exact).read(TABLE)["a"].to_list() == [1, 2]
