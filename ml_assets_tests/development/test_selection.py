"""Selection: the best wins, a tie goes to the simpler, failures never win and are never lost."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.development.candidates.registry import NAMES
from ml_assets.development.selection import SelectionError, select
from ml_assets.development.training import CandidateResult

VALUES = st.dictionaries(st.sampled_from(NAMES), st.floats(0, 1), min_size=1)


def scored(name: str, **metrics: float) -> CandidateResult:
    return CandidateResult(name, "trained", "", metrics=metrics)


FAILED = CandidateResult("svm", "failed", "", metrics={"roc_auc": 0.99}, reason="MemoryError: no | more")


def test_the_best_wins_in_either_direction() -> None:
    results = [scored("xgboost", roc_auc=0.76, log_loss=0.3), scored("neural", roc_auc=0.74, log_loss=0.2)]
    assert select(results, "roc_auc", True).winner == "xgboost"
    assert select(results, "log_loss", False).winner == "neural"
    assert select(results, "roc_auc", True).reason == "best roc_auc on validation (0.7600)"


def test_a_tie_goes_to_the_simpler_and_is_said() -> None:
    results = [scored("neural", roc_auc=0.7605), scored("xgboost", roc_auc=0.76), scored("baseline", roc_auc=0.5)]
    chosen = select(results, "roc_auc", True, tolerance=0.001)
    assert (chosen.winner, chosen.value) == ("xgboost", 0.76)
    assert "tied on roc_auc (0.7600, best 0.7605) within 0.001 with neural (0.7605): the simpler wins" in chosen.reason
    assert [standing.name for standing in chosen.ranking] == ["xgboost", "neural", "baseline"]
    assert chosen.ranking[1].reason == "tied, but less simple"
    assert select(results, "roc_auc", True, tolerance=0).winner == "neural"


def test_the_tolerance_is_inclusive_and_measured_from_the_best_only() -> None:
    chain = [scored("baseline", m=0.700), scored("xgboost", m=0.701), scored("neural", m=0.702)]
    assert select(chain, "m", True, tolerance=0.001).winner == "xgboost", "no chain of ties down to the baseline"


def test_a_failure_never_wins_and_is_carried() -> None:
    chosen = select([FAILED, scored("baseline", roc_auc=0.5)], "roc_auc", True)
    assert chosen.winner == "baseline" and chosen.failures == {"svm": "failed: MemoryError: no | more"}
    assert "| svm |  | failed: MemoryError: no \\| more |" in chosen.markdown()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_metric_that_is_no_number_never_wins(value: float) -> None:
    chosen = select([scored("neural", m=value), scored("baseline", m=0.5)], "m", True)
    assert chosen.winner == "baseline" and chosen.failures == {"neural": f"its m is {value}"}


def test_a_candidate_without_the_metric_is_not_eligible() -> None:
    undefined = CandidateResult("neural", "trained", "", undefined={"roc_auc": "only one class"})
    chosen = select([scored("baseline", roc_auc=0.5), undefined], "roc_auc", True)
    assert chosen.failures == {"neural": "has no roc_auc: only one class"}
    assert chosen.reason == "the only candidate with roc_auc (0.5000)"


@pytest.mark.parametrize("results", [[], [FAILED], [FAILED, scored("neural", other=1.0)]])
def test_nothing_to_select_is_an_error_with_all_reasons(results: list[CandidateResult]) -> None:
    with pytest.raises(SelectionError, match="no candidate can be selected by 'roc_auc'") as error:
        select(results, "roc_auc", True)
    assert all(result.name in str(error.value) for result in results)


def test_ambiguous_input_is_refused() -> None:
    with pytest.raises(SelectionError, match=r"\['neural'\] come twice"):
        select([scored("neural", m=1), scored("neural", m=2)], "m", True)
    for tolerance in (-0.1, math.nan, math.inf):
        with pytest.raises(SelectionError, match="is not a number from 0"):
            select([scored("neural", m=1)], "m", True, tolerance=tolerance)


@given(values=VALUES, tolerance=st.floats(0, 0.5), greater=st.booleans(), order=st.permutations(NAMES))
def test_the_winner_is_within_the_tolerance_and_the_order_of_results_does_not_matter(
    values: dict[str, float], tolerance: float, greater: bool, order: Sequence[str]
) -> None:
    results = [scored(name, m=value) for name, value in values.items()]
    chosen = select(results, "m", greater, tolerance=tolerance)
    best = max(values.values()) if greater else min(values.values())
    assert abs(chosen.value - best) <= tolerance + 1e-9
    simpler = NAMES[: NAMES.index(chosen.winner)]
    assert all(abs(values[name] - best) > tolerance for name in simpler if name in values)
    shuffled = sorted(results, key=lambda result: order.index(result.name))
    assert select(shuffled, "m", greater, tolerance=tolerance).winner == chosen.winner
