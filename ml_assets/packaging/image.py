"""A bundle as an OCI image: built by Docker, or by buildah where no engine runs; pushed to a registry, or kept in a folder.

`docker` is taken when its engine answers and has BuildKit (Docker 23 or newer), then `buildah`. `ML_ASSETS_IMAGE_TOOL` names another
one with its options, such as `buildah --storage-driver vfs`. buildah isolates by chroot, which needs no privileges of its own, unless
`BUILDAH_ISOLATION` says otherwise. Both take credentials for a registry from where `docker login` or `buildah login` put them.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import tarfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ml_assets.development.model_files import read_verified, write_folder
from ml_assets.development.tracking import CHAMPION
from ml_assets.packaging.bundle import BUNDLE, MANIFEST, verify
from ml_assets.packaging.champion import BUNDLE_DIGEST
from ml_assets.packaging.container import BASE, DIGEST_VARIABLE
from ml_assets.packaging.sbom import sbom

if TYPE_CHECKING:
    from ml_assets.development.tracking import Tracking

TOOL_VARIABLE = "ML_ASSETS_IMAGE_TOOL"
DOCKER, BUILDAH = "docker", "buildah"
SBOM = "bundle.sbom.json"
DOCKERFILE, SERVER = "Dockerfile", "inference.py"
BUNDLE_FOLDER, ABOUT, ID = "bundle", "about", "id"
VERSION_LABEL, COMMIT_LABEL = "org.opencontainers.image.version", "org.opencontainers.image.revision"
ENGINE_SECONDS = 20
LAST_LINES = 15

Tell = Callable[[str], object]


class ImageError(ValueError):
    """An image was not built, pushed or saved; the message says why, and what the tool said last."""


@dataclass(frozen=True)
class Tool:
    """What builds: `name` is `docker` or `buildah`, `command` how it is called."""

    name: str
    command: tuple[str, ...]


@dataclass(frozen=True)
class Image:
    """A built image: its `tag` in the tool's store, the digest of its configuration (the image's id), its labels and bill of materials."""

    tag: str
    digest: str
    tool: Tool
    labels: Mapping[str, str] = field(default_factory=dict)
    sbom: bytes = b""


def find_tool(environment: Mapping[str, str] = os.environ) -> Tool:
    """Return the tool that `ML_ASSETS_IMAGE_TOOL` names, else Docker when its engine answers, else buildah; `ImageError` without any."""
    if named := shlex.split(environment.get(TOOL_VARIABLE, "")):
        return _named(named)
    if shutil.which(DOCKER) and _answers(DOCKER):
        return Tool(DOCKER, (DOCKER,))
    if shutil.which(BUILDAH):
        return Tool(BUILDAH, (BUILDAH,))
    raise ImageError(
        "nothing here builds images: start Docker's engine (with buildx), or install buildah (Debian and Ubuntu: "
        "apt-get install buildah)"
    )


def build_image(
    folder: Path,
    *,
    digest: str,
    tag: str,
    labels: Mapping[str, str] | None = None,
    base: str = BASE,
    secrets: Mapping[str, Path] | None = None,
    tool: Tool | None = None,
    tell: Tell = print,
) -> Image:
    """Build the image of the bundle in `folder`, whose bytes must match `digest`, and return it.

    The image has exactly the bytes that were verified, in /bundle, and beside it /bundle.sbom.json. `labels` are added to those of
    `labels_of`. `base` is an image with Python 3.11 and venv. `secrets` are files that only the build sees: `pip.conf`, `ca.pem`.
    `tell` takes each line of progress. Raises `BundleError` for altered bytes, `ImageError` when the tool fails.
    """
    files = _verified(Path(folder), digest)
    tool, bill = tool or find_tool(), sbom(files, digest=digest)
    all_labels = {**labels_of(files, digest=digest), **(labels or {})}
    with TemporaryDirectory(prefix="ml_assets_image_") as draft:
        place = Path(draft)
        write_folder(place / BUNDLE_FOLDER, files)
        write_folder(place / ABOUT, {SBOM: bill})
        # What is about the bundle cannot be in its folder, which has no file beyond the manifest's.
        (place / DOCKERFILE).write_text(f"{files[DOCKERFILE].decode()}COPY --from={ABOUT} {SBOM} /{SBOM}\n")
        given = [("build-arg", f"BASE={base}"), ("build-arg", f"{DIGEST_VARIABLE}={digest}"), ("tag", tag)]
        given += [("secret", f"id={name},src={path}") for name, path in (secrets or {}).items()]
        given += [("label", f"{name}={value}") for name, value in sorted(all_labels.items())]
        _build(tool, place, given, tell)
        return Image(tag, (place / ID).read_text().strip(), tool, all_labels, bill)


def _build(tool: Tool, place: Path, given: Sequence[tuple[str, str]], tell: Tell) -> None:
    """Build what was laid out in `place`; the image's id goes to a file there."""
    paths = [
        ("build-context", f"{ABOUT}={place / ABOUT}"),
        ("file", str(place / DOCKERFILE)),
        ("iidfile", str(place / ID)),
    ]
    options = [part for name, value in (*given, *paths) for part in (f"--{name}", value)]
    arguments = ["build", *options, str(place / BUNDLE_FOLDER)]
    if tool.name == BUILDAH:
        arguments.insert(1, "--layers")  # which Docker keeps always
        # An image by OCI's standard has no health check (Docker's has, Kubernetes asks its own), of which buildah warns at each step.
        tool = replace(tool, command=(*tool.command, "--log-level=error"))
    _run(tool, arguments, tell)


def registered_image(
    tracking: Tracking, problem: str, *, version: str = "", cache: Path, tag: str = "", **how: Any
) -> Image:
    """Build the image of a registered version, of the champion by default; `how` as for `build_image`.

    A bundle that is kept elsewhere is copied below `cache`. The labels say the version and the git commit that trained it. Raises
    `ImageError` when there is no such version.
    """
    ref = tracking.version(problem, version) if version else tracking.champion(problem)
    if ref is None:
        raise ImageError(f"{problem}:{version or CHAMPION} is not registered; run job train")
    labels = {VERSION_LABEL: ref.version, COMMIT_LABEL: ref.tags.get("git_commit", "unknown")}
    return build_image(
        tracking.bundle_folder(ref, cache),
        digest=ref.tags[BUNDLE_DIGEST],
        tag=tag or f"ml-assets/{problem}:{ref.version}",
        labels=labels,
        **how,
    )


def labels_of(files: Mapping[str, bytes], *, digest: str) -> dict[str, str]:
    """Return the labels that a bundle's verified files tell: OCI's own names, and `ml_assets.*`."""
    told = json.loads(files[BUNDLE])
    return {
        "org.opencontainers.image.title": told["problem"],
        VERSION_LABEL: told["model_version"],
        "ml_assets.problem": told["problem"],
        "ml_assets.model_version": told["model_version"],
        "ml_assets.data_hash": told["data_hash"],
        "ml_assets.code_version": told["code_version"],
        "ml_assets.bundle_digest": digest,
    }


def push(image: Image, reference: str, *, insecure: bool = False, tell: Tell = print) -> str:
    """Push the image to `reference` (`registry/name:tag`) and return `registry/name@sha256:…`, by which to deploy it.

    A registry stores the manifest last: when this fails with `ImageError`, the reference names what it named before. `insecure`
    allows HTTP, for buildah; Docker reads that from its engine's settings and takes it for loopback.
    """
    digest = {DOCKER: _push_docker, BUILDAH: _push_buildah}[image.tool.name](image, reference, insecure, tell)
    return f"{_repository(reference)}@{digest}"


def save(image: Image, folder: Path, *, tell: Tell = print) -> str:
    """Keep the image as an OCI layout in `folder`, which must not exist or be such a layout; return the manifest's digest.

    The bill of materials is kept beside it, see `keep_sbom`. A layout that breaks off is never seen under its name.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / "oci-layout").exists():
        raise ImageError(f"{folder} exists and is no OCI layout: choose another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=".image_") as draft:
        made = Path(draft) / "layout"
        {DOCKER: _save_docker, BUILDAH: _save_buildah}[image.tool.name](image, made, tell)
        digest = str(json.loads((made / "index.json").read_text())["manifests"][0]["digest"])
        if folder.exists():
            folder.rename(Path(draft) / "before")
        made.rename(folder)
    keep_sbom(image, folder)
    return digest


def keep_sbom(image: Image, folder: Path) -> Path:
    """Write the bill of materials beside where the image's folder is or would be, as `<folder>.sbom.json`; return the file."""
    bill = Path(folder).with_name(f"{Path(folder).name}.sbom.json")
    bill.parent.mkdir(parents=True, exist_ok=True)
    bill.write_bytes(image.sbom)
    return bill


def _named(command: Sequence[str]) -> Tool:
    name = Path(command[0]).name
    if name not in (DOCKER, BUILDAH):
        raise ImageError(f"{TOOL_VARIABLE} names {name!r}: give docker or buildah, with options if you like")
    if shutil.which(command[0]) is None:
        raise ImageError(f"{TOOL_VARIABLE} names {command[0]!r}, which is not installed")
    return Tool(name, tuple(command))


def _answers(docker: str) -> bool:
    """Tell whether Docker has an engine and BuildKit; its client alone builds nothing."""
    try:
        return all(
            subprocess.run([docker, *asked], capture_output=True, timeout=ENGINE_SECONDS, check=False).returncode == 0
            for asked in (["version"], ["buildx", "version"])
        )
    except subprocess.TimeoutExpired:
        return False


def _verified(folder: Path, digest: str) -> dict[str, bytes]:
    """Return the content of all files, each read once after the manifest was checked: what was hashed is what is built."""
    files = read_verified(folder, {**verify(folder, digest).files, MANIFEST: digest})
    if missing := [name for name in (DOCKERFILE, SERVER) if name not in files]:
        raise ImageError(f"{folder} has no {' and no '.join(missing)}: an older version made it; run job train again")
    return files


def _push_docker(image: Image, reference: str, insecure: bool, tell: Tell) -> str:
    if insecure and not reference.startswith(("127.", "localhost")):
        raise ImageError(
            "Docker allows HTTP by its engine's setting `insecure-registries` only: put the registry there"
        )
    _run(image.tool, ["tag", image.tag, reference], tell)
    _run(image.tool, ["push", reference], tell)
    found = json.loads(_output(image.tool, ["image", "inspect", "--format", "{{json .RepoDigests}}", reference]))
    digests = {name: digest for name, _, digest in (one.partition("@") for one in found)}
    if (repository := _repository(reference)) not in digests:
        raise ImageError(f"{reference} was pushed, but Docker knows its digest only for {sorted(digests)}")
    return str(digests[repository])


def _push_buildah(image: Image, reference: str, insecure: bool, tell: Tell) -> str:
    with TemporaryDirectory(prefix="ml_assets_push_") as draft:
        told = Path(draft) / "digest"
        plain = ["--tls-verify=false"] if insecure else []
        _run(image.tool, ["push", *plain, "--digestfile", str(told), image.tag, f"docker://{reference}"], tell)
        return told.read_text().strip()


def _save_docker(image: Image, folder: Path, tell: Tell) -> None:
    archive = folder.with_suffix(".tar")
    _run(image.tool, ["save", "--output", str(archive), image.tag], tell)
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    if not (folder / "oci-layout").exists():
        raise ImageError("this Docker saves no OCI layout: use Docker 25 or newer, or buildah")


def _save_buildah(image: Image, folder: Path, tell: Tell) -> None:
    _run(image.tool, ["push", image.tag, f"oci:{folder}"], tell)


def _repository(reference: str) -> str:
    """Return a reference without its tag; a port of the registry stays."""
    head, slash, last = reference.rpartition("/")
    return f"{head}{slash}{last.partition('@')[0].partition(':')[0]}"


def _run(tool: Tool, arguments: Sequence[str], tell: Tell) -> None:
    """Run the tool, telling its lines as they come; `ImageError` with the last ones when it fails. It ends when this does."""
    lines: deque[str] = deque(maxlen=LAST_LINES)
    process = subprocess.Popen(
        [*tool.command, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=_environment(),
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            lines.append(line.rstrip())
            tell(line.rstrip())
        status = process.wait()
    finally:
        process.terminate()
        process.stdout.close()
        process.wait()
    if status:
        raise ImageError(f"{tool.name} {arguments[0]} ended with status {status}:\n" + "\n".join(lines))


def _output(tool: Tool, arguments: Sequence[str]) -> str:
    done = subprocess.run([*tool.command, *arguments], capture_output=True, text=True, check=False, env=_environment())
    if done.returncode:
        raise ImageError(f"{tool.name} {arguments[0]} ended with status {done.returncode}:\n{done.stderr.strip()}")
    return done.stdout


def _environment() -> dict[str, str]:
    """Return the environment for the tool; what the user set wins."""
    return {"BUILDAH_ISOLATION": "chroot", "DOCKER_BUILDKIT": "1", **os.environ}
