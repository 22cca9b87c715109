"""Challenger and champion on the same rows: the gain with its paired bootstrap interval, overall and in every declared slice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ml_assets.evaluation.metrics import Answered, Interval, gain_intervals
from ml_assets.evaluation.slices import parts
from ml_assets.tasks import Metric

ALL = "all rows"


@dataclass(frozen=True)
class Part:
    """Both models on some of the rows. `gain` is how much better the challenger is (`Metric.gain`), `interval` its interval.

    `worse` tells that it does not pass as "not worse": it is, or that it is not has not been shown. A part that was not judged has
    no interval, and `note` says why.
    """

    slice: str
    value: str
    rows: int
    challenger: float | None = None
    champion: float | None = None
    gain: float | None = None
    interval: Interval | None = None
    worse: bool = False
    note: str = ""

    @property
    def name(self) -> str:
        """Return the part's name, for people."""
        return self.slice if self.slice == ALL else f"{self.slice} {self.value}"

    @property
    def verdict(self) -> str:
        """Return what the gate says of the part."""
        if self.interval is None:
            return "not judged"
        if not self.worse:
            return "not worse"
        return "worse" if self.interval[1] < 0 else "not shown"

    def words(self) -> str:
        """Return the gain with its interval."""
        if self.gain is None or self.interval is None:
            return self.note
        return f"gain {self.gain:+.4f} ({self.interval[0]:+.4f} to {self.interval[1]:+.4f})"


def compare(
    one: Answered,
    other: Answered,
    metric: Metric,
    *,
    slices: Sequence[str] = (),
    margin: float = 0.0,
    confidence: float = 0.95,
    minimum_rows: int = 0,
    seed: int = 0,
) -> list[Part]:
    """Return all rows first, then each slice: challenger `one` against champion `other` on the same rows.

    With a `margin` (in units of the metric, above 0) a part is worse unless its interval shows that no more than that is lost: its
    low end is not below -margin. That every part must show it needs no correction (intersection-union test; Berger, Technometrics
    24, 1982). Without one a part is worse when its whole interval is below 0; as one of many slices is so by chance, the slices
    share the error (Bonferroni). Slices with fewer than `minimum_rows` rows are told, not judged.
    """
    split = [(column, value, index) for column in slices for value, index, _ in parts(one, column)]
    judged = sum(len(index) >= max(minimum_rows, 1) for *_, index in split)
    shared = confidence if margin else 1 - (1 - confidence) / max(judged, 1)
    whole = _part(one, other, metric, ALL, "", margin=margin, confidence=confidence, seed=seed)
    found = [whole]
    for column, value, index in split:
        if len(index) < max(minimum_rows, 1):
            note = f"too small: {len(index)} rows, fewer than {minimum_rows}"
            found.append(Part(column, value, len(index), note=note))
            continue
        mine, theirs = one.take(index), other.take(index)
        found.append(_part(mine, theirs, metric, column, value, margin=margin, confidence=shared, seed=seed))
    return found


def _part(
    one: Answered,
    other: Answered,
    metric: Metric,
    column: str,
    value: str,
    *,
    margin: float,
    confidence: float,
    seed: int,
) -> Part:
    mine, theirs = (metric.compute(side.y, side.score, side.threshold) for side in (one, other))
    if mine is None or theirs is None:
        return Part(column, value, len(one), mine, theirs, note=f"{metric.name} does not apply to these rows")
    gain = metric.gain(mine, theirs)
    drawn = gain_intervals(one, other, metrics=[metric.name], confidence=confidence, seed=seed)[metric.name]
    if drawn is None:
        return Part(column, value, len(one), mine, theirs, gain, note=f"{metric.name} applies to too few resamples")
    # The point is inside by definition, also where a skewed metric puts all resamples on one side of it.
    interval = float(np.minimum(drawn[0], gain)), float(np.maximum(drawn[1], gain))
    worse = interval[0] < -margin if margin else interval[1] < 0
    return Part(column, value, len(one), mine, theirs, gain, interval, worse)


def table(found: Sequence[Part]) -> str:
    """Return the comparison as a Markdown table."""
    rows = [
        f"| {part.name.replace('|', '/')} | {part.rows:,} | {_number(part.challenger)} | {_number(part.champion)} "
        f"| {part.words()} | {part.verdict} |"
        for part in found
    ]
    return "\n".join(
        ["| rows of | rows | challenger | champion | difference | verdict |", "|---|---|---|---|---|---|", *rows]
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
