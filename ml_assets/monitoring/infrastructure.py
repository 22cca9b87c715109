"""How long each asset takes, how much memory, how many rows, and whether its last run was worse than the ten like it before.

Runs are rows of `RUNS`, one for each step of a run. Only runs of like size are compared, each by its seconds for a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

import polars as pl

from ml_assets.evaluation.report import table
from ml_assets.tasks import drawing

Verdict = Literal["as before", "slower", "more memory", "not judged"]
WORSE: tuple[Verdict, ...] = ("slower", "more memory")

TIME = pl.Datetime("us", "UTC")
RUNS: dict[str, Any] = {
    "run": pl.String,
    "job": pl.String,
    "ended": TIME,
    "step": pl.String,
    "asset": pl.String,
    "status": pl.String,
    "started": TIME,
    "seconds": pl.Float64,
    "partitions": pl.Int64,
    "unchanged": pl.Int64,
    "rows": pl.Int64,
    "began": pl.Int64,
    "peak": pl.Int64,
}
"""Columns of a table of runs. `ended` is the run's end; `started` and `seconds` are the step's. `status` is succeeded, failed
or skipped. `partitions` were made or found unchanged; `rows` are those in them. `began` and `peak` are bytes resident in the
process, at the step's start and at most; null where nobody measured."""
KEEP = 50
"""Steps kept of each asset: enough for the ten before of each of a few sizes."""
SHOWN = 6
SIGMA = 1.4826  # a normal distribution's standard deviation in units of its median absolute deviation


@dataclass(frozen=True)
class RunPolicy:
    """When a run is worse than those before.

    before: like runs that are compared with; enough: the least of them. factor: a regression takes more than this many times
    their median, *and* more than three robust standard deviations above it, *and* more than `seconds` or `megabytes` above it: what
    is quick may double by chance. alike: runs are alike when neither is larger than the other by more than this factor.
    """

    before: int = 10
    enough: int = 3
    factor: float = 2.0
    deviations: float = 3.0
    seconds: float = 5.0
    megabytes: float = 250.0
    alike: float = 2.0


@dataclass(frozen=True)
class AssetRuns:
    """What is known of one asset's runs: counts, the last one that succeeded, and the verdict on it.

    Times in seconds, memory in megabytes. `took_more` is the memory added to what the process held when the step began, `peak`
    is all that it held.
    """

    asset: str
    runs: int
    failed: int
    skipped: int
    last_status: str
    median_seconds: float | None
    last_seconds: float | None
    rows: int | None
    rows_per_second: float | None
    peak: float | None
    took_more: float | None
    verdict: Verdict
    reason: str


def appended(before: pl.DataFrame | None, steps: Iterable[Mapping[str, Any]], *, keep: int = KEEP) -> pl.DataFrame:
    """Return the runs with new steps, each step of a run once, and of each asset the newest `keep`."""
    new = pl.DataFrame([dict(step) for step in steps], schema=RUNS)
    together = new if before is None else pl.concat([before.select(list(RUNS)), new])
    latest = together.unique(["run", "step"], keep="last", maintain_order=True).sort("ended", "run", "step")
    return latest.filter(pl.int_range(pl.len()).reverse().over("asset") < keep)


def judge_runs(runs: pl.DataFrame, policy: RunPolicy = RunPolicy()) -> list[AssetRuns]:
    """Return what is known of each asset, by name."""
    parts = runs.sort("ended", "run", "step").partition_by("asset", maintain_order=True)
    return sorted((_asset(part.to_dicts(), policy) for part in parts), key=lambda one: one.asset)


def regressions(found: Sequence[AssetRuns]) -> list[AssetRuns]:
    """Return the assets whose last run was worse than those before."""
    return [one for one in found if one.verdict in WORSE]


def no_regression(found: Sequence[AssetRuns]) -> tuple[bool, str]:
    """Tell whether no asset got worse, and why; not when nothing could be judged."""
    worse, judged = regressions(found), [one for one in found if one.verdict != "not judged"]
    if worse:
        return False, "; ".join(f"{one.asset}: {one.reason}" for one in worse)
    if not judged:
        return False, f"nothing to compare yet: none of {_counted(len(found), 'asset')} has enough runs of like size"
    left = len(found) - len(judged)
    return True, f"{_counted(len(judged), 'asset')} as before" + (f", {left} not judged" if left else "")


def to_frame(found: Sequence[AssetRuns]) -> pl.DataFrame:
    """Return one row for each asset."""
    types: dict[str, Any] = {
        "asset": pl.String,
        **dict.fromkeys(("runs", "failed", "skipped"), pl.Int64),
        "last_status": pl.String,
        **dict.fromkeys(("median_seconds", "last_seconds"), pl.Float64),
        "rows": pl.Int64,
        **dict.fromkeys(("rows_per_second", "peak", "took_more"), pl.Float64),
        **dict.fromkeys(("verdict", "reason"), pl.String),
    }
    return pl.DataFrame([vars(one) for one in found], schema=types)


def runs_markdown(found: Sequence[AssetRuns]) -> str:
    """Return the table for people, what got worse first, then the slowest."""
    head = [
        "asset",
        "runs",
        "failed",
        "skipped",
        "median s",
        "last s",
        "rows",
        "rows/s",
        "took MB",
        "peak MB",
        "verdict",
    ]
    ranked = sorted(found, key=lambda one: (one.verdict not in WORSE, -(one.median_seconds or 0), one.asset))
    return table(head, [_cells(one) for one in ranked])


def durations_plot(runs: pl.DataFrame, *, title: str = "Seconds of the slowest assets") -> bytes:
    """The seconds of run after run, for the six assets of two runs and more that take longest, on a logarithmic axis; a PNG."""
    good = runs.filter(pl.col("status") == "succeeded", pl.col("seconds") > 0)
    known = good.filter(pl.len().over("asset") > 1)
    if known.is_empty():
        return drawing.sorry(title, "no asset has run twice yet")
    slowest = known.group_by("asset").agg(pl.col("seconds").max()).sort("seconds", "asset", descending=[True, False])
    canvas, axes = drawing.figure(title, "run, the newest last", "seconds")
    for color, asset in zip(drawing.PALETTE, slowest["asset"].head(SHOWN), strict=False):
        seconds = known.filter(pl.col("asset") == asset).sort("ended")["seconds"].to_list()
        places = range(1 - len(seconds), 1)
        axes.plot(places, seconds, label=drawing.shorten(asset), **{**drawing.DOTTED, "color": color})
    axes.set_yscale("log")
    axes.margins(y=0.3)
    drawing.legend(axes)
    return drawing.png(canvas)


def _asset(steps: Sequence[Mapping[str, Any]], policy: RunPolicy) -> AssetRuns:
    good = [step for step in steps if step["status"] == "succeeded" and step["seconds"] is not None]
    last = good[-1] if good else dict.fromkeys(RUNS)
    verdict, reason = _verdict(good, policy)
    return AssetRuns(
        asset=steps[0]["asset"],
        runs=len(good),
        failed=sum(step["status"] == "failed" for step in steps),
        skipped=sum(step["status"] == "skipped" for step in steps),
        last_status=steps[-1]["status"],
        median_seconds=median(step["seconds"] for step in good) if good else None,
        last_seconds=last["seconds"],
        rows=last["rows"],
        rows_per_second=_speed(last),
        peak=_megabytes(last["peak"]),
        took_more=_megabytes(_grown(last)),
        verdict=verdict,
        reason=reason,
    )


def _verdict(good: Sequence[Mapping[str, Any]], policy: RunPolicy) -> tuple[Verdict, str]:
    if not good:
        return "not judged", "no run has succeeded"
    last = good[-1]
    like = [step for step in good[:-1] if _alike(step, last, policy.alike)][-policy.before :]
    if len(like) < policy.enough:
        return "not judged", _too_few(last, len(good) - 1, len(like), policy)
    if said := _slower(last, like, policy):
        return "slower", said
    if said := _larger(last, like, policy):
        return "more memory", said
    return "as before", f"compared with {len(like)} runs of like size"


def _too_few(last: Mapping[str, Any], before: int, like: int, policy: RunPolicy) -> str:
    if not before:
        return "the first run"
    return f"{like} of {before} runs before are of like size ({_worth(last)}), {policy.enough} are needed"


def _slower(last: Mapping[str, Any], like: Sequence[Mapping[str, Any]], policy: RunPolicy) -> str:
    """Return what is slower: seconds are compared for a unit of work, and told for the work of the last run."""
    seconds = [step["seconds"] * _ratio(last, step) for step in like]
    expected = _exceeded(last["seconds"], seconds, policy, least=policy.seconds)
    if expected is None:
        return ""
    return f"{last['seconds']:.1f} s for {_worth(last)}, {expected:.1f} s were expected from {len(like)} runs before"


def _larger(last: Mapping[str, Any], like: Sequence[Mapping[str, Any]], policy: RunPolicy) -> str:
    """Return what takes more memory: what the step added is compared as it is, as little of it grows with the rows alone."""
    grown, before = _megabytes(_grown(last)), [_megabytes(_grown(step)) for step in like]
    known = [value for value in before if value is not None]
    if grown is None or len(known) < policy.enough:
        return ""
    expected = _exceeded(grown, known, policy, least=policy.megabytes)
    return "" if expected is None else f"{grown:,.0f} MB added, {expected:,.0f} MB in {len(known)} runs before"


def _exceeded(value: float, before: Sequence[float], policy: RunPolicy, *, least: float) -> float | None:
    """Return the median of the values before where `value` is a regression from it, by all three measures of `RunPolicy`."""
    middle = median(before)
    spread = SIGMA * median(abs(one - middle) for one in before)
    limit = max(policy.factor * middle, middle + policy.deviations * spread, middle + least)
    return middle if value > limit else None


def _alike(one: Mapping[str, Any], other: Mapping[str, Any], factor: float) -> bool:
    """Tell whether two runs made about as many partitions, and about as many rows where both tell them."""
    pairs: list[tuple[float, float]] = [(_partitions(one), _partitions(other))]
    if one["rows"] is not None and other["rows"] is not None:
        pairs.append((_rows(one), _rows(other)))
    return all(max(pair) <= factor * min(pair) for pair in pairs)


def _ratio(last: Mapping[str, Any], step: Mapping[str, Any]) -> float:
    """Return how many times the work of a like step the last one did; 1 where one of them did none."""
    by_rows = last["rows"] is not None and step["rows"] is not None
    work, other = ((_rows if by_rows else _partitions)(one) for one in (last, step))
    return work / other if work and other else 1.0


def _partitions(step: Mapping[str, Any]) -> int:
    """Return the partitions that were made; those that were found unchanged cost next to nothing."""
    return max(0, step["partitions"] - step["unchanged"])


def _rows(step: Mapping[str, Any]) -> float:
    return step["rows"] * _partitions(step) / step["partitions"] if step["partitions"] else float(step["rows"])


def _worth(step: Mapping[str, Any]) -> str:
    made = _partitions(step)
    if not made:
        return "nothing was made"
    partitions = _counted(made, "partition")
    return partitions if step["rows"] is None else f"{_rows(step):,.0f} rows in {partitions}"


def _grown(step: Mapping[str, Any]) -> int | None:
    return None if step["peak"] is None or step["began"] is None else max(0, step["peak"] - step["began"])


def _megabytes(count: int | None) -> float | None:
    return None if count is None else count / 1e6


def _speed(step: Mapping[str, Any]) -> float | None:
    if step["rows"] is None or not step["seconds"]:
        return None
    return _rows(step) / float(step["seconds"]) or None


def _cells(one: AssetRuns) -> list[str]:
    counts = [f"{count:,}" for count in (one.runs, one.failed, one.skipped)]
    times = [_told(value, ",.2f") for value in (one.median_seconds, one.last_seconds)]
    rows = [_told(value, ",.0f") for value in (one.rows, one.rows_per_second, one.took_more, one.peak)]
    said = one.verdict if one.verdict == "as before" else f"{one.verdict}: {one.reason}"
    return [one.asset, *counts, *times, *rows, said]


def _told(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
