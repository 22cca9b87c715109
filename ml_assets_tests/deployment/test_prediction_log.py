"""Predictions land in the lake once each: through kills, full disks and lakes that are away, and without a word to who is answered."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from ml_assets.deployment.prediction_log import FOLDER, Entry, PredictionLog, as_rows, predicted
from ml_assets.features.day_files import DayFiles

NOON = datetime(2013, 11, 3, 12, tzinfo=UTC)
TYPES = {"delay": "Float64", "place": "String", "weekend": "Boolean"}


def entry(number: int, **change: Any) -> Entry:
    told: dict[str, Any] = {
        "request": f"r{number}",
        "moment": NOON,
        "arm": "champion",
        "version": "7",
        "seconds": 0.002,
        "types": TYPES,
        "numbers": [0],
        "rows": [{"delay": float(number), "place": None, "weekend": True}],
        "answers": [{"prediction": 1, "score": 0.75, "model_version": "7"}],
        "entities": [{"flight_id": number}],
        "statuses": {"weather": ["present"]},
    }
    return Entry(**{**told, **change})


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., PredictionLog]]:
    """Make logs of one lake and one spool, each as a process of its own would."""
    yield lambda **options: PredictionLog(
        str(tmp_path / "lake"), "late", tmp_path / "spool", **{"clock": lambda: NOON, **options}
    )


def landed(folder: Path) -> list[str]:
    """Return the requests that the lake has, a name for each row."""
    found = predicted(str(folder / "lake"), "late")
    return [] if found is None else sorted(found.collect()["_request"].to_list())


def end(log: PredictionLog) -> None:
    """Let go of a log's lock without a word, as the end of its process does."""
    os.close(log._held)


# -- rows --------------------------------------------------------------------------------------------------------------


def test_a_row_tells_what_was_asked_answered_by_whom_and_how_quickly(make: Any, tmp_path: Path) -> None:
    log = make()
    log.add(entry(1))
    assert (log.waiting, log.flush(), log.waiting, landed(tmp_path)) == (1, 1, 0, [])
    assert log.land() == 1
    found = predicted(str(tmp_path / "lake"), "late", days=["2013-11-03"])
    assert found is not None
    assert found.collect().to_dicts() == [
        {
            "_request": "r1",
            "_row": 0,
            "event_timestamp": NOON,
            "_arm": "champion",
            "model_version": "7",
            "_milliseconds": 2.0,
            "_status_weather": "present",
            "flight_id": 1,
            "delay": 1.0,
            "place": None,
            "weekend": True,
            "prediction": 1,
            "score": 0.75,
        }
    ]
    assert predicted(str(tmp_path / "lake"), "late", days=["2013-11-02"]) is None


def test_of_a_request_that_two_models_answered_each_row_is_where_it_was(make: Any) -> None:
    rows = [{"delay": float(place), "place": "x", "weekend": False} for place in range(4)]
    answers = [{"prediction": 0, "score": place / 10, "model_version": "8"} for place in (1, 3)]
    shared: dict[str, Any] = {"rows": rows, "entities": [{"flight_id": place} for place in range(4)], "statuses": {}}
    found = as_rows([entry(1, numbers=[1, 3], answers=answers, version="8", arm="canary", **shared)])
    assert found.select("_row", "flight_id", "delay", "score").rows() == [(1, 1, 1.0, 0.1), (3, 3, 3.0, 0.3)]


def test_models_of_other_features_and_tasks_share_a_log(make: Any, tmp_path: Path) -> None:
    log = make()
    log.add(entry(1, entities=(), statuses={}))
    log.add(
        entry(
            2,
            version="8",
            types={"seats": "Float64"},
            rows=[{"seats": None}],
            answers=[{"prediction": "high", "score": 0.5, "scores": [0.5, 0.25, 0.25], "model_version": "8"}],
        )
    )
    log.flush()
    log.add(entry(3, types={}, rows=[{}], answers=[{"prediction": 2, "model_version": "7"}]))  # a cluster
    log.flush()
    assert log.land() == 3
    assert landed(tmp_path) == ["r1", "r2", "r3"]


def test_rows_lie_under_the_day_of_their_answer(make: Any, tmp_path: Path) -> None:
    log = make()
    for number, hours in enumerate((0, 11.99, 12)):
        log.add(entry(number, moment=NOON + timedelta(hours=hours)))
    log.flush()
    log.land()
    files = DayFiles(str(tmp_path / "lake"), f"{FOLDER}/late")
    assert {day: len(names) for day, names in files.names().items()} == {"2013-11-03": 1, "2013-11-04": 1}


def test_durable_means_on_disk_before_the_answer(make: Any, tmp_path: Path) -> None:
    log = make(durable=True)
    log.add(entry(1))
    assert (log.spooled, log.waiting) == (1, 0)
    end(log)
    make().land()
    assert landed(tmp_path) == ["r1"]


def test_by_itself_it_writes_lands_and_ends(make: Any, tmp_path: Path) -> None:
    log = make(flush_seconds=0.01, land_seconds=0.05).start()
    log.add(entry(1))
    _until(lambda: landed(tmp_path) == ["r1"])
    log.add(entry(2))
    log.close()
    assert (landed(tmp_path), list((tmp_path / "spool").iterdir())) == (["r1", "r2"], [])
    assert log.state() == {"waiting": 0, "spooled": 2, "landed": 2, "dropped": 0, "damaged": 0, "failing": {}}


def test_adding_costs_the_answer_microseconds(make: Any) -> None:
    log, taken = make(), []
    for number in range(5_000):
        one = entry(number)
        began = time.perf_counter()
        log.add(one)
        taken.append(time.perf_counter() - began)
    print(f"add: p50 {1e6 * median(taken):.2f} µs, p99 {1e6 * sorted(taken)[4_950]:.2f} µs")
    assert median(taken) < 50e-6


# -- exactly once ------------------------------------------------------------------------------------------------------


def test_another_living_process_is_left_alone_and_a_dead_one_inherited(make: Any, tmp_path: Path) -> None:
    living, next_one = make(), make()
    living.add(entry(1))
    living.flush()
    assert (next_one.land(), landed(tmp_path)) == (0, [])
    end(living)
    assert (next_one.land(), landed(tmp_path)) == (1, ["r1"])
    assert len(list((tmp_path / "spool").iterdir())) == 1


class Killed(BaseException):
    """The end of a process, at one place."""


@pytest.mark.parametrize("place", ["before the lake", "in the lake", "half removed", "between two days"])
def test_a_landing_that_breaks_off_anywhere_adds_each_row_once(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    log, write, calls = make(), DayFiles.write, []

    def written(self: DayFiles, *args: Any, **options: Any) -> bool:
        calls.append(args)
        if place == "before the lake" or (place == "between two days" and len(calls) == 2):
            raise Killed
        done = write(self, *args, **options)
        if place == "in the lake":
            raise Killed
        return done

    def removed(folder: Path) -> None:
        min(folder.glob("*.parquet")).unlink()  # the one with another column: what is left would get another name
        raise Killed

    for number in range(6):
        entities = [{"flight_id": number} | ({} if number else {"gate": "A1"})]
        log.add(entry(number, moment=NOON + timedelta(days=number % 2), entities=entities))
        log.flush()
    with monkeypatch.context() as patch:
        patch.setattr(DayFiles, "write", written)
        if place == "half removed":
            patch.setattr(shutil, "rmtree", removed)
        with pytest.raises(Killed):
            log.land()
    end(log)
    make().land()
    assert landed(tmp_path) == [f"r{number}" for number in range(6)]


CHILD = """
import sys, time
from ml_assets_tests.deployment.test_prediction_log import NOON, entry
from ml_assets.deployment.prediction_log import PredictionLog
lake, spool, first = sys.argv[1:]
log = PredictionLog(lake, "late", spool, clock=lambda: NOON, flush_seconds=0.01, land_seconds=0.05).start()
for number in range(int(first), int(first) + 1_000_000):
    log.add(entry(number))
    if number % 10 == 0:
        print(int(first) + log.spooled, flush=True)  # rows are written in order
        time.sleep(0.001)
"""


def test_what_was_written_when_a_process_is_killed_lands_once(make: Any, tmp_path: Path) -> None:
    expected, killed_while_landing = 0, 0
    for kill in range(3):
        first = kill * 1_000_000
        command = [sys.executable, "-c", CHILD, str(tmp_path / "lake"), str(tmp_path / "spool"), str(first)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout
            told = first
            while told < first + 500 + 37 * kill:
                told = int(child.stdout.readline())
            child.send_signal(signal.SIGKILL)
            rest = [int(line) for line in child.stdout.read().split("\n")[:-1] if line]
        expected += max([told, *rest]) - first
        killed_while_landing += any(path.name.startswith("batch-") for path in (tmp_path / "spool").rglob("batch-*"))
    make().land()
    requests = landed(tmp_path)
    print(f"{expected} rows were on disk, {len(requests)} landed; {killed_while_landing} of 3 kills met a landing")
    assert len(set(requests)) == len(requests) >= expected > 1_500
    numbers = sorted(int(request[1:]) for request in requests)
    for kill in range(3):  # what is lost is the newest, not something in between
        own = [number for number in numbers if number // 1_000_000 == kill]
        assert own == list(range(kill * 1_000_000, kill * 1_000_000 + len(own)))


# -- disks and lakes ---------------------------------------------------------------------------------------------------


@contextmanager
def full_disk() -> Iterator[None]:
    """Let no file become longer than ten bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_drops_the_oldest_says_so_and_is_recovered_from(make: Any, tmp_path: Path) -> None:
    log = make(most_rows=5, durable=True)
    with full_disk():
        for number in range(8):
            log.add(entry(number))
    state = log.state()
    assert (state["waiting"], state["dropped"], state["spooled"]) == (5, 3, 0)
    assert state["failing"]["disk"]["since"] == NOON.isoformat()
    assert "File too large" in state["failing"]["disk"]["reason"]
    log.add(entry(8))
    log.close()
    assert landed(tmp_path) == ["r4", "r5", "r6", "r7", "r8"]  # r3 made place for r8
    assert (log.state()["failing"], log.dropped) == ({}, 4)


def test_while_the_lake_is_away_rows_wait_on_disk_then_in_memory(make: Any, tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("no folder")
    log = make(most_rows=2, most_spooled=1)
    log.add(entry(0))
    log.flush()
    with pytest.raises(OSError, match="Not a directory"):
        log.land()
    for number in range(1, 4):
        log.add(entry(number))
        with pytest.raises(OSError, match="that the lake did not take"):
            log.flush()
    assert (log.waiting, log.dropped) == (2, 1)
    log.close()
    assert set(log.state()["failing"]) == {"disk", "lake"} and log.waiting == 2  # lost with the process
    (tmp_path / "lake").unlink()
    make().land()
    assert landed(tmp_path) == ["r0"]


def test_a_damaged_file_does_not_hold_up_the_others(make: Any, tmp_path: Path) -> None:
    log = make()
    for number in range(3):
        log.add(entry(number))
        log.flush()
    damaged = next((tmp_path / "spool").rglob("00000002.parquet"))
    damaged.write_bytes(damaged.read_bytes()[:50])
    assert (log.land(), log.damaged, landed(tmp_path)) == (2, 1, ["r0", "r2"])
    assert len(list((tmp_path / "spool").glob(".damaged-*"))) == 1


def test_rows_that_no_frame_can_have_do_not_hold_up_the_others(make: Any, tmp_path: Path) -> None:
    log = make()
    log.add(entry(1, entities=[{"flight_id": 1}]))
    log.add(entry(2, entities=[{"flight_id": "two"}]))
    log.add(entry(3, rows=[{"delay": "much", "place": 3, "weekend": None}]))
    log.flush()
    log.land()
    assert landed(tmp_path) == ["r1", "r2", "r3"]


def test_the_bound_counts_rows_not_requests(make: Any) -> None:
    log = make(most_rows=100)
    rows, answers = [{"delay": 1.0}] * 60, [{"prediction": 1}] * 60
    for number in range(3):
        log.add(entry(number, numbers=range(60), rows=rows, answers=answers, entities=(), statuses={}))
    assert (log.waiting, log.dropped) == (60, 120)


def _until(true: Callable[[], bool], seconds: float = 10) -> None:
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.01)
