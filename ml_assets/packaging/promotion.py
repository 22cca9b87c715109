"""Whether the challenger takes office: compared with the champion on rows that neither has seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from ml_assets.evaluation.comparison import Part, compare, table
from ml_assets.evaluation.fairness import overlap, unfair, unseen
from ml_assets.evaluation.gates import Gate, PromotionPolicy, gates_table
from ml_assets.evaluation.metrics import Answered, answered
from ml_assets.packaging.bundle import Bundle
from ml_assets.packaging.champion import Champion
from ml_assets.tasks import Metric

__all__ = ["Boundaries", "Decision", "Gate", "PromotionPolicy", "boundaries", "decide"]

DAY = timedelta(days=1)
UNDECLARED = PromotionPolicy()


@dataclass(frozen=True)
class Decision:
    """Whether to promote, and why, in words for the log; with the gates that decided and the comparison they read.

    With `approval` a person must approve before the challenger takes office, although nothing speaks against it.
    """

    promote: bool
    reason: str
    gates: tuple[Gate, ...] = ()
    comparison: tuple[Part, ...] = ()
    approval: bool = False

    def table(self) -> str:
        """Return gates and comparison as Markdown, for people."""
        parts = [gates_table(self.gates)] if self.gates else []
        return "\n\n".join([*parts, *([table(self.comparison)] if self.comparison else [])])


@dataclass(frozen=True)
class Boundaries:
    """The model was fitted or selected on rows before `fitted_until`; rows from `live_from` on are neither that nor test."""

    fitted_until: datetime
    live_from: datetime


def boundaries(training_set: pl.DataFrame, *, by_time: bool = True) -> Boundaries:
    """Return the days (midnight, UTC) on which the test split begins and after which it has ended.

    At random any day may have rows of any split: then both are the day after the last row.
    """
    rows = training_set.filter(pl.col("split") == "test") if by_time else training_set
    days = rows["event_timestamp"].dt.truncate("1d")
    first, last = days.min(), days.max()
    assert isinstance(first, datetime) and isinstance(last, datetime)
    return Boundaries(first if by_time else last + DAY, last + DAY)


def decide(
    training_set: pl.DataFrame,
    challenger: Bundle,
    champion: Champion | None,
    metric: Metric,
    *,
    policy: PromotionPolicy = UNDECLARED,
    slices: Sequence[str] = (),
    seen: pl.DataFrame | None = None,
    learned: pl.DataFrame | None = None,
    key: Sequence[str] = (),
    seed: int = 0,
) -> Decision:
    """Compare challenger and champion by the metric on the test rows that neither has seen.

    By time, that is the test split, unless the champion was fitted on rows of it. Of a random split `seen` names the rows that the
    champion was fitted or selected on (see `seen_rows`), which are left out. `learned` are the champion's development rows (see
    `learned_rows`): their hashes, and those of the challenger's own, prove that none is compared on; `key` names what tells
    observations apart. What the verdict needs beside the gates says `policy`: the first model, ties, too few rows. A challenger
    that fails on the rows is refused. The same input gives the same decision.
    """
    test = training_set.filter(pl.col("split") == "test")
    mine = _asked(challenger, test)
    if isinstance(mine, str):
        return Decision(False, f"the challenger failed on the test rows: {mine}")
    value = metric.compute(mine.y, mine.score, mine.threshold)
    if value is None:
        return Decision(False, f"{metric.name} does not apply to the challenger's test rows")
    own = _apart("challenger", test, training_set.filter(pl.col("split") != "test"), key)
    if not own.passed:
        return Decision(False, own.reason, (own,))
    if champion is None:
        return _first(value, metric, own, policy)
    if champion.bundle.digest == challenger.digest:
        return Decision(False, f"version {champion.version} is this very bundle, in office already")
    rows = test if seen is None else test[unseen(test, seen)]
    if why := unfair(champion, rows, by_time=seen is None):
        return _not_comparable(champion, f"on the test rows: {why}; deliver newer data", own)
    theirs_apart = _apart(f"champion {champion.version}", rows, learned, key)
    holdout = (own, theirs_apart)
    if not theirs_apart.passed:
        return _not_comparable(champion, f"on the test rows: {theirs_apart.reason}", *holdout)
    theirs = _asked(champion.bundle, rows)
    if isinstance(theirs, str):
        return _not_comparable(champion, f"because it cannot answer these rows ({theirs})", *holdout)
    mine = mine if rows.height == test.height else _asked(challenger, rows)
    assert isinstance(mine, Answered), "it answered all of them"
    return _compared(mine, theirs, champion.version, metric, holdout, policy, slices, seed)


def _asked(bundle: Bundle, rows: pl.DataFrame) -> Answered | str:
    """Return a bundle's answers to the rows, or why there are none."""
    if rows.is_empty():
        return "there are no rows"
    try:
        matrix = None if bundle.task.supervised else bundle.truth(rows)
        return answered(rows, bundle.predict(rows), task=bundle.task, threshold=bundle.threshold, matrix=matrix)
    except ValueError as error:
        return f"{type(error).__name__}: {error}"


def _apart(who: str, rows: pl.DataFrame, development: pl.DataFrame | None, key: Sequence[str]) -> Gate:
    """Return whether none of the rows is among those that a model was fitted or selected on, by their hashes."""
    if development is None:
        return Gate("holdout", True, f"{who}: judged by dates; its development rows were not given")
    found = overlap(rows, development, key)
    reason = f"{found} of {rows.height:,} test rows are among the {development.height:,} that {who} was fitted or selected on"
    return Gate("holdout", not found, reason)


def _first(value: float, metric: Metric, own: Gate, policy: PromotionPolicy) -> Decision:
    reason = f"the first champion: {metric.name} {value:.4f} on the test split, all gates passed"
    return Decision(True, reason, (own,), approval=policy.approval or policy.first == "approve")


def _not_comparable(champion: Champion, why: str, *gates: Gate) -> Decision:
    red = Gate("comparable", False, f"version {champion.version} cannot be compared {why}")
    return Decision(False, red.reason, (*gates, red))


def _compared(
    mine: Answered,
    theirs: Answered,
    version: str,
    metric: Metric,
    holdout: tuple[Gate, ...],
    policy: PromotionPolicy,
    slices: Sequence[str],
    seed: int,
) -> Decision:
    values = [metric.compute(side.y, side.score, side.threshold) for side in (mine, theirs)]
    if None in values:
        both = f"the {len(mine)} test rows that are new to both"
        reason = f"{metric.name} does not apply to challenger ({values[0]}) and champion ({values[1]}) on {both}"
        return Decision(False, reason, holdout)
    enough = len(mine) >= policy.minimum_rows
    least = f"{len(mine):,} test rows are new to both, promotion.minimum_rows asks for {policy.minimum_rows:,}"
    size = Gate("minimum_rows", enough, least)
    if not enough:
        return Decision(False, f"the holdout is too small: {least}", (*holdout, size))
    found = compare(
        mine,
        theirs,
        metric,
        slices=[name for name in slices if name in mine.frame.columns],
        margin=policy.margin,
        confidence=policy.confidence,
        minimum_rows=policy.minimum_rows,
        seed=seed,
    )
    verdicts = (*holdout, size, *_verdicts(found, policy))
    failed = [gate for gate in verdicts if not gate.passed]
    whole = found[0]
    words = f"{metric.name} on the same test rows: challenger {whole.challenger:.4f}, champion {version} {whole.champion:.4f}"
    reason = "; ".join([words, whole.words(), *(f"{gate.name}: {gate.reason}" for gate in failed)])
    return Decision(not failed, reason, verdicts, tuple(found), approval=policy.approval and not failed)


def _verdicts(found: Sequence[Part], policy: PromotionPolicy) -> list[Gate]:
    """Return whether the challenger is not worse overall, in no slice, and wins as the policy on ties asks."""
    whole, *slices = found
    asked = f"margin {policy.margin:g}" if policy.margin else "no margin is declared"
    worse = [part for part in slices if part.worse]
    judged = [part for part in slices if part.interval is not None]
    told = "; ".join(f"{part.name}: {part.words()}" for part in worse) or f"in none of {len(judged)} slices"
    return [
        Gate("not_worse", whole.interval is not None and not whole.worse, f"{whole.words()}, {asked}"),
        Gate("not_worse_in_slices", not worse, f"{told}, {asked}; {len(slices) - len(judged)} slices not judged"),
        _tie(whole, policy),
    ]


def _tie(whole: Part, policy: PromotionPolicy) -> Gate:
    """Return whether the challenger is better enough: by the point value, beyond chance, or not at all."""
    gain, low = whole.gain or 0.0, (whole.interval or (0.0, 0.0))[0]
    passed = {"better": gain > 0, "keep": low > 0, "newer": True}[policy.ties]
    asked = {
        "better": "the better point value wins, a tie changes nothing",
        "keep": "the champion stays unless the whole interval is above 0",
        "newer": "the newer model wins when it is not worse",
    }[policy.ties]
    return Gate("ties", passed, f"{whole.words()}; {asked}")
