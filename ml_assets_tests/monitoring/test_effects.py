"""Effects and the test behind them: equal to scipy where it has them, close to the values' own where bins are all there is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial import distance

from ml_assets.monitoring.effects import (
    Spread,
    benjamini_hochberg,
    binned_wasserstein,
    homogeneity_p_value,
    jensen_shannon_distance,
    population_stability_index,
    wasserstein_distance,
)

COUNTS = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=2, max_size=30).filter(
    lambda rows: sum(r for r, _ in rows) > 0 and sum(c for _, c in rows) > 0
)
NUMBERS = st.lists(st.one_of(st.integers(-5, 5).map(float), st.floats(-1e6, 1e6)), min_size=1, max_size=60)
PROPERTY = settings(max_examples=200, deadline=None, derandomize=True)


@PROPERTY
@given(rows=COUNTS)
def test_jensen_shannon_equals_scipy(rows: list[tuple[int, int]]) -> None:
    reference, current = np.array(rows).T
    expected = distance.jensenshannon(reference, current, base=2)
    assert jensen_shannon_distance(reference, current) == pytest.approx(expected, abs=1e-7)


@PROPERTY
@given(reference=NUMBERS, current=NUMBERS)
def test_wasserstein_equals_scipy_whichever_is_larger(reference: list[float], current: list[float]) -> None:
    ordered = np.sort(reference), np.sort(current)
    expected = pytest.approx(stats.wasserstein_distance(reference, current), rel=1e-9, abs=1e-6)
    assert wasserstein_distance(*ordered) == expected
    assert wasserstein_distance(*reversed(ordered)) == expected


@PROPERTY
@given(rows=COUNTS)
def test_psi_is_symmetric_never_negative_and_zero_for_equal_shares(rows: list[tuple[int, int]]) -> None:
    reference, current = np.array(rows).T
    psi = population_stability_index(reference, current)
    assert psi >= 0
    assert psi == pytest.approx(population_stability_index(current, reference))
    assert population_stability_index(reference, reference) == 0


# -- from bins ---------------------------------------------------------------------------------------------------------


def spread(values: np.ndarray, edges: np.ndarray) -> Spread:
    counts = np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1)
    return Spread(counts, edges, float(values.min()), float(values.max()), float(values.mean()), float(values.std()))


def deciles(values: np.ndarray) -> np.ndarray:
    inner = np.sort(values)[(np.arange(0.1, 0.95, 0.1) * len(values)).astype(int)]
    return np.unique([np.nextafter(values.min(), -np.inf), *inner, values.max()])


@PROPERTY
@given(reference=NUMBERS, current=NUMBERS)
@example(reference=[0.0], current=[0.0])
@example(reference=[1.0, 1.0], current=[3.0])
def test_binned_wasserstein_is_none_for_the_same_and_never_below_the_difference_of_the_means(
    reference: list[float], current: list[float]
) -> None:
    before, now = np.array(reference), np.array(current)
    edges, size = deciles(before), 1e-6 * max(1.0, np.abs(before).max(), np.abs(now).max())
    found = binned_wasserstein(spread(before, edges), spread(now, edges))
    assert found >= abs(before.mean() - now.mean()) - size
    assert binned_wasserstein(spread(before, edges), spread(before, edges)) == pytest.approx(0, abs=size)


SHAPES = {
    "normal": lambda random, rows: random.normal(12, 30, rows),
    "skewed": lambda random, rows: random.gamma(1.2, 9, rows),
    "mostly zero": lambda random, rows: np.where(random.random(rows) < 0.93, 0, random.exponential(0.1, rows)),
    "whole": lambda random, rows: random.integers(1, 8, rows).astype(float),
    "two humps": lambda random, rows: np.concatenate(
        [random.normal(0, 1, rows // 2), random.normal(9, 2, rows - rows // 2)]
    ),
}
MOVES = {
    "same": lambda values: values,
    "shift": lambda values: values + 0.5 * values.std(),
    "wider": lambda values: values * 1.6,
    "narrower": lambda values: values * 0.5 + values.mean() / 2,
    "frozen": lambda values: np.full_like(values, np.median(values)),
    "thousandfold": lambda values: values * 1000,
}


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("shape", SHAPES)
def test_binned_wasserstein_is_close_to_the_exact_one(shape: str, move: str) -> None:
    random = np.random.default_rng(0)
    before, now = SHAPES[shape](random, 20_000), MOVES[move](SHAPES[shape](random, 2_000))
    edges, deviation = deciles(before), before.std()
    found = binned_wasserstein(spread(before, edges), spread(now, edges)) / deviation
    exact = stats.wasserstein_distance(before, now) / deviation
    print(f"{shape}, {move}: {found:.3f} from bins, {exact:.3f} from values")
    rough = move == "thousandfold" or (
        shape == "whole" and move in ("narrower", "frozen")
    )  # nothing lies between atoms
    assert found == pytest.approx(exact, rel=0.5 if rough else 0.15, abs=0.07)


def test_a_quantile_lies_where_the_values_have_it() -> None:
    values = np.random.default_rng(0).normal(5, 2, 10_000)
    told = spread(values, deciles(values))
    for share in (0.25, 0.5, 0.75):
        assert told.quantile(share) == pytest.approx(np.quantile(values, share), abs=0.1)
    frozen = spread(np.full(100, 7.0), deciles(values))
    assert frozen.quantile(0.25) == pytest.approx(7.0)


# -- the test ----------------------------------------------------------------------------------------------------------


@PROPERTY
@given(rows=st.lists(st.tuples(st.integers(40, 500), st.integers(40, 500)), min_size=2, max_size=12))
def test_with_enough_rows_everywhere_the_p_value_is_scipys(rows: list[tuple[int, int]]) -> None:
    reference, current = np.array(rows).T
    expected = stats.chi2_contingency(np.vstack([reference, current]), correction=False).pvalue
    found = homogeneity_p_value(reference, current)
    if min(stats.contingency.expected_freq(np.vstack([reference, current])).flat) >= 5:
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-300)


@pytest.mark.parametrize("rows", [200, 2_000])
def test_without_drift_p_values_are_as_small_as_they_say(rows: int) -> None:
    """Rare bins would make them far too small: here most of twenty are rare."""
    random = np.random.default_rng(0)
    shares = 0.6 ** np.arange(20) / np.sum(0.6 ** np.arange(20))
    pairs = [(random.multinomial(20_000, shares), random.multinomial(rows, shares)) for _ in range(1_500)]
    found = np.array([homogeneity_p_value(*pair) for pair in pairs])
    below = {level: float(np.mean(found < level)) for level in (0.05, 0.01, 0.001)}
    print(f"{rows} rows: {below}")
    assert below[0.05] == pytest.approx(0.05, abs=0.02)
    assert below[0.01] <= 0.02
    assert below[0.001] <= 0.005


@pytest.mark.parametrize(
    ("reference", "current"), [([0, 0], [0, 0]), ([5, 0], [7, 0]), ([1, 0], [0, 1]), ([0, 0], [3, 4])]
)
def test_where_two_bins_cannot_be_told_apart_nothing_is_claimed(reference: list[int], current: list[int]) -> None:
    assert homogeneity_p_value(np.array(reference), np.array(current)) == 1.0


@PROPERTY
@given(values=st.lists(st.floats(0, 1), max_size=50))
def test_q_values_equal_scipys(values: list[float]) -> None:
    found = benjamini_hochberg(np.array(values, dtype=float))
    expected = stats.false_discovery_control(values) if values else np.empty(0)
    assert found == pytest.approx(expected)
