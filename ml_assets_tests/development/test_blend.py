"""The ensemble: its weights are found on rows that no member was fitted on, and its own scores are honest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.development.blend import MOST_ROWS, STEPS, _halves, blend_weights, train_ensemble
from ml_assets.development.candidates.baseline import Baseline
from ml_assets.development.candidates.linear import Linear
from ml_assets.development.rows import DevelopmentRows
from ml_assets.development.training import CandidateResult, keep_scores, train_candidate
from ml_assets_tests.development.toys import BINARY, NUMBERS, THREE, development, fitting, numbered, table

RANDOM = np.random.default_rng(0)
Y = RANDOM.normal(size=400)


@given(
    errors=st.lists(st.floats(0.01, 3), min_size=1, max_size=4),
    seed=st.integers(0, 99),
    metric=st.sampled_from(["mae", "rmse", "r2"]),
)
def test_weights_sum_to_one_and_the_mean_is_at_least_as_good_as_the_best(
    errors: list[float], seed: int, metric: str
) -> None:
    random = np.random.default_rng(seed)
    scores = {f"{place}": Y + random.normal(0, error, len(Y)) for place, error in enumerate(errors)}
    how = fitting(NUMBERS, metric)
    weights = blend_weights(scores, Y, how)
    assert sum(weights.values()) == pytest.approx(1) and min(weights.values()) >= 0
    assert set(weights) == set(scores)
    steps = np.array(list(weights.values()))
    assert any(np.allclose(steps * drawn, np.round(steps * drawn)) for drawn in range(1, STEPS + 1))
    mean = how.metric.compute(Y, sum(weight * scores[name] for name, weight in weights.items()))  # type: ignore[arg-type]
    each = [how.metric.compute(Y, score) for score in scores.values()]
    assert all(how.metric.gain(mean, one) >= -1e-9 for one in each)  # type: ignore[arg-type]


def test_a_perfect_member_gets_all() -> None:
    scores = {"noise": Y + RANDOM.normal(size=400), "perfect": Y, "constant": np.zeros(400)}
    assert blend_weights(scores, Y, fitting(NUMBERS, "rmse")) == {"noise": 0.0, "perfect": 1.0, "constant": 0.0}


def test_members_with_errors_of_their_own_share() -> None:
    scores = {name: Y + RANDOM.normal(size=400) for name in "abc"} | {"nothing": np.full(400, 50.0)}
    weights = blend_weights(scores, Y, fitting(NUMBERS, "rmse"))
    assert weights["nothing"] == 0 and all(0.2 < weights[name] < 0.5 for name in "abc")


def test_probabilities_of_several_classes_are_blended() -> None:
    y = RANDOM.integers(0, 3, 300)
    right = np.eye(3)[y] * 0.7 + 0.1
    weights = blend_weights({"right": right, "flat": np.full((300, 3), 1 / 3)}, y, fitting(THREE, "log_loss"))
    assert weights["right"] > 0.9


def test_of_many_rows_some_are_enough() -> None:
    y = RANDOM.normal(size=3 * MOST_ROWS)
    scores = {name: y + RANDOM.normal(0, error, len(y)) for name, error in (("a", 1.0), ("b", 1.0), ("c", 9.0))}
    weights = blend_weights(scores, y, fitting(NUMBERS, "rmse"))
    assert weights["c"] < 0.1 and abs(weights["a"] - weights["b"]) < 0.1


def test_a_metric_that_is_not_defined_still_gives_weights() -> None:
    zeros = np.zeros(20, dtype=int)
    weights = blend_weights({"a": np.full(20, 0.1), "b": np.full(20, 0.2)}, zeros, fitting(BINARY, "roc_auc"))
    assert weights == {"a": 1.0, "b": 0.0}


# -- the candidate -----------------------------------------------------------------------------------------------------


def members(rows: DevelopmentRows, folder: Path, **scores: np.ndarray) -> list[CandidateResult]:
    """Return results of a constant model each, with these scores of the compared rows."""
    results = []
    for name, score in scores.items():
        result = train_candidate(Baseline(), rows, fitting(NUMBERS), folder=folder / name)
        keep_scores(folder / name, score)
        results.append(CandidateResult(**{**vars(result), "name": name, "folder": str(folder / name)}))
    return results


@pytest.fixture
def rows() -> DevelopmentRows:
    frame = table(2_000)
    return development(numbered(frame, frame["x"].to_numpy()), NUMBERS)


def test_a_member_of_pure_noise_gains_nothing_in_the_honest_scores(rows: DevelopmentRows, tmp_path: Path) -> None:
    y = rows.y[rows.scored]
    # Thirty members of noise: some of them surely help on the rows that they were chosen on.
    noise = {f"noise_{number}": np.random.default_rng(number).normal(0, 0.5, len(y)) for number in range(30)}
    results = members(rows, tmp_path, mean=np.zeros(len(y)), **noise)
    found = train_ensemble(results, rows, fitting(NUMBERS, "rmse"), folder=tmp_path / "ensemble")
    weights = found.variant["weights"]
    blended = np.sum([weights[one.name] * one.scores() for one in results if one.name in weights], axis=0)
    alone, chosen_on = (float(np.sqrt(np.mean((y - score) ** 2))) for score in (np.zeros(len(y)), blended))
    assert chosen_on < alone, "on the rows of the choice noise seems to help"
    assert found.metrics["rmse"] > chosen_on and found.metrics["rmse"] > alone - 0.002, "and honestly it does not"


def test_its_scores_of_one_half_are_of_weights_from_the_other(rows: DevelopmentRows, tmp_path: Path) -> None:
    y = rows.y[rows.scored]
    half = len(y) // 2
    early, late = y + 1.0, y + 1.0
    early[:half], late[half:] = y[:half], y[half:]  # each is perfect in one half, and one off in the other
    results = members(rows, tmp_path, early=early, late=late)
    found = train_ensemble(results, rows, fitting(NUMBERS, "rmse"), folder=tmp_path / "ensemble")
    assert found.variant["weights"] == {"early": 0.5, "late": 0.5}
    assert found.metrics["rmse"] == pytest.approx(1.0), "what was best in one half is one off in the other"


def test_halves_are_by_time_or_a_seeded_draw(rows: DevelopmentRows) -> None:
    first, second = _halves(rows, 0)
    assert first.fit.max() < first.score.min() and (second.fit == first.score).all()
    drawn = development(numbered(table(200), np.arange(200.0)), NUMBERS, by_time=False)
    one, again, other = (_halves(drawn, seed)[0].fit for seed in (0, 0, 1))
    assert (one == again).all() and not np.array_equal(one, other) and not np.array_equal(one, np.arange(len(one)))


def test_the_saved_model_is_the_weighted_mean(tmp_path: Path) -> None:
    frame = table(400)
    rows = development(frame)
    results = [train_candidate(one, rows, fitting(), folder=tmp_path / one.name) for one in (Linear(), Baseline())]
    keep_scores(tmp_path / "baseline", np.random.default_rng(0).random(len(rows.scored)))
    skilled = results[0].scores()
    keep_scores(tmp_path / "linear", skilled)
    found = train_ensemble(results, rows, fitting(metric="log_loss"), folder=tmp_path / "ensemble")
    assert found.outcome == "trained" and found.rows == {"train": 240, "validation": 80}
    weights = found.variant["weights"]
    expected = sum(weights[one.name] * one.load().predict(frame) for one in results)
    np.testing.assert_allclose(found.load().predict(frame), expected, rtol=1e-6)
    assert found.notes[0].startswith(f"{weights['linear']:.0%} linear")


def test_when_no_mean_helps_it_does_not_apply(rows: DevelopmentRows, tmp_path: Path) -> None:
    y = rows.y[rows.scored]
    results = members(rows, tmp_path, perfect=y, worse=y + 1)
    found = train_ensemble(results, rows, fitting(NUMBERS), folder=tmp_path / "ensemble")
    assert found.outcome == "not_applicable"
    assert found.reason == "no mean with other candidates is better than perfect alone"


def test_below_two_trained_members_it_does_not_apply(rows: DevelopmentRows, tmp_path: Path) -> None:
    one = members(rows, tmp_path, one=rows.y[rows.scored])
    failed = CandidateResult("svm", "failed", "", reason="no")
    for results in ([], one, [*one, failed], [*one, CandidateResult("ensemble", "trained", "")]):
        found = train_ensemble(results, rows, fitting(NUMBERS), folder=tmp_path / "ensemble")
        assert (found.outcome, found.reason) == ("not_applicable", "fewer than two candidates were trained")
