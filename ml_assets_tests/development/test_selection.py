"""Selection: the best wins, within noise the simpler; failures never win and are never lost."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.development import selection as module
from ml_assets.development.candidates.registry import names
from ml_assets.development.selection import SelectionError, best_of, select, standard_errors, values_of
from ml_assets.development.training import CandidateResult
from ml_assets.tasks import Metric
from ml_assets_tests.development.toys import BINARY, NUMBERS, THREE, scored

NAMES = names()
AUC, LOSS = BINARY.metric("roc_auc"), BINARY.metric("log_loss")
FAILED = CandidateResult("svm", "failed", "", metrics={"roc_auc": 0.99}, reason="MemoryError: no | more")


def chosen(results: Sequence[CandidateResult], metric: Metric = AUC, **errors: float) -> module.Selection:
    return select(results, metric, order=NAMES, errors=errors)


def test_the_best_wins_in_either_direction() -> None:
    results = [scored("xgboost", roc_auc=0.76, log_loss=0.3), scored("neural", roc_auc=0.74, log_loss=0.2)]
    assert chosen(results).winner == "xgboost" and chosen(results, LOSS).winner == "neural"
    assert chosen(results, neural=0.01).reason == "best roc_auc (0.76), by more than one standard error"
    assert chosen(results).reason == "best roc_auc (0.76)", "no error was measured, so none is spoken of"


def test_within_noise_the_simpler_wins_and_it_is_said() -> None:
    results = [scored("neural", roc_auc=0.7605), scored("xgboost", roc_auc=0.76), scored("baseline", roc_auc=0.5)]
    found = chosen(results, xgboost=0.001, baseline=0.05)
    assert (found.winner, found.value) == ("xgboost", 0.76)
    assert (
        found.reason
        == "roc_auc 0.76 is within one standard error (0.001) of the best, neural (0.7605): the simpler wins"
    )
    assert [one.name for one in found.ranking] == ["xgboost", "neural", "baseline"]
    assert found.ranking[1].reason == "within one standard error of the best, but less simple"
    assert found.ranking[2].reason == ""


def test_beyond_noise_the_best_wins() -> None:
    results = [scored("neural", roc_auc=0.7605), scored("xgboost", roc_auc=0.76)]
    assert chosen(results, xgboost=0.0004).winner == "neural"
    assert chosen(results).winner == "neural", "without errors nothing is noise"


def test_a_best_that_is_the_simplest_of_its_equals_says_so() -> None:
    found = chosen([scored("linear", roc_auc=0.8), scored("neural", roc_auc=0.795)], neural=0.01)
    assert found.winner == "linear"
    assert found.reason == "best roc_auc (0.8), and the simplest of those within one standard error"


def test_noise_is_measured_from_the_best_only() -> None:
    chain = [scored("baseline", roc_auc=0.700), scored("xgboost", roc_auc=0.701), scored("neural", roc_auc=0.702)]
    assert chosen(chain, baseline=0.001, xgboost=0.001).winner == "xgboost", "no chain of ties down to the baseline"


def test_exact_ties_go_to_the_first_in_order_and_unknown_names_come_last() -> None:
    tied = [scored("ours", roc_auc=0.8), scored("xgboost", roc_auc=0.8), scored("linear", roc_auc=0.8)]
    assert chosen(tied).winner == "linear"
    assert chosen(tied[:2]).winner == "xgboost"


def test_a_failure_never_wins_and_is_carried() -> None:
    found = chosen([FAILED, scored("baseline", roc_auc=0.5)])
    assert found.winner == "baseline" and found.failures == {"svm": "failed: MemoryError: no | more"}
    assert "| svm |  | failed: MemoryError: no \\| more |" in found.markdown()
    skipped = CandidateResult("neural", "not_applicable", "", reason="too few rows")
    assert chosen([skipped, scored("baseline", roc_auc=0.5)]).failures == {"neural": "not applicable: too few rows"}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_metric_that_is_no_number_never_wins(value: float) -> None:
    found = chosen([scored("neural", roc_auc=value), scored("baseline", roc_auc=0.5)])
    assert found.winner == "baseline" and found.failures == {"neural": f"its roc_auc is {value}"}


def test_a_candidate_without_the_metric_is_not_eligible() -> None:
    undefined = CandidateResult("neural", "trained", "", undefined={"roc_auc": "only one class"})
    found = chosen([scored("baseline", roc_auc=0.5), undefined])
    assert found.failures == {"neural": "has no roc_auc: only one class"}
    assert found.reason == "the only candidate with roc_auc (0.5)"


@pytest.mark.parametrize("results", [[], [FAILED], [FAILED, scored("neural", other=1.0)]])
def test_nothing_to_select_is_an_error_with_all_reasons(results: list[CandidateResult]) -> None:
    with pytest.raises(SelectionError, match="no candidate can be selected by 'roc_auc'") as error:
        chosen(results)
    assert all(result.name in str(error.value) for result in results)


def test_ambiguous_input_is_refused() -> None:
    with pytest.raises(SelectionError, match=r"\['neural'\] come twice"):
        chosen([scored("neural", roc_auc=1), scored("neural", roc_auc=2)])


@given(
    values=st.dictionaries(st.sampled_from(NAMES), st.floats(0, 1), min_size=1),
    noise=st.dictionaries(st.sampled_from(NAMES), st.floats(0, 0.3)),
    metric=st.sampled_from([AUC, LOSS]),
    order=st.permutations(NAMES),
)
def test_the_winner_is_within_its_noise_and_the_order_of_results_does_not_matter(
    values: dict[str, float], noise: dict[str, float], metric: Metric, order: Sequence[str]
) -> None:
    results = [scored(name, **{metric.name: value}) for name, value in values.items()]
    found = chosen(results, metric, **noise)
    best = values[best_of(values, metric)]
    assert metric.gain(best, found.value) <= noise.get(found.winner, 0.0) + 1e-9
    for name in NAMES[: NAMES.index(found.winner)]:
        assert name not in values or metric.gain(best, values[name]) > noise.get(name, 0.0)
    assert sorted(one.name for one in found.ranking) == sorted(values)
    shuffled = sorted(results, key=lambda result: order.index(result.name))
    assert chosen(shuffled, metric, **noise).winner == found.winner
    assert values_of(shuffled, metric) == values


# -- noise -------------------------------------------------------------------------------------------------------------


def test_paired_errors_are_smaller_than_unpaired_ones() -> None:
    random = np.random.default_rng(0)
    y = random.normal(0, 5, 2_000)
    hard = random.normal(0, 2, 2_000)  # what makes a row hard for every model
    scores = {
        "best": y + hard,
        "like": y + hard + random.normal(0.1, 0.1, 2_000),
        "other": y + random.normal(0, 2.1, 2_000),
    }
    errors = standard_errors(NUMBERS, NUMBERS.metric("mae"), y, scores, "best")
    losses = {name: np.abs(y - score) for name, score in scores.items()}
    unpaired = math.sqrt(losses["best"].var() / 2_000 + losses["like"].var() / 2_000)
    paired = (losses["best"] - losses["like"]).std() / math.sqrt(2_000)
    assert errors["best"] == 0 and errors["like"] == pytest.approx(paired, rel=0.2)
    assert errors["like"] < 0.2 * unpaired < errors["other"] < 2 * unpaired


def test_errors_of_many_rows_are_scaled_from_those_of_some() -> None:
    random = np.random.default_rng(0)
    y = random.normal(size=4 * module.MOST_ROWS)
    scores = {"best": y + random.normal(0, 0.5, len(y)), "other": y + random.normal(0, 0.6, len(y))}
    losses = {name: np.abs(y - score) for name, score in scores.items()}
    exact = (losses["best"] - losses["other"]).std() / math.sqrt(len(y))
    assert standard_errors(NUMBERS, NUMBERS.metric("mae"), y, scores, "best")["other"] == pytest.approx(exact, rel=0.2)


def test_errors_are_the_same_again_and_take_any_task() -> None:
    random = np.random.default_rng(0)
    y = random.integers(0, 3, 300)
    scores = {name: random.dirichlet([1, 1, 1], 300) for name in "ab"}
    one, again, other = (
        standard_errors(THREE, THREE.metric("accuracy"), y, scores, "a", seed=seed) for seed in (0, 0, 1)
    )
    assert one == again != other and 0 < one["b"] < 0.1
    both = np.array([0] * 299 + [1])
    rare = standard_errors(BINARY, AUC, both, {"a": random.random(300), "b": random.random(300)}, "a")
    assert math.isfinite(rare["b"]), "resamples without the one positive do not count"
    single = standard_errors(BINARY, AUC, np.zeros(50, dtype=int), {"a": np.ones(50), "b": np.ones(50)}, "a")
    assert single == {"a": 0.0, "b": 0.0}
