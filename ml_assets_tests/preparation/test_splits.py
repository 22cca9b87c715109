"""Splits by time never overlap and never look ahead; at random they keep shares, and what belongs together on one side."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.preparation.splits import (
    SPLITS,
    SplitPlan,
    SplitWindows,
    random_split,
    share_windows,
    split_windows,
    together,
)

NOW = datetime(2013, 11, 3, 14, 30, tzinfo=UTC)


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]


def test_january_to_october_is_split_as_the_problem_says() -> None:
    windows = split_windows(as_known_at=NOW, train="8mo", validation="1mo", test="1mo")
    assert windows == SplitWindows(utc(2013, 1, 1), utc(2013, 9, 1), utc(2013, 10, 1), utc(2013, 11, 1))


def test_days_end_at_midnight() -> None:
    windows = split_windows(as_known_at=NOW, train="2w", validation="3d", test="7d")
    assert windows == SplitWindows(utc(2013, 10, 10), utc(2013, 10, 24), utc(2013, 10, 27), utc(2013, 11, 3))


def test_months_before_a_day_that_they_lack() -> None:
    windows = split_windows(as_known_at=utc(2013, 4, 7), train="1mo", validation="1mo", test="7d")
    assert windows == SplitWindows(utc(2013, 1, 28), utc(2013, 2, 28), utc(2013, 3, 31), utc(2013, 4, 7))


def test_midnight_of_another_zone_is_not_midnight() -> None:
    tokyo = datetime(2013, 11, 1, 8, tzinfo=timezone(timedelta(hours=9)))  # still October in UTC
    assert split_windows(as_known_at=tokyo, train="1mo", validation="1mo", test="1mo").end == utc(2013, 10, 1)


@pytest.mark.parametrize("field", ["train", "validation", "test"])
def test_a_span_that_cannot_be_read_is_named(field: str) -> None:
    spans = {"train": "8mo", "validation": "1mo", "test": "1mo"} | {field: "a month"}
    with pytest.raises(ValueError, match="'a month' is not a span of time"):
        split_windows(as_known_at=NOW, **spans)


spans = st.builds("{}{}".format, st.integers(1, 14), st.sampled_from(["mo", "w", "d"]))
moments = st.datetimes(datetime(2000, 1, 1), datetime(2050, 1, 1), timezones=st.just(UTC))


@settings(max_examples=60)
@given(now=moments, train=spans, validation=spans, test=spans, data=st.data())
def test_windows_are_in_order_whole_and_past(
    now: datetime, train: str, validation: str, test: str, data: st.DataObject
) -> None:
    windows = split_windows(as_known_at=now, train=train, validation=validation, test=test)
    edges = [windows.train_start, windows.validation_start, windows.test_start, windows.end]
    assert edges == sorted(set(edges))
    assert windows.end <= now
    assert all(edge == edge.replace(hour=0, minute=0, second=0, microsecond=0) for edge in edges)
    step = timedelta(microseconds=1)
    drawn = data.draw(
        st.lists(st.datetimes(datetime(1980, 1, 1), datetime(2050, 1, 1), timezones=st.just(UTC)), max_size=5)
    )
    times = [*drawn, *(edge + shift for edge in edges for shift in (-step, timedelta(0)))]
    frame = pl.DataFrame({"event_timestamp": times}, schema={"event_timestamp": pl.Datetime("us", "UTC")})
    found = frame.select(windows.expression()).to_series().to_list()
    for moment, split in zip(times, found, strict=True):
        inside: list[str | None] = [
            name for name, first, last in zip(SPLITS, edges, edges[1:], strict=False) if first <= moment < last
        ]
        assert [split] == (inside or [None])


# -- shares of rows in order of time -----------------------------------------------------------------------------------


def series(hours: Sequence[int]) -> pl.Series:
    return pl.Series([NOW + timedelta(hours=hour) for hour in hours], dtype=pl.Datetime("us", "UTC"))


def shares_of(split: pl.Series) -> list[float]:
    return [split.to_list().count(name) / len(split) for name in SPLITS]


@given(
    hours=st.lists(st.integers(0, 10_000), min_size=20, max_size=200, unique=True),
    train=st.floats(0.2, 0.7),
    validation=st.floats(0.1, 0.25),
)
def test_shares_of_rows_in_order_of_time(hours: list[int], train: float, validation: float) -> None:
    moments = series(hours)
    windows = share_windows(moments, train=train, validation=validation)
    split = pl.DataFrame({"event_timestamp": moments}).select(windows.expression()).to_series()
    assert split.null_count() == 0
    for found, wanted in zip(shares_of(split), (train, validation, 1 - train - validation), strict=True):
        assert abs(found * len(hours) - wanted * len(hours)) <= 1.01
    in_order = split.gather(moments.arg_sort()).to_list()
    assert in_order == sorted(in_order, key=SPLITS.index)


@given(hours=st.lists(st.integers(0, 5), min_size=1, max_size=60))
def test_rows_of_one_moment_are_in_one_split(hours: list[int]) -> None:
    moments = series(hours)
    frame = pl.DataFrame({"event_timestamp": moments, "hour": hours})
    found = frame.with_columns(split=share_windows(moments, train=0.6, validation=0.2).expression())
    assert found["split"].null_count() == 0
    assert found.group_by("hour").agg(pl.col("split").n_unique())["split"].max() == 1


def test_what_was_known_too_late_is_told_for_train_and_validation_only() -> None:
    windows = SplitWindows(utc(2013, 1, 1), utc(2013, 2, 1), utc(2013, 3, 1), utc(2013, 4, 1))
    step = timedelta(seconds=1)
    rows = [
        ("train", windows.validation_start, False),
        ("train", windows.validation_start + step, True),
        ("validation", windows.validation_start + step, False),
        ("validation", windows.test_start, False),
        ("validation", windows.test_start + step, True),
        ("test", windows.end + step, False),
        (None, windows.end + step, False),
        ("train", None, False),
    ]
    frame = pl.DataFrame(rows, schema=["split", "known", "late"], orient="row")
    assert frame.select(windows.too_late(pl.col("known"))).to_series().to_list() == frame["late"].to_list()


# -- at random ---------------------------------------------------------------------------------------------------------

SHARES = (0.6, 0.2, 0.2)


@settings(max_examples=60)
@given(rows=st.integers(30, 400), classes=st.integers(1, 4), seed=st.integers(0, 99))
def test_a_random_split_has_its_shares_of_rows_and_of_each_class(rows: int, classes: int, seed: int) -> None:
    outcome = pl.Series(np.random.default_rng(seed).integers(0, classes, rows))
    split = random_split(pl.int_range(rows, eager=True), outcome, shares=SHARES, seed=seed)
    for share, name in zip(SHARES, SPLITS, strict=True):
        for known in outcome.unique():
            part = (outcome == known).sum()
            assert abs(((split == name) & (outcome == known)).sum() - share * part) <= 1
    again = random_split(pl.int_range(rows, eager=True), outcome, shares=SHARES, seed=seed)
    assert split.equals(again)


def test_another_seed_is_another_split() -> None:
    units = pl.int_range(100, eager=True)
    assert not random_split(units, None, shares=SHARES, seed=0).equals(random_split(units, None, shares=SHARES, seed=1))


@settings(max_examples=60)
@given(groups=st.lists(st.one_of(st.none(), st.integers(0, 30)), min_size=1, max_size=150), seed=st.integers(0, 9))
def test_groups_are_whole(groups: list[int | None], seed: int) -> None:
    outcome = pl.Series(np.random.default_rng(seed).integers(0, 2, len(groups)))
    units = pl.Series(groups, dtype=pl.Int64)
    split = random_split(units, outcome, shares=SHARES, seed=seed)
    assert split.null_count() == 0
    found = pl.DataFrame({"unit": units, "split": split}).group_by("unit").agg(pl.col("split").n_unique())
    assert found["split"].max() == 1


def test_groups_of_any_size_have_about_the_shares_of_rows() -> None:
    random = np.random.default_rng(0)
    units = pl.Series(np.repeat(np.arange(300), random.integers(1, 30, 300)))
    split = random_split(units, None, shares=SHARES, seed=0)
    for found, wanted in zip(shares_of(split), SHARES, strict=True):
        assert abs(found - wanted) < 0.02


def test_150_flowers_are_divided_evenly() -> None:
    kinds = pl.Series(["setosa", "versicolor", "virginica"] * 50)
    split = random_split(pl.int_range(150, eager=True), kinds, shares=SHARES, seed=0)
    counts = pl.DataFrame({"kind": kinds, "split": split}).group_by("kind", "split").len()
    assert sorted(counts["len"]) == [10] * 6 + [30] * 3


def test_numbers_are_divided_evenly_from_low_to_high() -> None:
    outcome = pl.Series(np.random.default_rng(0).lognormal(0, 2, 150))
    means = []
    for seed in range(20):
        split = random_split(pl.int_range(150, eager=True), outcome.rank(), shares=SHARES, seed=seed)
        means.append([float(outcome.rank().filter(split == name).mean() or 0) for name in SPLITS])  # type: ignore[arg-type]
    # By chance alone the mean rank of 30 of 150 rows would have a deviation of 7.1.
    assert np.std(means, axis=0).max() < 3


def test_equal_rows_stay_together_and_groups_come_before_them() -> None:
    frame = pl.DataFrame(
        {"x": [1.0, 1.0, None, None, 2.0], "y": ["a", "a", "b", "b", "a"], "customer": [1, 2, 1, 2, 2], "label": 0}
    )
    assert together(frame, ["x", "y"]).rank("dense").n_unique() == 3
    assert together(frame, ["x", "y"], "customer").to_list() == ["1", "2", "1", "2", "2"]
    drawn = SplitPlan(by_time=False, seed=4).drawn(frame, ["x", "y"])
    assert drawn[0] == drawn[1] and drawn[2] == drawn[3]
    assert SplitPlan(by_time=False, seed=4).drawn(frame.drop("label"), ["x"]).null_count() == 0


def test_a_plan_takes_spans_or_shares() -> None:
    moments = series(range(1_000))
    plan = SplitPlan(train="8mo", validation="1mo", test="1mo")
    assert plan.windows(moments, as_known_at=NOW) == split_windows(
        as_known_at=NOW, train="8mo", validation="1mo", test="1mo"
    )
    assert SplitPlan().windows(moments, as_known_at=NOW) == share_windows(moments, train=0.6, validation=0.2)
