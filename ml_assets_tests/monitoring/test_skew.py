"""Training-serving skew: what is asked online is held against the batches of the same days."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ml_assets.lake import Lake
from ml_assets.monitoring.drift import DriftPolicy
from ml_assets.monitoring.skew import serving_skew

START = datetime(2013, 11, 1, tzinfo=UTC)
FEATURES = ["delay", "carrier"]
POLICY = DriftPolicy(minimum_rows=200)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def asked(rows: int, seed: int) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "event_timestamp": [START + timedelta(hours=number % 72) for number in range(rows)],
            "delay": random.normal(10, 20, rows),
            "carrier": random.choice(["UA", "B6", "EV"], rows),
        },
        schema_overrides={"event_timestamp": pl.Datetime("us", "UTC")},
    )


def write(lake: Lake, table: str, frame: pl.DataFrame, *, days: bool = True) -> None:
    if not days:
        lake.write(f"p/{table}", frame, written_at=START)
        return
    for (day,), rows in frame.group_by(pl.col("event_timestamp").dt.date().dt.to_string(), maintain_order=True):
        lake.write(f"p/{table}", rows, partition=str(day), written_at=START)


def served(frame: pl.DataFrame, arm: str = "champion") -> pl.DataFrame:
    return frame.with_columns(pl.lit(arm).alias("_arm"))


def told(lake: Lake) -> tuple[bool, str]:
    found = serving_skew(lake, "p", FEATURES, policy=POLICY, days=7)
    return found.passed, found.reason


@pytest.mark.parametrize("days", [True, False], ids=["by days", "without days"])
def test_what_looks_alike_passes(lake: Lake, days: bool) -> None:
    write(lake, "predictions", asked(3_000, 0), days=days)
    write(lake, "served_predictions", served(asked(600, 1)), days=days)
    passed, reason = told(lake)
    assert passed
    assert (
        reason
        == "no feature looks otherwise online: 600 rows served from 2013-11-01 to 2013-11-03 against 3,000 in batches"
    )


CHANGES: dict[str, tuple[pl.Expr, str]] = {
    "another unit": (pl.col("delay") * 60, "delay"),
    "a default": (pl.lit(0.0).alias("delay"), "delay"),
    "nulls": (pl.lit(None, pl.Float64).alias("delay"), "delay"),
    "another spelling": (pl.col("carrier").str.to_lowercase(), "carrier"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_client_that_sends_something_else_is_named(lake: Lake, change: str) -> None:
    made, feature = CHANGES[change]
    write(lake, "predictions", asked(3_000, 0))
    write(lake, "served_predictions", served(asked(600, 1)).with_columns(made))
    passed, reason = told(lake)
    assert not passed and reason.startswith(f"{feature} look otherwise online")


def test_a_feature_that_is_not_sent_at_all_is_named(lake: Lake) -> None:
    write(lake, "predictions", asked(3_000, 0))
    write(lake, "served_predictions", served(asked(600, 1)).drop("delay"))
    passed, reason = told(lake)
    assert not passed and reason.startswith("delay look otherwise online")


def test_only_the_latest_days_count(lake: Lake) -> None:
    old = asked(600, 1).with_columns(pl.col("event_timestamp") - timedelta(days=30), pl.col("delay") * 60)
    write(lake, "predictions", asked(3_000, 0))
    write(lake, "served_predictions", served(pl.concat([old, asked(600, 2)])))
    assert serving_skew(lake, "p", FEATURES, policy=POLICY, days=3).passed


def test_few_rows_are_no_proof(lake: Lake) -> None:
    write(lake, "predictions", asked(3_000, 0))
    write(lake, "served_predictions", served(asked(20, 1)))
    passed, reason = told(lake)
    assert not passed and reason.startswith("undecided: no feature could be judged")


def test_without_batches_nothing_is_green(lake: Lake) -> None:
    write(lake, "served_predictions", served(asked(600, 1)))
    assert told(lake) == (False, "undecided: there are no predictions to compare 600 served ones with")
    other = asked(3_000, 0).with_columns(pl.col("event_timestamp") + timedelta(days=30))
    write(lake, "predictions", other)
    passed, reason = told(lake)
    assert not passed and reason.startswith("undecided: no feature could be judged")


def test_nothing_served_is_not_applicable(lake: Lake) -> None:
    assert told(lake) == (True, "not applicable: no prediction was answered online")
    write(lake, "served_predictions", served(asked(600, 1), "shadow"))
    assert told(lake) == (True, "not applicable: on these days no prediction was answered online")
    nobody = serving_skew(lake, "p", (), policy=POLICY, days=7)
    assert (nobody.passed, nobody.reason) == (True, "not applicable: no model is in office")
