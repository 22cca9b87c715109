"""Reading online: our reader against Feast's own SQLite store, on the same values of the flight views."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.feature_store import service_views
from benchmarks.plain_lifecycle import Script, labelled_rows
from benchmarks.processes import python
from benchmarks.project import NINE_WEEKS, TEN_MONTHS
from benchmarks.repository import OURS, PACKED, SQLITE, repository
from benchmarks.runner import Arm, Bench, Comparison, Limit, Measured, Options
from benchmarks.training_set import filled
from ml_assets.features.retrieval import ViewSchema

ROOT = Path(__file__).parents[1]
ARM = "benchmarks.arms.online"
BATCH, BATCHES, SINGLES = 50, 500, 2_000
SMALL_BATCHES, SMALL_SINGLES = 5, 20
SEED = 7
NOTES = f"""Each arm is a process of its own, over a SQLite file that it has filled itself from the same lake (not timed): ours with
OnlineReader.read, theirs with Feast's get_online_features(...).to_dict() on online_store.type sqlite. Questions are batches
of {BATCH} observations and single ones, asked one after the other by one client; every answer is compared. The ratio is
that of the medians (p50) of a batch. Values never grow old here: Feast's store would not honour a time to live."""


@contextmanager
def bench(options: Options) -> Iterator[Bench]:
    """Bring the flight views online in both stores and yield the bench."""
    script = filled(options.folder, NINE_WEEKS if options.small else TEN_MONTHS)
    folder = options.folder / ("online-small" if options.small else "online")
    views = ageless(script)
    questions = folder / "questions.json"
    counts = (SMALL_BATCHES, SMALL_SINGLES) if options.small else (BATCHES, SINGLES)
    asked = asked_keys(script, [*dict.fromkeys(key for schema in views.values() for key in schema.keys)], *counts)
    ours = repository(folder / "ours", views, offline=OURS, online=PACKED)
    theirs = repository(folder / "feast", views, offline=OURS, online=SQLITE)
    questions.write_text(json.dumps(asked))
    for kind, repo in (("ours", ours), ("feast", theirs)):
        python(
            ["-m", ARM, kind, "fill", str(repo), script.places.now.isoformat()], root=ROOT, log=folder / f"{kind}.log"
        )
    yield Bench(
        name="online",
        title=f"Reading {len(views)} feature views for {BATCH} keys, p50",
        target=0.2,
        limits=[Limit("batch_p99_ms", 0.2), Limit("single_p99_ms", 2.0, "value")],
        ours=Arm("OnlineReader", reading("ours", ours, questions, script)),
        theirs=Arm("Feast's SQLite store", reading("feast", theirs, questions, script)),
        compare=same_answers,
        rounds=1 if options.small else 3,
        warm_up=False,
        notes=NOTES,
    )


def ageless(script: Script) -> Mapping[Path, ViewSchema]:
    """Return the problem's views by their lake tables, without times to live."""
    tables = Path(script.places.lake.url) / "features"
    return {tables / name: dataclasses.replace(schema, ttl=None) for name, schema in service_views(script).items()}


def asked_keys(script: Script, keys: Sequence[str], batches: int, singles: int) -> Mapping[str, list[dict[str, Any]]]:
    """Return the questions: seeded samples of observations, as key columns."""
    known = labelled_rows(script).labelled.select(keys).drop_nulls()

    def sample(rows: int, count: int) -> list[dict[str, Any]]:
        drawn = known.sample(rows * count, with_replacement=True, shuffle=True, seed=SEED + rows)
        return [part.to_dict(as_series=False) for part in drawn.iter_slices(rows)]

    return {"batch": sample(BATCH, batches), "single": sample(1, singles)}


def reading(kind: str, repo: Path, questions: Path, script: Script) -> Callable[[], Measured]:
    """Return an arm's run: all questions in a fresh process; the result is the file of answers."""
    told = repo.parent / f"{kind}.json"

    def run() -> Measured:
        arguments = ["-m", ARM, kind, "read", str(repo), script.places.now.isoformat(), str(questions), str(told)]
        python(arguments, root=ROOT, log=told.with_suffix(".log"))
        found = json.loads(told.read_text())
        return Measured(Path(found["answers"]), found["seconds"], found["details"])

    return run


def same_answers(ours: Path, theirs: Path) -> Comparison:
    """Compare every answer: the same columns with the same values."""
    answers, others = (json.loads(path.read_text()) for path in (ours, theirs))
    pairs = list(zip(answers, others, strict=True))
    unequal = [f"{number}: {difference(*pair)}" for number, pair in enumerate(pairs) if pair[0] != pair[1]]
    if unequal:
        return Comparison(False, f"{len(unequal)} of {len(pairs)} answers differ, first answer {unequal[0]}")
    values = [value for answer in answers for column in answer.values() for value in column]
    there = sum(value is not None for value in values) / len(values)
    return Comparison(True, f"{len(pairs)} answers are equal, {there:.0%} of their values are no null")


def difference(ours: Mapping[str, list[Any]], theirs: Mapping[str, list[Any]]) -> str:
    """Name the columns in which two answers differ."""
    names = sorted(name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name))
    return f"columns {names}, for example {names[0]}: {ours.get(names[0])} and {theirs.get(names[0])}"
