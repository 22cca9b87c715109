"""Rows are divided so that nothing is fitted on what comes after, and what belongs together stays on one side."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.development.folds import LEAST_WATCHED, SCORED_FOLDS, Fold, Layout, pooled, scored_folds, thinned

COUNTS = st.integers(2, 6)


def timed(rows: int, *, delay: int = 0, seed: int = 0, strata: np.ndarray | None = None) -> Layout:
    """Rows at moments that are in order and often equal; outcomes are known up to `delay` later."""
    random = np.random.default_rng(seed)
    moments = np.sort(random.integers(0, max(1, rows), rows))
    known = moments + random.integers(0, delay + 1, rows)
    return Layout(rows, by_time=True, seed=seed, moments=moments, known=known, strata=strata)


@st.composite
def random_layouts(draw: st.DrawFn) -> Layout:
    rows = draw(st.integers(2, 120))
    random = np.random.default_rng(draw(st.integers(0, 1_000)))
    groups = random.integers(0, draw(st.integers(1, 150)), rows) if draw(st.booleans()) else None
    strata = random.integers(0, draw(st.integers(1, 6)), rows) if draw(st.booleans()) else None
    return Layout(rows, by_time=False, seed=draw(st.integers(0, 9)), groups=groups, strata=strata)


@given(rows=st.integers(0, 150), count=COUNTS, delay=st.integers(0, 60), seed=st.integers(0, 99))
def test_by_time_nothing_is_fitted_on_what_comes_after_or_was_not_known(
    rows: int, count: int, delay: int, seed: int
) -> None:
    layout = timed(rows, delay=delay, seed=seed)
    assert layout.moments is not None and layout.known is not None
    folds = layout.folds(count)
    for fold in folds:
        assert len(fold.fit) and len(fold.score)
        assert fold.fit.max() < fold.score.min()
        assert layout.known[fold.fit].max() <= layout.moments[fold.score].min()
    scored = np.concatenate([fold.score for fold in folds]) if folds else np.empty(0, dtype=int)
    assert len(np.unique(scored)) == len(scored) and (np.diff(scored) == 1).all()


@given(rows=st.integers(40, 200), count=COUNTS)
def test_by_time_the_later_half_is_scored(rows: int, count: int) -> None:
    folds = Layout(rows, by_time=True, seed=0).folds(count)
    scored = np.concatenate([fold.score for fold in folds])
    assert len(folds) == count and scored[-1] == rows - 1
    assert rows / 2 - count <= len(scored) <= rows / 2
    assert all(len(fold.fit) == fold.score[0] for fold in folds), "all that came before is fitted on"


def test_outcomes_that_come_late_leave_a_gap() -> None:
    moments = np.arange(100)
    layout = Layout(100, by_time=True, seed=0, moments=moments, known=moments + 20)
    assert [(len(fold.fit), fold.score[0]) for fold in layout.folds(5)] == [
        (start - 19, start) for start in (50, 60, 70, 80, 90)
    ]
    late = Layout(100, by_time=True, seed=0, moments=moments, known=moments + 75)
    assert [fold.score[0] for fold in late.folds(5)] == [80, 90], "folds before which nothing was known are left out"


@given(layout=random_layouts(), count=COUNTS)
def test_at_random_each_row_is_scored_once_and_groups_stay_together(layout: Layout, count: int) -> None:
    units = layout.rows if layout.groups is None else len(np.unique(layout.groups))
    folds = list(layout._random(count))
    assert len(folds) <= min(count, units)
    if units >= 2:
        assert np.sort(np.concatenate([score for _, score in folds])).tolist() == list(range(layout.rows))
    for fit, score in folds:
        assert len(fit) and len(score)
        assert np.sort(np.concatenate([fit, score])).tolist() == list(range(layout.rows))
        if layout.groups is not None:
            assert not set(layout.groups[fit]) & set(layout.groups[score])


@given(layout=random_layouts(), count=COUNTS)
def test_each_fold_can_teach_and_the_same_seed_gives_the_same(layout: Layout, count: int) -> None:
    folds = layout.folds(count)
    for fold, again in zip(folds, layout.folds(count), strict=True):
        assert (fold.fit == again.fit).all() and (fold.score == again.score).all()
        if layout.strata is not None and len(np.unique(layout.strata)) > 1:
            assert len(np.unique(layout.strata[fold.fit])) > 1


@given(share=st.floats(0.05, 0.95), rows=st.integers(50, 300), count=COUNTS)
def test_folds_keep_the_shares_of_classes(share: float, rows: int, count: int) -> None:
    strata = (np.arange(rows) < share * rows).astype(int)
    for fold in Layout(rows, by_time=False, seed=3, strata=strata).folds(count):
        assert abs(strata[fold.score].sum() - strata.sum() / count) < 2
        assert abs(len(fold.score) - rows / count) < 2


def test_folds_keep_the_shares_of_duplicated_rows_and_of_few_groups_too() -> None:
    random = np.random.default_rng(0)
    strata = (random.random(4_000) < 0.1).astype(int)
    twice = Layout(4_000, by_time=False, seed=0, strata=strata, groups=np.arange(4_000) // 2)
    sites = Layout(4_000, by_time=False, seed=0, strata=strata, groups=random.integers(0, 40, 4_000))
    for layout in (twice, sites):
        for fold in layout.folds(5):
            assert 0.08 < strata[fold.score].mean() < 0.12 and 700 < len(fold.score) < 900


def test_a_class_of_one_row_does_not_undo_the_shares_of_the_others() -> None:
    strata = np.array([0] * 45 + [1] * 14 + [2])
    for fold in Layout(60, by_time=False, seed=0, strata=strata).folds(5):
        assert abs((strata[fold.score] == 1).sum() - 3) <= 1


@given(strata=st.lists(st.integers(0, 8), min_size=6, max_size=60), least=st.integers(1, 6))
def test_pooled_classes_are_frequent_enough_and_frequent_ones_stay_apart(strata: list[int], least: int) -> None:
    codes = pooled(np.array(strata), least)
    assert np.unique(codes, return_counts=True)[1].min() >= min(least, len(strata))
    frequent = [name for name in set(strata) if strata.count(name) >= least]
    assert len({codes[strata.index(name)] for name in frequent}) == len(frequent)


def test_rows_of_one_class_before_the_scored_ones_make_no_fold() -> None:
    strata = np.array([0] * 70 + [1, 0] * 15)
    folds = timed(100, strata=strata).folds(5)
    assert [fold.score[0] for fold in folds] == [80, 90]
    assert len(timed(100, strata=np.zeros(100, dtype=int)).folds(5)) == 5, (
        "where there is one class, it is no one's fault"
    )


def test_many_groups_are_divided_fast() -> None:
    # StratifiedGroupKFold took 15 s for 20,000 rows that are all different.
    layout = Layout(100_000, by_time=False, seed=0, groups=np.arange(100_000), strata=np.arange(100_000) % 2)
    started = time.perf_counter()
    assert len(layout.folds(5)) == 5
    assert time.perf_counter() - started < 3


# -- rows that say when to stop ----------------------------------------------------------------------------------------


@given(rows=st.integers(0, 400), delay=st.integers(0, 60), seed=st.integers(0, 9))
def test_watched_rows_are_the_latest_and_respect_what_was_known(rows: int, delay: int, seed: int) -> None:
    layout = timed(400, delay=delay, seed=seed)
    assert layout.moments is not None and layout.known is not None
    fit, watched = layout.watched(np.arange(rows))
    if len(watched):
        assert watched.tolist() == list(range(rows - rows // 10, rows))
        assert layout.known[fit].max() <= layout.moments[watched].min()
    else:
        assert fit.tolist() == list(range(rows))
        assert rows // 10 < LEAST_WATCHED or layout.known[: rows - rows // 10].min() > layout.moments[rows - rows // 10]


@given(layout=random_layouts(), seed=st.integers(0, 9))
def test_watched_rows_at_random_divide_the_rows_and_keep_groups(layout: Layout, seed: int) -> None:
    index = np.sort(np.random.default_rng(seed).choice(layout.rows, max(1, layout.rows * 3 // 4), replace=False))
    fit, watched = layout.watched(index)
    assert np.sort(np.concatenate([fit, watched])).tolist() == index.tolist()
    if layout.groups is not None:
        assert not set(layout.groups[fit]) & set(layout.groups[watched])


def test_about_a_seventh_is_watched_at_random() -> None:
    fit, watched = Layout(1_000, by_time=False, seed=0).watched(np.arange(700))
    assert (len(fit), len(watched)) == (600, 100)


# -- which rows --------------------------------------------------------------------------------------------------------


@given(rows=st.integers(0, 500), most=st.integers(1, 200), seed=st.integers(0, 9))
def test_thinned_rows_are_in_order_and_even(rows: int, most: int, seed: int) -> None:
    index = thinned(rows, most, seed=seed)
    assert len(index) == min(rows, most)
    assert (np.diff(index) > 0).all() and (index < rows).all() and (index >= 0).all()
    if rows > most:
        assert (np.abs(index - np.arange(most) * rows / most) <= rows / most + 1).all()


@pytest.mark.parametrize(("rows", "most"), [(60_000, 20_000), (48_000, 2_000)])
def test_thinned_rows_are_not_all_of_one_shop_or_hour(rows: int, most: int) -> None:
    turn = rows // most
    counts = np.bincount(thinned(rows, most) % turn, minlength=turn)
    assert counts.min() > 0.6 * most / turn and counts.max() < 1.4 * most / turn


def test_many_rows_are_compared_on_validation_few_out_of_fold() -> None:
    layout = Layout(300, by_time=False, seed=0)
    (only,) = scored_folds(layout, 200, small=250)
    assert only.fit.tolist() == list(range(200)) and only.score.tolist() == list(range(200, 300))
    assert len(scored_folds(layout, 200)) == SCORED_FOLDS
    assert len(scored_folds(Layout(20, by_time=False, seed=0), 15)) == 2


@pytest.mark.parametrize(
    "layout",
    [
        timed(100, strata=np.array([0] * 85 + [1] * 15)),
        Layout(100, by_time=False, seed=0, groups=np.zeros(100, dtype=int)),
        Layout(2, by_time=True, seed=0),
    ],
    ids=["one class until late", "one group", "two rows"],
)
def test_without_two_folds_that_teach_candidates_are_compared_on_validation(layout: Layout) -> None:
    train = layout.rows - layout.rows // 2
    (only,) = scored_folds(layout, train)
    assert isinstance(only, Fold) and only.score.tolist() == list(range(train, layout.rows))


def test_taken_rows_keep_their_times_groups_and_classes() -> None:
    full = Layout(
        4, True, 7, moments=np.arange(4), known=np.arange(4) + 1, groups=np.arange(4) * 2, strata=np.array([0, 1, 0, 1])
    )
    part = full.take(np.array([1, 3]))
    assert (part.rows, part.by_time, part.seed) == (2, True, 7)
    for name, expected in {"moments": [1, 3], "known": [2, 4], "groups": [2, 6], "strata": [1, 1]}.items():
        assert getattr(part, name).tolist() == expected
    assert Layout(4, False, 0).take(np.array([1])).groups is None
