"""Measure one arm against another: results compared first, rounds interleaved, medians and the spread of the ratios."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal

Judged = Literal["ratio", "seconds", "memory", "losses"]
PEAK = "peak_gb"  # the detail that a bench judged by memory needs
LOSSES = "losses"  # and the one that a bench judged by losses needs
JUDGED_DETAILS: Mapping[str, str] = {"memory": PEAK, "losses": LOSSES}


@dataclass(frozen=True)
class Measured:
    """One run of an arm: what it returned, how long it took, and what is told beside the time.

    `details` are further numbers, `remarks` sentences: what was skipped and why, a table.
    """

    result: Any
    seconds: float
    details: Mapping[str, float] = field(default_factory=dict)
    remarks: Sequence[str] = ()


@dataclass(frozen=True)
class Arm:
    """One of the two things that are compared. `run` works from the same start each time it is called."""

    name: str
    run: Callable[[], Measured]


@dataclass(frozen=True)
class Comparison:
    """Whether the arms' results are equal; None when they are not comparable, with the reason in every case."""

    equal: bool | None
    reason: str


@dataclass(frozen=True)
class Limit:
    """A further number that is judged: our detail of this name, or its ratio to theirs, and the highest acceptable."""

    detail: str
    highest: float
    judged: Literal["ratio", "value"] = "ratio"

    def found(self, ours: Sequence[Measured], theirs: Sequence[Measured]) -> float:
        """Return the number, from the arms' medians. Raises `KeyError` when an arm does not tell the detail."""
        value = details(ours)[self.detail]
        return value / details(theirs)[self.detail] if self.judged == "ratio" else value


@dataclass(frozen=True)
class Bench:
    """Two arms, how their results are compared, and what is aimed at.

    `target` is the highest acceptable ratio ours/theirs; when `judged` is "seconds" our highest acceptable median, when
    it is "memory" our highest acceptable `peak_gb` of any round, when it is "losses" of `losses`. All `limits` must hold as well.
    `rounds` is the number of rounds unless the caller says otherwise. With `warm_up` the runs whose results are
    compared are not timed; without, they are the first round. `notes` says what is and is not measured.
    """

    name: str
    title: str
    target: float
    ours: Arm
    theirs: Arm
    compare: Callable[[Any, Any], Comparison]
    judged: Judged = "ratio"
    limits: Sequence[Limit] = ()
    rounds: int = 7
    warm_up: bool = True
    notes: str = ""


@dataclass(frozen=True)
class Options:
    """What a bench is built with: `small` data for a look, and the folder for what it makes (kept between calls)."""

    folder: Path
    small: bool = False


@dataclass(frozen=True)
class Outcome:
    """What was measured: one entry per round in `ours` and `theirs`, in the order of rounds; none when results differ."""

    bench: Bench
    comparison: Comparison
    ours: Sequence[Measured] = ()
    theirs: Sequence[Measured] = ()

    @property
    def ours_seconds(self) -> float:
        """Return the median of our arm in seconds."""
        return median(run.seconds for run in self.ours)

    @property
    def theirs_seconds(self) -> float:
        """Return the median of the other arm in seconds."""
        return median(run.seconds for run in self.theirs)

    @property
    def ratio(self) -> float:
        """Return the ratio of the medians, ours/theirs."""
        return self.ours_seconds / self.theirs_seconds

    @property
    def spread(self) -> tuple[float, float]:
        """Return the lowest and the highest ratio within one round."""
        ratios = [ours.seconds / theirs.seconds for ours, theirs in zip(self.ours, self.theirs, strict=True)]
        return min(ratios), max(ratios)

    @property
    def judged_value(self) -> float:
        """Return the number that the target is about."""
        if detail := JUDGED_DETAILS.get(self.bench.judged):
            return max(run.details[detail] for run in self.ours)
        return self.ratio if self.bench.judged == "ratio" else self.ours_seconds

    @property
    def limits(self) -> Mapping[Limit, float]:
        """Return what was measured for each further limit."""
        return {limit: limit.found(self.ours, self.theirs) for limit in self.bench.limits}

    @property
    def differs(self) -> bool:
        """Tell whether the arms gave different results, so that nothing was measured."""
        return self.comparison.equal is False

    @property
    def met(self) -> bool:
        """Tell whether the target and every limit are met; never when the results differ."""
        if self.differs or self.judged_value > self.bench.target:
            return False
        return all(value <= limit.highest for limit, value in self.limits.items())


def timed(work: Callable[[], Any]) -> Callable[[], Measured]:
    """Return `work` as an arm's `run`: its result, and the wall time of the call."""

    def run() -> Measured:
        started = time.perf_counter()
        result = work()
        return Measured(result, time.perf_counter() - started)

    return run


def measure(bench: Bench, *, rounds: int | None = None, tell: Callable[[str], None] = lambda _: None) -> Outcome:
    """Compare the arms' results; unless they differ, run the arms in turn and return the times.

    `rounds` (at least 1) replaces the bench's own number. `tell` hears of each run.
    """
    wanted = bench.rounds if rounds is None else rounds
    if wanted < 1:
        raise ValueError(f"rounds is {wanted}; give at least 1")
    first = _round(bench, tell)
    comparison = bench.compare(first[0].result, first[1].result)
    tell(f"{bench.name}: {comparison.reason}")
    if comparison.equal is False:
        return Outcome(bench, comparison)
    rounds_run = [] if bench.warm_up else [first]
    rounds_run += [_round(bench, tell) for _ in range(wanted - len(rounds_run))]
    ours, theirs = zip(*rounds_run, strict=True)
    return Outcome(bench, comparison, ours, theirs)


def _round(bench: Bench, tell: Callable[[str], None]) -> tuple[Measured, Measured]:
    runs = []
    for arm in (bench.ours, bench.theirs):
        runs.append(arm.run())
        tell(f"{bench.name}: {arm.name} {runs[-1].seconds:.3f} s")
    return runs[0], runs[1]


def details(runs: Sequence[Measured]) -> dict[str, float]:
    """Return the median of each further number."""
    names = dict.fromkeys(name for run in runs for name in run.details)
    return {name: median(run.details[name] for run in runs if name in run.details) for name in names}
