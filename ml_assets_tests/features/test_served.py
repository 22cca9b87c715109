"""The log of served requests: what was answered is written in whole files, and trouble with it never reaches an answer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ml_assets.features import served as served_module
from ml_assets.features.day_files import DayFiles
from ml_assets.features.online.backends import open_backend
from ml_assets.features.online.reader import OnlineReader
from ml_assets.features.served import FOLDER, REQUEST, ServedLog, asked_types, served_rows, served_types
from ml_assets_tests.features.pushing import NOW, PLAIN, at, compiled, view

TIME = pl.Datetime("us", "UTC")


def rows(*hours: float, key: str = "p") -> pl.DataFrame:
    found = [(f"{key}{hour}", at(hour), key, float(hour)) for hour in hours]
    return pl.DataFrame(
        found, {REQUEST: pl.String, "event_timestamp": TIME, "k": pl.String, "x": pl.Float64}, orient="row"
    )


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder / FOLDER)) for path in folder.rglob("*.parquet"))


def test_what_was_recorded_is_written_by_day_and_read_back(tmp_path: Path) -> None:
    log = ServedLog(str(tmp_path), "service")
    assert (log.scan(), log.read(most=9), log.flush()) == (None, None, 0)
    for hour in (1, 25, 2):
        log.record(rows(hour))
    assert files(tmp_path) == []
    assert (log.flush(), log.flush()) == (3, 0)
    first, second = files(tmp_path)
    assert first.startswith("service/2013-01-01/20130101T020000000000-")
    assert second.startswith("service/2013-01-02/20130102T010000000000-")
    reader = ServedLog(str(tmp_path), "service")
    found = reader.read(most=9)
    assert found is not None
    assert found["x"].to_list() == [1.0, 2.0, 25.0]
    newest = reader.read(most=2)
    assert newest is not None
    assert newest["x"].to_list() == [2.0, 25.0]
    of_a_day = reader.scan(["2013-01-02"])
    assert of_a_day is not None
    assert of_a_day.collect()["x"].to_list() == [25.0]
    assert ServedLog(str(tmp_path), "other").scan() is None


def test_it_is_due_by_size_or_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(served_module.time, "monotonic", lambda: clock[0])
    log = ServedLog(str(tmp_path), "service", flush_rows=3, flush_seconds=10)
    assert not log.due()
    log.record(rows(1, 2))
    assert not log.due()
    clock[0] = 109.0
    log.record(rows(3))
    assert log.due()
    log.flush()
    clock[0] = 200.0
    assert not log.due()
    log.record(rows(4))
    assert not log.due()
    clock[0] = 210.0
    assert log.due()


def test_what_does_not_fit_is_counted(tmp_path: Path) -> None:
    log = ServedLog(str(tmp_path), "service", most_rows=3)
    log.record(rows(1, 2))
    log.record(rows(3, 4))
    log.record(rows(5))
    assert (log.waiting, log.dropped) == (3, 2)
    assert log.flush() == 3
    log.record(rows(6))
    assert (log.waiting, log.written) == (1, 3)


def test_a_failed_write_is_counted_and_tried_again_without_writing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = ServedLog(str(tmp_path), "service")
    written, times = DayFiles.write, []

    def shaky(self: DayFiles, day: str, *given: Any, **how: Any) -> bool:
        times.append(day)
        if len(times) in (1, 3):
            raise OSError("disk full")
        return written(self, day, *given, **how)

    monkeypatch.setattr(DayFiles, "write", shaky)
    log.record(rows(1, 25))
    for _ in range(2):  # the first day that is tried, then the other one
        with pytest.raises(OSError, match="disk full"):
            log.flush()
        log.record(rows(2, key="q"))
    assert (log.failed, log.written, log.waiting) == (2, 1, 3)
    log.flush()
    found = log.read(most=9)
    assert found is not None
    assert sorted(found["x"].to_list()) == [1.0, 2.0, 2.0, 25.0]
    assert (log.failed, log.written, log.waiting) == (2, 4, 0)


def test_many_threads_lose_no_row(tmp_path: Path) -> None:
    log = ServedLog(str(tmp_path), "service")

    def work(number: int) -> None:
        log.record(rows(number / 100))
        if number % 7 == 0:
            log.flush()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(100)))
    log.flush()
    found = log.read(most=1000)
    assert found is not None
    assert found["x"].to_list() == [number / 100 for number in range(100)]


def test_an_answer_becomes_a_row_for_each_entity(tmp_path: Path) -> None:
    other = view("w", {"k": "String"}, {"y": "Float32", "many": "Array(Int64)"}, ttl=timedelta(hours=1))
    repo = compiled(PLAIN, other)
    reader = OnlineReader(repo, open_backend(str(tmp_path / "online.db"), project="test"))
    answer = reader.answer("all", {"k": ["p", None]}, now=NOW)
    found = served_rows(answer, served_types(repo, "all"), request="r", now=NOW)
    assert asked_types(repo, "all") == {"k": "String"}
    assert found.schema == {
        REQUEST: pl.String,
        "event_timestamp": TIME,
        "k": pl.String,
        "x": pl.Float64,
        "n": pl.Int64,
        "y": pl.Float64,
        "many": pl.List(pl.Int64),
        "_event_v": TIME,
        "_event_w": TIME,
    }
    assert found.select(REQUEST, "event_timestamp", "k", "x").rows() == [("r", NOW, "p", None), ("r", NOW, None, None)]
