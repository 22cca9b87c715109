"""One experiment: everything that was made from one training set, in one folder named after its hash.

Lineage is by name, never by "the newest file": a candidate of another training set cannot be picked up by mistake.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_assets.lake import AlteredFileError
from ml_assets.lake.verify import require_sha256

HASH_DIGITS = 16
BEGIN, MIDDLE, END = (
    '{"digest": "',
    '",\n"content": ',
    "}\n",
)  # a document is JSON that begins with the digest of its content


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
        _write(self.root / f"{name}.json", json.dumps(content, indent=1, sort_keys=True, allow_nan=False))

    def read(self, name: str) -> dict[str, Any]:
        """Return one JSON document; `ExperimentError` when this training set has none, `AlteredFileError` when a byte changed."""
        target = self.root / f"{name}.json"
        if not target.is_file():
            raise ExperimentError(
                f"{self.problem}: no {name} for training set {self.data_hash[:HASH_DIGITS]}; materialize it for this training set"
            )
        return dict(_read(target))

    def warm(self, kind: str) -> dict[str, Any] | None:
        """Return what the search of this candidate found on the last other training set, or None: where a search may begin.

        It is the same each time for one training set, so that a step that is made again gives the same model.
        """
        target = self._warm / f"{kind}.json"
        known: list[dict[str, Any]] = _read(target) if target.is_file() else []
        hashes = [one["data_hash"] for one in known]
        before = known[: hashes.index(self.data_hash)] if self.data_hash in hashes else known
        return before[-1]["parameters"] if before else None

    def remember(self, kind: str, parameters: Mapping[str, Any]) -> None:
        """Keep what a search found, for the searches on later training sets."""
        target = self._warm / f"{kind}.json"
        known: list[dict[str, Any]] = _read(target) if target.is_file() else []
        if self.data_hash in [one["data_hash"] for one in known]:
            return
        _write(target, json.dumps([*known, {"data_hash": self.data_hash, "parameters": dict(parameters)}], indent=1))


def _write(target: Path, content: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_suffix(".tmp")
    draft.write_text(f"{BEGIN}{hashlib.sha256(content.encode()).hexdigest()}{MIDDLE}{content}{END}")
    draft.replace(target)


def _read(target: Path) -> Any:
    """Return the content of a document, after a comparison with its digest."""
    data, middle = target.read_bytes(), len(BEGIN) + hashlib.sha256().digest_size * 2
    begins = data.startswith(BEGIN.encode()) and data.startswith(MIDDLE.encode(), middle)
    if not (begins and data.endswith(END.encode())):
        raise AlteredFileError(f"{target} has no digest: it is damaged, or of another version; materialize it again")
    content = data[middle + len(MIDDLE) : -len(END)]
    require_sha256(content, data[len(BEGIN) : middle].decode("ascii", "replace"), str(target))
    return json.loads(content)
