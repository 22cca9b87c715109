from __future__ import annotations

import math
import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.quality import (
    ALL_NULL_ALLOWED,
    PERSONAL,
    RULES,
    EvaluationError,
    Expectation,
    Result,
    Suite,
    Verdict,
    evaluate,
    merge,
)

FRAME = pl.DataFrame(
    {
        "id": ["a", "b", "c", "d"],
        "origin": ["EWR", "JFK", "LGA", "JFK"],
        "distance": [100, 200, 300, 400],
        "delay": [-5.0, None, 30.0, 5.0],
        "gone": pl.Series([None] * 4, dtype=pl.Float64),
        "left": [datetime(2013, 1, day, 5, tzinfo=UTC) for day in (1, 1, 2, 2)],
        "came": [datetime(2013, 1, day, 7, tzinfo=UTC) for day in (1, 1, 2, 2)],
    }
)

# type: kwargs that stay silent on FRAME, kwargs that fire on it, how many are unexpected, some of the examples
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], int | None, tuple[Any, ...]]] = {
    "expect_table_row_count_to_be_between": ({"min_value": 4}, {"min_value": 5}, None, ()),
    "expect_table_columns_to_match_set": (
        {"column_set": ["id"], "exact_match": False},
        {"column_set": ["id"]},
        None,
        (),
    ),
    "expect_column_to_exist": ({"column": "id"}, {"column": "id", "column_index": 1}, None, ()),
    "expect_column_values_to_be_of_type": (
        {"column": "left", "type_": "Datetime"},
        {"column": "left", "type_": "Date"},
        None,
        (),
    ),
    "expect_column_values_to_be_in_type_list": (
        {"column": "delay", "type_list": ["Int64", "Float64"]},
        {"column": "delay", "type_list": ["Int64", "Float32"]},
        None,
        (),
    ),
    "expect_column_values_to_not_be_null": ({"column": "id"}, {"column": "delay"}, 1, ()),
    "expect_column_values_to_be_null": ({"column": "gone"}, {"column": "delay"}, 3, (-5.0, 30.0, 5.0)),
    "expect_column_values_to_be_between": (
        {"column": "left", "min_value": "2013-01-01", "max_value": "2013-01-02T05:00:00Z"},
        {"column": "left", "max_value": "2013-01-02T05:00:00Z", "strict_max": True},
        2,
        ("2013-01-02T05:00:00+00:00",),
    ),
    "expect_column_values_to_be_in_set": (
        {"column": "origin", "value_set": ["EWR", "JFK", "LGA"]},
        {"column": "origin", "value_set": ["EWR", "LGA"]},
        2,
        ("JFK",),
    ),
    "expect_column_values_to_be_unique": ({"column": "id"}, {"column": "origin"}, 2, ("JFK",)),
    "expect_column_values_to_match_regex": (
        {"column": "origin", "regex": "^[A-Z]{3}$"},
        {"column": "origin", "regex": "^[^L]"},
        1,
        ("LGA",),
    ),
    "expect_column_value_lengths_to_be_between": (
        {"column": "origin", "min_value": 3, "max_value": 3},
        {"column": "origin", "max_value": 2},
        4,
        ("EWR", "JFK", "LGA"),
    ),
    "expect_compound_columns_to_be_unique": (
        {"column_list": ["origin", "left"]},
        {"column_list": ["gone", "left"]},
        4,
        ({"gone": None, "left": "2013-01-01T05:00:00+00:00"}, {"gone": None, "left": "2013-01-02T05:00:00+00:00"}),
    ),
    "expect_column_pair_values_a_to_be_greater_than_b": (
        {"column_A": "came", "column_B": "left"},
        {"column_A": "delay", "column_B": "distance"},
        4,
        (
            {"delay": -5.0, "distance": 100},
            {"delay": None, "distance": 200},
            {"delay": 30.0, "distance": 300},
            {"delay": 5.0, "distance": 400},
        ),
    ),
    "expect_column_mean_to_be_between": (
        {"column": "delay", "min_value": 10, "max_value": 10},
        {"column": "delay", "min_value": 10, "strict_min": True},
        None,
        (),
    ),
    "expect_column_median_to_be_between": (
        {"column": "delay", "min_value": 5},
        {"column": "delay", "max_value": 4},
        None,
        (),
    ),
    "expect_column_stdev_to_be_between": (
        {"column": "distance", "max_value": 130},
        {"column": "distance", "max_value": 129},
        None,
        (),
    ),
    "expect_column_min_to_be_between": (
        {"column": "left", "min_value": "2013-01-01T05:00:00"},
        {"column": "left", "min_value": "2013-01-01T05:00:00.000001"},
        None,
        (),
    ),
    "expect_column_max_to_be_between": (
        {"column": "distance", "max_value": 400},
        {"column": "distance", "max_value": 399.5},
        None,
        (),
    ),
    "expect_column_unique_value_count_to_be_between": (
        {"column": "origin", "min_value": 3, "max_value": 3},
        {"column": "origin", "min_value": 4},
        None,
        (),
    ),
    "expect_column_proportion_of_unique_values_to_be_between": (
        {"column": "origin", "min_value": 0.75},
        {"column": "origin", "min_value": 0.8},
        None,
        (),
    ),
    "expect_column_distinct_values_to_be_in_set": (
        {"column": "distance", "value_set": [100, 200.0, 300, 400, 500]},
        {"column": "distance", "value_set": [100, 200]},
        2,
        (300, 400),
    ),
}


def result(type_: str, kwargs: dict[str, Any], frame: pl.DataFrame = FRAME, **fields: Any) -> Result:
    return evaluate(frame, Suite("s", (Expectation(type_, kwargs, **fields),)))[""].results[0]


def between(values: list[Any], dtype: Any = None, **limits: Any) -> Result:
    frame = pl.DataFrame({"x": pl.Series(values, dtype=dtype, strict=False)})
    return result("expect_column_values_to_be_between", {"column": "x", **limits}, frame)


def test_every_type_has_a_case() -> None:
    assert set(CASES) == set(RULES)


@pytest.mark.parametrize("type_", list(CASES))
def test_stays_silent(type_: str) -> None:
    found = result(type_, CASES[type_][0])
    assert (found.success, found.unexpected_count or 0, found.examples, found.note) == (True, 0, (), "")


@pytest.mark.parametrize("type_", list(CASES))
def test_fires(type_: str) -> None:
    _, kwargs, unexpected, examples = CASES[type_]
    found = result(type_, kwargs)
    assert (found.success, found.unexpected_count, found.examples) == (False, unexpected, examples)
    assert found.reason()


@pytest.mark.parametrize("type_", list(CASES))
def test_a_missing_column_is_red_with_a_note(type_: str) -> None:
    if type_.startswith("expect_table_row"):
        return
    found = result(type_, CASES[type_][0], FRAME.select(pl.lit(1).alias("idd")))
    assert not found.success
    assert "missing" in found.note


def test_a_missing_column_names_the_nearest_one() -> None:
    found = result("expect_column_values_to_be_unique", {"column": "id"}, FRAME.rename({"id": "idd"}))
    assert found.note == "the column 'id' is missing; did you mean 'idd'?"


@pytest.mark.parametrize("type_", [type_ for type_ in CASES if "table" not in type_ and "type" not in type_])
def test_a_column_of_nulls_is_red_under_an_expectation_about_values(type_: str) -> None:
    if type_ in ("expect_column_to_exist", "expect_column_values_to_be_null"):
        return
    for typed in (FRAME.schema, dict.fromkeys(FRAME.columns, pl.Null)):
        frame = FRAME.with_columns(pl.lit(None, dtype=dtype).alias(name) for name, dtype in typed.items())
        found = result(type_, CASES[type_][0], frame)
        assert not found.success
        assert type_.endswith("not_be_null") or "values are null" in found.note


@pytest.mark.parametrize("type_", list(CASES))
def test_zero_rows_are_red(type_: str) -> None:
    verdict = evaluate(FRAME.clear(), Suite("s", (Expectation(type_, CASES[type_][0]),)))[""]
    assert not verdict.success
    assert verdict.notes == ("there are no rows",)
    assert "no rows" in verdict.reason()


def test_an_empty_suite_is_red() -> None:
    verdict = evaluate(FRAME, Suite("nothing"))[""]
    assert (verdict.success, verdict.rows) == (False, 4)
    assert "no expectation" in verdict.reason()
    assert not evaluate(FRAME, Suite("nothing"), by="origin")["JFK"].success


def test_a_failed_warning_does_not_make_the_verdict_red() -> None:
    failing = {"column": "delay"}
    for severity, success in (("warning", True), ("critical", False)):
        suite = Suite("s", (Expectation("expect_column_values_to_not_be_null", failing, severity),))
        verdict = evaluate(FRAME, suite)[""]
        assert (verdict.success, verdict.results[0].success) == (success, False)


def test_warnings_alone_do_not_make_zero_rows_green() -> None:
    suite = Suite("s", (Expectation("expect_column_to_exist", {"column": "id"}, "warning"),))
    assert not evaluate(FRAME.clear(), suite)[""].success


def test_all_null_may_be_allowed_and_is_then_not_applicable() -> None:
    kwargs = {"column": "gone", "min_value": 0}
    found = result("expect_column_values_to_be_between", kwargs, meta=ALL_NULL_ALLOWED)
    assert (found.success, found.note) == (True, "not applicable: all 4 values are null")
    assert not result("expect_column_values_to_be_between", kwargs, FRAME.clear(), meta=ALL_NULL_ALLOWED).success


def test_personal_values_are_withheld() -> None:
    unique = result("expect_column_values_to_be_unique", {"column": "origin"}, meta=PERSONAL)
    assert (unique.unexpected_count, unique.examples) == (2, ())
    assert "withheld" in unique.note
    largest = result("expect_column_max_to_be_between", {"column": "distance", "max_value": 1}, meta=PERSONAL)
    assert largest.observed is None


@pytest.mark.parametrize(
    ("limits", "unexpected"),
    [
        ({"min_value": 0}, 2),
        ({"max_value": 5}, 2),
        ({"min_value": 0, "max_value": "Infinity"}, 1),
        ({"min_value": -math.inf, "max_value": math.inf}, 0),
        ({"min_value": -math.inf, "max_value": math.inf, "strict_max": True}, 1),
    ],
)
def test_infinities_are_unexpected_unless_a_limit_admits_them(limits: dict[str, Any], unexpected: int) -> None:
    assert between([1.0, math.inf, -math.inf, None, math.nan], **limits).unexpected_count == unexpected


def test_equal_values_pass_only_with_or_equal() -> None:
    frame = FRAME.with_columns(came="left")
    pair = {"column_A": "left", "column_B": "came"}
    for or_equal, unexpected in ((True, 0), (False, 4)):
        found = result("expect_column_pair_values_a_to_be_greater_than_b", {**pair, "or_equal": or_equal}, frame)
        assert (found.success, found.unexpected_count) == (or_equal, unexpected)


def test_nan_counts_as_null() -> None:
    frame = pl.DataFrame({"x": [1.0, math.nan, None, 2.0]})
    assert result("expect_column_values_to_not_be_null", {"column": "x"}, frame).unexpected_count == 2
    assert result(
        "expect_column_mean_to_be_between", {"column": "x", "min_value": 1.5, "max_value": 1.5}, frame
    ).success
    assert result("expect_column_values_to_be_unique", {"column": "x"}, frame).success
    nothing = pl.DataFrame({"x": [math.nan, math.nan]})
    assert (
        "all 2 values are null"
        in result("expect_column_max_to_be_between", {"column": "x", "min_value": 0}, nothing).note
    )


def test_an_infinite_or_undefined_statistic_is_never_within() -> None:
    for values in ([1.0, math.inf], [math.inf, -math.inf]):
        found = result("expect_column_mean_to_be_between", {"column": "x", "min_value": 0}, pl.DataFrame({"x": values}))
        assert (found.success, type(found.observed)) == (False, str)
    alone = result("expect_column_stdev_to_be_between", {"column": "x", "min_value": 0}, pl.DataFrame({"x": [1.0]}))
    assert (alone.success, alone.note) == (False, "a single value has none")


@pytest.mark.parametrize(
    ("values", "dtype", "limits", "unexpected"),
    [
        ([1, 200], pl.UInt8, {"min_value": -1, "max_value": 1000}, 0),
        ([1, 200], pl.UInt8, {"min_value": 1.5}, 1),
        ([2**62, 2**62 + 1], pl.Int64, {"max_value": float(2**62)}, 1),
        ([1, 2], pl.Int64, {"max_value": 1e30}, 0),
        ([Decimal("1.5"), Decimal("2.5")], pl.Decimal(10, 2), {"max_value": 2}, 1),
        ([True, False], pl.Boolean, {"min_value": 1}, 1),
        ([date(2013, 1, 1), date(2013, 1, 2)], pl.Date, {"max_value": "2013-01-01"}, 1),
        ([datetime(2013, 1, 1, 12)], pl.Datetime("ms"), {"max_value": "2013-01-01T11:30:00-01:00"}, 0),
        ([datetime(2013, 1, 1, 12)], pl.Datetime("ns"), {"max_value": "2013-01-01T12:30:00+01:00"}, 1),
        (["b", "c"], pl.String, {"max_value": "b"}, 1),
        (["b", "c"], pl.Categorical, {"max_value": "b"}, 1),
        (["b", "c"], pl.Enum(["c", "b"]), {"max_value": "b"}, 1),
    ],
)
def test_limits_meet_column_types(values: list[Any], dtype: Any, limits: dict[str, Any], unexpected: int) -> None:
    found = between(values, dtype, **limits)
    assert (found.note, found.unexpected_count) == ("", unexpected)


def test_a_naive_limit_is_read_in_the_zone_of_the_column() -> None:
    moment = pl.Series([datetime(2013, 1, 1, 12, tzinfo=UTC)]).dt.convert_time_zone("America/New_York")
    kwargs = {"column": "x", "min_value": "2013-01-01T07:00:00", "max_value": "2013-01-01T12:00:00Z"}
    assert result("expect_column_values_to_be_between", kwargs, pl.DataFrame({"x": moment})).success


@pytest.mark.parametrize(
    ("type_", "kwargs", "words"),
    [
        ("expect_column_values_to_be_between", {"column": "origin", "min_value": 1}, "type String"),
        ("expect_column_values_to_be_between", {"column": "left", "min_value": 1}, "no ISO 8601 time"),
        ("expect_column_values_to_be_between", {"column": "left", "min_value": "soon"}, "'soon' is no ISO 8601 time"),
        ("expect_column_values_to_be_between", {"column": "distance", "min_value": "2013-01-01"}, "type Int64"),
        ("expect_column_values_to_be_in_set", {"column": "distance", "value_set": ["a"]}, "no member of the set"),
        ("expect_column_mean_to_be_between", {"column": "origin", "min_value": 1}, "no meaning"),
        ("expect_column_stdev_to_be_between", {"column": "left", "min_value": 1}, "duration"),
        ("expect_column_max_to_be_between", {"column": "left", "min_value": 1}, "no ISO 8601 time"),
        (
            "expect_column_pair_values_a_to_be_greater_than_b",
            {"column_A": "left", "column_B": "distance"},
            "cannot be compared",
        ),
    ],
)
def test_an_unfitting_type_is_red_with_a_note(type_: str, kwargs: dict[str, Any], words: str) -> None:
    found = result(type_, kwargs)
    assert not found.success
    assert words in found.note


def test_nested_columns_are_red_with_a_note() -> None:
    frame = pl.DataFrame({"x": [[1], [2]]})
    for type_, kwargs in (("between", {"min_value": 1}), ("in_set", {"value_set": [1]})):
        assert "List(Int64)" in result(f"expect_column_values_to_be_{type_}", {"column": "x", **kwargs}, frame).note
    assert "no text" in result("expect_column_values_to_match_regex", {"column": "x", "regex": "1"}, frame).note


def test_a_full_type_name_is_compared_in_full() -> None:
    for zone, success in (("UTC", True), ("Europe/Paris", False)):
        name = f"Datetime(time_unit='us', time_zone='{zone}')"
        assert result("expect_column_values_to_be_of_type", {"column": "left", "type_": name}).success is success


def test_a_set_holds_only_what_the_column_can_hold() -> None:
    frame = pl.DataFrame({"x": pl.Series([1, 44], dtype=pl.UInt8)})
    kwargs = {"column": "x", "value_set": [1, 300, 44.5, "b"]}
    assert result("expect_column_values_to_be_in_set", kwargs, frame).examples == (44,)
    moments = {"column": "left", "value_set": ["2013-01-01T05:00:00+00:00", "2013-01-02T06:00:00+01:00"]}
    assert result("expect_column_values_to_be_in_set", moments).success


def test_examples_are_distinct_few_and_short() -> None:
    frame = pl.DataFrame({"x": ["a" * 500] * 10 + [str(number) for number in range(30)]})
    found = result("expect_column_value_lengths_to_be_between", {"column": "x", "max_value": 0}, frame)
    assert [len(str(example)) for example in found.examples] == [120, 1, 1, 1, 1]


def test_grouping_by_a_missing_column_is_refused() -> None:
    with pytest.raises(EvaluationError, match=r"'s'.*'orign'.*did you mean 'origin'"):
        evaluate(FRAME, Suite("s"), by="orign")


def test_groups_have_text_keys_in_order() -> None:
    suite = Suite("s", (Expectation("expect_column_values_to_be_unique", {"column": "day"}),))
    verdicts = evaluate(FRAME.with_columns(pl.col("left").dt.date().alias("day")), suite, by="day")
    assert list(verdicts) == ["2013-01-01", "2013-01-02"]
    assert [verdict.rows for verdict in verdicts.values()] == [2, 2]
    assert verdicts["2013-01-01"].results[0].unexpected_count == 2


def test_rows_without_a_group_are_judged_and_red() -> None:
    suite = Suite("s", (Expectation("expect_column_to_exist", {"column": "id"}),))
    verdicts = evaluate(FRAME.with_columns(pl.Series("day", ["x", None, "null", None])), suite, by="day")
    assert {key: (verdict.rows, verdict.success) for key, verdict in verdicts.items()} == {
        "null": (3, False),
        "x": (1, True),
    }
    assert "2 rows have no value" in verdicts["null"].reason()


def test_no_rows_at_all_in_groups_is_one_red_verdict() -> None:
    suite = Suite("s", (Expectation("expect_column_to_exist", {"column": "id"}),))
    verdicts = evaluate(FRAME.clear(), suite, by="origin")
    assert list(verdicts) == [""]
    assert not verdicts[""].success


EVERYTHING = Suite(
    "everything",
    tuple(Expectation(type_, kwargs) for type_, case in CASES.items() for kwargs in case[:2]),
)


@settings(max_examples=25, derandomize=True, deadline=None)
@given(
    data=st.lists(
        st.tuples(
            st.sampled_from("pqr"),
            st.sampled_from(["EWR", "JFK", None]),
            st.sampled_from([1.0, 2.0, None, math.nan, math.inf]),
            st.integers(0, 2),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_evaluating_groups_equals_evaluating_each_group_alone(data: list[tuple[Any, ...]]) -> None:
    drawn = pl.DataFrame(
        data, schema={"day": pl.String, "origin": pl.String, "delay": pl.Float64, "n": pl.Int64}, orient="row"
    )
    moment = pl.lit(datetime(2013, 1, 1, 5, tzinfo=UTC)) + pl.duration(days=pl.col("n"))
    frame = drawn.with_columns(
        id="origin", distance=pl.col("n") * 100, gone=pl.lit(None, dtype=pl.Float64), left=moment, came=moment
    )
    together = evaluate(frame, EVERYTHING, by="day")
    assert together == {key: evaluate(frame.filter(day=key), EVERYTHING)[""] for key in sorted(set(frame["day"]))}
    assert merge(together).rows == len(frame)


def passes_over(frame: pl.DataFrame, suite: Suite, by: str | None) -> int:
    """Count how often the source is read."""
    passes = []

    def count(rows: pl.DataFrame) -> pl.DataFrame:
        passes.append(len(rows))
        return rows

    evaluate(frame.lazy().map_batches(count, schema=frame.schema), suite, by=by)
    return len(passes)


@pytest.mark.parametrize("by", [None, "origin"])
def test_everything_is_one_pass_over_the_source_and_examples_another(by: str | None) -> None:
    expected = [
        item
        for item, result in zip(EVERYTHING, evaluate(FRAME, EVERYTHING)[""].results, strict=True)
        if not result.unexpected_count
    ]
    assert len(expected) < len(EVERYTHING)
    assert passes_over(FRAME, Suite("nothing to show", tuple(expected)), by) == 1
    assert passes_over(FRAME, EVERYTHING, by) == 2


def test_many_groups_of_many_rows() -> None:
    rows, groups = 60_000, 300
    frame = pl.select(pl.int_range(rows).alias("id")).with_columns(
        day=(pl.col("id") % groups).cast(pl.String), delay=(pl.col("id") % 1000).cast(pl.Float64)
    )
    suite = Suite(
        "many",
        (
            *(
                Expectation("expect_column_values_to_be_between", {"column": "delay", "max_value": 990 + n})
                for n in range(9)
            ),
            Expectation("expect_column_values_to_be_unique", {"column": "id"}),
            Expectation("expect_compound_columns_to_be_unique", {"column_list": ["id", "day"]}),
        ),
    )
    verdicts = evaluate(frame.lazy(), suite, by="day")
    assert len(verdicts) == groups
    assert merge(verdicts).results[0].unexpected_count == 9 * rows // 1000
    assert all(isinstance(verdict, Verdict) and verdict.rows == rows // groups for verdict in verdicts.values())


def test_evaluating_imports_no_heavy_library() -> None:
    code = (
        "import sys, polars as pl\n"
        "from ml_assets.quality import Expectation, Suite, evaluate\n"
        "suite = Suite('s', (Expectation('expect_column_values_to_be_unique', {'column': 'x'}),))\n"
        "evaluate(pl.DataFrame({'x': [1]}), suite)\n"
        "assert not {'great_expectations', 'pandas', 'dagster'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
