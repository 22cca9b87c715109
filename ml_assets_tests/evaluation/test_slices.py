"""Metrics per slice."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from ml_assets.evaluation.metrics import Answered, EvaluationError, answered, evaluate
from ml_assets.evaluation.slices import slice_metrics
from ml_assets.tasks import task

TASK = task("classification")


def rows(frame: pl.DataFrame, threshold: float) -> Answered:
    return answered(frame, frame["score"].to_numpy(), task=TASK, threshold=threshold)


@pytest.fixture
def frame() -> pl.DataFrame:
    generator = np.random.default_rng(0)
    score = generator.random(1000)
    return pl.DataFrame(
        {
            "origin": ["EWR"] * 600 + ["JFK"] * 350 + [None] * 50,
            "month": [10] * 500 + [11] * 500,
            "label": (generator.random(1000) < score).astype(int),
            "score": score,
        }
    )


def test_one_row_per_value_the_largest_first_and_none_dropped(frame: pl.DataFrame) -> None:
    found = slice_metrics(rows(frame, 0.5), ["origin", "month"])
    assert found.select("slice", "value", "rows").rows() == [
        ("origin", "EWR", 600),
        ("origin", "JFK", 350),
        ("origin", "(null)", 50),
        ("month", "10", 500),
        ("month", "11", 500),
    ]
    assert found.columns == ["slice", "value", "rows", "unlabelled", "outcomes", *TASK.metric_names, "note"]


def test_the_values_are_those_of_the_slice_alone(frame: pl.DataFrame) -> None:
    part = frame.filter(pl.col("origin") == "JFK")
    expected = evaluate(part["label"].to_numpy(), part["score"].to_numpy(), threshold=0.3, task=TASK)
    found = slice_metrics(rows(frame, 0.3), ["origin"]).filter(pl.col("value") == "JFK")
    assert found.select(TASK.metric_names).row(0, named=True) == expected
    assert found["outcomes"].item() == f"{part['label'].mean():.1%} positive"


def test_a_small_slice_says_so_and_has_no_metrics(frame: pl.DataFrame) -> None:
    small = slice_metrics(rows(frame, 0.5), ["origin"]).row(2, named=True)
    assert small["note"] == "too small: 50 labelled rows, fewer than 100"
    assert all(small[name] is None for name in TASK.metric_names)


def test_rows_without_a_label_are_counted(frame: pl.DataFrame) -> None:
    hidden = frame.with_columns(label=pl.when(pl.col("month") == 10).then("label"))
    found = {row["value"]: row for row in slice_metrics(rows(hidden, 0.5), ["month"]).to_dicts()}
    assert (found["11"]["rows"], found["11"]["unlabelled"]) == (0, 500)
    assert found["11"]["note"].startswith("too small: 0 labelled rows")


def test_a_metric_that_does_not_apply_to_a_slice_is_null_and_noted(frame: pl.DataFrame) -> None:
    single = slice_metrics(rows(frame.with_columns(label=pl.lit(0)), 0.5), ["month"]).row(0, named=True)
    assert single["roc_auc"] is None
    assert "roc_auc: only one class: every label is 0" in single["note"]
    assert single["brier"] is not None


def test_an_empty_frame_and_no_slices_keep_the_columns(frame: pl.DataFrame) -> None:
    expected = slice_metrics(rows(frame, 0.5), ["origin"]).schema
    assert slice_metrics(rows(frame[:0], 0.5), ["origin"]).schema == expected
    assert slice_metrics(rows(frame, 0.5), []).schema == expected


def test_a_slice_column_that_does_not_exist_is_named(frame: pl.DataFrame) -> None:
    with pytest.raises(EvaluationError, match=r"slice columns \['carrier'\] do not exist; the frame has: origin"):
        slice_metrics(rows(frame, 0.5), ["carrier"])


def test_many_different_numbers_are_sliced_by_ranges_of_as_many_rows(frame: pl.DataFrame) -> None:
    distance = pl.Series("distance", [None, *np.linspace(1, 2, 999)])
    found = slice_metrics(rows(frame.with_columns(distance), 0.5), ["distance"])
    assert found["rows"].to_list() == [200, 200, 200, 200, 199, 1]
    assert {"up to 1.2", "above 1.2 up to 1.4", "above 1.8", "(null)"} <= set(found["value"])


def test_rare_values_of_many_are_one_slice_together(frame: pl.DataFrame) -> None:
    tail = pl.Series("tail", [f"n{min(row // 5, row % 120):03d}" for row in range(1000)])
    found = slice_metrics(rows(frame.with_columns(tail), 0.5), ["tail"])
    assert found.height == 51
    assert found["value"][-1] == "(70 other values)"
    assert found["rows"].sum() == 1000
    assert found["roc_auc"][-1] is not None
