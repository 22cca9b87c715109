"""Which rows candidates may learn from, in which order, and what is known of them."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from ml_assets.development.rows import TrainingError, development_rows
from ml_assets.tasks import task
from ml_assets_tests.development.toys import BINARY, NUMBERS, THREE, development, table

HOUR = 3_600_000_000


def test_rows_are_those_of_train_then_validation_in_order_of_time() -> None:
    frame = table(100)
    rows = development(frame.sample(fraction=1, shuffle=True, seed=1), features=["row"])
    assert rows.frame["row"].to_list() == list(range(80)) and rows.train == 60
    assert rows.y.tolist() == frame["label"].head(80).to_list()
    assert rows.layout.moments is not None and (np.diff(rows.layout.moments) == HOUR).all()
    assert rows.layout.known is None and rows.layout.groups is None
    assert rows.layout.strata is not None and rows.layout.strata.tolist() == rows.y.tolist()


def test_at_random_the_order_is_that_of_the_table_and_equal_rows_are_one_group() -> None:
    frame = table(100).with_columns(x=pl.col("row") // 4, noise=0.0).sample(fraction=1, shuffle=True, seed=1)
    rows = development(frame, by_time=False)
    assert rows.layout.moments is None and rows.layout.groups is not None
    assert len(np.unique(rows.layout.groups)) == rows.frame["x"].n_unique()
    grouped = development_rows(
        frame.with_columns(who=pl.col("row") % 3), BINARY, features=["x"], seed=0, by_time=False, group="who"
    )
    assert grouped.layout.groups is not None and len(np.unique(grouped.layout.groups)) == 3


def test_rows_of_no_group_are_one_group() -> None:
    frame = table(50).with_columns(who=pl.when(pl.col("row") % 2 == 0).then(pl.col("row")))
    rows = development_rows(frame, BINARY, features=["x"], seed=0, by_time=False, group="who")
    assert rows.layout.groups is not None and rows.layout.groups.dtype.kind in "iu"
    assert (rows.layout.groups[1::2] == rows.layout.groups[1]).all()


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_times_have_one_scale_whatever_their_unit(unit: str) -> None:
    later = (pl.col("event_timestamp") + pl.duration(hours=2)).dt.cast_time_unit(unit)  # type: ignore[arg-type]
    layout = development(table(100).with_columns(label_timestamp=later)).layout
    assert layout.moments is not None and layout.known is not None
    assert (layout.known - layout.moments == 2 * HOUR).all()


def test_a_declared_gap_stands_for_times_that_are_not_given() -> None:
    frame = table(100)
    layout = development_rows(frame, BINARY, features=["x"], seed=0, gap=timedelta(hours=5)).layout
    assert layout.moments is not None and layout.known is not None
    assert (layout.known - layout.moments == 5 * HOUR).all()
    for fold in layout.folds(3):
        assert fold.fit.max() == fold.score.min() - 5
    at_once = frame.with_columns(label_timestamp="event_timestamp")
    known = development_rows(at_once, BINARY, features=["x"], seed=0, gap=timedelta(hours=5)).layout
    assert (known.known == known.moments).all()  # type: ignore[attr-defined]


def test_rows_without_a_label_are_left_out_but_a_clustering_takes_all() -> None:
    frame = table(100).with_columns(label=pl.when(pl.col("row") % 2 == 0).then("label"))
    assert development(frame).layout.rows == 40
    groups = development(frame.drop("label"), task("clustering"))
    assert groups.layout.rows == 80 and groups.y.shape == (0,) and groups.layout.strata is None
    assert len(groups.rows(np.arange(5), groups.encoder(np.arange(60)))) == 5


def test_numbers_have_no_strata_and_classes_have_codes() -> None:
    frame = table(90)
    assert development(frame.with_columns(label="x"), NUMBERS).layout.strata is None
    words = frame.with_columns(label=pl.Series(["c", "a", "b"] * 30))
    assert development(words, THREE).y.tolist() == [2, 0, 1] * 24


def test_the_test_split_is_not_touched() -> None:
    frame = table(100).with_columns(label=pl.when(pl.col("split") == "test").then(7).otherwise("label"))
    rows = development(frame.with_columns(event_timestamp=pl.when(pl.col("split") != "test").then("event_timestamp")))
    assert rows.layout.rows == 80


@pytest.mark.parametrize(
    ("change", "more", "message"),
    [
        ({}, {"features": ["x", "nowhere"]}, r"no column \['nowhere'\]"),
        ({}, {"features": ["x", "label"]}, "the label 'label' is among the features"),
        ({"split": pl.lit("train")}, {}, "no labelled rows of split 'validation'"),
        ({"label": pl.lit(None, dtype=pl.Int64)}, {}, "no labelled rows of split 'train'"),
        ({}, {"by_time": False, "group": "customer"}, r"no column \['customer'\]"),
    ],
)
def test_an_unfit_training_set_is_refused(change: dict[str, pl.Expr], more: dict[str, object], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        development_rows(table(50).with_columns(**change), BINARY, **({"features": ["x"], "seed": 0} | more))  # type: ignore[arg-type]


def test_a_split_by_time_without_times_is_refused() -> None:
    frame = table(50).drop("event_timestamp")
    with pytest.raises(TrainingError, match=r"no column \['event_timestamp'\]"):
        development(frame)
    assert development(frame, by_time=False).layout.rows == 40
