"""Approvals by people: what was approved is named by its hashes, so that an approval is void when one of them changes.

An approval is one object (`_approvals/<problem>/000002.json`) beside the lake, created only when absent; none is ever changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from ml_assets.lake import PreconditionFailed, Store

FOLDER = "_approvals"
MOST_TRIES = 100
TIMES = frozenset({"made_at", "seconds"})
"""Fields of a report that say when it was made, and how long that took: measured again, the same is the same."""


class ApprovalError(ValueError):
    """An approval does not say by whom or why, or could not be written."""


@dataclass(frozen=True)
class Evidence:
    """What a person approves, each as a SHA-256: the bundle (its digest), the training set (its hash), the evaluation."""

    model: str
    data: str
    evaluation: str

    def changed(self, other: Evidence) -> list[str]:
        """Return which of the three differ."""
        mine, theirs = asdict(self), asdict(other)
        return [name for name in mine if mine[name] != theirs[name]]


@dataclass(frozen=True)
class Approval:
    """Somebody approved a version, and what they saw of it."""

    problem: str
    version: str
    evidence: Evidence
    who: str
    when: datetime
    why: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as values that JSON has."""
        return asdict(self) | {"when": self.when.isoformat()}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Approval:
        """Read what `to_dict` wrote."""
        told = {"evidence": Evidence(**raw["evidence"]), "when": datetime.fromisoformat(raw["when"])}
        return cls(**{**raw, **told})


def evaluation_hash(report: str, gates: Sequence[Mapping[str, Any]] = ()) -> str:
    """Return the SHA-256 of an evaluation: its report (the JSON text of `EvaluationReport`) and which gates it passed.

    What differs when the same is measured again does not count: the time, and the milliseconds in a gate's reason.
    """
    told = _timeless(json.loads(report))
    passed = {gate["name"]: gate["passed"] for gate in gates}
    text = json.dumps({"report": told, "gates": passed}, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def approve(store: Store, approval: Approval) -> Approval:
    """Write an approval beside the lake (`store` is `Lake.store`); `ApprovalError` when it does not say by whom, or why."""
    if not approval.who.strip() or not approval.why.strip():
        raise ApprovalError(f"approval of {approval.problem}:{approval.version}: say by whom and why (--by, --why)")
    folder, data = f"{FOLDER}/{approval.problem}", json.dumps(approval.to_dict(), sort_keys=True, indent=1).encode()
    for number in range(len(store.names(folder)) + 1, len(store.names(folder)) + MOST_TRIES):
        try:
            store.write(f"{folder}/{number:06}.json", data, expect="absent")
        except PreconditionFailed:
            continue
        store.settle(folder)
        return approval
    raise ApprovalError(f"approval of {approval.problem}:{approval.version}: others write all the time; try again")


def approvals(store: Store, problem: str) -> list[Approval]:
    """Return all approvals of a problem, the first one first."""
    return [Approval.from_dict(json.loads(store.read(name))) for name in store.names(f"{FOLDER}/{problem}")]


def approved(store: Store, problem: str, version: str, evidence: Evidence) -> tuple[Approval | None, str]:
    """Return the latest approval of just this, or None and why there is none: which hash changed since it was approved."""
    known = [one for one in approvals(store, problem) if one.version == version]
    for one in reversed(known):
        if one.evidence == evidence:
            return one, f"approved by {one.who} on {one.when:%Y-%m-%d}: {one.why}"
    name = f"{problem}:{version}"
    if not known:
        return None, f"waits for approval: ml-assets approve {name} --by NAME --why TEXT"
    last, changed = known[-1], known[-1].evidence.changed(evidence)
    return None, (
        f"the approval by {last.who} on {last.when:%Y-%m-%d} is void: {' and '.join(changed)} changed since; "
        f"look again, then ml-assets approve {name} --by NAME --why TEXT"
    )


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _timeless(item) for name, item in value.items() if name not in TIMES}
    return [_timeless(item) for item in value] if isinstance(value, list) else value
