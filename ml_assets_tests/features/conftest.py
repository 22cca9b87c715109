"""A real Redis server for the tests, on a free port, ended with them."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ml_assets.resources.local import HOST, free_port

SECONDS = 20


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an empty database of `redis-server`, from Debian's packages; the test is skipped where it is missing."""
    server = shutil.which("redis-server")
    if server is None:
        if os.environ.get("CI"):
            pytest.fail("redis-server is not installed, and where every change is tested it must be")
        pytest.skip("redis-server is not installed: apt-get install redis-server")
    folder, port = tmp_path_factory.mktemp("redis"), free_port()
    process = _start(server, folder, port)
    try:
        url = f"redis://{HOST}:{port}/0"
        _wait(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(SECONDS)


def _start(server: str, folder: Path, port: int) -> subprocess.Popen[bytes]:
    options = ["--port", str(port), "--bind", HOST, "--save", "", "--appendonly", "no", "--dir", str(folder)]
    with (folder / "redis.log").open("wb") as log:
        return subprocess.Popen([server, *options], stdout=log, stderr=log)


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    from redis import Redis
    from redis.exceptions import ConnectionError as NotYet

    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            Redis.from_url(url).ping()
            return
        except NotYet:
            time.sleep(0.05)
    raise RuntimeError("redis-server did not start")
