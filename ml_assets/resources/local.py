"""A local Dagster: web UI, daemon and code server as one process tree on loopback; jobs launched through its API."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES, NOT_FINISHED_STATUSES
from dagster._core.storage.tags import GRPC_INFO_TAG

HOST = "127.0.0.1"
START_SECONDS = 180
STOP_SECONDS = 30
POLL_SECONDS = 1.0

LOCATION = "ml_assets"
START_SENSOR = """mutation($sensor: SensorSelector!) {
  startSensor(sensorSelector: $sensor) { __typename ... on PythonError { message } }
}"""
FINISHED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


class LocalDagsterError(RuntimeError):
    """The local Dagster did not start, stopped, or a run failed; the message says where to look."""


def free_port() -> int:
    """Return a port on loopback that is free now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def require_free(port: int) -> None:
    """Raise `LocalDagsterError` when something listens on the port already."""
    with socket.socket() as probe:
        if probe.connect_ex((HOST, port)) == 0:
            raise LocalDagsterError(
                f"port {port} on {HOST} is taken; end what listens there, or give --port another one"
            )


class LocalDagster:
    """A running `dagster dev`, and the instance that it works on."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path, instance: dg.DagsterInstance) -> None:
        """`log` is the file that its output goes to."""
        self.process, self.port, self.log, self.instance = process, port, log, instance

    @property
    def url(self) -> str:
        """Return the address of the web UI."""
        return f"http://{HOST}:{self.port}"

    def run(
        self, job: str, tags: Mapping[str, str] | None = None, progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Launch a job as the web UI would and wait for its end, telling `progress(steps done, steps in all)`.

        Raises `LocalDagsterError` when the run does not succeed.
        """
        from dagster_graphql import DagsterGraphQLClient

        run_id = str(DagsterGraphQLClient(HOST, port_number=self.port).submit_job_execution(job, tags=dict(tags or {})))
        while (run := self._run(run_id)).status not in FINISHED:
            if progress:
                progress(*self._steps(run))
            time.sleep(POLL_SECONDS)
        self._check(run)

    def start_sensor(self, name: str) -> None:
        """Switch a sensor on, as the web UI would."""
        from dagster_graphql import DagsterGraphQLClient

        where = {"repositoryName": "__repository__", "repositoryLocationName": LOCATION, "sensorName": name}
        answer = DagsterGraphQLClient(HOST, port_number=self.port)._execute(START_SENSOR, {"sensor": where})
        if answer["startSensor"]["__typename"] != "Sensor":
            raise LocalDagsterError(f"sensor {name} could not be started: {answer['startSensor']}")

    def idle(self) -> bool:
        """Tell whether no run is queued or under way; raise when the newest has failed."""
        self.check_alive()
        for run in self.instance.get_runs(limit=1):
            if run.status in FINISHED:
                self._check(run)
        return not self.instance.get_runs(dg.RunsFilter(statuses=list(NOT_FINISHED_STATUSES)), limit=1)

    def has_made(self, *asset: str) -> bool:
        """Tell whether an asset has been materialized."""
        return self.instance.get_latest_materialization_event(dg.AssetKey(list(asset))) is not None

    def check_alive(self) -> None:
        """Raise `LocalDagsterError` when the process has ended."""
        if self.process.poll() is not None:
            raise LocalDagsterError(f"dagster dev ended with code {self.process.returncode}; see {self.log}")

    def _run(self, run_id: str) -> dg.DagsterRun:
        self.check_alive()
        run = self.instance.get_run_by_id(run_id)
        if run is None:
            raise LocalDagsterError(f"run {run_id} has disappeared")
        return run

    def _steps(self, run: dg.DagsterRun) -> tuple[int, int]:
        finished = [step for step in self.instance.get_run_step_stats(run.run_id) if step.end_time]
        plan = run.execution_plan_snapshot_id and self.instance.get_execution_plan_snapshot(
            run.execution_plan_snapshot_id
        )
        return len(finished), len(plan.step_keys_to_execute) if plan else len(finished)

    def _check(self, run: dg.DagsterRun) -> None:
        if run.status is dg.DagsterRunStatus.SUCCESS:
            return
        raise LocalDagsterError(
            f"run {run.run_id} of job {run.job_name} ended as {run.status.value}: {'; '.join(self._failures(run))}; "
            f"`make ui` shows it at /runs/{run.run_id}"
        )

    def _failures(self, run: dg.DagsterRun) -> list[str]:
        """Return why steps failed: the first line of each cause, and what blocking checks said."""
        told = []
        kinds = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.ASSET_CHECK_EVALUATION}
        for entry in self.instance.all_logs(run.run_id, of_type=kinds):
            event = entry.get_dagster_event()
            detail = event.event_specific_data
            if isinstance(detail, dg.AssetCheckEvaluation):
                told += (
                    []
                    if detail.passed
                    else [f"check {detail.asset_key.to_user_string()}: {detail.check_name} {detail.description}"]
                )
            else:
                error = getattr(detail, "error", None)
                cause = getattr(error, "cause", None) or error
                told.append(f"step {event.step_key}: {cause.message.strip().splitlines()[0] if cause else 'no reason'}")
        return told


@contextmanager
def local_dagster(
    root: Path, *, port: int, log: Path, environ: Mapping[str, str] | None = None
) -> Iterator[LocalDagster]:
    """Start `dagster dev` for the repository at `root`, wait until it answers, and stop it in the end."""
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "dagster",
        "dev",
        "-w",
        "workspace.yaml",
        "-h",
        HOST,
        "-p",
        str(port),
    ]
    with dg.DagsterInstance.get() as instance:  # before the others start: its databases are made once
        reconcile(instance)
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                cwd=root,
                env={**os.environ, **(environ or {})},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            running = LocalDagster(process, port, log, instance)
            _wait_until(lambda: _answers(running), START_SECONDS, f"dagster dev does not answer; see {log}")
            yield running
        finally:
            _stop(process)


def reconcile(instance: dg.DagsterInstance) -> list[str]:
    """End the runs whose code server is gone, and return their ids: nobody else would before their time is up.

    What such a run collected is in the ledger, and the sensor asks for the rest again. Runs of another Dagster that is up
    on the same instance go on.
    """
    runs = instance.get_runs(dg.RunsFilter(statuses=list(IN_PROGRESS_RUN_STATUSES)))
    dead = [run for run in runs if run.status is not dg.DagsterRunStatus.QUEUED and not _has_server(run)]
    for run in dead:
        instance.report_run_failed(run, "The Dagster that started this run has ended, and the run with it.")
    return [run.run_id for run in dead]


def _has_server(run: dg.DagsterRun) -> bool:
    """Tell whether the code server that started a run is up; it is reached by a socket in the file system."""
    place = json.loads(run.tags.get(GRPC_INFO_TAG, "{}")).get("socket")
    if not place:
        return True  # started in another way: not ours to judge
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(place) == 0


def _answers(running: LocalDagster) -> bool:
    running.check_alive()
    try:
        with urllib.request.urlopen(f"{running.url}/server_info", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _wait_until(true: Callable[[], bool], seconds: float, otherwise: str) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise LocalDagsterError(otherwise)
        time.sleep(POLL_SECONDS)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the process tree that we started: politely first, then whatever is left of its group."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(STOP_SECONDS)
