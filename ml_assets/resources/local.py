"""A local Dagster: web UI, daemon and code server as one process tree on loopback; jobs launched through its API."""

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

HOST = "127.0.0.1"
START_SECONDS = 180
STOP_SECONDS = 30
POLL_SECONDS = 1.0

FINISHED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


class LocalDagsterError(RuntimeError):
    """The local Dagster did not start, stopped, or a run failed; the message says where to look."""


def free_port() -> int:
    """Return a port on loopback that is free now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def port_is_taken(port: int) -> bool:
    """Tell whether something listens on the port already."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


class LocalDagster:
    """A running `dagster dev`."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        """`log` is the file that its output goes to."""
        self.process, self.port, self.log = process, port, log

    @property
    def url(self) -> str:
        """Return the address of the web UI."""
        return f"http://{HOST}:{self.port}"

    def launch(self, job: str, tags: Mapping[str, str] | None = None) -> str:
        """Launch a job as the web UI would, and return the run's id."""
        from dagster_graphql import DagsterGraphQLClient

        client = DagsterGraphQLClient(HOST, port_number=self.port)
        return str(client.submit_job_execution(job, tags=dict(tags or {})))

    def check_alive(self) -> None:
        """Raise `LocalDagsterError` when the process has ended."""
        if self.process.poll() is not None:
            raise LocalDagsterError(f"dagster dev ended with code {self.process.returncode}; see {self.log}")


@contextmanager
def local_dagster(root: Path, *, port: int, log: Path, environ: Mapping[str, str] | None = None) -> Iterator[LocalDagster]:
    """Start `dagster dev` for the repository at `root`, wait until it answers, and stop it in the end."""
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [str(Path(sys.executable).with_name("dagster")), "dev", "-w", "workspace.yaml", "-h", HOST, "-p", str(port)]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, cwd=root, env={**os.environ, **(environ or {})}, stdout=output, stderr=output, start_new_session=True
        )
    running = LocalDagster(process, port, log)
    try:
        _wait_until(lambda: _answers(running), START_SECONDS, f"dagster dev does not answer; see {log}")
        yield running
    finally:
        _stop(process)


def wait_for_run(
    instance: dg.DagsterInstance, run_id: str, running: LocalDagster, progress: Callable[[int, int], None]
) -> dg.DagsterRun:
    """Wait until a run has finished, telling `progress(steps done, steps in all)`; raise when it did not succeed."""
    while True:
        running.check_alive()
        run = instance.get_run_by_id(run_id)
        if run is None:
            raise LocalDagsterError(f"run {run_id} has disappeared")
        done = sum(step.status.value != "IN_PROGRESS" for step in instance.get_run_step_stats(run_id))
        progress(done, len(run.step_keys_to_execute or ()) or done)
        if run.status in FINISHED:
            break
        time.sleep(POLL_SECONDS)
    if run.status is not dg.DagsterRunStatus.SUCCESS:
        failed = [step.step_key for step in instance.get_run_step_stats(run_id) if step.status.value == "FAILURE"]
        raise LocalDagsterError(f"run {run_id} of {run.job_name} ended as {run.status.value}, failed steps: {failed}; see {running.url}")
    return run


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
    """End the process tree that we started: politely first."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(STOP_SECONDS)
