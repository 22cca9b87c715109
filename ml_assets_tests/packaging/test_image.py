"""Images with small stand-ins for the tools: which is taken, what it is told, and that no failure is told as a success."""

from __future__ import annotations

import hashlib
import json
import stat
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ml_assets import cli
from ml_assets.development.model_files import write_folder
from ml_assets.development.tracking import ChampionRef
from ml_assets.packaging.bundle import BundleError
from ml_assets.packaging.container import dockerfile
from ml_assets.packaging.image import (
    SBOM,
    Image,
    ImageError,
    Tool,
    build_image,
    find_tool,
    push,
    registered_image,
    save,
)
from ml_assets.packaging.sbom import sbom

FAKE = """#!/bin/sh
name=$(basename "$0")
echo "$name $*" >> "{log}"
case "$1" in --log-level=*) shift;; esac
case "$1" in
  version) exit {engine};;
  buildx) exit {buildx};;
  build) for context; do :; done; cp -r "$context" "{log}.bundle"; cp -r "$context/../about" "$context/../Dockerfile" "{log}.bundle/..";;
  image) echo '["127.0.0.1:5000/late@sha256:0a"]'; exit 0;;
esac
while [ $# -gt 0 ]; do
  case "$1" in
    --iidfile) echo sha256:1d > "$2";;
    --digestfile) echo sha256:0b > "$2";;
    oci:*) folder="${{1#oci:}}"; mkdir -p "$folder"; echo '{{}}' > "$folder/oci-layout"
      echo '{{"manifests": [{{"digest": "sha256:0c"}}]}}' > "$folder/index.json";;
  esac
  shift
done
echo working; {then}
"""


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the stand-ins write what they were told; nothing else is on the path but the system's own commands."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'tools'}:/usr/bin:/bin")
    monkeypatch.delenv("ML_ASSETS_IMAGE_TOOL", raising=False)
    monkeypatch.setattr(
        "shutil.which", lambda name: str(found) if (found := tmp_path / "tools" / name).exists() else None
    )
    return tmp_path / "log"


def installed(name: str, log: Path, *, engine: int = 0, buildx: int = 0, then: str = "exit 0") -> Tool:
    """Install a stand-in for a tool; `engine` and `buildx` are the status of their `version`, `then` how every command ends."""
    script = log.parent / "tools" / name
    script.parent.mkdir(exist_ok=True)
    script.write_text(FAKE.format(log=log, engine=engine, buildx=buildx, then=then))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return Tool(name, (name,))


def files() -> dict[str, bytes]:
    """Return the files of a bundle, as far as an image knows them, with their manifest."""
    told = {"problem": "late", "model_version": "forest@12", "data_hash": "abc", "code_version": "c0de"}
    made = {
        "bundle.json": json.dumps(told).encode(),
        "requirements.txt": b"numpy==2.2.6\nscikit-learn==1.9.1\n",
        "model.onnx": b"model",
        "inference.py": b"print()\n",
        "Dockerfile": dockerfile().encode(),
    }
    listed = {name: {"sha256": hashlib.sha256(text).hexdigest(), "bytes": len(text)} for name, text in made.items()}
    return {**made, "manifest.json": json.dumps({"version": 3, "files": listed}).encode()}


def bundle(folder: Path) -> tuple[Path, str]:
    """Write a bundle; return it and its digest."""
    made = files()
    write_folder(folder, made)
    return folder, hashlib.sha256(made["manifest.json"]).hexdigest()


def image(log: Path, tool: Tool) -> Image:
    folder, digest = bundle(log.parent / "bundle")
    return build_image(folder, digest=digest, tag="late:7", tool=tool, tell=lambda _: None)


@pytest.mark.parametrize(
    ("tools", "engine", "buildx", "taken"),
    [
        (["docker", "buildah"], 0, 0, "docker"),
        (["docker", "buildah"], 1, 0, "buildah"),
        (["docker", "buildah"], 0, 1, "buildah"),
        (["buildah"], 0, 0, "buildah"),
    ],
    ids=["an engine answers", "a client without an engine", "an engine without BuildKit", "no docker"],
)
def test_the_tool_that_works_is_taken(tools: list[str], engine: int, buildx: int, taken: str, log: Path) -> None:
    for name in tools:
        installed(name, log, engine=engine, buildx=buildx)
    assert find_tool().name == taken


def test_without_a_tool_the_message_says_what_to_install(log: Path) -> None:
    installed("docker", log, engine=1)
    with pytest.raises(ImageError, match=r"start Docker's engine .*or install buildah .*apt-get install buildah"):
        find_tool()


def test_one_variable_names_the_tool_and_its_options(log: Path) -> None:
    installed("buildah", log)
    named = find_tool({"ML_ASSETS_IMAGE_TOOL": "buildah --storage-driver vfs"})
    assert named == Tool("buildah", ("buildah", "--storage-driver", "vfs"))
    with pytest.raises(ImageError, match="'kaniko': give docker or buildah"):
        find_tool({"ML_ASSETS_IMAGE_TOOL": "kaniko"})
    with pytest.raises(ImageError, match="'docker', which is not installed"):
        find_tool({"ML_ASSETS_IMAGE_TOOL": "docker"})


@pytest.mark.parametrize("name", ["docker", "buildah"])
def test_the_image_is_of_the_verified_bytes_with_labels_and_bill_beside(name: str, log: Path) -> None:
    lines: list[str] = []
    folder, digest = bundle(log.parent / "bundle")
    secret = log.parent / "pip.conf"
    made = build_image(
        folder,
        digest=digest,
        tag="late:7",
        labels={"org.opencontainers.image.revision": "f00"},
        base="base:1",
        secrets={"pip.conf": secret},
        tool=installed(name, log),
        tell=lines.append,
    )
    assert (made.tag, made.digest, lines) == ("late:7", "sha256:1d", ["working"])
    given = {path.name: path.read_bytes() for path in log.with_name("log.bundle").iterdir()}
    assert given == files()
    assert (log.parent / "about" / SBOM).read_bytes() == made.sbom == sbom(files(), digest=digest)
    assert (log.parent / "Dockerfile").read_text() == f"{dockerfile()}COPY --from=about {SBOM} /{SBOM}\n"
    told = log.read_text()
    for part in (
        "--build-arg BASE=base:1",
        f"--build-arg BUNDLE_DIGEST={digest}",
        f"--secret id=pip.conf,src={secret}",
        "--label org.opencontainers.image.revision=f00",
        "--label org.opencontainers.image.version=forest@12",
        "--label ml_assets.data_hash=abc",
        f"--label ml_assets.bundle_digest={digest}",
        "--tag late:7",
    ):
        assert part in told
    assert ("--layers" in told) == (name == "buildah")


@pytest.mark.parametrize("name", sorted(files()))
def test_a_bundle_with_a_flipped_bit_is_not_built(name: str, log: Path) -> None:
    folder, digest = bundle(log.parent / "bundle")
    content = bytearray((folder / name).read_bytes())
    content[0] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(BundleError):
        build_image(folder, digest=digest, tag="late:7", tool=installed("buildah", log))
    assert not log.exists()


def test_a_bundle_of_an_older_version_is_refused(log: Path) -> None:
    folder, _ = bundle(log.parent / "bundle")
    (folder / "inference.py").unlink()
    told = json.loads((folder / "manifest.json").read_text())
    del told["files"]["inference.py"]
    (folder / "manifest.json").write_text(json.dumps(told))
    digest = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    with pytest.raises(ImageError, match=r"has no inference\.py: an older version made it; run job train again"):
        build_image(folder, digest=digest, tag="late:7", tool=installed("buildah", log))


def test_a_failed_build_says_what_the_tool_said_last(log: Path) -> None:
    failing = installed(
        "buildah", log, then="for n in $(seq 40); do echo line $n; done; echo no such base >&2; exit 125"
    )
    with pytest.raises(ImageError, match=r"buildah build ended with status 125:\nline 27\n(.*\n)+no such base"):
        image(log, failing)


def test_a_push_names_the_image_by_digest(log: Path) -> None:
    made = image(log, installed("buildah", log))
    assert push(made, "127.0.0.1:5000/late:7", insecure=True, tell=str) == "127.0.0.1:5000/late@sha256:0b"
    assert "push --tls-verify=false --digestfile" in log.read_text()
    push(made, "127.0.0.1:5000/late:7", tell=str)
    assert "--tls-verify" not in log.read_text().splitlines()[-1]


def test_docker_pushes_under_the_reference_and_tells_its_digest(log: Path) -> None:
    made = image(log, installed("docker", log))
    assert push(made, "127.0.0.1:5000/late:7", insecure=True, tell=str) == "127.0.0.1:5000/late@sha256:0a"
    assert log.read_text().splitlines()[-3:-1] == [
        "docker tag late:7 127.0.0.1:5000/late:7",
        "docker push 127.0.0.1:5000/late:7",
    ]
    with pytest.raises(ImageError, match="insecure-registries"):
        push(made, "registry.example/late:7", insecure=True, tell=str)
    with pytest.raises(ImageError, match="knows its digest only for"):
        push(made, "registry.example/late:7", tell=str)


@pytest.mark.parametrize("name", ["docker", "buildah"])
def test_a_push_that_breaks_off_is_no_push(name: str, log: Path) -> None:
    made = image(log, installed(name, log))
    installed(name, log, then="echo connection refused; exit 1")
    with pytest.raises(ImageError, match="connection refused"):
        push(made, "127.0.0.1:5000/late:7", tell=str)


def test_an_image_is_kept_in_a_folder_with_its_bill_beside(log: Path) -> None:
    made, folder = image(log, installed("buildah", log)), log.parent / "images" / "7"
    for _ in range(2):
        assert save(made, folder, tell=str) == "sha256:0c"
    assert sorted(path.name for path in folder.parent.iterdir()) == ["7", "7.sbom.json"]
    assert (folder.parent / "7.sbom.json").read_bytes() == made.sbom
    with pytest.raises(ImageError, match="is no OCI layout: choose another folder"):
        save(made, log.parent / "bundle", tell=str)


def test_an_image_that_breaks_off_replaces_none(log: Path) -> None:
    made, folder = image(log, installed("buildah", log)), log.parent / "images" / "7"
    save(made, folder, tell=str)
    installed("buildah", log, then="exit 1")
    with pytest.raises(ImageError, match="buildah push ended with status 1"):
        save(made, folder, tell=str)
    assert json.loads((folder / "index.json").read_text())["manifests"]
    assert sorted(path.name for path in folder.parent.iterdir()) == ["7", "7.sbom.json"]


@dataclass(frozen=True)
class Registry:
    """Stands for `Tracking`: version 7 is registered and in office."""

    folder: Path
    digest: str

    def version(self, problem: str, version: str) -> ChampionRef | None:
        return self.champion(problem) if version == "7" else None

    def champion(self, problem: str) -> ChampionRef | None:
        tags = {"bundle_digest": self.digest, "git_commit": "f00d"}
        return ChampionRef(problem, "7", "run", str(self.folder), tags) if problem == "late" else None

    def bundle_folder(self, ref: ChampionRef, cache: Path) -> Path:
        return Path(ref.source)


@pytest.fixture
def registered(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command runs in the test's folder, with a registry that knows version 7 of `late`."""
    registry = Registry(*bundle(log.parent / "bundle"))
    monkeypatch.setattr(cli, "ROOT", log.parent)
    monkeypatch.setattr(cli, "_problem", lambda name: name)
    places = {"tracking": SimpleNamespace(open=lambda: registry)}
    monkeypatch.setattr("ml_assets.resources.environment.resources", lambda _: places)


@pytest.mark.parametrize("version", ["", "7"], ids=["champion", "version 7"])
def test_the_image_of_a_registered_model_says_version_and_commit(version: str, log: Path) -> None:
    registry: Any = Registry(*bundle(log.parent / "bundle"))
    made = registered_image(
        registry, "late", version=version, cache=log.parent, tool=installed("buildah", log), tell=str
    )
    assert made.tag == "ml-assets/late:7"
    assert made.labels["org.opencontainers.image.version"] == "7"
    assert made.labels["org.opencontainers.image.revision"] == "f00d"
    assert made.labels["ml_assets.model_version"] == "forest@12"


@pytest.mark.parametrize(("problem", "version", "named"), [("late", "8", "late:8"), ("early", "", "early:champion")])
def test_what_is_not_registered_has_no_image(problem: str, version: str, named: str, log: Path) -> None:
    registry: Any = Registry(*bundle(log.parent / "bundle"))
    with pytest.raises(ImageError, match=f"{named} is not registered; run job train"):
        registered_image(registry, problem, version=version, cache=log.parent, tool=installed("buildah", log))


@pytest.mark.parametrize("name", ["docker", "buildah"])
@pytest.mark.usefixtures("registered")
def test_the_command_builds_keeps_and_pushes(name: str, log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    installed(name, log)
    assert (
        cli.main(["image", "late:7", "--push", "127.0.0.1:5000/late:7", "--insecure", "--secret", "pip.conf=own.conf"])
        == 0
    )
    told = capsys.readouterr().out.splitlines()
    bill = log.parent / "data" / "images" / "ml-assets" / "late" / "7.sbom.json"
    assert [line for line in told if line != "working"] == [
        "ml-assets/late:7  sha256:1d",
        f"bill of materials  {bill}",
        f"127.0.0.1:5000/late@sha256:{'0a' if name == 'docker' else '0b'}",
    ]
    assert "--secret id=pip.conf,src=own.conf" in log.read_text()
    assert cli.main(["image", "late:8"]) == 1
    assert "late:8 is not registered" in capsys.readouterr().err


@pytest.mark.usefixtures("registered")
def test_without_a_registry_the_command_keeps_the_image_in_a_folder(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    installed("buildah", log)
    assert cli.main(["image", "late"]) == 0
    folder = log.parent / "data" / "images" / "ml-assets" / "late" / "7"
    assert capsys.readouterr().out.splitlines()[-1] == f"{folder}  sha256:0c"
    assert (folder / "index.json").exists()


def test_the_bill_is_valid_and_names_model_data_and_libraries() -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    digest = "ab" * 32
    made = sbom(files(), digest=digest)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(made.decode()) is None
    assert made == sbom(files(), digest=digest)
    told = json.loads(made)
    model = told["metadata"]["component"]
    assert (model["type"], model["name"], model["version"]) == ("machine-learning-model", "late", "forest@12")
    assert model["hashes"] == [{"alg": "SHA-256", "content": digest}]
    assert {one["name"] for one in model["components"]} == set(files())
    assert "timestamp" not in told["metadata"]
    named = {(one["type"], one["name"], one["version"], one.get("purl")) for one in told["components"]}
    assert named == {
        ("data", "late/training_set", "abc", None),
        ("library", "numpy", "2.2.6", "pkg:pypi/numpy@2.2.6"),
        ("library", "scikit-learn", "1.9.1", "pkg:pypi/scikit-learn@1.9.1"),
    }
    assert len(next(one for one in told["dependencies"] if one["ref"] == "model")["dependsOn"]) == 3


def test_the_bill_check_turns_red_for_a_wrong_field() -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    told = json.loads(sbom(files(), digest="ab" * 32))
    told["components"][0]["type"] = "model"
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(told)) is not None


def test_the_dockerfile_is_unprivileged_and_refuses_what_was_altered() -> None:
    lines = dockerfile().splitlines()
    assert "USER 10001:10001" in lines
    assert lines.index("USER 10001:10001") < next(n for n, line in enumerate(lines) if line.startswith("ENTRYPOINT"))
    for part in ("ARG BASE=", "ARG BUNDLE_DIGEST", "sha256sum --check", "EXPOSE 8080", "--no-deps", "HEALTHCHECK"):
        assert part in dockerfile()
