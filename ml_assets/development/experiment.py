"""One experiment: everything that was made from one training set, in one folder named after its hash.

Lineage is by name, never by "the newest file": a candidate of another training set cannot be picked up by mistake.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HASH_DIGITS = 16


class ExperimentError(ValueError):
    """A part of an experiment was asked for that has not been made."""


class Experiment:
    """The folder `<root>/<problem>/<first digits of the training set's hash>`."""

    def __init__(self, root: Path, problem: str, data_hash: str) -> None:
        """`data_hash` is the version of the training set in the lake."""
        self.problem = problem
        self.data_hash = data_hash
        self.root = root / problem / data_hash[:HASH_DIGITS]
        self._warm = root / problem / "search"

    def folder(self, name: str) -> Path:
        """Return the folder of one part, such as `candidates/xgboost`."""
        return self.root / name

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Write one JSON document, whole or not at all."""
        target = self.root / f"{name}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_suffix(".tmp")
        draft.write_text(json.dumps(content, indent=1, sort_keys=True, allow_nan=False))
        draft.replace(target)

    def read(self, name: str) -> dict[str, Any]:
        """Return one JSON document; `ExperimentError` when this training set has none."""
        target = self.root / f"{name}.json"
        if not target.is_file():
            raise ExperimentError(
                f"{self.problem}: no {name} for training set {self.data_hash[:HASH_DIGITS]}; materialize it for this training set"
            )
        return dict(json.loads(target.read_text()))

    def warm(self, kind: str) -> dict[str, Any] | None:
        """Return what the search of this candidate found on the last other training set, or None: where a search may begin.

        It is the same each time for one training set, so that a step that is made again gives the same model.
        """
        target = self._warm / f"{kind}.json"
        known: list[dict[str, Any]] = json.loads(target.read_text()) if target.is_file() else []
        hashes = [one["data_hash"] for one in known]
        before = known[: hashes.index(self.data_hash)] if self.data_hash in hashes else known
        return before[-1]["parameters"] if before else None

    def remember(self, kind: str, parameters: Mapping[str, Any]) -> None:
        """Keep what a search found, for the searches on later training sets."""
        target = self._warm / f"{kind}.json"
        known: list[dict[str, Any]] = json.loads(target.read_text()) if target.is_file() else []
        if self.data_hash in [one["data_hash"] for one in known]:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_suffix(".tmp")
        draft.write_text(json.dumps([*known, {"data_hash": self.data_hash, "parameters": dict(parameters)}], indent=1))
        draft.replace(target)
