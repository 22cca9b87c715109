"""A real image: built by buildah on a Debian base, pushed to a registry on loopback, pulled, started, and asked the bundle's example.

No image can be pulled from outside where the tests run, so the base is made by debootstrap.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ml_assets.packaging.image import SBOM, Image, ImageError, build_image, find_tool, push, save
from ml_assets.resources.local import HOST, free_port
from ml_assets_tests.development.samples import model_of
from ml_assets_tests.packaging.bundles import built, stored

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NEEDED = ("buildah", "debootstrap", "docker-registry")
BASE = "localhost/base:1"
SECONDS = 60


@dataclass(frozen=True)
class Made:
    """An image, the bundle that it was built of, and where it was pushed."""

    image: Image
    bundle: Path
    digest: str
    pushed: str


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with buildah's own store, emptied afterwards: an image is a gigabyte, and the store is mounted."""
    missing = [name for name in NEEDED if shutil.which(name) is None] + ["root"] * (os.geteuid() != 0)
    if missing:
        if os.environ.get("CI"):
            pytest.fail(f"{missing} missing, and where every change is tested they must be there")
        pytest.skip(f"{missing} missing: run as root after apt-get install {' '.join(NEEDED)}")
    folder = tmp_path_factory.mktemp("images")
    with pytest.MonkeyPatch.context() as change:
        change.setenv("ML_ASSETS_IMAGE_TOOL", f"buildah --root {folder}/store --runroot {folder}/run")
        yield folder
        buildah("rm", "--all")
        buildah("rmi", "--all", "--force")
        subprocess.run(["umount", folder / "store" / "overlay"], check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def base(place: Path) -> str:
    """The name of an image of Debian with Python 3.11."""
    root = place / "base"
    wanted = ["--variant=minbase", "--include=python3,python3-venv", "bookworm", str(root)]
    done = subprocess.run(["debootstrap", *wanted], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    container = buildah("from", "scratch")
    buildah("add", container, str(root), "/")
    buildah("commit", "--rm", container, BASE)
    shutil.rmtree(root)
    return BASE


@pytest.fixture(scope="module")
def registry(place: Path) -> Iterator[str]:
    """Host and port of a registry that starts empty."""
    port = free_port()
    told = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(place / "registry")}},
        "http": {"addr": f"{HOST}:{port}"},
    }
    (place / "registry.json").write_text(json.dumps(told))
    with running(["docker-registry", "serve", str(place / "registry.json")], place / "registry.log"):
        answer(f"http://{HOST}:{port}/v2/")
        yield f"{HOST}:{port}"


@pytest.fixture(scope="module")
def made(place: Path, base: str, registry: str) -> Made:
    """A forest's image, which was pushed and then forgotten here."""
    bundle = place / "bundle"
    digest = built(bundle, stored(place / "candidate", model_of("binary", "random_forest"))).digest
    image = build_image(
        bundle,
        digest=digest,
        tag="ml-assets/late:7",
        labels={"org.opencontainers.image.revision": "f00d"},
        base=base,
        secrets=index_of_this_machine(place),
    )
    pushed = push(image, f"{registry}/late:7", insecure=True)
    save(image, place / "images" / "7")
    buildah("rmi", "--force", image.digest.removeprefix("sha256:"))
    buildah("pull", "--tls-verify=false", pushed)
    return Made(image, bundle, digest, pushed)


def buildah(*arguments: str) -> str:
    """Run the tests' buildah and return what it prints."""
    done = subprocess.run([*find_tool().command, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def index_of_this_machine(place: Path) -> dict[str, Path]:
    """Return pip's settings of this machine as a build's secrets: which index, and whose certificates."""
    told = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    settings = {
        name.rpartition(".")[2]: value for name, _, value in (one.partition("=") for one in told.stdout.splitlines())
    }
    kept = {
        name: shlex.split(settings[name])[0] for name in ("index-url", "trusted-host", "timeout") if name in settings
    }
    secrets = {"pip.conf": place / "pip.conf"}
    authority = shlex.split(settings.get("cert", ""))[0] if "cert" in settings else os.environ.get("SSL_CERT_FILE")
    if authority:
        secrets["ca.pem"], kept["cert"] = Path(authority), "/run/secrets/ca.pem"
    secrets["pip.conf"].write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in kept.items()))
    return secrets


@contextmanager
def running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command with all that it starts, and end that."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(SECONDS)


@contextmanager
def started(container: str, port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a container as its image says, but on loopback: there is no network of its own by chroot."""
    config = json.loads(buildah("inspect", "--type", "container", container))["OCIv1"]["config"]
    here = ["--env", f"HOST={HOST}", "--env", f"PORT={port}"]
    command = [*find_tool().command, "run", "--isolation", "chroot", *here, container, "--", *config["Entrypoint"]]
    with running(command, log) as process:
        yield process


def answer(url: str, body: Any = None) -> Any:
    """Return what a server that is starting answers."""
    request = urllib.request.Request(
        url, json.dumps(body).encode() if body else None, {"Content-Type": "application/json"}
    )
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as found:
                return json.load(found)
        except (urllib.error.URLError, ConnectionError) as error:
            if isinstance(error, urllib.error.HTTPError) or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def test_the_pulled_image_answers_the_example_as_the_bundle_says(made: Made, place: Path) -> None:
    container, port = buildah("from", made.pushed), free_port()
    example = json.loads((made.bundle / "example.json").read_text())
    with started(container, port, place / "server.log"):
        given = answer(f"http://{HOST}:{port}/predict", example["request"])
        assert answer(f"http://{HOST}:{port}/model")["digest"] == made.digest
    assert len(given["rows"]) == len(example["answer"]["rows"])
    assert all(same(row, wanted) for row, wanted in zip(given["rows"], example["answer"]["rows"], strict=True))
    assert buildah("run", "--isolation", "chroot", container, "--", "id", "-u") == "10001"


def same(row: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Tell whether numbers agree to 1e-6 and everything else exactly."""
    return set(row) == set(wanted) and all(
        row[name] == (pytest.approx(value, abs=1e-6) if isinstance(value, float) else value)
        for name, value in wanted.items()
    )


def test_labels_and_bill_are_in_the_pulled_image(made: Made) -> None:
    config = json.loads(buildah("inspect", "--type", "image", made.pushed))["OCIv1"]["config"]
    assert config["Labels"].items() >= made.image.labels.items()
    assert config["Labels"]["org.opencontainers.image.revision"] == "f00d"
    assert config["Labels"]["ml_assets.bundle_digest"] == made.digest
    assert config["User"] == "10001:10001"
    with content(made.pushed) as root:
        assert (root / SBOM).read_bytes() == made.image.sbom
        assert {path.name for path in (root / "bundle").iterdir()} == {path.name for path in made.bundle.iterdir()}


def test_nothing_of_the_index_stays_in_the_image(made: Made, place: Path) -> None:
    with content(made.pushed) as root:
        left = [path for path in (root / "run" / "secrets").rglob("*") if path.is_file()]
        assert not left and not (root / "etc" / "pip.conf").exists()
    history = json.dumps(json.loads(buildah("inspect", "--type", "image", made.pushed))["OCIv1"])
    secret = (place / "pip.conf").read_text().splitlines()[1:]
    assert not [line for line in secret if line.partition(" = ")[2] in history and "/run/secrets" not in line]


@contextmanager
def content(image: str) -> Iterator[Path]:
    """The files of an image."""
    container = buildah("from", image)
    try:
        yield Path(buildah("mount", container))
    finally:
        buildah("rm", container)


def test_an_image_whose_bundle_was_altered_does_not_start(made: Made, place: Path) -> None:
    container, port = buildah("from", made.pushed), free_port()
    model = next((Path(buildah("mount", container)) / "bundle").glob("*.onnx"))
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    log = place / "altered.log"
    with started(container, port, log) as process:
        assert process.wait(SECONDS) != 0
    assert "refused" in log.read_text() and model.name in log.read_text()


def test_a_build_with_another_digest_fails(made: Made, place: Path, base: str) -> None:
    """What somebody builds by hand is checked by the Dockerfile itself."""
    by_hand = shutil.copytree(made.bundle, place / "by_hand")
    (by_hand / "requirements.txt").write_text("")  # pip needs no index; what is checked comes after it
    wrong = [f"--build-arg=BASE={base}", f"--build-arg=BUNDLE_DIGEST={'0' * 64}"]
    command = [*find_tool().command, "build", "--isolation", "chroot", *wrong, str(by_hand)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "computed checksum did NOT match" in done.stdout + done.stderr


def test_the_layout_in_a_folder_is_the_pushed_image(made: Made, place: Path) -> None:
    told = json.loads((place / "images" / "7" / "index.json").read_text())["manifests"]
    assert [one["digest"] for one in told] == [made.pushed.partition("@")[2]]
    assert (place / "images" / "7.sbom.json").read_bytes() == made.image.sbom


def test_a_registry_that_is_down_takes_nothing(made: Made) -> None:
    again = Image("localhost/base:1", made.image.digest, made.image.tool)
    with pytest.raises(ImageError, match=r"(?s)buildah push ended with status .*connection refused"):
        push(again, f"{HOST}:{free_port()}/late:7", insecure=True)
