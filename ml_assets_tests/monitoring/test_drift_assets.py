"""What the drift asset shows: its check with a negative control for each verdict, and the windows side by side."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest

from ml_assets.evaluation.plots import drift_map
from ml_assets.monitoring.assets import _by_window, _drift_check
from ml_assets.monitoring.watching import LatestDrift
from ml_assets.resources.evidence import UNDECIDED

LATEST = LatestDrift(
    first="2013-11-01",
    last="2013-11-07",
    verdict="stable",
    reason="0 of 2 judged columns drifted",
    rows=280,
    limit=0.2,
    html="2013-11-01.html",
    frame=pl.DataFrame({"feature": ["delay", "carrier"], "psi": [0.3, 0.1], "alarming": [True, False]}),
    markdown="",
    count=1,
)


@pytest.mark.parametrize(
    ("verdict", "passed"), [("stable", True), ("suspected", True), ("drift", False), ("undecided", False)]
)
def test_the_check_passes_only_what_was_judged_and_did_not_drift(verdict: str, passed: bool) -> None:
    found = _drift_check(replace(LATEST, verdict=verdict))
    assert (found.passed, found.severity.value) == (passed, "WARN")
    assert found.description == f"{verdict}: 0 of 2 judged columns drifted"
    assert found.metadata["drifted"].value == "delay" and found.metadata["rows"].value == 280


def test_without_a_window_the_check_does_not_pass() -> None:
    found = _drift_check(None)
    assert (found.passed, found.description) == (False, "undecided: there is no window of predictions yet")
    assert UNDECIDED in found.metadata  # nobody is called for it


def test_windows_stand_side_by_side_and_old_ones_may_know_less() -> None:
    weeks = [
        pl.DataFrame({"window_first": first, "feature": names, "psi": 0.1 * at, **more})
        for at, (first, names, more) in enumerate(
            [
                ("2013-11-01", ["delay"], {}),
                ("2013-11-08", ["delay", "score"], {"alarming": False, "model_version": "1"}),
                ("2013-11-15", ["delay", "score"], {"alarming": True, "model_version": "2"}),
            ]
        )
    ]
    found = _by_window(pl.concat(weeks, how="diagonal_relaxed"))
    assert found["windows"] == ["2013-11-01", "2013-11-08", "2013-11-15"]
    assert found["effects"] == {"delay": [0.0, 0.1, 0.2], "score": [None, 0.1, 0.2]}
    assert found["alarms"] == {"delay": [False, False, True], "score": [False, False, True]}
    assert found["versions"] == ["", "1", "2"]
    assert drift_map(**found, limit=0.2)
