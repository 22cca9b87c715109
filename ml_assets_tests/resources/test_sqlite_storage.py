"""The kept-open SQLite storage stores exactly what Dagster's own does, faster, and loses nothing."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as db
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage

from ml_assets.resources import sqlite_storage
from ml_assets.resources.sqlite_storage import EventLog, Storage, under_home

DAYS = dg.DailyPartitionsDefinition("2013-01-01", end_date="2013-01-08")
RANGE = {"dagster/asset_partition_range_start": "2013-01-01", "dagster/asset_partition_range_end": "2013-01-07"}


@dg.asset(
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    check_specs=[dg.AssetCheckSpec("rows", asset="daily"), dg.AssetCheckSpec("nulls", asset="daily")],
)
def daily(
    context: dg.AssetExecutionContext,
) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult | dg.AssetObservation]:
    yield dg.AssetObservation("daily", partition="2013-01-02", metadata={"rows": 3})
    yield dg.MaterializeResult(
        metadata={"rows": 7},
        data_version=dg.DataVersion("v1"),
        check_results=[
            dg.AssetCheckResult(check_name="rows", passed=True),
            dg.AssetCheckResult(check_name="nulls", passed=False, severity=dg.AssetCheckSeverity.WARN),
        ],
    )


@dg.asset(deps=[daily])
def summary() -> None: ...


@dg.asset(deps=[daily])
def broken() -> None:
    raise ValueError("on purpose")


def instance_at(folder: Path, *, stock: bool = False, stack: ExitStack) -> dg.DagsterInstance:
    (folder / "home").mkdir(parents=True, exist_ok=True)
    ours = {"custom": {"module": Storage.__module__, "class": Storage.__name__, "config": {"base_dir": str(folder)}}}
    storage = {"sqlite": {"base_dir": str(folder)}} if stock else ours
    return stack.enter_context(
        dg.instance_for_test(
            temp_dir=str(folder / "home"), overrides={"storage": storage, "telemetry": {"enabled": False}}
        )
    )


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> list[EventLogEntry]:
    """All events of a range of partitions with checks and observations, of a plain asset, and of a failure."""
    with ExitStack() as stack:
        instance = instance_at(tmp_path_factory.mktemp("recorded"), stock=True, stack=stack)
        runs = [
            dg.materialize([daily], instance=instance, tags=RANGE),
            dg.materialize([summary, broken], instance=instance, raise_on_error=False),
        ]
        instance.report_runless_asset_event(dg.AssetMaterialization("outside", partition="2013-01-01"))
        events = [event for run in runs for event in instance.all_logs(run.run_id)]
        return [*events, *instance.all_logs("")]


def contents(folder: Path) -> dict[str, list[tuple[object, ...]]]:
    """Return every row of every table of every database, without the times at which rows were made."""
    return {
        f"{path.name}/{table}": rows for path in sorted(folder.rglob("*.db")) for table, rows in _tables(path).items()
    }


def _tables(path: Path) -> dict[str, list[tuple[object, ...]]]:
    engine = db.create_engine(f"sqlite:///{path}")
    metadata = db.MetaData()
    metadata.reflect(engine)
    with engine.connect() as connection:
        found = {
            name: [tuple(row) for row in connection.execute(db.select(*_lasting(table)).order_by(table.c[0]))]
            for name, table in metadata.tables.items()
        }
    engine.dispose()
    return found


def _lasting(table: db.Table) -> list[db.Column]:
    return [column for column in table.c if column.name not in {"create_timestamp", "migration_completed"}]


def one_by_one(storage: SqliteEventLogStorage, events: list[EventLogEntry]) -> None:
    for event in events:
        storage.store_event(event)


def in_batches(storage: SqliteEventLogStorage, events: list[EventLogEntry]) -> None:
    storage.store_event_batch(events[:50])
    storage.store_event_batch(events[50:])


@pytest.mark.parametrize("store", [one_by_one, in_batches])
def test_the_rows_are_those_of_dagster(
    store: Callable[..., None], recorded: list[EventLogEntry], tmp_path: Path
) -> None:
    kinds = {event.dagster_event_type for event in recorded if event.is_dagster_event}
    assert {
        dg.DagsterEventType.ASSET_MATERIALIZATION,
        dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
        dg.DagsterEventType.ASSET_OBSERVATION,
        dg.DagsterEventType.ASSET_CHECK_EVALUATION,
        dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED,
        dg.DagsterEventType.RUN_FAILURE,
    } <= kinds
    stock, ours = SqliteEventLogStorage(str(tmp_path / "stock")), EventLog(str(tmp_path / "ours"))
    one_by_one(stock, recorded)
    store(ours, recorded)
    ours.dispose()
    expected = contents(tmp_path / "stock")
    assert len(expected["index.db/event_logs"]) > 20
    assert expected["index.db/asset_check_executions"] and expected["index.db/asset_event_tags"]
    assert contents(tmp_path / "ours") == expected


def answers(instance: dg.DagsterInstance) -> dict[str, object]:
    """Return what tools ask a storage, without ids and times of runs."""
    check = instance.event_log_storage.get_latest_asset_check_execution_by_key(
        [dg.AssetCheckKey(daily.key, "nulls"), dg.AssetCheckKey(daily.key, "rows")]
    )
    latest = instance.get_latest_materialization_event(daily.key)
    records = instance.fetch_materializations(daily.key, limit=100).records
    return {
        "keys": sorted(key.to_user_string() for key in instance.all_asset_keys()),
        "partitions": instance.get_materialized_partitions(daily.key),
        "latest": latest and (latest.asset_materialization.partition, latest.asset_materialization.metadata),
        "ids": [record.storage_id for record in records],
        "versions": [record.asset_materialization.tags["dagster/data_version"] for record in records],
        "checks": {key.name: (found.status, found.event is not None) for key, found in check.items()},
        "runs": [(run.job_name, run.status) for run in instance.get_runs()],
        "steps": [(item.step_key, item.status) for item in instance.get_run_step_stats(instance.get_runs()[-1].run_id)],
        "status changes": len(instance.fetch_run_status_changes(dg.DagsterEventType.RUN_SUCCESS, limit=10).records),
    }


def test_the_answers_are_those_of_dagster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for name, stock, batch in (
        ("stock", True, "0"),
        ("single", False, "0"),
        ("batch", False, "500"),
        ("halves", False, "3"),
    ):
        monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", batch)
        with ExitStack() as stack:
            instance = instance_at(tmp_path / name, stock=stock, stack=stack)
            dg.materialize([daily], instance=instance, tags=RANGE)
            dg.materialize([summary, broken], instance=instance, raise_on_error=False)
            found.append(answers(instance))
    assert found[0]["partitions"] == set(DAYS.get_partition_keys())
    assert found[1:] == [found[0]] * 3


def test_stock_dagster_reads_what_was_written(tmp_path: Path) -> None:
    with ExitStack() as stack:
        dg.materialize([daily], instance=instance_at(tmp_path, stack=stack), tags=RANGE)
    with ExitStack() as stack:
        again = instance_at(tmp_path, stock=True, stack=stack)
        dg.materialize([daily], instance=again, tags=RANGE)
        assert len(again.fetch_materializations(daily.key, limit=100).records) == 14


def test_each_file_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    connected = sqlite_storage._connected
    monkeypatch.setattr(sqlite_storage, "_connected", lambda url: opened.append(url) or connected(url))
    with ExitStack() as stack:
        instance = instance_at(tmp_path, stack=stack)
        dg.materialize([summary], instance=instance)
        dg.materialize([summary], instance=instance)
    assert len(opened) == len(set(opened)) == 2 + len(["runs", "index", "schedules"])


def test_a_range_of_300_days_is_one_transaction_per_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    days = dg.DailyPartitionsDefinition("2013-01-01", end_date="2013-10-28")

    @dg.asset(partitions_def=days, backfill_policy=dg.BackfillPolicy.single_run())
    def many() -> None: ...

    sizes: list[int] = []
    store = EventLog._store_run_events
    monkeypatch.setattr(
        EventLog, "_store_run_events", lambda self, run, events: sizes.append(len(events)) or store(self, run, events)
    )
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "500")
    with ExitStack() as stack:
        instance = instance_at(tmp_path, stack=stack)
        started = time.perf_counter()
        tags = {"dagster/asset_partition_range_start": "2013-01-01", "dagster/asset_partition_range_end": "2013-10-27"}
        dg.materialize([many], instance=instance, tags=tags)
        seconds = time.perf_counter() - started
        assert len(instance.get_materialized_partitions(many.key)) == 300
    assert sizes.count(300) == 2  # planned, and materialized
    assert seconds < 5  # 0.3 s on two idle cores; Dagster's own: 8 s


def test_a_failed_batch_leaves_nothing(
    recorded: list[EventLogEntry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = EventLog(str(tmp_path))
    before = contents(tmp_path)["index.db/event_logs"]
    asset_events = [event for event in recorded if event.is_dagster_event and event.dagster_event.asset_key]

    def refuse(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(storage, "_update_asset_keys", refuse)
    with pytest.raises(OSError, match="disk full"):
        storage.store_event_batch(asset_events)
    run_id = asset_events[0].run_id
    assert storage.get_logs_for_run(run_id) == []
    storage.dispose()
    assert contents(tmp_path)["index.db/event_logs"] == before == []


def test_threads_share_the_storage(recorded: list[EventLogEntry], tmp_path: Path) -> None:
    storage = EventLog(str(tmp_path))
    planned = [event for event in recorded if event.dagster_event_type is dg.DagsterEventType.ASSET_MATERIALIZATION]
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for event in planned:
                storage.store_event(event._replace(run_id=f"run-{number}"))
                storage.get_logs_for_run(f"run-{(number + 1) % 4}")
        except db.exc.SQLAlchemyError as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    storage.dispose()
    assert len(contents(tmp_path)["index.db/event_logs"]) == 4 * len(planned)


def test_a_removed_file_is_made_anew(recorded: list[EventLogEntry], tmp_path: Path) -> None:
    storage = EventLog(str(tmp_path))
    event = recorded[0]
    storage.store_event(event)
    for path in tmp_path.glob(f"{event.run_id}.db*"):
        path.unlink()
    assert storage.get_logs_for_run(event.run_id) == []
    storage.store_event(event)
    assert len(storage.get_logs_for_run(event.run_id)) == 1
    storage.dispose()


def test_few_files_stay_open(recorded: list[EventLogEntry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_storage, "OPEN_FILES", 3)
    storage = EventLog(str(tmp_path))
    for number in range(6):
        storage.store_event(recorded[0]._replace(run_id=f"run-{number}"))
    assert len(storage._databases._engines) == 3
    assert [len(storage.get_logs_for_run(f"run-{number}")) for number in range(6)] == [1] * 6
    storage.dispose()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_opens_its_own(recorded: list[EventLogEntry], tmp_path: Path) -> None:
    storage = EventLog(str(tmp_path))
    storage.store_event(recorded[0])
    child = os.fork()
    if child == 0:
        storage.store_event(recorded[0])
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    storage.store_event(recorded[0])
    assert len(storage.get_logs_for_run(recorded[0].run_id)) == 3
    storage.dispose()


def test_relative_folders_are_below_dagster_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    assert under_home("data/dagster") == str(tmp_path / "data/dagster")
    assert under_home("/elsewhere") == "/elsewhere"


# Another process: stores events of run "other", telling each on stdout once it is stored.
WRITER = """
import sys, time
from dagster._core.events.log import EventLogEntry
from ml_assets.resources.sqlite_storage import EventLog
storage = EventLog(sys.argv[1])
for number in range(int(sys.argv[2])):
    storage.store_event(EventLogEntry(
        error_info=None, level="INFO", user_message=str(number), run_id="other", timestamp=1.0, job_name="job"))
    print(number, flush=True)
"""


@contextmanager
def writer(folder: Path, events: int) -> Iterator[subprocess.Popen[str]]:
    root = Path(sqlite_storage.__file__).parents[2]
    command = [sys.executable, "-c", WRITER, str(folder), str(events)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        yield process


def test_a_killed_writer_loses_no_stored_event(tmp_path: Path) -> None:
    EventLog(str(tmp_path)).dispose()
    with writer(tmp_path, 100_000) as process:
        told = [int(process.stdout.readline()) for _ in range(50)]
        process.send_signal(signal.SIGKILL)
        told += [int(line) for line in process.stdout.read().splitlines() if line]
    storage = EventLog(str(tmp_path))
    found = [int(event.user_message) for event in storage.get_logs_for_run("other")]
    storage.dispose()
    assert found == list(range(len(found)))
    assert len(told) >= 50
    assert set(told[:-1]) <= set(found)  # the last line may be cut off in the middle of its digits


def test_events_of_another_process_are_seen_and_told(tmp_path: Path) -> None:
    """A query sees an event once it is stored; the web UI follows a run through `watch`."""
    storage = EventLog(str(tmp_path))
    with storage.run_connection("other"):  # the file exists before the run's process starts
        pass
    told: list[str] = []
    storage.watch("other", None, lambda event, _: told.append(event.user_message))
    with writer(tmp_path, 50) as process:
        for line in process.stdout:
            assert len(storage.get_logs_for_run("other")) >= int(line) + 1
    deadline = time.monotonic() + 20
    while len(told) < 50 and time.monotonic() < deadline:
        time.sleep(0.1)
    storage.dispose()
    assert told == [str(number) for number in range(50)]


def test_processes_may_make_the_same_files_at_once(tmp_path: Path) -> None:
    with ExitStack() as stack:
        processes = [stack.enter_context(writer(tmp_path, 5)) for _ in range(2)]
        assert [len(process.stdout.read().splitlines()) for process in processes] == [5, 5]
    storage = EventLog(str(tmp_path))
    assert len(storage.get_logs_for_run("other")) == 10
    storage.dispose()


@pytest.mark.parametrize("attempt", range(2))
def test_a_fresh_instance_may_be_opened_by_many_at_once(tmp_path: Path, attempt: int) -> None:
    """The web server, the daemon, the code server and the command line all open a new instance within a second."""
    opening = "from ml_assets.resources.sqlite_storage import Storage; import sys; Storage(sys.argv[1])"
    together = [subprocess.Popen([sys.executable, "-c", opening, str(tmp_path / "dagster")]) for _ in range(4)]
    assert [process.wait(120) for process in together] == [0, 0, 0, 0]
    again = subprocess.run([sys.executable, "-c", opening, str(tmp_path / "dagster")], check=False)
    assert again.returncode == 0
