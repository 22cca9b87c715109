"""What is declared here is held against what Feast declares, and the deployment's registry is left alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ml_assets.check import check
from ml_assets.features import retrieval
from ml_assets_tests.check.test_check import place, project
from ml_assets_tests.features.repos import feature_store_yaml

__all__ = ["project"]

pytestmark = pytest.mark.filterwarnings("ignore")  # Feast's own, of its deprecations

DECLARED = """
from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Float64, String

customer = Entity(name="customer", join_keys=["customer"], value_type=ValueType.STRING)
customer_history = FeatureView(
    name="customer_history",
    entities=[customer],
    ttl=timedelta(days=30),
    schema=[Field(name="customer", dtype=String), Field(name="amount_mean_7d", dtype=Float64)],
    source=FileSource(
        path="lake/features/customer_history",
        timestamp_field="event_timestamp",
        created_timestamp_column="created_timestamp",
    ),
)
returns_v1 = FeatureService(name="returns_v1", features=[customer_history], tags={"problem": "returns"})
"""


@pytest.fixture
def repo(project: Path) -> Path:
    """The clean declarations with a Feast repository that agrees with them."""
    folder = project / "feature_repo"
    folder.mkdir()
    (folder / "feature_store.yaml").write_text(feature_store_yaml())
    (folder / "shop.py").write_text(DECLARED)
    return folder


def told(project: Path) -> list[str]:
    return [f"{fault.field}: {fault.problem} → {fault.fix}" for fault in check(project).faults]


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def test_declarations_that_agree_have_no_fault_and_leave_no_trace(project: Path, repo: Path) -> None:
    before = sorted(project.rglob("*"))
    assert check(project).text() == "No fault: 2 sources, 1 feature view, 1 problem."
    assert sorted(project.rglob("*")) == before


def test_columns_and_types_must_be_those_that_feast_declares(project: Path, repo: Path) -> None:
    change(place(project, "views"), "shop.history", "shop.counts")
    change(place(project, "views"), "column: amount_mean_7d, min_value: 0", "column: customer, min_value: a")
    assert set(told(project)) == {
        "attributes.views.0.name: feature view 'customer_history': column 'amount_mean_7d' is declared Float64, but not "
        "returned → return it, or take it out of Feast",
        "attributes.views.0.name: column 'orders' (String) is returned, but not declared → declare it in Feast, or do not return it",
    }


def test_a_service_must_be_declared_and_be_made_of_the_views(project: Path, repo: Path) -> None:
    change(place(project, "problem"), "service: returns_v1", "service: return_v1")
    assert told(project) == [
        "attributes.features.service: Feast declares no feature service 'return_v1' → did you mean 'returns_v1'?"
    ]
    change(place(project, "problem"), "service: return_v1, views: [customer_history]", "service: returns_v1, views: []")
    assert told(project) == [
        "attributes.features.views: service 'returns_v1' also reads customer_history → add to views: customer_history"
    ]


def test_observations_must_bring_what_the_join_needs(project: Path, repo: Path) -> None:
    change(place(project, "problem"), "SELECT order_id, customer, country", "SELECT order_id, country")
    change(place(project, "problem"), ", ignore: [customer]", "")
    (found,) = check(project).faults
    assert (found.field, "customer" in found.problem) == ("attributes.observations.query", True)


def test_slices_and_last_value_may_be_features(project: Path, repo: Path) -> None:
    problem = place(project, "problem")
    change(problem, "ignore: [customer]", "ignore: [customer], last_value: amount_mean_7d")
    assert told(project) == []
    change(problem, "slices: [country]", "slices: [country, amount_mean]")
    assert told(project) == [
        "attributes.success.slices.1: no column 'amount_mean' in observations and features → did you mean 'amount_mean_7d'?"
    ]


def test_feast_is_asked_at_once_when_it_was_applied_and_else_only_when_all_is_well(project: Path, repo: Path) -> None:
    problem = place(project, "problem")
    change(problem, "service: returns_v1", "service: return_v1")
    change(problem, "retrain:", "retrian:")
    assert [line.split(":")[0] for line in told(project)] == ["attributes.retrian"]
    assert check(project).text().endswith("that is done when all else is well.")
    retrieval.apply(repo)
    assert [line.split(":")[0] for line in told(project)] == ["attributes.features.service", "attributes.retrian"]


def test_a_feature_in_use_that_is_gone_is_told(project: Path, repo: Path) -> None:
    retrieval.apply(repo)
    change(
        repo / "shop.py", ', Field(name="amount_mean_7d", dtype=Float64)]', ', Field(name="mean_7d", dtype=Float64)]'
    )
    (found,) = told(project)
    assert "Feast cannot apply the repository" in found
    assert "amount_mean_7d" in found
    assert "returns" in found


def test_definitions_that_cannot_be_imported_are_told(project: Path, repo: Path) -> None:
    change(repo / "shop.py", "from datetime import timedelta", "from datetime import timedeltas")
    (found,) = check(project).faults
    assert (found.file, "timedeltas" in found.problem) == ("feature_repo", True)


def test_the_copy_of_a_repository_has_no_cache(project: Path, repo: Path) -> None:
    (repo / "__pycache__").mkdir()
    (repo / "__pycache__" / "x.py").write_text("1 / 0")
    assert told(project) == []
    shutil.rmtree(repo / "__pycache__")
