"""Bundles of small models, for every test that wants one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ml_assets.development.model_files import Model, hashes
from ml_assets.development.training import CandidateResult
from ml_assets.packaging.bundle import BundleManifest, build_bundle
from ml_assets_tests.development.samples import TASKS, features_of, sample


def stored(folder: Path, model: Model, name: str = "one") -> CandidateResult:
    """Return what became of a candidate whose model lies in the folder, written where it does not yet."""
    if not folder.exists():
        model.save(folder)
    return CandidateResult(name, "trained", str(folder), sha256=hashes(model.files()))


def built(folder: Path, result: CandidateResult, kind: str = "binary", **change: Any) -> BundleManifest:
    """Write the bundle of a candidate for a kind of task; `change` replaces what `build_bundle` is told."""
    frame = sample(kind)
    told: dict[str, Any] = {
        "result": result,
        "problem": "late",
        "features": {name: str(frame.schema[name]) for name in features_of(kind)},
        "example_rows": frame.tail(3),
        "model_version": "7",
        "data_hash": "abc",
        "code_version": "1",
        "threshold": 0.4,
        "task": TASKS[kind],
    }
    return build_bundle(folder, **{**told, **change})
