"""One flipped byte, anywhere, is refused before a parser reads it; writing the same again repairs it."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl
import pytest

from ml_assets.lake import AlteredFileError, Lake, Manifest
from ml_assets.lake.manifest import Live

NOW = datetime(2013, 1, 2, tzinfo=UTC)
TABLE, DAY = "raw/t", "2013-01-01"
FRAME = pl.DataFrame({"a": [1, 2], "b": ["x", None]})


@pytest.fixture(params=["folder", "memory URL"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    """A lake with one partition."""
    lake = Lake(str(tmp_path / "lake") if request.param == "folder" else f"memory://{uuid4().hex}/lake")
    write(lake)
    return lake


def write(lake: Lake, frame: pl.DataFrame = FRAME) -> Manifest:
    return lake.write(TABLE, frame, partition=DAY, written_at=NOW, inputs={"landing/f": "1"})


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


def flip(lake: Lake, name: str, position: int) -> None:
    lake.store.write(name, flipped(lake.store.read(name), position))


def never(*_: Any, **__: Any) -> None:
    raise AssertionError("a parser read it")


READERS: dict[str, Callable[[Lake, Manifest, str], Any]] = {
    "scan": lambda lake, _, __: lake.scan(TABLE),
    "scan with days": lambda lake, _, __: lake.scan(TABLE, partition_column="day"),
    "read": lambda lake, _, __: lake.read(TABLE),
    "version": lambda lake, manifest, _: lake.scan_version(TABLE, manifest.version, DAY),
    "snapshot": lambda lake, _, snapshot: lake.scan_snapshot(TABLE, snapshot),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("superseded", [False, True], ids=["current", "superseded"])
def test_a_flipped_byte_of_the_data(lake: Lake, reader: str, superseded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest, snapshot = write(lake), lake.snapshot(TABLE)
    if superseded:
        if reader in ("scan", "scan with days", "read"):
            return  # they read the current version
        write(lake, FRAME.reverse())
    name = f"{TABLE}/{DAY}/{manifest.files[0].name}"
    for position in range(0, manifest.files[0].size, 37):
        sound = lake.store.read(name)
        flip(lake, name, position)
        with monkeypatch.context() as patch:
            patch.setattr(pl, "scan_parquet", never)
            patch.setattr(pl, "read_parquet_schema", never)
            with pytest.raises(AlteredFileError, match=r"parquet has SHA-256 \w{64}, but \w{64} was written; .*again"):
                READERS[reader](lake, manifest, snapshot)
        lake.store.write(name, sound)
    READERS[reader](lake, manifest, snapshot)


def test_the_paths_of_a_folder_are_of_sound_files(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    manifest = write(lake)
    assert len(lake.files(TABLE)) == 1
    flip(lake, f"{TABLE}/{DAY}/{manifest.files[0].name}", 5)
    with pytest.raises(AlteredFileError):
        lake.files(TABLE)


def test_a_file_that_was_sound_is_read_again_when_it_changes(tmp_path: Path) -> None:
    """Also when it keeps its size and its time: then its inode tells, or its time within the clock's resolution."""
    lake = Lake(str(tmp_path))
    path = tmp_path / TABLE / DAY / write(lake).files[0].name
    lake.read(TABLE)
    status, data = path.stat(), path.read_bytes()
    (tmp_path / "other").write_bytes(flipped(data, 9))
    os.utime(tmp_path / "other", ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(tmp_path / "other", path)
    with pytest.raises(AlteredFileError):
        lake.read(TABLE)


def test_every_byte_of_a_manifest_counts(lake: Lake) -> None:
    name = f"{TABLE}/{DAY}/manifest.json"
    sound = lake.store.read(name)
    for position in range(len(sound)):
        for parse in (Manifest.from_json, Live.from_json):
            with pytest.raises(AlteredFileError):
                parse(flipped(sound, position))
    for cut in (0, 1, 40, 79, 90, len(sound) - 1):
        with pytest.raises(AlteredFileError):
            Manifest.from_json(sound[:cut])


@pytest.mark.parametrize("position", [3, 30, 200])
def test_a_flipped_byte_of_the_manifest(lake: Lake, position: int) -> None:
    flip(lake, f"{TABLE}/{DAY}/manifest.json", position)
    for use in (lake.scan, lake.read, lake.files, lake.version, lake.live, lake.manifests, lake.snapshot):
        with pytest.raises(AlteredFileError, match=r"raw/t/2013-01-01/manifest\.json .*again"):
            use(TABLE)


def test_a_flipped_byte_of_a_snapshot(lake: Lake) -> None:
    snapshot = lake.snapshot(TABLE)
    name = f"_snapshots/{snapshot}.json"
    sound = lake.store.read(name)
    for position in range(len(sound)):
        lake.store.write(name, flipped(sound, position))
        with pytest.raises(AlteredFileError, match="not the snapshot that its name says"):
            lake.versions_in(snapshot)
    assert lake.snapshot(TABLE) == snapshot
    assert lake.store.read(name) == sound


@pytest.mark.parametrize("name", ["data", "manifest"])
def test_writing_the_same_again_repairs_it(lake: Lake, name: str) -> None:
    manifest = write(lake)
    assert lake.intact(manifest)
    flip(lake, f"{TABLE}/{DAY}/{manifest.files[0].name if name == 'data' else 'manifest.json'}", 100)
    assert lake.intact(manifest) is (name == "manifest")
    assert write(lake) == manifest
    assert lake.intact(manifest)
    assert lake.read(TABLE).equals(FRAME)
