"""The asset kpi_report: its numbers, tables and plots for each task, and a check that turns red for a bad model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest

from ml_assets.lake import Lake
from ml_assets.monitoring import kpi
from ml_assets.monitoring.kpi_assets import EARNS, kpi_asset, terms_of
from ml_assets.packaging import champion as office
from ml_assets.problem import MlProblem
from ml_assets.resources.places import ClockResource, LakeResource, TrackingResource
from ml_assets_tests.monitoring.test_kpi import DECLARED, KINDS, LATER, asked, champion, labels_of, observed, predicted

CLASSES = ["low", "middle", "high"]
TASKS: dict[str, dict[str, Any]] = {
    "binary": {"kind": "classification"},
    "multiclass": {"kind": "classification", "classes": CLASSES},
    "regression": {"kind": "regression"},
}


def problem(kind: str, **changes: Any) -> MlProblem:
    declared = {
        "name": "p",
        "question": "Yes?",
        "task": TASKS[kind],
        "observations": {"key": ["who"], "query": "SELECT * FROM clean_people"},
        "success": {"slices": ["place"]},
        "value": DECLARED[kind],
    }
    return MlProblem.resolve_from_dict(declared | changes)


@pytest.fixture
def reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write what a model answered that takes the chance to be another, and make the report."""

    def made(kind: str, chance: np.ndarray | None = None, **changes: Any) -> dg.ExecuteInProcessResult:
        lake, training, frame = Lake(str(tmp_path / "lake")), asked(seed=7), asked()
        told = training.with_columns(labels_of(training, kind, seed=8), split=pl.lit("train"))
        model = champion(kind, lake.write("p/training_set", told, written_at=LATER).version)
        lake.write("p/predictions", predicted(frame, kind, chance), written_at=LATER)
        lake.write("p/observations", observed(frame, kind), written_at=LATER)
        monkeypatch.setattr(office, "in_office", lambda *_, **__: model)
        monkeypatch.setattr(kpi, "offices", lambda *_: [])
        (tmp_path / "clock").write_text(LATER.isoformat())
        resources = {
            "lake": LakeResource(url=str(tmp_path / "lake")),
            "tracking": TrackingResource(uri="sqlite:///nowhere.db", artifacts="nowhere"),
            "clock": ClockResource(replay_file=str(tmp_path / "clock")),
        }
        return dg.materialize([kpi_asset(problem(kind, **changes))], resources=resources)

    return made


def told(result: dg.ExecuteInProcessResult) -> tuple[dict[str, Any], dg.AssetCheckEvaluation]:
    """The metadata of the report, and its check."""
    (event,), (check,) = result.get_asset_materialization_events(), result.get_asset_check_evaluations()
    assert check.check_name == EARNS and check.severity == dg.AssetCheckSeverity.WARN
    return {name: one.value for name, one in event.materialization.metadata.items()}, check


@pytest.mark.parametrize("kind", KINDS)
def test_a_good_model_is_green_with_numbers_tables_and_plots(reported: Any, kind: str) -> None:
    metadata, check = told(reported(kind))
    assert check.passed and check.description == metadata["verdict"]
    assert metadata["rows with outcome"] == 1200 and metadata["rows pending"] == 0
    assert metadata["earned"].endswith(DECLARED[kind].get("currency", ""))
    assert metadata["money"].count("data:image/png;base64,") == 2
    assert "all 30 days" in metadata["by day"] and "worst" in metadata["by slice"]
    assert ("thresholds" in metadata) == (kind == "binary")
    assert metadata["baseline decides"].startswith("version 3: ")


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_acts_at_random_turns_the_check_red(reported: Any, kind: str) -> None:
    _, check = told(reported(kind, np.random.default_rng(9).random(asked().height)))
    assert not check.passed and (check.description or "").startswith("less than the baseline")


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_declared_value_the_report_tells_rates_and_the_check_is_not_green(reported: Any, kind: str) -> None:
    metadata, check = told(reported(kind, value={}))
    assert not check.passed and (check.description or "").startswith("not applicable: no value declared")
    assert "earned" not in metadata and "money" not in metadata
    assert (metadata["action rate"] == "-") == (kind == "regression")


def test_the_terms_are_what_is_declared() -> None:
    found = terms_of(problem("binary", availability={"label_delay": "2d"}, seed=4))
    assert found.currency == "USD" and found.slices == ("place",) and found.last_value == "" and found.seed == 4
    assert found.label_delay is not None and found.label_delay.days == 2
    assert terms_of(problem("regression", value={})).value is None
