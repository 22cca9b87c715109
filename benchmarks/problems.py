"""Loading the definitions of a project that has many problems, against the project as it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.definitions import LOADED, process
from benchmarks.own_data import TARGET, TIME, frame
from benchmarks.project import copied
from benchmarks.runner import Arm, Bench, Comparison, Options

MORE, ROWS = 50, 200
LEAST_ASSETS = 10  # that each must have brought
SECONDS = 5.0
WRITTEN = "problem_00"  # by `ml-assets new`: the name that is replaced; nothing else in what is written holds this word
NOW = datetime(2024, 2, 1, tzinfo=UTC)
FOLDERS = ("ml_assets/defs", "feature_repo")
NOTES = f"""Whole processes: interpreter, imports, reading the YAML, building every asset. Ours is a copy of the project with
{MORE} more problems, each a source of 30 columns, a feature view and a problem, as `ml-assets new` writes them for one table
and with their names replaced; theirs is the project as it is. Equal means nothing; each problem must have brought assets."""


@contextmanager
def bench(options: Options) -> Iterator[Bench]:
    """Make the copy and yield the bench; `small` has five more problems."""
    more = 5 if options.small else MORE
    folder = options.folder / "problems"
    project = multiplied(copied(folder / "project"), more, table=folder / f"{WRITTEN}.csv")
    yield Bench(
        name="problems",
        title=f"Loading ml_assets.definitions with {more} more problems",
        target=SECONDS,
        judged="seconds",
        ours=Arm(f"{more} more", process(LOADED, folder / "many.log", root=project)),
        theirs=Arm("as it is", process(LOADED, folder / "as_it_is.log")),
        compare=lambda ours, theirs: more_assets(ours, theirs, more),
        rounds=5,
        notes=NOTES,
    )


def multiplied(root: Path, more: int, *, table: Path) -> Path:
    """Declare `more` problems (up to 100) in the copy of the project at `root`, over a table that is written; return `root`."""
    from ml_assets.scaffold.command import new

    table.parent.mkdir(parents=True, exist_ok=True)
    frame(ROWS).write_csv(table)
    new(root, WRITTEN, data=str(table), time=TIME, target=TARGET, now=NOW)
    for number in range(1, more):
        renamed(root, f"problem_{number:02}")
    return root


def renamed(root: Path, name: str) -> None:
    """Write what `new` wrote once more with another name; what has landed is not needed to load definitions."""
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            below = str(path.relative_to(root))
            if WRITTEN in below and path.suffix in (".py", ".yaml"):
                target = root / below.replace(WRITTEN, name)
                target.parent.mkdir(exist_ok=True)
                target.write_text(path.read_text().replace(WRITTEN, name))


def more_assets(ours: str, theirs: str, more: int) -> Comparison:
    """Refuse a time that was reached by loading nothing."""
    if not (ours.isdecimal() and theirs.isdecimal()) or int(ours) - int(theirs) < more * LEAST_ASSETS:
        return Comparison(False, f"{more} more problems have not brought their assets: {ours!r} against {theirs!r}")
    return Comparison(None, f"not comparable: {ours} assets were loaded, {theirs} without the {more} more problems")
