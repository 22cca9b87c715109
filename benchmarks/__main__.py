"""Measure and keep the results.

python -m benchmarks                      all benches, kept in benchmarks/results.json
python -m benchmarks --only training_set  one, the others' results stay
python -m benchmarks --small              a look with little data: nothing is judged, nothing committed is touched
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from benchmarks import (
    backfill,
    batch_scoring,
    definitions,
    drift,
    feature_store,
    feature_store_curve,
    ingest,
    ingest_memory,
    larger_than_memory,
    lifecycle,
    online,
    online_increment,
    own_data,
    problems,
    profiling,
    quality,
    quality_pass,
    results,
    serving,
    step_overhead,
    training_set,
)
from benchmarks.processes import BenchError
from benchmarks.runner import Bench, Options, Outcome, measure
from ml_assets.cli import TERMINATED
from ml_assets.resources.process import prepare

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results.json"
BENCHES: Mapping[str, Callable[[Options], AbstractContextManager[Bench]]] = {
    "definitions": definitions.bench,
    "problems": problems.bench,
    "training_set": training_set.bench,
    "feature_store": feature_store.bench,
    "feature_store_curve": feature_store_curve.bench,
    "larger_than_memory": larger_than_memory.bench,
    "online": online.bench,
    "online_increment": online_increment.bench,
    "quality": quality.bench,
    "step_overhead": step_overhead.bench,
    "lifecycle": lifecycle.bench,
    "own_data": own_data.bench,
    "ingest": ingest.bench,
    "ingest_memory": ingest_memory.bench,
    "backfill": backfill.bench,
    "quality_pass": quality_pass.bench,
    "profiling": profiling.bench,
    "batch_scoring": batch_scoring.bench,
    "drift": drift.frames,
    "drift_profiles": drift.profiles,
    "drift_report": drift.report,
    "serving_one_row": serving.handler,
    "serving_forest": serving.forest,
    "serving_xgboost_100": serving.xgboost,
    "serving_mlflow": serving.mlflow,
    "serving_load": serving.load,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for; return 1 when results differ or, on full data, a target is missed."""
    asked = _asked(arguments)
    _own_environment()
    folder = (asked.folder or ROOT / "data" / "bench").resolve()
    options = Options(folder, small=asked.small)
    kept = asked.results or (folder / "results-small.json" if asked.small else RESULTS)
    machine, versions = results.machine(), results.versions()
    outcomes = []
    for name in [asked.only] if asked.only else BENCHES:
        outcomes.append(run(name, options, asked.rounds))
        results.merge(kept, [results.entry(outcomes[-1], machine=machine, versions=versions)])
    print(report(outcomes, machine, versions, small=asked.small))
    return int(any(outcome.differs or not (asked.small or outcome.met) for outcome in outcomes))


def run(name: str, options: Options, rounds: int | None) -> Outcome:
    """Set up one bench and measure it."""
    with BENCHES[name](options) as built:
        # On little data nothing is judged, so nothing needs to be warm.
        bench = replace(built, warm_up=built.warm_up and not options.small)
        return measure(bench, rounds=rounds, tell=lambda text: print(text, flush=True))


def report(
    outcomes: Sequence[Outcome], machine: Mapping[str, object], versions: Mapping[str, str], *, small: bool
) -> str:
    """Return everything that is printed in the end."""
    about = [" · ".join(f"{name} {value}" for name, value in told.items()) for told in (machine, versions)]
    accounts = [results.account(outcome) for outcome in outcomes]
    return "\n".join(["", *accounts, "", *about, "", results.table(outcomes, judge=not small)])


def _asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("benchmarks", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", choices=[*BENCHES], help="measure one bench")
    parser.add_argument("--rounds", type=_count, help="rounds of each bench, instead of its own number")
    parser.add_argument("--small", action="store_true", help="little data, targets are not judged")
    parser.add_argument("--results", type=Path, help="the file to keep results in")
    parser.add_argument("--folder", type=Path, help="where benches work and cache, default data/bench")
    return parser.parse_args(arguments)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of rounds; give at least 1")
    return int(text)


def _own_environment() -> None:
    """Nothing of a person's own instance or lake is measured or touched."""
    for name in [name for name in os.environ if name.startswith(("ML_ASSETS_", "DAGSTER_"))]:
        del os.environ[name]
    os.environ |= {"ML_ASSETS_WEATHER_API": "none", "ML_ASSETS_REFERENCE_DB": "none"}  # files only
    prepare(os.environ, ROOT)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # so that servers are ended too
    try:
        raise SystemExit(main())
    except BenchError as error:
        raise SystemExit(str(error)) from error
