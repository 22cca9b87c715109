from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from ml_assets.quality import Expectation, Suite, SuiteError

BETWEEN = "expect_column_values_to_be_between"


@pytest.mark.parametrize(
    ("type_", "kwargs", "message"),
    [
        (
            "expect_column_values_to_be_betwen",
            {},
            "unknown expectation type.*did you mean 'expect_column_values_to_be_between'",
        ),
        (BETWEEN, {"column": "x", "min_valu": 1}, "unknown key 'min_valu'; did you mean 'min_value'"),
        (BETWEEN, {"min_value": 1}, "'column' is missing"),
        (BETWEEN, {"column": "x"}, "needs min_value or max_value"),
        (BETWEEN, {"column": "x", "min_value": 2, "max_value": 1}, "admits no value"),
        (BETWEEN, {"column": "x", "min_value": 1, "max_value": 1, "strict_max": True}, "admits no value"),
        (BETWEEN, {"column": "x", "min_value": "2013-02-01", "max_value": "2013-01-01"}, "admits no value"),
        (BETWEEN, {"column": "x", "min_value": "2013-02-01", "max_value": 5}, "different types"),
        (BETWEEN, {"column": "x", "min_value": float("nan")}, "'min_value' must be a number"),
        (BETWEEN, {"column": "x", "min_value": True}, "'min_value' must be a number"),
        (BETWEEN, {"column": "x", "min_value": 1, "strict_min": 1}, "'strict_min' must be true or false"),
        (BETWEEN, {"column": "x", "min_value": 1, "mostly": 95}, "'mostly' must be a number from 0 to 1; it is 95"),
        (BETWEEN, {"column": "", "min_value": 1}, "'column' must be a non-empty string"),
        ("expect_column_values_to_be_in_set", {"column": "x", "value_set": []}, "'value_set' must be a non-empty list"),
        ("expect_column_values_to_be_in_set", {"column": "x", "value_set": [None]}, "'value_set' must be"),
        ("expect_column_values_to_match_regex", {"column": "x", "regex": "(?=a)"}, "look-around"),
        ("expect_column_values_to_be_of_type", {"column": "x", "type_": "float64"}, "did you mean 'Float64'"),
        ("expect_column_values_to_be_in_type_list", {"column": "x", "type_list": ["Int64", "int"]}, "Polars dtype"),
        (
            "expect_column_values_to_be_of_type",
            {"column": "x", "type_": "Int64", "mostly": 0.5},
            "unknown key 'mostly'",
        ),
        ("expect_compound_columns_to_be_unique", {"column_list": ["a", "a"]}, "must not name anything twice"),
        ("expect_compound_columns_to_be_unique", {"column_list": "ab"}, "must be a non-empty list of names"),
        (
            "expect_column_pair_values_a_to_be_greater_than_b",
            {"column_A": "a", "column_B": "b", "ignore_row_if": "never"},
            "must be one of both_values_are_missing",
        ),
        (
            "expect_column_pair_values_a_to_be_greater_than_b",
            {"column_A": "a", "column_B": "a"},
            "'column_B' must name another column",
        ),
        ("expect_table_row_count_to_be_between", {"min_value": -1}, "'min_value' must be a whole number"),
        ("expect_table_row_count_to_be_between", {"min_value": 1, "column": "x"}, "unknown key 'column'"),
        ("expect_column_stdev_to_be_between", {"column": "x", "min_value": "2013-01-01"}, "must be a number"),
        ("expect_column_stdev_to_be_between", {"column": "x", "min_value": [1]}, "must be a number"),
    ],
)
def test_a_mistake_is_named_with_suite_expectation_and_key(type_: str, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(SuiteError, match=message) as error:
        Suite("raw_flights", (Expectation("expect_column_to_exist", {"column": "x"}), Expectation(type_, kwargs)))
    assert f"suite 'raw_flights', expectation 1 ({type_})" in str(error.value)


def test_a_wrong_severity_and_a_missing_name_are_refused() -> None:
    with pytest.raises(SuiteError, match="severity must be one of critical, warning; it is 'info'"):
        Suite("s", (Expectation("expect_column_to_exist", {"column": "x"}, "info"),))  # type: ignore[arg-type]
    with pytest.raises(SuiteError, match="needs a name"):
        Suite("")


def full() -> Suite:
    moment = datetime(2013, 1, 1, tzinfo=UTC)
    return Suite(
        "raw_flights",
        (
            Expectation(BETWEEN, {"column": "x", "min_value": 1, "max_value": float("inf"), "mostly": 0.9}, "warning"),
            Expectation(
                BETWEEN, {"column": "t", "min_value": moment, "max_value": None}, meta={"by": "me"}, notes="why"
            ),
            Expectation("expect_column_values_to_be_in_set", {"column": "o", "value_set": {"b", "a"}}),
            Expectation("expect_compound_columns_to_be_unique", {"column_list": ("a", "b")}),
            Expectation("expect_column_values_to_be_of_type", {"column": "x", "type_": "Int64"}),
            Expectation("expect_column_values_to_be_in_type_list", {"column": "o", "type_list": ["String", "Enum"]}),
        ),
    )


def test_kwargs_are_stored_json_safe() -> None:
    number, moment, members, key, *_ = (expectation.kwargs for expectation in full())
    assert number["max_value"] == "Infinity"
    assert dict(moment) == {"column": "t", "min_value": "2013-01-01T00:00:00+00:00"}
    assert (members["value_set"], key["column_list"]) == (["a", "b"], ["a", "b"])


def test_json_round_trip() -> None:
    assert Suite.from_json(full().to_json()) == full()


WRONG = '{"name": "s", "expectations": [{"type": "expect_column_to_exist", "kwargs": ["x"]}]}'


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"name": "s"}', '{"name": "s", "expectations": [{"kwargs": {}}]}', WRONG]
)
def test_what_is_no_suite_is_refused(text: str) -> None:
    with pytest.raises(SuiteError, match="must be"):
        Suite.from_json(text)


def test_expectations_say_what_they_are_about() -> None:
    assert [expectation.column for expectation in full()] == ["x", "t", "o", "a, b", "x", "o"]
    assert Expectation("expect_table_row_count_to_be_between", {"min_value": 1}).column is None


def test_great_expectations_reads_ours_and_we_read_its(oracle: object) -> None:
    real = full().to_great_expectations()
    assert (real.name, len(real.expectations)) == ("raw_flights", 6)
    types = [
        item["kwargs"].pop("type_", None) or item["kwargs"].pop("type_list", None)
        for item in real.to_json_dict()["expectations"]
    ]
    assert types[-2:] == ["int64", ["str", "CategoricalDtype"]]
    written = real.to_json_dict()
    written["expectations"] = written["expectations"][:4]
    read = Suite.from_json(json.dumps(written))
    assert [item.type for item in read] == [item.type for item in full()][:4]
    assert read.expectations[0] == full().expectations[0]
    assert (read.expectations[1].notes, read.expectations[1].meta) == ("why", {"by": "me"})
