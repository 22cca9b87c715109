"""How a model ages: a world that moves wears models out, one that stays does not, and a hard month is no age."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from ml_assets.monitoring.staleness import (
    BLOCK,
    Age,
    Blocks,
    Staleness,
    ages_plot,
    block_rows,
    blocks_of,
    declared_length,
    staleness,
)
from ml_assets.preparation.splits import SplitPlan
from ml_assets_tests.monitoring.test_backtest import DAY, KEY, LINEAR, START, plan, world

DAYS = 280
SPLIT = SplitPlan(train="60d", validation="10d", test="10d")
NOW = START + (DAYS + 5) * DAY


def moving(speed: float, *, hard: int = 0) -> pl.DataFrame:
    """Return a year in which what `x` says turns by `speed` right angles, by way of `noise`; the last `hard` days are noisy."""
    frame, random = world("regression", days=DAYS), np.random.default_rng(1)
    day = (frame["event_timestamp"] - START).dt.total_days().to_numpy()
    turn = np.pi / 2 * speed * day / DAYS
    x, other = frame["x"].to_numpy(), frame["noise"].to_numpy()
    spread = np.where(day >= DAYS - hard, 3.0, 0.3)
    return frame.with_columns(
        label=pl.Series(np.cos(turn) * x + np.sin(turn) * other + spread * random.normal(size=len(x)))
    )


def aged(frame: pl.DataFrame, *, tolerance: float = 0.1, **change: Any) -> Staleness | str:
    known = blocks_of(frame.lazy(), SPLIT, now=NOW)
    assert isinstance(known, Blocks)
    rows = block_rows(frame.lazy(), known, now=NOW, key=KEY, most=2_000)
    return staleness(plan("regression", **change), rows, LINEAR, known, tolerance=tolerance, key=KEY)


def test_a_world_that_moves_wears_models_out() -> None:
    found = aged(moving(2.0))
    assert isinstance(found, Staleness)
    losses = [age.loss for age in found.ages]
    assert losses == sorted(losses) and losses[-1] > 0.3 and all(age.low > 0 for age in found.ages)
    assert [(age.weeks, age.blocks) for age in found.ages] == [(4, 5), (8, 4), (12, 3), (16, 2), (20, 1)]
    assert found.cadence is not None and found.cadence < 20
    assert found.sentence().startswith(f"retrain every {found.cadence} weeks, before more than 0.1 is lost: by ")
    assert found.to_frame()["cadence_weeks"].to_list() == [found.cadence] * 5


@pytest.mark.parametrize("hard", [0, 28])
def test_one_that_stays_does_not_and_a_hard_month_is_no_age(hard: int) -> None:
    found = aged(moving(0.0, hard=hard))
    assert isinstance(found, Staleness) and found.cadence is None
    assert all(abs(age.loss) < 0.05 for age in found.ages) and any(age.low <= 0 for age in found.ages)
    assert found.sentence().startswith("no loss beyond 0.1 was seen up to 20 weeks: by rmse, a model 20 weeks old")


def test_models_learn_only_what_was_known_before_their_block() -> None:
    known = blocks_of(world("regression", days=DAYS).lazy(), SPLIT, now=NOW)
    assert isinstance(known, Blocks) and known.length == 70 * DAY and len(known.starts) == 6
    assert known.starts[-1] + BLOCK == START + DAYS * DAY and known.whole.start == known.starts[0] - 70 * DAY
    windows = known.windows(2)
    assert (windows.test_start, windows.end) == (known.starts[2], known.starts[3])
    assert windows.train_start == known.starts[2] - 70 * DAY < windows.validation_start < windows.test_start


def test_a_long_stretch_is_cut_to_half_of_the_history() -> None:
    frame, long = world("regression", days=DAYS), SplitPlan(train="8mo", validation="1mo", test="1mo")
    found = blocks_of(frame.lazy(), long, now=NOW)
    assert isinstance(found, Blocks) and found.length == DAYS * DAY / 2 and len(found.starts) == 5
    assert declared_length(SplitPlan()) is None and declared_length(long) == timedelta(days=270)


def test_too_little_is_said() -> None:
    short = blocks_of(world("regression", days=100).lazy(), SPLIT, now=NOW)
    assert short == "too little history: outcomes of 100 days are known, about 168 are needed"
    assert blocks_of(world("regression").clear().lazy(), SPLIT, now=NOW) == "no outcome is known yet"
    frame = world("regression", days=DAYS).filter(pl.col("event_timestamp").dt.hour() < 2)
    few = aged(frame)
    assert isinstance(few, str) and few.startswith("too few labelled rows: a block of 28 days has ")


def test_what_cannot_learn_is_said() -> None:
    frame = world("regression", days=DAYS)
    known = blocks_of(frame.lazy(), SPLIT, now=NOW)
    assert isinstance(known, Blocks)
    rows = block_rows(frame.lazy(), known, now=NOW, key=KEY, most=2_000)
    lost = {"winner": "persistence", "variants": {"persistence": {"last_value": "gone"}}}
    found = staleness(plan("regression"), rows, lost, known, tolerance=0.1, key=KEY)
    assert isinstance(found, str) and found.startswith("no model could be trained on 70 days: ")


def test_the_cadence_is_the_age_before_the_loss_and_never_less_than_a_block() -> None:
    def curve(*losses: float) -> Staleness:
        ages = tuple(Age(4 * (1 + place), loss, loss - 1, loss + 1, 1) for place, loss in enumerate(losses))
        return Staleness("mae", "linear", 0.5, ages, 70, 1_000, 1.0)

    assert [curve(0.1, 0.2, 0.6).cadence, curve(0.6, 0.7).cadence, curve(0.1, -0.2).cadence] == [8, 4, None]
    assert ages_plot(curve(0.1, 0.6))[:4] == b"\x89PNG"
    assert "| 8 | +0.6 | -0.4 to +1.6 | 1 |" in curve(0.1, 0.6).markdown()
    assert "is 0.2 better" in curve(0.1, -0.2).sentence()
