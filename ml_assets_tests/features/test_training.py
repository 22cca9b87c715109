"""Which observations a training set is made of: what was known by then, in which split, and what was left out and why."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.features.training import (
    GAP,
    TrainingSetError,
    counts,
    refuse_empty_splits,
    training_rows,
    training_suite,
)
from ml_assets.preparation.splits import SPLITS, SplitPlan
from ml_assets.quality import evaluate

START = datetime(2013, 1, 1, tzinfo=UTC)
UTC_US = pl.Datetime("us", "UTC")
DAY = timedelta(days=1)
SPANS = SplitPlan(train="6d", validation="2d", test="2d")


def observations(days: int = 10, *, delay: timedelta | None = DAY / 2, each: int = 4) -> pl.DataFrame:
    """Return `each` rows a day at noon, whose outcomes are known `delay` later; without a delay no time is given."""
    rows = [
        (f"{day}-{number}", START + day * DAY + DAY / 2, number % 2) for day in range(days) for number in range(each)
    ]
    frame = pl.DataFrame(rows, schema={"id": pl.String, "event_timestamp": UTC_US, "label": pl.Int64}, orient="row")
    return frame if delay is None else frame.with_columns(label_timestamp=pl.col("event_timestamp") + delay)


def made(frame: pl.DataFrame, plan: SplitPlan = SPANS, *, day: float = 10, **more: Any) -> Any:
    return training_rows(frame.lazy(), plan, as_known_at=START + day * DAY, **more)


def test_rows_are_those_inside_the_windows_with_their_split() -> None:
    rows = made(observations(14), day=10.6)
    assert counts(rows.labelled) == {"train": 24, "validation": 8, "test": 8}
    assert rows.labelled["event_timestamp"].is_sorted()
    assert rows.left_out == {"outcome never": 0, "outcome not yet": 0, GAP: 0}


def test_a_label_that_is_not_known_yet_is_left_out_and_counted() -> None:
    frame = observations().with_columns(
        label_timestamp=pl.when(pl.col("id") == "9-0").then(START + 11 * DAY).otherwise("label_timestamp"),
        label=pl.when(pl.col("id") != "9-1").then("label"),
    )
    rows = made(frame)
    assert counts(rows.labelled)["test"] == 6
    assert rows.left_out == {"outcome never": 1, "outcome not yet": 1, GAP: 0}


def test_outcomes_known_only_when_the_next_split_had_begun_are_the_gap() -> None:
    rows = made(observations(delay=DAY))
    assert counts(rows.labelled) == {"train": 20, "validation": 4, "test": 4}
    assert rows.left_out == {"outcome never": 0, "outcome not yet": 4, GAP: 8}


@pytest.mark.parametrize(("gap", "left"), [(timedelta(0), 0), (DAY / 2, 0), (DAY, 8), (2 * DAY, 16)])
def test_a_declared_gap_stands_for_times_that_are_not_given(gap: timedelta, left: int) -> None:
    plan = SplitPlan(train="6d", validation="2d", test="2d", gap=gap)
    assert made(observations(delay=None), plan).left_out[GAP] == left
    with_times = made(observations(delay=timedelta(0)), plan)
    assert with_times.left_out[GAP] == 0, "times of their own come first"


def test_a_clustering_takes_all_rows_of_its_windows() -> None:
    frame = observations(12).drop("label", "label_timestamp")
    rows = made(frame, day=10, supervised=False)
    assert counts(rows.labelled) == {"train": 24, "validation": 8, "test": 8}
    assert rows.left_out == {GAP: 0}
    drawn = made(frame, SplitPlan(by_time=False), supervised=False)
    assert drawn.labelled.height == 48 and drawn.left_out == {}


def test_at_random_all_labelled_rows_are_taken_and_have_no_split_yet() -> None:
    rows = made(observations(12), SplitPlan(by_time=False))
    assert rows.labelled.height == 40 and "split" not in rows.labelled.columns
    assert rows.left_out == {"outcome never": 0, "outcome not yet": 8}


@given(
    delays=st.lists(st.integers(0, 100), min_size=30, max_size=80),
    day=st.floats(3, 40),
    shares=st.sampled_from([(0.6, 0.2, 0.2), (0.5, 0.1, 0.4)]),
)
def test_whoever_had_trained_then_would_have_known_all_labels(
    delays: list[int], day: float, shares: tuple[float, float, float]
) -> None:
    times = [START + number * DAY / 4 for number in range(len(delays))]
    frame = pl.DataFrame({"event_timestamp": times, "label": 1}).with_columns(
        pl.col("event_timestamp").cast(UTC_US),
        label_timestamp=pl.Series([at + timedelta(hours=late) for at, late in zip(times, delays, strict=True)]).cast(
            UTC_US
        ),
    )
    now = START + day * DAY
    rows = made(frame, SplitPlan(True, *shares), day=day)
    found = rows.labelled
    assert found["label_timestamp"].max() <= now
    for first, second in (("train", "validation"), ("validation", "test")):
        before, after = (found.filter(pl.col("split") == name) for name in (first, second))
        if before.height and after.height:
            assert before["label_timestamp"].max() <= after["event_timestamp"].min()
            assert before["event_timestamp"].max() < after["event_timestamp"].min()
    asked = frame.filter(pl.col("event_timestamp") <= now).height
    assert found.height + sum(rows.left_out.values()) <= asked + (frame["label_timestamp"] > now).sum()
    assert found.height + rows.left_out[GAP] == (frame["label_timestamp"] <= now).sum()


def test_without_any_outcome_the_error_says_what_to_do() -> None:
    with pytest.raises(
        TrainingSetError, match="no observation has a known outcome yet; deliver more, or correct label"
    ):
        made(observations(), day=0.5)
    with pytest.raises(TrainingSetError, match=r"no observation is there yet; deliver more$"):
        made(observations().head(0), supervised=False)


def test_a_split_without_a_row_is_refused() -> None:
    rows = made(observations(days=3), SplitPlan(train="6d", validation="2d", test="2d"), day=4)
    with pytest.raises(TrainingSetError, match=r"no labelled observation in \['train'\]: the rows are from 2013-01-01"):
        refuse_empty_splits(rows.labelled.filter(pl.col("split") != "train"))
    refuse_empty_splits(made(observations()).labelled)


def test_the_suite_is_green_on_what_is_made_and_red_on_what_cannot_train() -> None:
    frame = made(observations()).labelled.with_columns(x=1.0)
    suite = training_suite("late/training_set", frame.schema, key=["id"])
    assert evaluate(frame, suite)[""].success
    broken = {
        "a label is missing": frame.with_columns(label=pl.when(pl.col("id") != "0-0").then("label")),
        "a feature is empty": frame.with_columns(x=pl.lit(None, dtype=pl.Float64)),
        "a split is missing": frame.filter(pl.col("split") != "test"),
        "a row comes twice": pl.concat([frame, frame.head(1)]),
    }
    for why, red in broken.items():
        assert not evaluate(red, suite)[""].success, why
    grouped = frame.drop("label", "label_timestamp")
    unsupervised = training_suite("x", grouped.schema, key=["id"], supervised=False)
    assert evaluate(grouped, unsupervised)[""].success
    assert set(frame["split"]) == set(SPLITS)
