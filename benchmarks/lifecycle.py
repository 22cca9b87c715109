"""The lifecycle through Dagster against the plain script: fresh processes, fresh data, the same files and time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.processes import python
from benchmarks.project import NINE_WEEKS, YEAR, Extent, delivered, fresh
from benchmarks.runner import Arm, Bench, Comparison, Measured, Options

NOTES = """Each run is a fresh process in a fresh copy of the project with the same delivered files and the same now; job
`everything` over all days, with the one problem that the script does, on the instance that dagster.yaml describes,
against benchmarks/plain_lifecycle.py.
The time begins after `import dagster` and `import polars`, `import polars`, respectively, and ends with the work: loading
the definitions and opening the instance count. `process` is all of it, from start to end, with the imports; `in_parts`
the time inside steps (or the script's parts, the seconds of each are in the arm's JSON file below data/bench/lifecycle).
Equal means: the same content of every lake table and partition, the same ledger, the same champion and test metrics."""
MOST_NAMED = 5


@contextmanager
def bench(options: Options) -> Iterator[Bench]:
    """Have the days delivered (kept for the next call) and yield the bench."""
    extent = NINE_WEEKS if options.small else YEAR
    landing = delivered(options.folder, extent)

    def arm(module: str) -> Callable[[], Measured]:
        return lambda: lifecycle(module, options.folder / "lifecycle", extent, landing)

    yield Bench(
        name="lifecycle",
        title=f"The whole lifecycle on {len(extent.days)} days",
        target=1.10,
        ours=Arm("Dagster", arm("benchmarks.arms.through_dagster")),
        theirs=Arm("plain script", arm("benchmarks.arms.through_script")),
        compare=same_outcome,
        rounds=1 if options.small else 3,
        warm_up=False,
        notes=NOTES,
    )


def lifecycle(module: str, folder: Path, extent: Extent, landing: Path) -> Measured:
    """Run one arm's module in a fresh copy of the project, always in the same folder: paths must not differ."""
    project = fresh(folder / "project", extent, landing=landing)
    told = folder / f"{module.rpartition('.')[2]}.json"
    arguments = ["-m", module, extent.days[0], extent.days[-1], str(told)]
    done = python(arguments, root=project, log=told.with_suffix(".log"))
    found = json.loads(told.read_text())
    return Measured(found["outcome"], found["seconds"], {"process": done.seconds, **found["details"]})


def same_outcome(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Comparison:
    """Compare everything that an arm told, by name."""
    names = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    if names:
        named = "; ".join(f"{name}: {ours.get(name)} and {theirs.get(name)}" for name in names[:MOST_NAMED])
        return Comparison(False, f"{len(names)} of {len({**ours, **theirs})} outcomes differ: {named}")
    return Comparison(True, f"{len(ours)} outcomes are equal: content of lake partitions, ledger, champion")
