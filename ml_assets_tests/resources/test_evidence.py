"""What a check shows."""

from __future__ import annotations

import dagster as dg
import pytest

from ml_assets.resources.evidence import UNDECIDED, warning


@pytest.mark.parametrize(
    ("passed", "reason", "told", "undecided"),
    [
        (False, "undecided: no labels yet", False, True),
        (False, "not applicable: nothing was served", False, True),
        (False, "three columns drifted", False, False),
        (False, "there are no days to compare", True, True),
        (True, "undecided is no reason to fail", True, False),
    ],
)
def test_a_warning_that_cannot_judge_is_marked(passed: bool, reason: str, told: bool, undecided: bool) -> None:
    found = warning("c", passed, reason, undecided=told, table="a/b", metadata={"rows": 3})
    assert (found.passed, found.description, found.severity) == (passed, reason, dg.AssetCheckSeverity.WARN)
    assert (UNDECIDED in found.metadata) is undecided and found.metadata["rows"].value == 3
    assert found.asset_key is not None and found.asset_key.path == ["a", "b"]
