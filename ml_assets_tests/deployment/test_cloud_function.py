"""The Cloud Function as its plan makes it, run by functions-framework on loopback: the bundle's answers, its checks, its digest."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ml_assets.deployment.targets.command import deploy
from ml_assets.deployment.targets.plan import Release
from ml_assets.deployment.targets.settings import Settings
from ml_assets.resources.local import HOST, free_port
from ml_assets_tests.development.samples import model_of
from ml_assets_tests.packaging.bundles import built, stored

ROOT = Path(__file__).parents[2]
SECONDS = 30


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The folder that was handed to gcloud, and the environment that gcloud was told."""
    place = tmp_path_factory.mktemp("function")
    bundle = built(place / "bundle", stored(place / "candidate", model_of("binary", "linear")))
    (place / "tools").mkdir()
    (place / "tools" / "gcloud").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {place}/told\n')
    (place / "tools" / "gcloud").chmod(0o755)
    settings = Settings(root=ROOT, folder=place / "made", project="my-project-1", region="europe-west1")
    with pytest.MonkeyPatch.context() as change:
        change.setenv("PATH", f"{place}/tools", prepend=":")
        release = Release("late", "7", Path(bundle.folder), bundle.digest)
        deploy("cloud_function", release, settings, dry_run=False, tell=str)
    (told,) = [line for line in (place / "told").read_text().splitlines() if line.startswith("--set-env-vars=")]
    return settings.folder, dict(pair.split("=", 1) for pair in told.removeprefix("--set-env-vars=").split(","))


def started(folder: Path, environment: dict[str, str], port: int) -> subprocess.Popen[str]:
    """Run the function as Google does, but on this machine only."""
    told = {"GUNICORN_CMD_ARGS": "", "PYTHONDONTWRITEBYTECODE": "1", **environment}
    command = ["functions-framework", "--target=serve", "--source=main.py", f"--host={HOST}", f"--port={port}"]
    return subprocess.Popen(
        [str(Path(sys.executable).parent / command[0]), *command[1:]],
        cwd=folder,
        env={**os.environ, **told},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def ask(port: int, path: str, body: Any = None) -> tuple[int, Any]:
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{HOST}:{port}{path}", data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.loads(refused.read())


@contextmanager
def running(folder: Path, environment: dict[str, str]) -> Iterator[int]:
    port = free_port()
    process = started(folder, environment, port)
    try:
        _wait(process, port)
        yield port
    finally:
        process.terminate()
        process.communicate(timeout=SECONDS)


def _wait(process: subprocess.Popen[str], port: int) -> None:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            assert ask(port, "/ready")[0] == 200
            return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    pytest.fail(f"the function did not start: {process.communicate(timeout=SECONDS)[1] if process.poll() else 'slow'}")


def test_the_function_answers_as_the_bundle_says_and_refuses_what_the_bundle_refuses(
    deployed: tuple[Path, dict[str, str]],
) -> None:
    folder, environment = deployed
    example = json.loads((folder / "bundle" / "example.json").read_text())
    rows = example["request"]["rows"]
    with running(folder, environment) as port:
        status, answer = ask(port, "/predict", example["request"])
        assert status == 200 and [row["prediction"] for row in answer["rows"]] == [
            row["prediction"] for row in example["answer"]["rows"]
        ]
        assert [row["score"] for row in answer["rows"]] == pytest.approx(
            [row["score"] for row in example["answer"]["rows"]], abs=1e-6
        )
        assert ask(port, "/model")[1]["digest"] == environment["BUNDLE_DIGEST"]
        for wrong in ({**rows[0], "of_another_model": 1}, dict(list(rows[0].items())[1:])):
            status, refusal = ask(port, "/predict", {"rows": [rows[0], wrong]})
            assert status == 422 and refusal["detail"][0]["row"] == 1
            assert set(refusal["detail"][0]) == {"row", "field", "value", "problem"}
        assert ask(port, "/predict", b'{"rows": [{"a": NaN}]}')[0] == 422
        assert ask(port, "/elsewhere")[0] == 404


@pytest.mark.parametrize(
    ("name", "told"),
    [("manifest.json", "BUNDLE_DIGEST"), ("inference.py", "was not run"), ("example.json", "not parsed")],
)
def test_a_function_with_one_altered_byte_does_not_start(
    deployed: tuple[Path, dict[str, str]], tmp_path: Path, name: str, told: str
) -> None:
    folder, environment = deployed
    process = started(_copied(folder, tmp_path / "function", name), environment, free_port())
    try:
        _, error = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    assert process.returncode and told in error


def _copied(folder: Path, target: Path, altered: str) -> Path:
    """Copy the function with one bit of a file flipped."""
    shutil.copytree(folder, target)
    content = bytearray((target / "bundle" / altered).read_bytes())
    content[len(content) // 2] ^= 1
    (target / "bundle" / altered).write_bytes(content)
    return target
