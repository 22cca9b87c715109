"""Evidently's workspace: one project for a problem, one run for a window, and its own server shows them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ml_assets.monitoring.evidently import drift_run
from ml_assets.monitoring.workspace import keep_run

# Evidently 0.7 and what it imports warn about numpy and litestar at import time
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]
WAIT = 90.0


def run(shift: float) -> Any:
    frames = [pl.DataFrame({"x": np.random.default_rng(at).normal(at * shift, 1, 200)}) for at in (0, 1)]
    told = {"name": "a window", "timestamp": datetime(2013, 11, 1), "tags": ["drift"]}
    return drift_run(frames[0], frames[1], columns=["x"], **told).run


def test_a_window_has_one_run_and_evidently_ui_shows_it(tmp_path: Path) -> None:
    first = keep_run(tmp_path, run(1.0), problem="delays", window="2013-11-01")
    again = keep_run(tmp_path, run(2.0), problem="delays", window="2013-11-01")
    other = keep_run(tmp_path, run(0.0), problem="delays", window="2013-11-08")
    assert first == again != other
    assert len(list(tmp_path.glob("*/snapshots/*.json"))) == 2
    with evidently_ui(tmp_path) as url:
        (project,) = asked(f"{url}/api/projects")
        assert project["name"] == "delays"
        runs = asked(f"{url}/api/projects/{project['id']}/reports")
    assert sorted(one["id"] for one in runs) == sorted(map(str, (first, other)))


@contextmanager
def evidently_ui(folder: Path) -> Iterator[str]:
    """Start Evidently's own server on a free port of this machine; end it afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("evidently")), "ui", "--workspace", str(folder), "--port", str(port)]
    with (folder / "ui.log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"DO_NOT_TRACK": "1"})
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


def asked(url: str) -> Any:
    """Return what the server answers, once it does."""
    until = time.monotonic() + WAIT
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)
        except urllib.error.URLError:
            if time.monotonic() > until:
                raise
            time.sleep(0.3)
