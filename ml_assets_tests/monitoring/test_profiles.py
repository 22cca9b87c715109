"""Profiles: what they count, that they add up, and that they survive being stored."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.monitoring.errors import MonitoringError
from ml_assets.monitoring.profiles import (
    MOST_CATEGORIES,
    Cut,
    Profile,
    cuts_id,
    cuts_of,
    merge,
    profile,
)

CUTS = {
    "number": Cut("numeric", edges=(-10.0, 0.0, 1.5, 100.0)),
    "whole": Cut("numeric", edges=(0.0,)),
    "word": Cut("categorical", categories=("a", "b")),
    "truth": Cut("categorical", categories=("true",)),
}
NUMBERS = st.none() | st.floats(-1e6, 1e6) | st.sampled_from([float("nan"), float("inf"), float("-inf"), 0.0, 1.5])
ROWS = st.lists(
    st.tuples(NUMBERS, st.none() | st.integers(-(2**40), 2**40), st.none() | st.sampled_from("abcd"), st.booleans()),
    max_size=12,
)
SCHEMA = {"number": pl.Float64, "whole": pl.Int64, "word": pl.String, "truth": pl.Boolean}


def _frame(rows: list[tuple[float | None, int | None, str | None, bool]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def _same(one: Profile, other: Profile) -> None:
    """Assert that two profiles are equal, moments within their last digits."""
    left, right = one.to_dict(), other.to_dict()
    for name, column in left["columns"].items():
        spread = 1e-9 * (1 + max(abs(column.get("low", 0.0)), abs(column.get("high", 0.0))))
        own = right["columns"][name]
        assert ("mean" in column) == ("mean" in own)
        assert column.pop("mean", 0.0) == pytest.approx(own.pop("mean", 0.0), rel=1e-9, abs=spread)
        assert column.pop("m2", 0.0) == pytest.approx(own.pop("m2", 0.0), rel=1e-9, abs=spread * spread)
        assert column.pop("categories", {}) == own.pop("categories", {})
    assert left == right


@given(ROWS)
def test_a_profile_counts_what_is_there(rows: list[tuple[float | None, int | None, str | None, bool]]) -> None:
    found = profile(_frame(rows), cuts=CUTS).columns
    numbers = np.array([row[0] for row in rows if row[0] is not None], dtype=float)
    finite = numbers[np.isfinite(numbers)]
    one = found["number"]
    assert (one.rows, one.nulls) == (len(rows), sum(row[0] is None for row in rows))
    assert (one.nans, one.infinities, one.finite) == (
        np.isnan(numbers).sum(),
        np.isinf(numbers).sum(),
        len(finite),
    )
    expected = np.bincount(np.searchsorted(CUTS["number"].edges, numbers[~np.isnan(numbers)]), minlength=5)
    assert one.counts is not None and one.counts.tolist() == expected.tolist()
    if len(finite):
        assert (one.low, one.high) == (finite.min(), finite.max())
        assert one.mean == pytest.approx(finite.mean(), rel=1e-9, abs=1e-9)
        assert one.std == pytest.approx(finite.std(), rel=1e-9, abs=1e-6)
    words = [row[2] for row in rows]
    assert dict(found["word"].categories) == {word: words.count(word) for word in set(words) - {None}}
    assert found["word"].distinct == len(set(words) - {None})


@given(st.lists(ROWS, min_size=1, max_size=4))
def test_merged_profiles_are_the_profile_of_all_rows_whatever_the_order(parts: list) -> None:
    found = [profile(_frame(rows), cuts=CUTS) for rows in parts]
    whole = profile(_frame([row for rows in parts for row in rows]), cuts=CUTS)
    _same(merge(found), whole)
    _same(merge(found[::-1]), whole)
    _same(merge([merge(found[:1]), *found[1:]]), whole)
    _same(merge([*found[:-1], merge(found[-1:])]), whole)


@given(ROWS, st.booleans())
def test_what_is_stored_comes_back(rows: list, cut: bool) -> None:
    found = profile(_frame(rows), cuts=CUTS if cut else None)
    text = json.dumps(found.to_dict(), allow_nan=False)
    assert Profile.from_dict(json.loads(text)).to_dict() == found.to_dict()
    assert json.dumps(Profile.from_dict(json.loads(text)).to_dict()) == text


@given(st.lists(st.floats(1e307, 1.7e308) | st.floats(-1.7e308, -1e307), min_size=1, max_size=9))
def test_huge_values_have_a_mean_and_can_be_stored(values: list[float]) -> None:
    one = profile(pl.DataFrame({"x": values}))
    found = merge([one, one]).columns["x"]
    assert found.low is not None and found.high is not None and found.mean is not None
    assert found.low <= found.mean <= found.high or found.mean == pytest.approx(found.low)
    assert (found.finite, found.nans, found.infinities) == (2 * len(values), 0, 0)
    assert json.dumps(one.to_dict(), allow_nan=False)


def test_moments_of_a_far_away_mean_keep_their_digits() -> None:
    """Sums of squares would lose all of them; the merged moments are held against the whole's."""
    values = 1e9 + np.random.default_rng(7).normal(0, 1e-2, 9_000)
    parts = [profile(pl.DataFrame({"x": part})) for part in np.split(values, 30)]
    found = merge(parts).columns["x"]
    assert found.mean == pytest.approx(values.mean(), rel=1e-12)
    assert found.std == pytest.approx(values.std(), rel=1e-6)


def test_the_reference_is_cut_at_its_deciles_with_a_bin_on_either_side() -> None:
    frame = pl.DataFrame({"x": [float(value) for value in range(1, 101)], "w": ["a"] * 60 + ["b"] * 38 + ["c", "c"]})
    cuts = cuts_of(frame.with_columns(list=pl.lit(1)), ["x", "w", "gone"])
    assert list(cuts) == ["x", "w"]
    assert cuts["w"].categories == ("a", "b"), "two rows are too few for a bin"
    counts = profile(frame, cuts=cuts).columns["x"].counts
    assert counts is not None and counts.tolist() == [0, 11, *[10] * 8, 9, 0]
    beyond = profile(pl.DataFrame({"x": [0.0, 1.0, 100.0, 101.0, 102.0]}), cuts=cuts).columns["x"].counts
    assert beyond is not None and (beyond[0], beyond[1], beyond[-2], beyond[-1]) == (1, 1, 1, 2)
    assert cuts_id(cuts) == cuts_id(dict(reversed(list(cuts.items())))) != cuts_id(cuts_of(frame.head(50), ["x", "w"]))
    assert cuts_id(None) == cuts_id({}) == ""


@pytest.mark.parametrize("values", [[], [None, None], [float("nan")], [float("inf"), float("-inf")]])
def test_without_a_finite_value_there_are_no_moments(values: list[float | None]) -> None:
    frame = pl.DataFrame({"x": pl.Series(values, dtype=pl.Float64)})
    assert cuts_of(frame, ["x"])["x"].edges == ()
    found = profile(frame, cuts=cuts_of(frame, ["x"])).columns["x"]
    assert (found.low, found.high, found.mean, found.std, found.finite) == (None, None, None, None, 0)
    assert found.counts is not None and found.counts.sum() == found.infinities
    assert merge([profile(frame), profile(pl.DataFrame({"x": [2.0]}))]).columns["x"].mean == 2.0


def test_constants_are_told_with_their_value() -> None:
    found = profile(pl.DataFrame({"x": [2.0, 2.0, None], "w": ["a", None, "a"], "v": [1, 2, 2]})).columns
    assert (found["x"].value, found["x"].distinct, found["x"].std) == ("2", 1, 0.0)
    assert (found["w"].value, found["w"].distinct) == ("a", 1)
    assert (found["v"].value, found["v"].distinct) == (None, 2)


def test_times_are_the_same_numbers_in_every_unit() -> None:
    moment = pl.Series("at", [datetime(2013, 1, 1), datetime(2013, 1, 2)])
    units = [moment.cast(pl.Datetime(unit)).to_frame() for unit in ("ms", "us", "ns")]
    assert len({profile(one).columns["at"].mean for one in units}) == 1
    days = profile(pl.DataFrame({"d": [date(1970, 1, 11)], "t": [timedelta(seconds=1)]})).columns
    assert (days["d"].low, days["t"].low) == (10.0, 1e6)


def test_a_nested_column_is_refused_by_name_and_else_told_by_its_nulls() -> None:
    frame = pl.DataFrame({"x": [[1], None], "n": [None, None]})
    with pytest.raises(MonitoringError, match=r"feature 'x' is List\(Int64\): give a number"):
        profile(frame, columns=["x"])
    found = profile(frame).columns
    assert (found["x"].kind, found["x"].nulls, found["n"].kind, found["n"].nulls) == ("unknown", 1, "unknown", 2)


def test_a_missing_column_is_left_out_and_the_rows_are_counted_still() -> None:
    found = profile(pl.DataFrame({"x": [1, 2]}), columns=["gone"])
    assert (found.rows, found.columns) == (2, {})
    both = merge([found, profile(pl.DataFrame({"gone": [1]}))])
    assert (both.rows, both.columns["gone"].rows) == (3, 1)


def test_texts_and_numbers_together_are_mixed_for_good_and_nulls_take_the_kind_of_the_others() -> None:
    number, text, null = (profile(pl.DataFrame({"x": pl.Series(values)})) for values in ([1.5], ["a"], [None]))
    for parts in ([number, text, number], [text, number, null], [merge([number, text]), number]):
        found = merge(parts).columns["x"]
        assert (found.kind, found.mean, dict(found.categories)) == ("mixed", None, {})
    found = merge([null, number]).columns["x"]
    assert (found.kind, found.dtype, found.mean, found.nulls) == ("numeric", "Float64 | Null", 1.5, 1)


def test_merging_nothing_or_other_cuts_is_refused() -> None:
    with pytest.raises(MonitoringError, match="no profiles to merge"):
        merge([])
    frame = pl.DataFrame({"number": [1.0]})
    with pytest.raises(MonitoringError, match="profile all partitions with the same cuts"):
        merge([profile(frame), profile(frame, cuts=CUTS)])


def test_of_many_categories_the_commonest_are_kept_and_the_others_counted_together() -> None:
    words = [f"w{number:04d}" for number in range(2_000)] + ["common"] * 500
    found = profile(pl.DataFrame({"w": words}), cuts={"w": Cut("categorical", categories=("common", "w0001"))}).columns[
        "w"
    ]
    assert len(found.categories) == MOST_CATEGORIES
    assert found.categories["common"] == 500
    assert sum(found.categories.values()) + found.rest == len(words)
    assert found.counts is not None and found.counts.tolist() == [500, 1, 1_999]
    assert found.distinct == pytest.approx(2_001, rel=0.1)


@pytest.mark.parametrize("late", ["a", "b", "late", None])
def test_long_columns_of_few_categories_are_counted_to_the_last_row(late: str | None) -> None:
    frame = pl.DataFrame({"w": ["a", "b", None] * 5_000 + [late]})
    found = profile(frame).columns["w"]
    expected = dict(frame["w"].drop_nulls().value_counts().iter_rows())
    assert (dict(found.categories), found.rest, found.distinct) == (expected, 0, len(expected))


def test_a_long_column_that_names_its_rows_is_sketched() -> None:
    words = pl.Series("w", [f"row {number}" for number in range(20_000)])
    found = profile(words.to_frame(), cuts={"w": Cut("categorical", categories=("row 7",))}).columns["w"]
    assert found.counts is not None and found.counts.tolist() == [1, 19_999]
    assert found.distinct == pytest.approx(20_000, rel=0.1)


@pytest.mark.parametrize("distinct", [0, 1, 10, 300, 5_000, 100_000])
def test_distinct_values_are_estimated_as_well_as_by_datasketches(distinct: int) -> None:
    """Ours over three times the rows, in parts and together, against the library's sketch of the same size."""
    from datasketches import hll_sketch

    values = np.tile(np.random.default_rng(distinct).permutation(distinct) * 0.37, 3)
    parts = [profile(pl.DataFrame({"x": part})) for part in np.array_split(values, 3)]
    whole = profile(pl.DataFrame({"x": values})).columns["x"]
    theirs = hll_sketch(9)
    for value in values[:distinct]:
        theirs.update(float(value))
    assert merge(parts).columns["x"].registers.tolist() == whole.registers.tolist(), "merging loses nothing"
    assert whole.distinct == pytest.approx(distinct, rel=0.1)
    assert theirs.get_estimate() == pytest.approx(distinct, rel=0.1)


@settings(max_examples=20)
@given(st.lists(st.integers(-(2**62), 2**62), max_size=20))
def test_huge_whole_numbers_are_floats(values: list[int]) -> None:
    found = profile(pl.DataFrame({"x": pl.Series(values, dtype=pl.Int64)})).columns["x"]
    assert found.low == (float(min(values)) if values else None)
    assert found.distinct <= len(values)


def test_a_lazy_frame_is_read_once_for_its_columns_alone() -> None:
    reads: list[int] = []

    def seen(batch: pl.Series) -> pl.Series:
        reads.append(len(batch))
        return batch

    lazy = pl.LazyFrame({"x": [1.0, 2.0], "y": [1.0, 2.0]}).with_columns(
        pl.col("y").map_batches(seen, return_dtype=pl.Float64)
    )
    assert profile(lazy, columns=["x"]).columns["x"].mean == 1.5
    assert reads == []
    profile(lazy)
    assert reads == [2]


@pytest.mark.parametrize(("first", "span"), [(-50, 200), (-50, 2**20), (2**60 + 1, 300), (-(2**53) - 3, 9)])
def test_long_columns_of_whole_numbers_are_sketched_as_short_ones(first: int, span: int) -> None:
    values = pl.Series("x", np.random.default_rng(3).integers(first, first + span, 2**17 + 9))
    frame = values.set(values == first + 7, None).to_frame()
    parts = merge([profile(part) for part in frame.iter_slices(20_000)]).columns["x"]
    assert profile(frame).columns["x"].registers.tolist() == parts.registers.tolist()
    assert parts.distinct == pytest.approx(frame["x"].drop_nulls().cast(pl.Float64).n_unique(), rel=0.1)
