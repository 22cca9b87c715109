"""The logs of pushes, served requests and predictions in a bucket: nothing is lost, nothing counts twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from ml_assets.deployment.prediction_log import Entry, PredictionLog, predicted
from ml_assets.features.push_log import PushLog
from ml_assets.features.served import ServedLog
from ml_assets_tests.buckets.conftest import Bucket
from ml_assets_tests.fakes.gcs_server import Fault, GcsServer

START = datetime(2013, 1, 1, tzinfo=UTC)
TIME = pl.Datetime("us", "UTC")


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def rows(*hours: float) -> pl.DataFrame:
    return pl.DataFrame(
        [("p", at(hour), hour) for hour in hours],
        {"k": pl.String, "event_timestamp": TIME, "x": pl.Float64},
        orient="row",
    )


def push(log: PushLog, *hours: float, received: float = 100) -> int:
    packed = [f"{hour:08}" for hour in hours]
    return log.append(rows(*hours), event_timestamp="event_timestamp", received_at=at(received), packed=packed)


def held(frame: pl.LazyFrame | None) -> list[float]:
    return [] if frame is None else sorted(frame.collect()["x"].to_list())


def test_pushed_rows_are_kept_once_and_merged(exact: Bucket) -> None:
    log = PushLog(f"{exact.url}/lake", "features/v")
    assert (log.scan(), push(log, 1, 25), push(log, 2)) == (None, 2, 1)
    assert push(log, 2, received=101) == 0  # the same batch, later
    assert held(log.scan()) == [1, 2, 25]
    assert held(log.scan(days=["2013-01-02"])) == [25]
    assert held(log.scan(as_known_at=at(99))) == []
    assert sorted(log.versions()) == ["2013-01-01", "2013-01-02"]
    assert log.compact(now=at(200)) == 2
    assert log.compact(now=at(300)) == 2  # an hour later what was merged goes
    assert held(PushLog(f"{exact.url}/lake", "features/v").scan()) == [1, 2, 25]


def test_many_push_at_once(exact: Bucket) -> None:
    def one(hour: int) -> int:
        return push(PushLog(f"{exact.url}/lake", "features/v"), hour)

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(one, range(12))) == 12
    assert held(PushLog(f"{exact.url}/lake", "features/v").scan()) == list(range(12))


def test_served_requests_are_written_by_day_and_read_back(exact: Bucket) -> None:
    log = ServedLog(f"{exact.url}/lake", "service")
    for hour in (1, 25, 2):
        log.record(rows(hour))
    assert (log.flush(), log.flush()) == (3, 0)
    reader = ServedLog(f"{exact.url}/lake", "service")
    assert held(reader.scan()) == [1, 2, 25]
    newest = reader.read(most=2)
    assert newest is not None
    assert newest["x"].to_list() == [2, 25]


def test_lost_answers_and_a_bucket_that_is_away(strict: tuple[Bucket, GcsServer]) -> None:
    bucket, server = strict
    pushed, served = PushLog(f"{bucket.url}/lake", "features/v"), ServedLog(f"{bucket.url}/lake", "service")
    server.faults.append(Fault("lost", operation="insert", times=3))
    assert push(pushed, 1) == 1
    served.record(rows(1, 25))
    server.faults = [Fault("503", operation="insert", times=1000)]
    with pytest.raises(OSError, match="_served/service"):
        served.flush()
    assert (served.waiting, served.failed) == (2, 1)
    server.faults.clear()
    assert served.flush() == 2
    assert (held(pushed.scan()), held(served.scan())) == ([1], [1, 25])
    assert server.asked("delete") == []


def predict(bucket: Bucket, folder: Path, *hours: float) -> PredictionLog:
    log = PredictionLog(f"{bucket.url}/lake", "late", folder, clock=lambda: START)
    for hour in hours:
        numbers, rows = [0], [{"x": hour}]
        log.add(
            Entry(f"{hour}", at(hour), "champion", "7", 0.001, {"x": "Float64"}, numbers, rows, [{"prediction": 1}])
        )
        log.flush()
    return log


def test_predictions_land_by_day_and_are_read_back(exact: Bucket, tmp_path: Path) -> None:
    log = predict(exact, tmp_path, 1, 25, 2)
    assert (log.land(), log.land()) == (3, 0)
    assert held(predicted(f"{exact.url}/lake", "late")) == [1, 2, 25]
    assert held(predicted(f"{exact.url}/lake", "late", days=["2013-01-02"])) == [25]


def test_predictions_wait_on_disk_for_a_bucket_and_land_once(strict: tuple[Bucket, GcsServer], tmp_path: Path) -> None:
    bucket, server = strict
    log = predict(bucket, tmp_path, 1, 25, 2)
    server.faults = [Fault("503", operation="insert", times=1000)]
    with pytest.raises(OSError, match="_predicted/late"):
        log.land()
    server.faults = [Fault("lost", operation="insert", times=2)]
    assert log.land() == 3
    assert held(predicted(f"{bucket.url}/lake", "late")) == [1, 2, 25]
    assert (server.asked("delete"), list(tmp_path.rglob("*.parquet"))) == ([], [])
