"""Our evaluation against real Great Expectations on pandas, for every expectation type, on random small frames."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_assets.quality import RULES, Expectation, Suite, evaluate

START = datetime(2013, 1, 1, tzinfo=UTC)
WORDS = ["EWR", "JFK", "LGA", "N14228", "", "é b"]
SCHEMA = {
    "number": pl.Float64,
    "other": pl.Float64,
    "whole": pl.Int64,
    "text": pl.String,
    "moment": pl.Datetime("us", "UTC"),
}

numbers = st.one_of(st.none(), st.integers(-8, 8).map(lambda value: value / 2))
moments = st.one_of(st.none(), st.integers(0, 96).map(lambda hours: START + timedelta(hours=hours)))
values = {
    "number": numbers,
    "other": numbers,
    "whole": st.integers(-3, 3),
    "text": st.one_of(st.none(), st.sampled_from(WORDS)),
    "moment": moments,
}


@st.composite
def frames(draw: st.DrawFn) -> dict[str, list[Any]]:
    """Columns of one to twelve rows, each with a value in its first row: we are stricter about columns without any."""
    rows = draw(st.integers(1, 12))
    columns = {name: draw(st.lists(drawn, min_size=rows, max_size=rows)) for name, drawn in values.items()}
    first = {"number": 1.5, "other": 0.5, "whole": 1, "text": "JFK", "moment": START}
    return {name: [first[name] if column[0] is None else column[0], *column[1:]] for name, column in columns.items()}


@st.composite
def bounds(draw: st.DrawFn, limit: st.SearchStrategy[Any]) -> dict[str, Any]:
    """Limits that admit something: at least one side, the strict flags as they come."""
    low, high = sorted(draw(st.lists(limit, min_size=2, max_size=2, unique=True)))
    found = draw(st.sampled_from([{"min_value": low}, {"max_value": high}, {"min_value": low, "max_value": high}]))
    return found | draw(st.fixed_dictionaries({}, optional={"strict_min": st.booleans(), "strict_max": st.booleans()}))


halves = st.integers(-6, 6).map(lambda value: value / 2)
counts = st.integers(0, 8)
isos = st.integers(0, 96).map(lambda hours: (START + timedelta(hours=hours)).isoformat())
mostly = st.fixed_dictionaries({}, optional={"mostly": st.sampled_from([0, 0.25, 0.5, 0.8, 0.9, 1])})
any_column = st.sampled_from(sorted(SCHEMA)).map(lambda name: {"column": name})
numeric = st.sampled_from(["number", "other", "whole"]).map(lambda name: {"column": name})
moment = st.just({"column": "moment"})
text = st.just({"column": "text"})
members = st.one_of(
    st.builds(dict, column=st.just("text"), value_set=st.lists(st.sampled_from(WORDS), min_size=1, unique=True)),
    st.builds(dict, column=st.just("number"), value_set=st.lists(halves, min_size=1, unique=True)),
    st.builds(dict, column=st.just("whole"), value_set=st.lists(st.integers(-3, 3), min_size=1, unique=True)),
)
types = st.sampled_from(["Float64", "Int64", "String", "Boolean", "Datetime"])
names = st.lists(st.sampled_from([*SCHEMA, "absent"]), min_size=1, unique=True)
key_policy = st.sampled_from(["all_values_are_missing", "any_value_is_missing", "never"])
pair_policy = st.sampled_from(["both_values_are_missing", "either_value_is_missing", "neither"])


def joined(*parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """One dictionary drawn from all parts."""
    return st.tuples(*parts).map(lambda found: {key: value for part in found for key, value in part.items()})


limited = st.one_of(joined(numeric, bounds(halves)), joined(moment, bounds(isos)))
KWARGS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "expect_table_row_count_to_be_between": bounds(counts),
    "expect_table_columns_to_match_set": st.builds(dict, column_set=names, exact_match=st.booleans()),
    "expect_column_to_exist": st.builds(dict, column=st.sampled_from([*SCHEMA, "absent"])),
    "expect_column_values_to_be_of_type": joined(any_column, st.builds(dict, type_=types)),
    "expect_column_values_to_be_in_type_list": joined(  # theirs never accepts a zoned datetime in a list
        st.one_of(numeric, text), st.builds(dict, type_list=st.lists(types, min_size=1, unique=True))
    ),
    "expect_column_values_to_not_be_null": joined(any_column, mostly),
    "expect_column_values_to_be_null": joined(any_column, mostly),
    "expect_column_values_to_be_between": joined(limited, mostly),
    "expect_column_values_to_be_in_set": joined(members, mostly),
    "expect_column_values_to_be_unique": joined(any_column, mostly),
    "expect_column_values_to_match_regex": joined(
        text, st.builds(dict, regex=st.sampled_from(["^[A-Z]{3}$", "[0-9]", "K", "^$", "é", "."])), mostly
    ),
    "expect_column_value_lengths_to_be_between": joined(text, bounds(counts), mostly),
    "expect_compound_columns_to_be_unique": joined(
        st.builds(dict, column_list=st.lists(st.sampled_from(sorted(SCHEMA)), min_size=2, unique=True)),
        st.builds(dict, ignore_row_if=key_policy),
        mostly,
    ),
    "expect_column_pair_values_a_to_be_greater_than_b": joined(
        st.just({"column_A": "number", "column_B": "other"}),
        st.builds(dict, or_equal=st.booleans(), ignore_row_if=pair_policy),
        mostly,
    ),
    "expect_column_mean_to_be_between": joined(numeric, bounds(halves)),
    "expect_column_median_to_be_between": joined(numeric, bounds(halves)),
    "expect_column_stdev_to_be_between": joined(numeric, bounds(halves)),
    "expect_column_min_to_be_between": limited,
    "expect_column_max_to_be_between": limited,
    "expect_column_unique_value_count_to_be_between": joined(any_column, bounds(counts)),
    "expect_column_proportion_of_unique_values_to_be_between": joined(
        any_column, bounds(st.integers(0, 4).map(lambda value: value / 4))
    ),
    "expect_column_distinct_values_to_be_in_set": members,
}


def test_every_registered_type_is_compared() -> None:
    assert set(KWARGS) == set(RULES)


@pytest.mark.parametrize("type_", list(RULES))
def test_agrees_with_great_expectations(type_: str, oracle: Callable[..., dict[str, Any]]) -> None:
    @settings(max_examples=20, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(columns=frames(), kwargs=KWARGS[type_])
    def compare(columns: dict[str, list[Any]], kwargs: dict[str, Any]) -> None:
        expectation = Expectation(type_, kwargs)
        theirs = oracle(columns, expectation)
        ours = evaluate(pl.DataFrame(columns, schema=SCHEMA), Suite("ours", (expectation,)))[""].results[0]
        if ours.note.endswith("nothing was judged"):
            return  # every row was ignored: stricter on purpose, tested in test_evaluate.py
        assert ours.success == theirs["success"], (ours, theirs)
        if ours.unexpected_count is not None:
            assert ours.unexpected_count == theirs["unexpected_count"], (ours, theirs)
        if isinstance(ours.observed, int | float):
            assert ours.observed == pytest.approx(theirs["observed_value"]), (ours, theirs)

    compare()


@pytest.mark.parametrize("columns", [{"number": []}, {"number": [None, None]}])
def test_where_we_are_stricter_great_expectations_says_success(
    columns: dict[str, list[Any]], oracle: Callable[..., dict[str, Any]]
) -> None:
    expectation = Expectation("expect_column_values_to_be_between", {"column": "number", "min_value": 0})
    assert oracle(columns, expectation)["success"]
    assert not evaluate(pl.DataFrame(columns, schema={"number": pl.Float64}), Suite("s", (expectation,)))[""].success


def test_great_expectations_admits_an_infinity_on_an_open_side_and_we_do_not(
    oracle: Callable[..., dict[str, Any]],
) -> None:
    columns = {"number": [1.0, float("inf")]}
    expectation = Expectation("expect_column_values_to_be_between", {"column": "number", "min_value": 0})
    assert oracle(columns, expectation)["success"]
    assert not evaluate(pl.DataFrame(columns), Suite("s", (expectation,)))[""].success
