"""A real PostgreSQL server for a test, on loopback, thrown away afterwards. It is not fast to start: share it."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = Path("/usr/lib/postgresql")
PASSWORD = "not-a-secret"
SECONDS = 30


def programs() -> Path | None:
    """Return the folder of the newest PostgreSQL that Debian installed; None without one."""
    found = sorted(PROGRAMS.glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


@contextmanager
def postgres(where: Path) -> Iterator[str]:
    """Run a server with the programs in `where`; give SQLAlchemy's URL of its database, with a password."""
    user = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    if user:
        shutil.chown(folder, user)
    port = _free_port()
    environ = os.environ | {"LC_ALL": "C.UTF-8", "HOME": str(folder)}

    def start(*command: str) -> subprocess.Popen[bytes]:
        quiet = subprocess.DEVNULL
        return subprocess.Popen(
            command, cwd=folder, env=environ, user=user, extra_groups=[], stdout=quiet, stderr=quiet
        )

    try:
        (folder / "password").write_text(PASSWORD)
        secured = ["--auth=scram-sha-256", f"--pwfile={folder}/password", "--username=me"]
        if start(
            str(where / "initdb"), "-D", f"{folder}/data", "--no-sync", "--no-locale", "-E", "UTF8", *secured
        ).wait():
            raise RuntimeError("initdb failed")
        options = ["-h", "127.0.0.1", "-p", str(port), "-k", str(folder), "-F"]
        server = start(str(where / "postgres"), "-D", f"{folder}/data", *options)
        try:
            url = f"postgresql+psycopg2://me:{PASSWORD}@127.0.0.1:{port}/postgres"
            _wait(url)
            yield url
        finally:
            server.send_signal(2)  # a fast shutdown
            server.wait(SECONDS)
    finally:
        shutil.rmtree(folder)


def installable() -> bool:
    """Tell whether the server could run here: not as root without its user."""
    try:
        return os.geteuid() != 0 or bool(pwd.getpwnam("postgres"))
    except KeyError:
        return False


def _wait(url: str) -> None:
    from sqlalchemy import create_engine
    from sqlalchemy.exc import OperationalError

    engine, deadline = create_engine(url), time.monotonic() + SECONDS
    while True:
        try:
            engine.connect().close()
            return engine.dispose()
        except OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
