"""The evaluation report: complete, for people and for programs."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from ml_assets.evaluation.metrics import Answered, EvaluationError, answered
from ml_assets.evaluation.report import EvaluationReport, Rival, make_report, number, table
from ml_assets.tasks import task

MADE_AT = datetime(2013, 11, 1, 6, tzinfo=UTC)
TASK = task("classification")


def scored_frame() -> pl.DataFrame:
    generator = np.random.default_rng(0)
    score = generator.random(900)
    label = [None] * 30 + (generator.random(870) < score[30:]).astype(int).tolist()
    return pl.DataFrame({"label": label, "score": score, "origin": ["EWR", "JFK", "LGA"] * 300})


def rows(frame: pl.DataFrame | None = None) -> Answered:
    frame = scored_frame() if frame is None else frame
    return answered(frame, frame["score"].to_numpy(), task=TASK, threshold=0.4)


@pytest.fixture
def report() -> EvaluationReport:
    return make_report(
        rows(),
        problem="flight_delay",
        model_version="7",
        split="test",
        made_at=MADE_AT,
        slices=["origin"],
        unlabelled={"cancelled": 25, "diverted": 5},
        baseline={"roc_auc": 0.5},
        rivals=[
            Rival("baseline", {"roc_auc": 0.5}, {"roc_auc": (0.3, 0.35)}),
            Rival("champion", note="no champion yet"),
        ],
        told={"selected": "xgboost, best roc_auc"},
        candidates=[{"candidate": "xgboost", "roc_auc": 0.83, "selected": True}],
        resamples=20,
    )


def test_it_counts_rows_and_explains_those_left_out(report: EvaluationReport) -> None:
    assert (report.rows, report.unlabelled) == (870, {"cancelled": 25, "diverted": 5})
    assert set(report.metrics) == set(report.intervals) == set(TASK.metric_names)
    assert [row["rows"] + row["unlabelled"] for row in report.slices] == [300, 300, 300]


def test_json_and_back_is_the_same(report: EvaluationReport) -> None:
    again = EvaluationReport.from_json(report.to_json())
    assert again.to_json() == report.to_json()
    assert (again.made_at, again.metrics, again.intervals) == (report.made_at, report.metrics, report.intervals)


def test_json_is_strict_even_with_numbers_that_are_not_finite(report: EvaluationReport) -> None:
    text = replace(report, baseline={"roc_auc": float("nan")}).to_json()
    assert json.loads(text, parse_constant=pytest.fail)["baseline"] == {"roc_auc": None}


@pytest.mark.parametrize(
    "text", ["{}", '{"made_at": "2013-11-01T06:00:00+00:00", "intervals": {}, "rivals": [], "colour": 1}']
)
def test_json_of_something_else_is_refused(text: str) -> None:
    with pytest.raises(EvaluationError, match="not an evaluation report"):
        EvaluationReport.from_json(text)


def test_markdown_says_what_a_person_asks(report: EvaluationReport) -> None:
    text = f"{report.summary()}\n\n{report.tables()}"
    assert "870 rows (52.8% positive)" in text
    assert "Selected: xgboost, best roc_auc." in text
    assert "champion: no champion yet." in text
    assert "| 0.5 | 0.3 to 0.35 |" in text
    assert "25 cancelled, 5 diverted" in text
    assert f"| roc_auc | {report.metrics['roc_auc']:.4g} |" in text
    assert "| xgboost | 0.83 | yes |" in text
    assert "| origin | EWR |" in text
    assert "### Slices" in text and "### Slices" not in replace(report, slices=()).tables()


def test_rows_without_a_label_are_not_hidden() -> None:
    plain = make_report(rows(), problem="p", model_version="1", split="test", made_at=MADE_AT, resamples=2)
    assert plain.unlabelled == {"label is null": 30}


def test_no_rows_is_a_report_that_says_so() -> None:
    empty = make_report(rows(scored_frame()[:30]), problem="p", model_version="1", split="test", made_at=MADE_AT)
    assert set(empty.metrics.values()) == {None}
    assert "roc_auc does not apply: no rows." in empty.tables()
    assert "0 rows (no rows)" in empty.summary()


def test_table_escapes_and_aligns() -> None:
    assert table(["a", "n"], [["x|y", "1"], ["z\nw", "-"]]).splitlines() == [
        "| a | n |",
        "| --- | ---: |",
        "| x\\|y | 1 |",
        "| z w | - |",
    ]
    assert [number(value) for value in (None, float("inf"), 0.123456, 12345.6)] == ["-", "-", "0.1235", "1.235e+04"]


def test_slices_show_no_column_without_a_value_and_no_reason_that_holds_for_all(report: EvaluationReport) -> None:
    why = {"mape": "an outcome is 0"}
    rows = [
        {
            "slice": "origin",
            "value": "EWR",
            "rows": 9,
            report.metric: 0.5,
            "mape": None,
            "note": "mape: an outcome is 0",
        },
        {
            "slice": "origin",
            "value": "JFK",
            "rows": 7,
            report.metric: 0.4,
            "mape": None,
            "note": "mape: an outcome is 0; r2: constant",
        },
    ]
    metrics = {report.metric: 0.5, "mape": None}
    heads, cells = replace(report, metrics=metrics, not_applicable=why, slices=rows).slices_table()
    assert "mape" not in heads
    assert [row[heads.index("note")] for row in cells] == ["", "r2: constant"]
