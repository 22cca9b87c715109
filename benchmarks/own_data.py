"""One's own file, from `ml-assets new` to the evaluation report, against the least script that a person would write."""

from __future__ import annotations

import hashlib
import json
import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from benchmarks.process_tree import TreePeak
from benchmarks.processes import python
from benchmarks.project import ROOT, copied, kept
from benchmarks.runner import Arm, Bench, Comparison, Limit, Measured, Options

PROBLEM, TARGET, TIME, KEY = "orders", "returned", "day", "order_id"
ROWS, SMALL_ROWS, SEED = 100_000, 3_000, 11
DAYS, FIRST = 730, date(2022, 1, 1)
NUMBERS = 18
CLASSES: Mapping[str, int] = {
    "channel": 3,
    "region": 5,
    "size": 8,
    "brand": 12,
    "category": 20,
    "courier": 50,
    "shop": 200,
}
EVERY_NTH_NULL = {"x05": 7, "x11": 3, "brand": 10, "shop": 25}
SHARE = 0.3  # of the rows that are positive
SECONDS, GIGABYTES = 180.0, 2.0
NOTES = """Ours is `ml-assets new` and `ml-assets run`, two fresh processes in a fresh copy of the project with nothing edited:
every candidate with its search, the report, and all that is kept of it. Theirs is one process: read_csv, XGBoost as it comes
with early stopping, ROC-AUC. Their ratio says what that buys; judged are our seconds and the highest resident memory of our
processes together. Equal means: the same test rows. `error` is 1 - ROC-AUC on them."""


@contextmanager
def bench(options: Options) -> Iterator[Bench]:
    """Make the table (kept for the next call) and yield the bench."""
    folder = options.folder / ("own_data-small" if options.small else "own_data")
    data = table(folder / "table", SMALL_ROWS if options.small else ROWS)
    yield Bench(
        name="own_data",
        title=f"From a CSV file of {SMALL_ROWS if options.small else ROWS:,} rows × {width()} columns to a report",
        target=SECONDS,
        judged="seconds",
        limits=(Limit("peak_gb", GIGABYTES, "value"), Limit("error", 1.0)),
        ours=Arm("ml-assets new and run", lambda: two_commands(folder, data, search=not options.small)),
        theirs=Arm("plain script", lambda: plain_script(folder, data)),
        compare=same_test_rows,
        rounds=1 if options.small else 3,
        warm_up=False,
        notes=NOTES,
    )


# -- the table ---------------------------------------------------------------------------------------------------------


def width() -> int:
    """Return the number of columns."""
    return len((KEY, TIME, "express", "amount", TARGET)) + NUMBERS + len(CLASSES)


def table(folder: Path, rows: int) -> Path:
    """Return the CSV file of the table, made once."""

    def make(into: Path) -> None:
        into.mkdir(parents=True)
        frame(rows).write_csv(into / "orders.csv")

    return kept(folder, make, state=f"{rows} {hashlib.sha256(Path(__file__).read_bytes()).hexdigest()}") / "orders.csv"


def frame(rows: int) -> Any:
    """Return a seeded frame in order of time: numbers, categories, a boolean, nulls, and a target with chance in it.

    The target hangs on numbers alone and together, on what categories are, and on the boolean; nine numbers are noise.
    """
    import numpy as np
    import polars as pl

    random = np.random.default_rng(SEED)
    days = np.sort(random.integers(0, DAYS, rows))
    x, express = random.normal(size=(rows, NUMBERS)).round(4), random.random(rows) < SHARE
    amount = np.exp(random.normal(3, 1, rows)).round(2)
    codes = {name: random.integers(0, count, rows) for name, count in CLASSES.items()}
    score = _effect(x, express, amount) + sum(
        random.normal(0, 0.4, CLASSES[name])[code] for name, code in codes.items()
    )
    score += random.logistic(0, 1, rows)
    found = pl.DataFrame(
        {
            KEY: np.arange(rows) + 1,
            TIME: [FIRST + timedelta(days=int(count)) for count in days],
            **{f"x{number:02}": x[:, number] for number in range(NUMBERS)},
            "amount": amount,
            **{name: [f"{name} {value}" for value in code] for name, code in codes.items()},
            "express": express,
            TARGET: (score > np.quantile(score, 1 - SHARE)).astype(int),
        }
    )
    return found.with_columns(_nulls(random, rows))


def _effect(x: Any, express: Any, amount: Any) -> Any:
    import numpy as np

    together = 0.6 * x[:, 2] * x[:, 3] + 0.5 * express * x[:, 5]
    return x[:, 0] - 0.7 * x[:, 1] + together + 0.6 * np.sin(2 * x[:, 4]) + 0.4 * np.abs(x[:, 6]) + 0.3 * np.log(amount)


def _nulls(random: Any, rows: int) -> Iterator[Any]:
    """Yield the columns that lose values, one in so many at random."""
    import polars as pl

    for name, every in EVERY_NTH_NULL.items():
        yield pl.when(pl.Series(random.integers(0, every, rows) > 0)).then(pl.col(name)).alias(name)


# -- the arms ----------------------------------------------------------------------------------------------------------


def two_commands(folder: Path, data: Path, *, search: bool = True) -> Measured:
    """Run both commands in a fresh copy of the project; without `search` each candidate is taken as it comes.

    Details are the seconds of each, GB, seconds of processors (what a busy machine does not change much), and 1 - ROC-AUC.
    """
    before, project = _processors(), copied(folder / "project")
    asked = ["new", PROBLEM, "--data", str(data), "--time", TIME, "--target", TARGET]
    new, of_new = _command(project, folder / "new.log", *asked)
    if not search:
        declaration = project / "ml_assets" / "defs" / PROBLEM / "defs.yaml"
        declaration.write_text(f"{declaration.read_text().rstrip()}\n  search: {{trials: 0}}\n")
    run, of_run = _command(project, folder / "run.log", "run", PROBLEM)
    auc, rows = outcome(project)
    told = {"new": new, "run": run, "cpu": _processors() - before, "peak_gb": max(of_new, of_run), "error": 1 - auc}
    return Measured(rows, new + run, told)


def _command(project: Path, log: Path, *arguments: str) -> tuple[float, float]:
    """Run `ml-assets`, and return the seconds and the highest resident memory in GB."""
    with TreePeak() as memory:
        done = python(["-m", "ml_assets.cli", *arguments], root=project, log=log)
    log.with_suffix(".out").write_text(done.output)
    return done.seconds, memory.gigabytes


def outcome(project: Path) -> tuple[float, list[int]]:
    """Return the challenger's ROC-AUC on the test split, and the keys of its rows in order."""
    from ml_assets import keys
    from ml_assets.development.experiment import Experiment
    from ml_assets.lake import Lake

    lake, training_set = Lake(str(project / "data" / "lake")), keys.problem(PROBLEM, "training_set")
    manifest = lake.manifest(training_set)
    assert manifest is not None  # the run has succeeded
    experiment = Experiment(project / "data" / "models", PROBLEM, manifest.version)
    auc = json.loads(experiment.read("evaluation_report")["report"])["metrics"]["roc_auc"]
    rows = lake.read(training_set)
    return auc, sorted(map(int, rows.filter(rows["split"] == "test")[KEY]))


def plain_script(folder: Path, data: Path) -> Measured:
    """Run the script; details are GB, seconds of processors, and 1 - ROC-AUC."""
    before, told = _processors(), folder / "script.json"
    arguments = ["-m", "benchmarks.arms.own_script", str(data), TARGET, TIME, KEY, str(told)]
    with TreePeak() as memory:
        done = python(arguments, root=ROOT, log=folder / "script.log")
    found = json.loads(told.read_text())
    return Measured(
        found["test"],
        done.seconds,
        {"cpu": _processors() - before, "peak_gb": memory.gigabytes, "error": 1 - found["auc"]},
    )


def _processors() -> float:
    """Return the seconds that the processes which have ended have had of all processors."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def same_test_rows(ours: list[int], theirs: list[int]) -> Comparison:
    """Compare the keys of the rows that the errors are of."""
    if ours != theirs:
        return Comparison(
            False, f"{len(set(ours) ^ set(theirs)):,} of {len(ours):,} and {len(theirs):,} test rows differ"
        )
    return Comparison(True, f"errors are of the same {len(ours):,} test rows")
