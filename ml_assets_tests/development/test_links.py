"""Links: kept as JSON they are the same again, and what they answer is what a task expects."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.development.links import (
    KINDS,
    Isotonic,
    Link,
    LinkError,
    Logistic,
    Platt,
    PlattEach,
    Spread,
    Target,
    Temperature,
    applied,
    link,
    normalised,
)

NUMBER = st.floats(-1e6, 1e6)
SHARE = st.floats(0, 1)
FLAT = st.lists(NUMBER, min_size=1, max_size=20).map(np.array)
SHARES = st.lists(SHARE, min_size=1, max_size=20).map(np.array)


@st.composite
def tables(draw: st.DrawFn) -> np.ndarray:
    """Rows of three probabilities that sum to 1."""
    rows = draw(st.lists(st.tuples(SHARE, SHARE, SHARE), min_size=1, max_size=10))
    return normalised(np.array(rows))


@st.composite
def isotonic(draw: st.DrawFn) -> Isotonic:
    x = sorted(draw(st.lists(SHARE, min_size=2, max_size=6, unique=True)))
    y = sorted(draw(st.lists(SHARE, min_size=len(x), max_size=len(x))))
    return Isotonic(tuple(x), tuple(y))


THREE = st.tuples(NUMBER, NUMBER, NUMBER)
TO_SHARES: dict[type[Link], tuple[st.SearchStrategy, st.SearchStrategy]] = {
    Platt: (st.builds(Platt, slope=NUMBER, offset=NUMBER), FLAT),
    Logistic: (st.builds(Logistic, slope=NUMBER, offset=NUMBER), SHARES),
    Isotonic: (isotonic(), SHARES),
}
TO_TABLES: dict[type[Link], tuple[st.SearchStrategy, st.SearchStrategy]] = {
    PlattEach: (
        st.builds(PlattEach, slopes=THREE, offsets=THREE),
        st.lists(st.tuples(NUMBER, NUMBER, NUMBER), min_size=1, max_size=10).map(np.array),
    ),
    Temperature: (st.builds(Temperature, temperature=st.floats(0.05, 20)), tables()),
    Spread: (st.just(Spread((0, 2, 3), 5)), tables()),
}


def _again(known: Link) -> Link:
    return link(json.loads(json.dumps(known.to_dict())))


@pytest.mark.parametrize("kind", TO_SHARES)
@given(data=st.data())
def test_probabilities_are_within_0_and_1_and_the_same_from_json(kind: type[Link], data: st.DataObject) -> None:
    links, scores = TO_SHARES[kind]
    known, said = data.draw(links), data.draw(scores)
    found = known.apply(said)
    assert found.shape == said.shape and ((found >= 0) & (found <= 1)).all()
    assert _again(known) == known
    np.testing.assert_array_equal(_again(known).apply(said), found)


@pytest.mark.parametrize("kind", TO_TABLES)
@given(data=st.data())
def test_rows_of_probabilities_sum_to_1(kind: type[Link], data: st.DataObject) -> None:
    links, scores = TO_TABLES[kind]
    known, said = data.draw(links), data.draw(scores)
    found = known.apply(said)
    assert len(found) == len(said) and ((found >= 0) & (found <= 1 + 1e-12)).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert _again(known) == known


def test_every_kind_is_tested() -> None:
    assert {*TO_SHARES, *TO_TABLES, Target} == set(KINDS.values())


@given(shares=SHARES)
def test_a_logistic_link_of_1_and_0_changes_nothing(shares: np.ndarray) -> None:
    np.testing.assert_allclose(Logistic(1.0, 0.0).apply(shares), shares, atol=1e-9)


@given(table=tables(), temperature=st.floats(0.05, 20))
def test_a_temperature_keeps_the_order_of_the_classes(table: np.ndarray, temperature: float) -> None:
    found = Temperature(temperature).apply(table)
    best = table.argmax(axis=1)
    assert (found[np.arange(len(table)), best] >= found.max(axis=1) - 1e-12).all()


def test_spread_gives_each_known_class_its_place() -> None:
    assert Spread((0, 2), 4).apply(np.array([0.25])).tolist() == [[0.75, 0, 0.25, 0]]
    assert Spread((1, 2, 3), 4).apply(np.array([[0.2, 0.3, 0.5]])).tolist() == [[0, 0.2, 0.3, 0.5]]


def test_a_row_of_zeros_becomes_equal_shares() -> None:
    assert normalised(np.array([[0.0, 0, 0, 0]])).tolist() == [[0.25] * 4]


@given(y=st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=30).map(np.array))
def test_a_target_comes_back(y: np.ndarray) -> None:
    target = Target.fit(y)
    np.testing.assert_allclose(target.apply(target.forward(y)), y, atol=1e-9 * max(1.0, float(np.abs(y).max())))
    assert _again(target) == target


@given(y=st.lists(st.floats(0, 1e9), min_size=1, max_size=30).map(np.array))
def test_a_logarithm_comes_back_within_what_it_can_mean(y: np.ndarray) -> None:
    target = Target.fit(y, log=True)
    np.testing.assert_allclose(target.apply(target.forward(y)), y, rtol=1e-6, atol=1e-9)
    assert np.isfinite(target.apply(np.array([1e9, -1e9]))).all(), "a wild extrapolation is no infinity"
    assert target.apply(np.array([-1e9]))[0] == 0


def test_outcomes_of_the_logarithm_may_be_below_what_training_saw() -> None:
    target = Target.fit(np.array([0.0, 1.0, 9.0]), log=True)
    assert np.isfinite(target.forward(np.array([-3.0]))).all()


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_an_estimator_sees_the_same_numbers_in_any_unit(scale: float) -> None:
    y = np.random.default_rng(0).normal(3, 2, 100)
    np.testing.assert_allclose(Target.fit(y * scale).forward(y * scale), Target.fit(y).forward(y), rtol=1e-9)


def test_links_are_applied_in_order() -> None:
    links = (Platt(1.0, 0.0), Isotonic((0.0, 1.0), (0.5, 1.0)))
    assert applied(links, np.array([0.0])).tolist() == [0.75]
    assert applied((), np.array([3.0])).tolist() == [3.0]


@pytest.mark.parametrize("content", [{}, {"kind": "cubic", "slope": 1}])
def test_an_unknown_link_is_refused(content: dict) -> None:
    with pytest.raises(LinkError, match="is of no known kind"):
        link(content)
