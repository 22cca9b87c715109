"""Where a model comes from, in tags: enough to find its training set again, and to make it again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from ml_assets.development.training import CandidateResult
from ml_assets.lake import Lake, Manifest
from ml_assets.lake.lake import WHOLE

AS_KNOWN_AT, DVC_MD5, INPUTS, TABLES_VERSION = "as_known_at", "dvc_md5", "inputs", "tables_version"
TAGS = (AS_KNOWN_AT, DVC_MD5, INPUTS, TABLES_VERSION, "declaration", "code_version", "git_commit", "git_dirty")
"""Of a run, which the registered version has too."""


def origin_of(lake: Lake, training_set: Manifest) -> dict[str, str]:
    """Return the tags of a training set that is the lake's current one.

    `dvc_md5` is the MD5 of its Parquet file, the name under which DVC keeps it in cache and remote. `inputs` maps the tables it was
    made from to their snapshots, as JSON; `as_known_at` is the moment. Missing where the manifest does not tell them.
    """
    inputs = dict(training_set.inputs)
    moment = inputs.pop(AS_KNOWN_AT, "")
    snapshots = {table: version for table, version in inputs.items() if "/" in table}
    found = {
        AS_KNOWN_AT: moment,
        INPUTS: json.dumps(snapshots, sort_keys=True) if moment else "",
        TABLES_VERSION: training_set.code_version,
        DVC_MD5: _md5(lake, training_set),
    }
    return {name: text for name, text in found.items() if text}


def settled(winner: str, results: Sequence[CandidateResult]) -> str:
    """Return as JSON what a model is made again with: the winner, and the hyperparameters of all candidates that were trained."""
    variants = {result.name: dict(result.variant) for result in results if result.trained}
    return json.dumps({"winner": winner, "variants": variants}, indent=1, sort_keys=True)


def _md5(lake: Lake, manifest: Manifest) -> str:
    digest: Any = hashlib.md5(usedforsecurity=False)
    for file in manifest.files:
        digest.update(lake.store.read(f"{manifest.table}/{manifest.partition or WHOLE}/{file.name}"))
    return str(digest.hexdigest())
