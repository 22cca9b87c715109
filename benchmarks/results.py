"""What is kept of measurements (`results.json`, one entry per bench) and the table that people read."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.runner import JUDGED_DETAILS, Limit, Measured, Outcome, details

UNITS = {"ratio": "", "seconds": " s", "memory": " GB", "losses": " losses"}
PACKAGES = ("dagster", "polars", "feast", "duckdb", "mlflow", "evidently", "scikit-learn", "xgboost", "ml_assets")


def entry(outcome: Outcome, *, machine: Mapping[str, Any], versions: Mapping[str, str]) -> dict[str, Any]:
    """Return one bench's result as values that JSON has; times are medians in seconds."""
    bench = outcome.bench
    told: dict[str, Any] = {
        "name": bench.name,
        "title": bench.title,
        "judged": bench.judged,
        "target": bench.target,
        "met": outcome.met,
        "equal": outcome.comparison.equal,
        "compared": outcome.comparison.reason,
        "rounds": len(outcome.ours),
        "notes": bench.notes,
        "machine": dict(machine),
        "versions": dict(versions),
    }
    if outcome.differs:
        return told
    arms = {bench.ours.name: outcome.ours, bench.theirs.name: outcome.theirs}
    seconds = {bench.ours.name: outcome.ours_seconds, bench.theirs.name: outcome.theirs_seconds}
    return told | {
        "ratio": round(outcome.ratio, 4),
        "spread": [round(value, 4) for value in outcome.spread],
        "seconds": {name: round(value, 5) for name, value in seconds.items()},
        "details": {name: {k: round(v, 4) for k, v in details(runs).items()} for name, runs in arms.items()},
        **_further(outcome),
    }


def _further(outcome: Outcome) -> dict[str, Any]:
    """Return what only some benches have: the judged number where it is no time, further limits, remarks."""
    bench = outcome.bench
    told: dict[str, Any] = {}
    if bench.judged in JUDGED_DETAILS:
        told["judged_value"] = round(outcome.judged_value, 4)
    if bench.limits:
        told["limits"] = [asdict(limit) | {"found": round(value, 4)} for limit, value in outcome.limits.items()]
    if remarks := _remarks(outcome):
        told["remarks"] = remarks
    return told


def _remarks(outcome: Outcome) -> list[str]:
    """Return the arms' remarks of the last round."""
    return [remark for runs in (outcome.ours, outcome.theirs) if runs for remark in runs[-1].remarks]


def merge(path: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Replace the given benches' entries in the file; those of other benches stay as they are."""
    kept = json.loads(path.read_text()) if path.is_file() else {}
    found = kept | {str(item["name"]): dict(item) for item in entries}
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(dict(sorted(found.items())), indent=1, ensure_ascii=False) + "\n")
    draft.replace(path)


def table(outcomes: Sequence[Outcome], *, judge: bool = True) -> str:
    """Return the ratios as an aligned table; without `judge`, targets are shown but not judged."""
    rows = [
        ("bench", "ours", "theirs", "ratio", "min–max", "target", "results", ""),
        *(row for one in outcomes for row in (_row(one, judge), *_limit_rows(one, judge))),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def account(outcome: Outcome) -> str:
    """Return what the table has no room for: the arms, how results were compared, notes, and further numbers.

    Remarks tell the further numbers better where there are any.
    """
    bench = outcome.bench
    lines = [f"{bench.name}: {bench.title}", f"  ours is {bench.ours.name}, theirs {bench.theirs.name}"]
    lines += [f"  {outcome.comparison.reason}", *(f"  {line}" for line in bench.notes.splitlines())]
    remarks = [line for remark in _remarks(outcome) for line in remark.splitlines()]
    for arm, runs in () if remarks else ((bench.ours, outcome.ours), (bench.theirs, outcome.theirs)):
        if numbers := ", ".join(f"{name} {value:.2f}" for name, value in details(runs).items()):
            lines.append(f"  {arm.name}: {numbers}")
    return "\n".join([*lines, *(f"  {line}" for line in remarks)])


def machine() -> dict[str, Any]:
    """Return what the numbers depend on: cores, processor, memory in GB, operating system."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "model": _cpu_model(),
        "memory_gb": round(memory, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that matter here."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def _row(outcome: Outcome, judge: bool) -> tuple[str, ...]:
    bench = outcome.bench
    results = {True: "equal", False: "DIFFER", None: "not comparable"}[outcome.comparison.equal]
    target = f"≤ {bench.target:g}{UNITS[bench.judged]}"
    if outcome.differs:
        return bench.name, "", "", "", "", target, results, "FAILED"
    low, high = outcome.spread
    said = _said(outcome.judged_value <= bench.target, judge)
    if bench.judged in JUDGED_DETAILS:
        said = f"{outcome.judged_value:.4g}{UNITS[bench.judged]} {said}"
    ours, theirs = _seconds(outcome.ours_seconds), _seconds(outcome.theirs_seconds)
    return bench.name, ours, theirs, f"{outcome.ratio:.3f}", f"{low:.3f}–{high:.3f}", target, results, said


def _limit_rows(outcome: Outcome, judge: bool) -> Iterable[tuple[str, ...]]:
    """Return a row for each further limit, below its bench's."""
    for limit, found in ({} if outcome.differs else outcome.limits).items():
        said = _said(found <= limit.highest, judge)
        ours, theirs = (_detail(runs, limit) for runs in (outcome.ours, outcome.theirs))
        ratio = f"{found:.3f}" if limit.judged == "ratio" else ""
        yield f"  {limit.detail}", ours, theirs, ratio, "", f"≤ {limit.highest:g}", "", said


def _detail(runs: Sequence[Measured], limit: Limit) -> str:
    value = details(runs).get(limit.detail)
    return "" if value is None else f"{value:.2f}"


def _said(met: bool, judge: bool) -> str:
    return ("met" if met else "MISSED") if judge else "not judged"


def _seconds(value: float) -> str:
    return f"{value:.3f} s" if value >= 1 else f"{value * 1000:.1f} ms"


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.lower().startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
