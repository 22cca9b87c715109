"""An approval holds for exactly what was approved, and is void when model, data or evaluation changed."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ml_assets.lake import Store
from ml_assets.packaging.approval import (
    Approval,
    ApprovalError,
    Evidence,
    approvals,
    approve,
    approved,
    evaluation_hash,
)

NOW = datetime(2013, 11, 1, tzinfo=UTC)
SEEN = Evidence(model="m" * 64, data="d" * 64, evaluation="e" * 64)
REPORT = json.dumps(
    {"metrics": {"rmse": 1.0}, "made_at": "2013-11-01", "candidates": [{"candidate": "a", "seconds": 1}]}
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(str(tmp_path))
    approve(made, Approval("late", "3", SEEN, "ada", NOW, "read the report"))
    return made


def test_what_was_approved_is_approved(store: Store) -> None:
    found, reason = approved(store, "late", "3", SEEN)
    assert found == Approval("late", "3", SEEN, "ada", NOW, "read the report") == approvals(store, "late")[0]
    assert reason == "approved by ada on 2013-11-01: read the report"


@pytest.mark.parametrize("part", ["model", "data", "evaluation"])
def test_an_approval_is_void_when_one_hash_changed_and_says_which(store: Store, part: str) -> None:
    changed = replace(SEEN, **{part: "x" * 64})
    found, reason = approved(store, "late", "3", changed)
    assert found is None and f"is void: {part} changed since" in reason
    approve(store, Approval("late", "3", changed, "bob", NOW, "looked again"))
    assert approved(store, "late", "3", changed)[0] is not None
    assert approved(store, "late", "3", SEEN)[0] is not None, "the first one is as good as ever for what it was of"


def test_another_version_waits_for_its_own(store: Store) -> None:
    found, reason = approved(store, "late", "4", SEEN)
    assert found is None and reason == "waits for approval: ml-assets approve late:4 --by NAME --why TEXT"


@pytest.mark.parametrize(("who", "why"), [("", "good"), ("ada", " ")])
def test_an_approval_says_by_whom_and_why(store: Store, who: str, why: str) -> None:
    with pytest.raises(ApprovalError, match="say by whom and why"):
        approve(store, Approval("late", "3", SEEN, who, NOW, why))


def test_the_same_evaluation_made_again_is_the_same_and_another_number_is_not() -> None:
    gates = [{"name": "budget", "passed": True, "reason": "0.1 ms"}]
    first = evaluation_hash(REPORT, gates)
    again = REPORT.replace("2013-11-01", "2014-01-01").replace('"seconds": 1', '"seconds": 2')
    assert evaluation_hash(again, [gates[0] | {"reason": "0.2 ms"}]) == first
    assert evaluation_hash(REPORT.replace("1.0", "1.1"), gates) != first
    assert evaluation_hash(REPORT, [gates[0] | {"passed": False}]) != first
