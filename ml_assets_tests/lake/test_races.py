"""Many write one partition at once: for each state exactly one wins, and readers see whole versions."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from threading import Barrier

import polars as pl
import pytest

from ml_assets.lake import Lake, Manifest, PreconditionFailed

NOW = datetime(2013, 1, 2, tzinfo=UTC)
TABLE, DAY = "raw/t", "2013-01-01"
WRITERS, TURNS = 3, 60


def whole(value: int) -> pl.DataFrame:
    """A frame in which a mixture with another one would show: its first value tells its height."""
    return pl.DataFrame({"a": [value] * (value % 50 + 1)})


def is_whole(frame: pl.DataFrame) -> bool:
    return frame["a"].n_unique() == 1 and frame.height == frame["a"][0] % 50 + 1


class Together(Lake):
    """A lake whose writers all have read what is there before one of them writes."""

    def meet(self, writers: int) -> None:
        self._ready = Barrier(writers)

    def _current(self, table: str, partition: str | None) -> tuple[Manifest | None, str | None]:
        found = super()._current(table, partition)
        self._ready.wait()
        return found


def write(lake: Lake, value: int) -> bool:
    """Write a frame; tell whether it was taken."""
    try:
        lake.write(TABLE, whole(value), partition=DAY, written_at=NOW)
    except PreconditionFailed:
        return False
    return True


def test_of_those_who_read_the_same_state_exactly_one_wins(tmp_path: Path) -> None:
    lake = Together(str(tmp_path))
    lake.meet(4)
    with ThreadPoolExecutor(4) as pool:
        for turn in range(10):
            values = range(turn * 4, turn * 4 + 4)
            won = pool.map(lambda value: write(lake, value), values)
            taken = [value for value, mine in zip(values, won, strict=True) if mine]
            assert len(taken) == 1
            assert lake.read(TABLE).equals(whole(taken[0]))


def test_those_who_write_the_same_all_succeed(tmp_path: Path) -> None:
    lake = Together(str(tmp_path))
    lake.meet(4)
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda _: write(lake, 7), range(4)))
    assert lake.read(TABLE).equals(whole(7))


def test_one_lost_partition_of_many_is_told(tmp_path: Path) -> None:
    class Overtaken(Lake):
        def _current(self, table: str, partition: str | None) -> tuple[Manifest | None, str | None]:
            found = super()._current(table, partition)
            if partition == DAY:
                write(Lake(self.url), 7)
            return found

    frame = pl.DataFrame({"a": [8, 9], "day": [DAY, "2013-01-02"]})
    with pytest.raises(PreconditionFailed, match="read it and decide again"):
        Overtaken(str(tmp_path)).write_partitions(TABLE, frame, by="day", written_at=NOW)
    assert Lake(str(tmp_path)).read(TABLE, [DAY]).equals(whole(7))


def race(url: str, first: int) -> list[int]:
    """Write many versions; return those that were taken. Runs in a process of its own."""
    lake = Lake(url)
    return [value for value in range(first, first + TURNS) if write(lake, value)]


def watch(url: str) -> int:
    """Read again and again; return how many reads were whole."""
    lake, seen = Lake(url), 0
    for _ in range(100):
        assert is_whole(lake.read(TABLE))
        seen += 1
    return seen


def test_processes_race_and_nothing_that_was_taken_is_lost(tmp_path: Path) -> None:
    """Each winner replaced one state, which was kept: so there are as many states as there were winners."""
    lake = Lake(str(tmp_path))
    write(lake, 1000)
    with multiprocessing.get_context("spawn").Pool(WRITERS + 1) as pool:
        readers = pool.apply_async(watch, (lake.url,))
        taken = sum(pool.starmap(race, [(lake.url, number * TURNS) for number in range(WRITERS)]), [1000])
        assert readers.get(60) == 100
    kept = [name for name in lake.store.names(f"{TABLE}/{DAY}") if name.endswith(".json")]
    assert len(kept) == len(taken)
    versions = [Manifest.from_json(lake.store.read(name)).version for name in kept]
    values = [lake.scan_version(TABLE, version, DAY).collect()["a"][0] for version in versions]
    assert sorted(values) == sorted(taken)
