from __future__ import annotations

import json

import polars as pl
import pytest

from ml_assets.quality import EvaluationError, Expectation, Suite, Verdict, evaluate, merge

FRAME = pl.DataFrame(
    {
        "day": ["2013-01-01"] * 3 + ["2013-01-02"] * 3,
        "distance": [-3, 200, 300, 100, -7, -3],
        "carrier": ["UA", "A|<b>", "UA", "DL", "DL", "DL"],
        "delay": [1.0, 2.0, 3.0, float("inf"), None, 5.0],
    }
)
SUITE = Suite(
    "raw_flights",
    (
        Expectation("expect_table_row_count_to_be_between", {"min_value": 3}),
        Expectation("expect_column_mean_to_be_between", {"column": "delay", "max_value": 100}, "warning"),
        Expectation("expect_column_values_to_be_between", {"column": "distance", "min_value": 1}),
        Expectation("expect_column_values_to_match_regex", {"column": "carrier", "regex": "^[A-Z]{2}$"}),
        Expectation("expect_column_distinct_values_to_be_in_set", {"column": "carrier", "value_set": ["UA", "DL"]}),
    ),
)


def test_a_reason_is_one_line_that_a_person_can_act_on() -> None:
    assert evaluate(FRAME, SUITE)[""].reason() == (
        "raw_flights: 4 of 5 expectations failed on 6 rows; `distance` must be at least 1: 3 of 6 not so, for example "
        "-3, -7; `carrier` must match ^[A-Z]{2}$: 1 of 6 not so, for example A|<b>; 2 more"
    )


def test_the_reason_of_a_green_verdict() -> None:
    suite = Suite("s", (Expectation("expect_column_to_exist", {"column": "day"}),))
    assert evaluate(FRAME, suite)[""].reason() == "s: 1 expectations hold on 6 rows"


def test_markdown_shows_failures_first_and_escapes() -> None:
    lines = evaluate(FRAME, SUITE)[""].markdown().splitlines()
    assert lines[0].startswith("**RED** · raw_flights · 6 rows")
    assert [line[2] for line in lines[4:]] == ["✗", "✗", "✗", "!", "✓"]
    assert "A\\|&lt;b>" in lines[5]
    assert all(line.replace("\\|", "").count("|") == 5 for line in lines[2:])
    assert "Infinity" in lines[7]


def test_dictionary_round_trip_through_strict_json() -> None:
    for verdict in (*evaluate(FRAME, SUITE, by="day").values(), evaluate(FRAME, Suite("empty"))[""]):
        text = json.dumps(verdict.to_dict(), allow_nan=False)
        assert Verdict.from_dict(json.loads(text)) == verdict
        assert json.loads(text) == verdict.to_dict()
        assert json.loads(text)["reason"] == verdict.reason()


def test_what_is_no_verdict_is_refused() -> None:
    with pytest.raises(EvaluationError, match="evaluate the data again"):
        Verdict.from_dict({"suite": "s", "success": True})


def test_merging_sums_counts_and_names_the_red_partitions() -> None:
    merged = merge(evaluate(FRAME, SUITE, by="day"))
    rows, mean, distance, carrier, distinct = merged.results
    assert (merged.suite, merged.success, merged.rows) == ("raw_flights", False, 6)
    assert merged.notes == ("red: 2 of 2 (2013-01-01, 2013-01-02)",)
    assert (rows.success, rows.observed, rows.element_count) == (True, 3, 6)
    assert (distance.unexpected_count, distance.element_count, distance.examples) == (3, 6, (-3, -7))
    assert (carrier.unexpected_count, carrier.note) == (1, "fails in 1 of 2 (2013-01-01)")
    assert (mean.success, mean.observed) == (False, None)
    assert distinct.unexpected_count == 1
    assert Verdict.from_dict(json.loads(json.dumps(merged.to_dict(), allow_nan=False))) == merged


def test_merging_one_changes_nothing_but_the_notes() -> None:
    suite = Suite("s", (Expectation("expect_column_max_to_be_between", {"column": "distance", "max_value": 300}),))
    verdict = evaluate(FRAME, suite)[""]
    assert merge({"whole": verdict}) == verdict
    by_day = merge(evaluate(FRAME, suite, by="day"))
    assert (by_day.success, by_day.notes, by_day.results[0].observed) == (True, (), "100 to 300")


def test_merging_nothing_is_red() -> None:
    assert not merge({}).success
    assert "nothing was judged" in merge({}).reason()


def test_merging_empty_suites_and_empty_frames_stays_red() -> None:
    empty = evaluate(FRAME, Suite("s"), by="day")
    assert "no expectation" in merge(empty).reason()
    suite = Suite("s", (Expectation("expect_column_to_exist", {"column": "day"}),))
    both = {"full": evaluate(FRAME, suite)[""], "empty": evaluate(FRAME.clear(), suite)[""]}
    assert not merge(both).success
    assert merge(both).notes == ("red: 1 of 2 (empty)", "there are no rows")


def test_different_suites_are_not_merged() -> None:
    first = Suite("s", (Expectation("expect_column_to_exist", {"column": "day"}),))
    second = Suite("s", (Expectation("expect_column_to_exist", {"column": "distance"}),))
    for other in (second, Suite("t", first.expectations)):
        with pytest.raises(EvaluationError, match="different suites: 'b'"):
            merge({"a": evaluate(FRAME, first)[""], "b": evaluate(FRAME, other)[""]})
