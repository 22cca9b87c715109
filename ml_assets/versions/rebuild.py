"""A model made again: fitted with what its search settled on, and held against the bundle that was registered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from ml_assets.development.challenger import Challenger
from ml_assets.packaging.bundle import Bundle

SAME_SCORES = 1e-6
"""Largest difference of scores, by the largest score if that is above 1: libraries may add up in another order."""


class RebuildError(ValueError):
    """A model cannot be made again: nothing is registered, or what it was made from was not recorded."""


@dataclass(frozen=True)
class Rebuilt:
    """What making a model again gave, beside what was registered.

    `data_hash` and `registered_hash` are those of the training sets. `same_files` tells whether every model file has the same
    SHA-256; `difference` is the largest of the scores on the `rows` test rows, None when there was nothing to score. `code` says in
    words how today's code differs from the code that trained, "" when it does not.
    """

    problem: str
    version: str
    registered_hash: str
    data_hash: str
    rows: int = 0
    same_files: bool = False
    difference: float | None = None
    code: str = ""

    @property
    def passed(self) -> bool:
        """Tell whether training set and scores are the same."""
        same = self.difference is not None and self.difference <= SAME_SCORES
        return self.data_hash == self.registered_hash and same

    def text(self) -> str:
        """Return it in words."""
        name = f"{self.problem} version {self.version}"
        if self.data_hash != self.registered_hash:
            why = (
                f" {self.code}" if self.code else " The code is the same, so what it read is not: look at feature_repo."
            )
            return f"{name}: the training set is {self.data_hash[:12]}, registered is {self.registered_hash[:12]};{why}"
        files = "every model file has the same SHA-256" if self.same_files else "model files differ in bytes"
        told = f"{name}: training set {self.data_hash[:12]} is the same; {files}; scores of {self.rows} test rows differ by"
        return f"{told} at most {self.difference or 0:.1e}.{' ' + self.code if self.code else ''}"


def compare(made: Challenger, bundle: Bundle, files: Mapping[str, str], test: pl.DataFrame) -> tuple[bool, float]:
    """Return whether all model files have the hashes in `files`, and the largest difference of scores on the test rows."""
    same = all(files.get(name) == digest for name, digest in made.result.sha256.items())
    theirs, mine = (np.asarray(model.predict(test), dtype=float) for model in (bundle, made.result.load()))
    largest = float(np.max(np.abs(theirs), initial=0.0))
    return same, float(np.max(np.abs(theirs - mine), initial=0.0)) / max(1.0, largest)


def code_differs(registered: Mapping[str, str], current: Mapping[str, str]) -> str:
    """Say how today's code differs from that which trained, by their tags; "" when it does not."""
    names = [name for name in ("code_version", "tables_version") if registered.get(name) != current[name]]
    if not names:
        return ""
    commit = registered.get("git_commit", "unknown")
    changed = " with changes that were not committed" if registered.get("git_dirty") else ""
    return f"It was trained by other code: of commit {commit[:12]}{changed}; check that out to be sure of the same."
