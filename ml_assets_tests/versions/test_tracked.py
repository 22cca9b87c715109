"""DVC as its users know it: track, push, and pull in a clone; what was altered on the way is refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from ml_assets.cli import main
from ml_assets.lake import Lake
from ml_assets.versions.garbage import find, need_of
from ml_assets.versions.tracked import TrackedError, folders, needed, track, use_remote

REPOSITORY = Path(__file__).parents[2]
AT, LATE = datetime(2024, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
QUIET = {"DVC_NO_ANALYTICS": "1", "DO_NOT_TRACK": "1"}

pytestmark = pytest.mark.filterwarnings("ignore")  # DVC's own


def run(folder: Path, *command: str, fails: bool = False) -> str:
    """Run a command in a folder, and return what it printed."""
    environ = {**os.environ, **QUIET, "DVC_SITE_CACHE_DIR": str(folder.parent / "site")}
    environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}"
    done = subprocess.run(command, cwd=folder, env=environ, text=True, capture_output=True, check=False)
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr


def commit(root: Path) -> None:
    run(root, "git", "add", "-A")
    run(root, "git", "-c", "user.email=t@example.org", "-c", "user.name=t", "commit", "-q", "-m", "data")


def write(root: Path, value: int) -> Lake:
    """Write one partition of the lake in `root`."""
    lake = Lake(str(root / "data" / "lake"))
    lake.write("raw/visits", pl.DataFrame({"x": [value] * 50}), partition="2024-01-01", written_at=AT)
    return lake


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a git repository with the project's own settings of DVC, a lake and a model."""
    found = tmp_path / "project"
    found.mkdir()
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    for name, text in QUIET.items():
        monkeypatch.setenv(name, text)
    for name in (".gitignore", ".dvcignore", ".dvc/config", ".dvc/.gitignore"):
        (found / name).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / name, found / name)
    run(found, "git", "init", "-q")
    write(found, 1)
    model = found / "data" / "models" / "returns" / "bundle.json"
    model.parent.mkdir(parents=True)
    model.write_text("{}")
    return found


def tracked(root: Path) -> dict[str, str]:
    return track(root, folders(root, str(root / "data" / "lake"), str(root / "data" / "models")))


def clone(root: Path) -> Path:
    """Return a clone that pulls from the first one's remote."""
    other = root.parent / "clone"
    run(root.parent, "git", "clone", "-q", str(root), str(other))
    run(other, "dvc", "remote", "modify", "--local", "default", "url", str(root / "data" / "dvc-remote"))
    return other


@pytest.mark.slow
def test_a_clone_pulls_what_was_pushed(root: Path) -> None:
    hashes = tracked(root)
    assert set(hashes) == {"data/lake/_lake.json", "data/lake/raw", "data/models/returns"}
    assert hashes["data/lake/raw"].endswith(".dir") and tracked(root) == hashes
    commit(root)
    run(root, "dvc", "push", "-q")
    assert "up to date" in run(root, "dvc", "status")
    other = clone(root)
    run(other, "dvc", "pull", "-q")
    assert Lake(str(other / "data" / "lake")).read("raw/visits").equals(write(root, 1).read("raw/visits"))
    asked = "import dvc.api; print(dvc.api.read('data/models/returns/bundle.json'))"
    assert run(other, sys.executable, "-c", asked).strip() == "{}"
    write(other, 2)  # over a read-only link to the cache
    assert "modified" in run(other, "dvc", "status")
    run(other, "dvc", "checkout", "-q", "--force")
    assert Lake(str(other / "data" / "lake")).read("raw/visits")["x"].to_list() == [1] * 50


@pytest.mark.slow
def test_a_flipped_byte_in_the_remote_is_refused(root: Path) -> None:
    tracked(root)
    commit(root)
    run(root, "dvc", "push", "-q")
    (file,) = [
        path
        for path in (root / "data" / "dvc-remote").rglob("*")
        if path.is_file() and path.read_bytes()[:4] == b"PAR1"
    ]
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(bytes(data))
    other = clone(root)
    run(other, "dvc", "pull", "-q", fails=True)
    assert not list((other / "data" / "lake").rglob("*.parquet"))


def test_what_a_revision_names_stays(root: Path) -> None:
    tracked(root)
    commit(root)
    lake = write(root, 2)
    old = [item.name for item in find(lake, need_of(lake, {}), now=LATE).objects]
    assert len(old) == 2
    place = root / "data" / "lake"
    names = [path.relative_to(place).as_posix() for path in needed(root) if path.is_relative_to(place)]
    assert {name for name in old if name.endswith(".parquet")} <= set(names)
    assert not find(lake, need_of(lake, {}, names=names), now=LATE).objects


def test_the_remote_is_one_setting(root: Path) -> None:
    use_remote(root, "gs://bucket/dvc")
    assert "gs://bucket/dvc" in run(root, "dvc", "remote", "list")
    assert run(root, "git", "status", "--porcelain", ".dvc/config.local") == ""


def test_what_dvc_cannot_track_is_told(root: Path) -> None:
    with pytest.raises(TrackedError, match="keeps what models need"):
        folders(root, "gs://bucket/lake", str(root / "data" / "models"))
    with pytest.raises(TrackedError, match="run job ingest"):
        folders(root, str(root / "none"), str(root / "none"))
    with pytest.raises(TrackedError, match="run it again"):
        track(root, [Path("data/lake/nothing")])


def test_the_pipelines_commands_are_ours(capsys: pytest.CaptureFixture[str]) -> None:
    shown = run(REPOSITORY, "dvc", "dag", "--dot")
    assert '"preprocess" -> "train"' in shown
    for stage in ("preprocess", "train"):
        with pytest.raises(SystemExit) as ended:
            main([stage, "--help"])
        assert ended.value.code == 0 and "--to FOLDER" in capsys.readouterr().out
