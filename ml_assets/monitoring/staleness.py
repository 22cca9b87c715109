"""How a model ages: what is lost by one that was trained so many weeks earlier, and how often to retrain because of it.

Time is cut into blocks. For each block a model is trained on the time before it, each on equally long a stretch; on a block's
rows the model made for it is compared with those made for earlier blocks. Both see the same rows, so that a hard month is no loss
of the older model.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl

from ml_assets.development.lifecycle import Plan
from ml_assets.evaluation.comparison import Part, compare
from ml_assets.evaluation.metrics import Answered
from ml_assets.features.training import SPLIT
from ml_assets.monitoring.backtest import DAY, WEEK, Stretch, again, answers_of, drawn, lean, mature
from ml_assets.preparation.observations import EVENT_TIMESTAMP, LABEL, LABEL_TIMESTAMP, as_known_at
from ml_assets.preparation.spans import Span
from ml_assets.preparation.splits import SplitPlan, SplitWindows
from ml_assets.tasks import Metric

BLOCK = 28 * DAY
FEWEST_BLOCKS, MOST_BLOCKS = 3, 6
VALIDATION_SHARE = 0.15
"""Share of each stretch that says when to stop and where to decide."""
MOST_COMPARED = 5_000
"""Rows of a block at most."""
FEWEST_ROWS = 200
NORMAL = 1.96  # a 95 % interval of the normal distribution, in standard errors


@dataclass(frozen=True)
class Age:
    """A model that is `weeks` old when a block begins, against one that is new.

    `loss` is what the old one loses of the metric (below 0: it is better), the mean over `blocks` blocks, with its 95 % interval
    `low` to `high`. Its standard error is the larger of two: of the paired bootstraps of the blocks, and between blocks; of one
    block alone the spread between blocks is taken from the age before.
    """

    weeks: int
    loss: float
    low: float
    high: float
    blocks: int


@dataclass(frozen=True)
class Staleness:
    """The loss by age, youngest first, of the candidate `kind`, trained on `days` days and at most `rows` rows each time."""

    metric: str
    kind: str
    tolerance: float
    ages: tuple[Age, ...]
    days: int
    rows: int
    seconds: float

    @property
    def cadence(self) -> int | None:
        """Return the age in weeks up to which the expected loss is tolerated; None when more was not seen."""
        for age in self.ages:
            if age.loss > self.tolerance:
                return max(age.weeks - BLOCK // WEEK, BLOCK // WEEK)
        return None

    def sentence(self) -> str:
        """Return what follows, in words."""
        oldest = self.ages[-1]
        how = f"loses {oldest.loss:.3g}" if oldest.loss >= 0 else f"is {-oldest.loss:.3g} better"
        told = (
            f"by {self.metric}, a model {oldest.weeks} weeks old {how} (loss {oldest.low:+.3g} to {oldest.high:+.3g})"
        )
        if self.cadence is None:
            return f"no loss beyond {self.tolerance:g} was seen up to {oldest.weeks} weeks: {told}"
        return f"retrain every {self.cadence} weeks, before more than {self.tolerance:g} is lost: {told}"

    def to_frame(self) -> pl.DataFrame:
        """Return one row per age: weeks, loss, low, high, blocks, and what is the same for all."""
        told = {"metric": self.metric, "kind": self.kind, "tolerance": self.tolerance, "cadence_weeks": self.cadence}
        return pl.DataFrame([asdict(age) | told for age in self.ages], schema_overrides={"cadence_weeks": pl.Int64})

    def markdown(self) -> str:
        """Return the loss by age as a table."""
        rows = [f"| {a.weeks} | {a.loss:+.4g} | {a.low:+.4g} to {a.high:+.4g} | {a.blocks} |" for a in self.ages]
        heads = f"| weeks old | {self.metric} lost | interval | blocks |"
        return "\n".join([f"**{self.sentence()}**", "", heads, "|---|---|---|---|", *rows])


@dataclass(frozen=True)
class Blocks:
    """Consecutive blocks, oldest first; the model for one is trained on the `length` before it."""

    starts: tuple[datetime, ...]
    length: timedelta

    @property
    def whole(self) -> Stretch:
        """Return all that is read: from the first row that is trained on to the end of the last block."""
        return Stretch(self.starts[0] - self.length, self.starts[-1] + BLOCK)

    def windows(self, number: int) -> SplitWindows:
        """Return what the model of a block is trained on, before the block, which is the test."""
        start = self.starts[number]
        return SplitWindows(start - self.length, start - self.length * VALIDATION_SHARE, start, start + BLOCK)


def blocks_of(observations: pl.LazyFrame, split: SplitPlan, *, now: datetime, supervised: bool = True) -> Blocks | str:
    """Return the latest blocks whose outcomes are known; or in words why there are too few.

    Each stretch that is trained on is as long as train and validation are declared, but no longer than half of the history.
    """
    found = mature(observations, now=now, supervised=supervised)
    if isinstance(found, str):
        return found
    history = found.end - found.start
    length = min(history / 2, declared_length(split) or history / 2)
    count = min(int((history - length) / BLOCK), MOST_BLOCKS)
    if count < FEWEST_BLOCKS:
        wanted = 2 * FEWEST_BLOCKS * BLOCK.days
        return f"too little history: outcomes of {history.days} days are known, about {wanted} are needed"
    return Blocks(tuple(found.end - BLOCK * back for back in range(count, 0, -1)), length)


def declared_length(split: SplitPlan) -> timedelta | None:
    """Return how long train and validation are together, where they are declared as spans."""
    spans = [Span.parse(one).length for one in (split.train, split.validation) if isinstance(one, str)]
    return sum(spans, timedelta(0)) if len(spans) == 2 else None


def block_rows(
    observations: pl.LazyFrame,
    blocks: Blocks,
    *,
    now: datetime,
    key: Sequence[str],
    supervised: bool = True,
    most: int,
) -> pl.DataFrame:
    """Return the labelled rows of all blocks and of the time before them, so many that each model learns about `most`."""
    known = as_known_at(observations, now, supervised=supervised).filter(blocks.whole.holds())
    rows = (known.filter(pl.col(LABEL).is_not_null()) if supervised else known).collect().sort(EVENT_TIMESTAMP)
    stretches = (blocks.whole.end - blocks.whole.start) / blocks.length
    return drawn(rows, int(most * stretches), key)


def staleness(
    plan: Plan,
    rows: pl.DataFrame,
    settled: Mapping[str, Any],
    blocks: Blocks,
    *,
    tolerance: float,
    key: Sequence[str],
) -> Staleness | str:
    """Train a model for each block, and compare them on the blocks after; or say why nothing could be compared.

    `rows` are those of `block_rows` with their features; `settled` says what is trained (see `development.origin.settled`).
    """
    started = time.perf_counter()
    told = lean(settled)
    parts = [_parted(rows, blocks.windows(number), plan, key) for number in range(len(blocks.starts))]
    if few := [
        f"{parts[place][1].height:,} rows" for place in range(len(parts)) if parts[place][1].height < FEWEST_ROWS
    ]:
        return f"too few labelled rows: a block of {BLOCK.days} days has {few[0]}, {FEWEST_ROWS} are needed"
    try:
        answers = _answers(plan, parts, told)
    except ValueError as error:
        return f"no model could be trained on {blocks.length.days} days: {error}"
    ages = _ages(answers, plan.metric, plan.seed)
    if not ages:
        return f"{plan.metric.name} does not apply to the blocks' rows"
    return Staleness(
        metric=plan.metric.name,
        kind=str(told["winner"]),
        tolerance=tolerance,
        ages=ages,
        days=blocks.length.days,
        rows=max(train.height for train, _ in parts),
        seconds=time.perf_counter() - started,
    )


def _parted(
    rows: pl.DataFrame, windows: SplitWindows, plan: Plan, key: Sequence[str]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return what a block's model may learn (known before the block), and the block's rows."""
    split = rows.with_columns(windows.expression().alias(SPLIT)).filter(pl.col(SPLIT).is_not_null())
    known = pl.col(LABEL_TIMESTAMP) if LABEL_TIMESTAMP in rows.columns else pl.col(EVENT_TIMESTAMP) + plan.gap
    inside = split.filter(~windows.too_late(known)) if plan.task.supervised else split
    test = pl.col(SPLIT) == "test"
    return inside.filter(~test), drawn(inside.filter(test), MOST_COMPARED, key)


def _answers(
    plan: Plan, parts: Sequence[tuple[pl.DataFrame, pl.DataFrame]], settled: Mapping[str, Any]
) -> dict[tuple[int, int], Answered]:
    """Return the answers of the model of each block to that block and to all after it."""
    found = {}
    for made_for, (train, _) in enumerate(parts):
        with TemporaryDirectory() as folder:
            made = again(plan, train, settled, Path(folder))
            model = made.result.load()
        for block in range(made_for, len(parts)):
            found[made_for, block] = answers_of(model, parts[block][1], plan, made.threshold)
    return found


def _ages(answers: Mapping[tuple[int, int], Answered], metric: Metric, seed: int) -> tuple[Age, ...]:
    """Return the loss by age: on each block, the block's own model against an older one."""
    by_age: dict[int, list[Part]] = {}
    for (made_for, block), old in answers.items():
        if made_for == block:
            continue
        part = compare(answers[block, block], old, metric, seed=seed)[0]
        if part.gain is not None and part.interval is not None:
            by_age.setdefault(block - made_for, []).append(part)
    found, spread = list[Age](), 0.0
    for blocks, parts in sorted(by_age.items()):
        losses = np.array([part.gain for part in parts], dtype=float)
        spread = float(losses.std(ddof=1)) if len(losses) > 1 else spread
        found.append(_age(blocks, parts, float(losses.mean()), spread))
    return tuple(found)


def _age(blocks: int, parts: Sequence[Part], loss: float, spread: float) -> Age:
    errors = [(part.interval[1] - part.interval[0]) / (2 * NORMAL) for part in parts if part.interval]
    within, between = np.sqrt(np.sum(np.square(errors))) / len(parts), spread / np.sqrt(len(parts))
    reach = NORMAL * float(max(within, between))
    return Age(blocks * (BLOCK // WEEK), loss, loss - reach, loss + reach, len(parts))


def ages_plot(found: Staleness) -> bytes:
    """Return the loss by age with its interval and the tolerated loss, as a PNG."""
    from ml_assets.tasks import drawing

    canvas, axes = drawing.figure("What a model loses as it ages", "weeks old", f"{found.metric} lost")
    weeks = [age.weeks for age in found.ages]
    axes.fill_between(weeks, [a.low for a in found.ages], [a.high for a in found.ages], color=drawing.BLUE, alpha=0.15)
    axes.plot(weeks, [age.loss for age in found.ages], label="expected", **drawing.DOTTED)
    axes.axhline(
        found.tolerance, color=drawing.RED, linewidth=1, linestyle="--", label=f"tolerated {found.tolerance:g}"
    )
    axes.axhline(0.0, **drawing.DASHED)
    axes.set_xticks(weeks)
    drawing.legend(axes)
    return drawing.png(canvas)
