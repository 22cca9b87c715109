"""A client that costs little: requests that are bytes already, over sockets that are kept; and servers in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.processes import LAST_LINES, BenchError, environment
from benchmarks.project import ROOT

HOST = "127.0.0.1"
READY_SECONDS, STOP_SECONDS, ANSWER_SECONDS = 90.0, 20.0, 30.0
HEAD_END = b"\r\n\r\n"
LENGTH = b"content-length:"
FAILED = 599  # the status of a request that got no answer


@dataclass
class Asked:
    """What became of requests: their statuses and their seconds, in one order; and the wall time of all."""

    statuses: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    wall: float = 0.0

    def at(self, share: float) -> float:
        """Return the time below which such a share of the answers was there, in seconds."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    @property
    def refused(self) -> int:
        """Return how many answers were no success."""
        return sum(not 200 <= status < 300 for status in self.statuses)

    def numbers(self) -> dict[str, float]:
        """Return what is told of them: p50 and p99 in milliseconds, answers a second, and those that were no success."""
        return {
            "p50_ms": 1000 * self.at(0.5),
            "p99_ms": 1000 * self.at(0.99),
            "a_second": len(self.statuses) / self.wall,
            "refused": float(self.refused),
        }


class Connection:
    """One connection to a server on this machine, kept open; it is made again when the server closed it."""

    def __init__(self, port: int) -> None:
        """Nothing is connected before the first request."""
        self._port = port
        self._socket: socket.socket | None = None

    def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send a request and return status and body of the answer; `OSError` when there is none."""
        if self._socket is None:
            self._socket = socket.create_connection((HOST, self._port), timeout=ANSWER_SECONDS)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._socket.sendall(request)
            return self._answer(self._socket)
        except OSError:
            self.close()
            raise

    def _answer(self, there: socket.socket) -> tuple[int, bytes]:
        data = b""
        while HEAD_END not in data:
            data += _received(there)
        head, _, body = data.partition(HEAD_END)
        length = _length(head)
        parts = [body]
        missing = length - len(body)
        while missing > 0:
            parts.append(_received(there))
            missing -= len(parts[-1])
        return int(head[9:12]), b"".join(parts)

    def close(self) -> None:
        """Close it."""
        if self._socket:
            self._socket.close()
            self._socket = None


def _received(there: socket.socket) -> bytes:
    data = there.recv(65_536)
    if not data:
        raise ConnectionError("the server closed the connection before it answered")
    return data


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        if line.lower().startswith(LENGTH):
            return int(line[len(LENGTH) :])
    return 0


def post(path: str, content: Mapping[str, Any]) -> bytes:
    """Return a request as bytes."""
    body = json.dumps(content).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def get(path: str) -> bytes:
    """Return a request without a body as bytes."""
    return f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


def one_after_another(port: int, requests: Sequence[bytes]) -> Asked:
    """Ask over one connection, the next when the last is answered."""
    found, connection = Asked(), Connection(port)
    began = time.perf_counter()
    for request in requests:
        _timed(connection, request, time.perf_counter(), found)
    found.wall = time.perf_counter() - began
    connection.close()
    return found


def at_once(port: int, requests: Sequence[bytes], connections: int) -> Asked:
    """Ask over several connections at once, each its share of the requests."""
    began = time.perf_counter()
    with ThreadPoolExecutor(connections) as pool:
        parts = list(pool.map(lambda first: one_after_another(port, requests[first::connections]), range(connections)))
    return _joined(parts, time.perf_counter() - began)


def open_loop(port: int, requests: Sequence[bytes], *, per_second: float, connections: int = 16) -> Asked:
    """Ask at fixed moments, whether the last was answered or not; a request's time counts from its moment on.

    So a server that stalls makes all wait that come meanwhile, and each wait is counted.
    """
    began = time.perf_counter() + 0.1

    def ask(first: int) -> Asked:
        found, connection = Asked(), Connection(port)
        for place in range(first, len(requests), connections):
            moment = began + place / per_second
            time.sleep(max(0.0, moment - time.perf_counter()))
            _timed(connection, requests[place], moment, found)
        connection.close()
        return found

    with ThreadPoolExecutor(connections) as pool:
        return _joined(list(pool.map(ask, range(connections))), time.perf_counter() - began)


def _timed(connection: Connection, request: bytes, began: float, found: Asked) -> None:
    try:
        status, _ = connection.ask(request)
    except OSError:
        status = FAILED
    found.statuses.append(status)
    found.seconds.append(time.perf_counter() - began)


def _joined(parts: Sequence[Asked], wall: float) -> Asked:
    statuses = [status for part in parts for status in part.statuses]
    return Asked(statuses, [second for part in parts for second in part.seconds], wall)


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.create_server((HOST, 0)) as found:
        return int(found.getsockname()[1])


@contextmanager
def server(arguments: Sequence[str], *, port: int, log: Path, ready: str) -> Iterator[int]:
    """Run a command whose first word is a program until the `with` ends; yield the port when `GET ready` succeeds.

    Raises `BenchError` with the last lines of its log when it ends, or is not ready in time.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        process = subprocess.Popen(
            arguments, cwd=ROOT, env=_environment(), stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            _wait_for(port, ready, process, log)
            yield port
        finally:
            _stop(process)


def _environment() -> dict[str, str]:
    known = environment(ROOT)
    programs = f"{Path(sys.executable).parent}:{known.get('PATH', '')}"  # MLflow starts uvicorn by its name
    return {**known, "PATH": programs, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1"}


def _wait_for(port: int, path: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + READY_SECONDS
    while process.poll() is None and time.monotonic() < until:
        if _is_ready(port, path):
            return
        time.sleep(0.1)
    last = "\n".join(log.read_text().splitlines()[-LAST_LINES:])
    raise BenchError(f"the server of {log.stem} is not ready (code {process.poll()}), see {log}:\n{last}")


def _is_ready(port: int, path: str) -> bool:
    connection = Connection(port)
    try:
        return connection.ask(get(path))[0] == 200
    except OSError:
        return False
    finally:
        connection.close()


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End it with all that it started, which is a group of processes."""
    for sign, patience in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)):
        try:
            os.killpg(process.pid, sign)
            process.wait(patience)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
