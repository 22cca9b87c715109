"""One flipped byte in anything that is stored and read again is refused before a parser sees it; the untouched file is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import pytest

from ml_assets.collection import quarantine
from ml_assets.collection.collect import collect
from ml_assets.development import model_files
from ml_assets.development.experiment import Experiment
from ml_assets.lake import AlteredFileError
from ml_assets.packaging.bundle import BundleError, load_bundle
from ml_assets_tests.collection.outside import NOW, THINGS, open_places, put
from ml_assets_tests.development.samples import model_of
from ml_assets_tests.packaging.bundles import built, stored

DAY = "2013-01-31"
GOOD, BROKEN = "id,value\n1,0.5\n", "id,value\n1,-1\n"
PLACES = 4  # seeded ones, beside the first and the last byte


@dataclass(frozen=True)
class Artifact:
    """A stored file, how it is read, the error of an altered one, and the parser that must not see one (module and name)."""

    path: Path
    read: Callable[[], object]
    error: type[Exception] = AlteredFileError
    parser: tuple[Any, str] | None = None


def collected(root: Path, text: str) -> None:
    """Collect one file of one day."""
    places = open_places(root)
    put(places, f"things/things-{DAY}.csv", text)
    collect(THINGS, places, now=NOW)


def data(root: Path) -> Artifact:
    collected(root, GOOD)
    (path,) = (root / "lake/raw/things" / DAY).glob("*.parquet")
    return Artifact(path, lambda: open_places(root).lake.read("raw/things"), parser=(pl, "scan_parquet"))


def manifest(root: Path) -> Artifact:
    collected(root, GOOD)
    path = root / "lake/raw/things" / DAY / "manifest.json"
    return Artifact(path, lambda: open_places(root).lake.scan("raw/things"), parser=(pl, "scan_parquet"))


def snapshot(root: Path) -> Artifact:
    collected(root, GOOD)
    name = open_places(root).lake.snapshot("raw/things")
    path = root / "lake/_snapshots" / f"{name}.json"
    read = lambda: open_places(root).lake.scan_snapshot("raw/things", name)  # noqa: E731
    return Artifact(path, read, parser=(pl, "scan_parquet"))


def ledger(root: Path) -> Artifact:
    collected(root, GOOD)
    (path,) = (root / "lake/_ledger").iterdir()
    return Artifact(path, lambda: collect(THINGS, open_places(root), now=NOW))


def kept(root: Path) -> Artifact:
    collected(root, BROKEN)
    (path,) = (root / "quarantine").rglob("*.csv")
    name = f"things/things-{DAY}.csv"
    read = lambda: quarantine.retry(name, [THINGS], open_places(root), now=NOW)  # noqa: E731
    return Artifact(path, read, parser=("ml_assets.collection.collect", "read_file"))


def document(root: Path) -> Artifact:
    Experiment(root, "late", "a" * 64).write("challenger", {"winner": "xgboost", "score": 0.75})
    (path,) = root.rglob("challenger.json")
    return Artifact(path, lambda: Experiment(root, "late", "a" * 64).read("challenger"))


def searched(root: Path) -> Artifact:
    Experiment(root, "late", "a" * 64).remember("xgboost", {"depth": 3})
    (path,) = root.rglob("xgboost.json")
    return Artifact(path, lambda: Experiment(root, "late", "b" * 64).warm("xgboost"))


def model(root: Path, name: str) -> Artifact:
    made = model_of("binary", "baseline")
    made.save(root / "model")
    known = model_files.hashes(made.files())
    read = lambda: model_files.load(root / "model", sha256=known)  # noqa: E731
    return Artifact(root / "model" / name, read, model_files.ModelFileError, (model_files, "parse"))


def bundle(root: Path, name: str) -> Artifact:
    packed = built(root / "bundle", stored(root / "model", model_of("binary", "baseline")))
    read = lambda: load_bundle(root / "bundle", digest=packed.digest)  # noqa: E731
    return Artifact(root / "bundle" / name, read, BundleError, (model_files, "parse"))


ARTIFACTS: dict[str, Callable[[Path], Artifact]] = {
    "data of the lake": data,
    "manifest": manifest,
    "snapshot": snapshot,
    "batch of the ledger": ledger,
    "file in quarantine": kept,
    "document of an experiment": document,
    "what a search remembers": searched,
    "model": lambda root: model(root, "model.json"),
    "encoder of a model": lambda root: model(root, "encoder.json"),
    "manifest of a bundle": lambda root: bundle(root, "manifest.json"),
    "bundle": lambda root: bundle(root, "bundle.json"),
    "requirements of a bundle": lambda root: bundle(root, "requirements.txt"),
    "example of a bundle": lambda root: bundle(root, "example.json"),
}


@pytest.mark.parametrize("kind", ARTIFACTS)
def test_one_flipped_byte_is_refused_before_a_parser_reads_it(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = ARTIFACTS[kind](tmp_path)
    sound, draw = artifact.path.read_bytes(), Random(kind)
    for position in (0, len(sound) - 1, *(draw.randrange(len(sound)) for _ in range(PLACES))):
        altered = bytearray(sound)
        altered[position] ^= draw.randrange(1, 256)
        artifact.path.write_bytes(altered)
        with monkeypatch.context() as patch, pytest.raises(artifact.error):
            if artifact.parser:
                patch.setattr(*_target(artifact.parser), lambda *_, **__: pytest.fail("a parser was reached"))
            artifact.read()
    artifact.path.write_bytes(sound)
    assert artifact.read() is not None


def _target(parser: tuple[Any, str]) -> tuple[Any, ...]:
    where, name = parser
    return (f"{where}.{name}",) if isinstance(where, str) else (where, name)
