"""Compare a window with its reference: `python -m benchmarks.arms.drift frames|profiles|evidently FOLDER TOLD.json`.

FOLDER has reference.parquet and current.parquet; for profiles, the profiles and the cuts that `keep` wrote beside them.
"""

from __future__ import annotations

import json
import math
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.arms.memory import Memory
from ml_assets.monitoring.drift import DriftReport, drift_verdict, judge
from ml_assets.monitoring.profiles import Cut, Profile, cuts_of, profile

SIDES = ("reference", "current")
CUTS = "cuts"
AGAIN = 20
"""So often is the verdict from stored profiles repeated within one run: once is too short to be timed."""
WARM = 1_000
"""Rows that an arm judges beforehand, so that what it imports is not measured."""
Work = Callable[[], dict[str, Any]]


def keep(folder: Path) -> None:
    """Write both sides' profiles and their cuts beside the rows, as a lake keeps them: what is read is what is stored."""
    reference, current = (pl.read_parquet(folder / f"{side}.parquet") for side in SIDES)
    cuts = cuts_of(reference, reference.columns)
    for side, frame in zip(SIDES, (reference, current), strict=True):
        (folder / f"{side}.json").write_text(json.dumps(profile(frame, cuts=cuts).to_dict()))
    (folder / f"{CUTS}.json").write_text(json.dumps({name: asdict(cut) for name, cut in cuts.items()}))


def frames(folder: Path) -> tuple[Work, int]:
    """Ours from the rows, which are in memory."""
    reference, current = (pl.read_parquet(folder / f"{side}.parquet") for side in SIDES)
    drift_verdict(reference.head(WARM), current.head(WARM), features=reference.columns)
    return lambda: told(drift_verdict(reference, current, features=reference.columns)), 1


def profiles(folder: Path) -> tuple[Work, int]:
    """Ours from stored profiles, read from disk each time."""

    def work() -> dict[str, Any]:
        raw = {name: json.loads((folder / f"{name}.json").read_text()) for name in (*SIDES, CUTS)}
        cuts = {
            name: Cut(one["kind"], tuple(one["edges"]), tuple(one["categories"])) for name, one in raw[CUTS].items()
        }
        reference, current = (Profile.from_dict(raw[side]) for side in SIDES)
        return told(judge(reference, current, features=list(reference.columns), cuts=cuts))

    work()
    return work, AGAIN


def told(report: DriftReport) -> dict[str, Any]:
    """Return what Evidently has as well: a distance for each column, Jensen-Shannon's with natural logarithms as there; and
    which columns drifted.
    """
    values = {
        one.feature: one.wasserstein if one.kind == "numeric" else (one.js_distance or 0.0) * math.sqrt(math.log(2))
        for one in report.features
    }
    return {"values": values, "drifted": sorted(report.drifted)}


def evidently(folder: Path) -> tuple[Work, int]:
    """Evidently's preset on its own data sets of pandas frames, which are in memory."""
    warnings.simplefilter("ignore")  # Evidently's own, at import time
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    frames = {side: pl.read_parquet(folder / f"{side}.parquet") for side in SIDES}
    schema = frames["reference"].schema
    numbers = [name for name, dtype in schema.items() if dtype.is_numeric()]
    definition = DataDefinition(
        numerical_columns=numbers, categorical_columns=[name for name in schema if name not in numbers]
    )

    def prepared(side: str, rows: int) -> Dataset:
        return Dataset.from_pandas(frames[side].head(rows).to_pandas(), data_definition=definition)

    def judged(data: Mapping[str, Dataset]) -> dict[str, Any]:
        metrics = Report([DataDriftPreset()]).run(data["current"], data["reference"]).dict()["metrics"]
        drifts = [one for one in metrics if one["metric_name"].startswith("ValueDrift")]
        values = {one["config"]["column"]: float(one["value"]) for one in drifts}
        limits = {one["config"]["column"]: one["config"]["threshold"] for one in drifts}
        return {"values": values, "drifted": sorted(name for name, one in values.items() if one >= limits[name])}

    judged({side: prepared(side, WARM) for side in SIDES})
    whole = {side: prepared(side, frames[side].height) for side in SIDES}
    frames.clear()
    return lambda: judged(whole), 1


def main() -> None:
    """Prepare, compare, and tell the time, the processor time and the memory that was added."""
    kind, folder, path = sys.argv[1:]
    arms = {"frames": frames, "profiles": profiles, "evidently": evidently}
    work, times = arms[kind](Path(folder))
    memory, started, used = Memory(), time.perf_counter(), time.process_time()
    for _ in range(times):
        result = work()
    seconds, cpu = (time.perf_counter() - started) / times, (time.process_time() - used) / times
    details = {"cpu": cpu, "added_mb": memory.told()["added_mb"]}
    Path(path).write_text(json.dumps({"seconds": seconds, "result": result, "details": details}))


if __name__ == "__main__":
    main()
