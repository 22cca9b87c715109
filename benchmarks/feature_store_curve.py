"""How the offline store and Feast's DuckDB store grow with the length of histories and with the entity rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.joins import ADDED, Join, bare_join, joined, same_rows
from benchmarks.processes import BenchError, CutOffError
from benchmarks.repository import DUCKDB, OURS, one_row, repository
from benchmarks.runner import Arm, Bench, Comparison, Measured, Options
from benchmarks.synthetic import History

ENTITIES = 300
PER_ENTITY, ROWS = (100, 1_000, 10_000), (20_000, 300_000, 3_000_000)
SMALL_PER_ENTITY, SMALL_ROWS = (5, 20), (100,)
SECONDS, MEMORY_GB = 300.0, 16.0
TITLES = ("rows per entity", "entity rows", "bare join_asof", "ours", "Feast's DuckDB", "times faster")
NOTES = f"""One view with four features of {ENTITIES} entities, seeded. Each arm of each cell is a process of its own, as in
`feature_store`, and may take {SECONDS:g} s and {MEMORY_GB:g} GB of address space. DuckDB is told that this is all the memory there is,
and may spill as much. Where Feast's arm was cut off, all cells that are larger in both directions are not run. What is
judged are the sums of the seconds over the cells that both arms finished; memory is what the join adds. In every cell
our result is compared with a bare join_asof's, and with Feast's where there is one."""


@dataclass(frozen=True)
class Cell:
    """One size: rows of history per entity, and entity rows."""

    per_entity: int
    rows: int

    def __str__(self) -> str:
        """Return the name under which the cell's numbers are told."""
        return f"{self.per_entity:,} × {self.rows:,}"

    def within(self, other: Cell) -> bool:
        """Tell whether the other is at least as large in both directions."""
        return self.per_entity <= other.per_entity and self.rows <= other.rows


@dataclass(frozen=True)
class Found:
    """A cell as measured: `theirs` is None when that arm was cut off or not run, for the reason in `without`."""

    cell: Cell
    ours: Measured
    bare: Measured
    theirs: Measured | None
    without: str = ""

    def differences(self) -> list[str]:
        """Return where our result differs from the bare join's and from Feast's."""
        others = [self.bare.result, *([self.theirs.result] if self.theirs else [])]
        compared = [same_rows(self.ours.result, other) for other in others]
        return [f"{self.cell}: {one.reason}" for one in compared if not one.equal]

    def texts(self) -> tuple[str, ...]:
        """Return the cell's line of the table."""
        told = [_told(run) for run in (self.bare, self.ours)]
        theirs = _told(self.theirs) if self.theirs else self.without
        faster = f"{self.theirs.seconds / self.ours.seconds:.0f}" if self.theirs else ""
        return f"{self.cell.per_entity:,}", f"{self.cell.rows:,}", *told, theirs, faster


Run = Callable[[Cell], Measured]


@dataclass
class Curve:
    """All cells, their three arms in turn."""

    cells: Sequence[Cell]
    ours_in: Run
    theirs_in: Run
    bare_in: Run
    found: Sequence[Found] = ()
    differences: Sequence[str] = ()

    def ours(self) -> Measured:
        """Measure every cell and return our side; the result is the number of cells."""
        self.found, differences = [], []
        for cell in self.cells:
            one = self._measure(cell)
            differences += one.differences()
            self.found = [*self.found, one]
            print("feature_store_curve:", *one.texts(), sep="  ", flush=True)  # the next cell may take minutes
        self.differences = differences
        if not self.finished:
            raise BenchError(f"Feast's arm finished no cell: {[one.without for one in self.found]}")
        lines = table([TITLES, *(one.texts() for one in self.found)])
        return _side({one.cell: one.ours for one in self.found}, [one.ours for one in self.finished], lines)

    def theirs(self) -> Measured:
        """Return the other side of what `ours` measured; the result are the differences."""
        runs = {one.cell: one.theirs for one in self.found if one.theirs}
        side = _side(runs, list(runs.values()))
        return Measured(self.differences, side.seconds, side.details)

    @property
    def finished(self) -> list[Found]:
        """Return the cells that both arms finished."""
        return [one for one in self.found if one.theirs]

    def _measure(self, cell: Cell) -> Found:
        ours, bare = self.ours_in(cell), self.bare_in(cell)
        smaller = next((one.cell for one in self.found if not one.theirs and one.cell.within(cell)), None)
        if smaller:
            return Found(cell, ours, bare, None, f"skipped, as {smaller}")
        try:
            return Found(cell, ours, bare, self.theirs_in(cell))
        except CutOffError as error:
            return Found(cell, ours, bare, None, f"cut off: {error}")


@contextmanager
def bench(options: Options) -> Iterator[Bench]:
    """Make the tables (kept for the next call) and yield the bench."""
    folder = options.folder / "feature_store_curve"
    sizes = (SMALL_PER_ENTITY, SMALL_ROWS) if options.small else (PER_ENTITY, ROWS)
    cells = [Cell(per_entity, rows) for per_entity in sizes[0] for rows in sizes[1]]
    tables = Tables(folder)
    curve = Curve(cells, tables.through_feast("ours", OURS), tables.through_feast("duckdb", DUCKDB), tables.bare)
    yield Bench(
        name="feature_store_curve",
        title=f"Joins of {len(cells)} sizes through Feast",
        target=0.01,
        ours=Arm("Polars store", curve.ours),
        theirs=Arm("Feast's DuckDB store", curve.theirs),
        compare=all_equal,
        rounds=1,
        warm_up=False,
        notes=NOTES,
    )


def all_equal(cells: int, differences: Sequence[str]) -> Comparison:
    """Say whether all cells' results were equal."""
    if differences:
        return Comparison(False, f"results differ: {'; '.join(differences)}")
    return Comparison(True, f"results of {cells} cells are equal")


@dataclass(frozen=True)
class Tables:
    """The cells' tables and Feast repositories below a folder, and joins over them."""

    folder: Path

    def through_feast(self, name: str, offline: Mapping[str, Any]) -> Run:
        """Return the arm of an offline store, with a repository made for each length of histories."""
        warm = one_row(self.folder / name / "warm", offline=offline)
        repos: dict[int, Path] = {}

        def run(cell: Cell) -> Measured:
            history = History(ENTITIES, cell.per_entity)
            if cell.per_entity not in repos:
                views = {history.file(self._rows): history.schema}
                repos[cell.per_entity] = repository(
                    self.folder / name / f"repo-{cell.per_entity}", views, offline=offline
                )
            asking = history.asking(self._rows, cell.rows)
            join = Join(str(repos[cell.per_entity]), str(asking), (str(warm[0]), str(warm[1])), memory_gb=MEMORY_GB)
            return joined(join, self.folder / name / "told.json", at_most=SECONDS)

        return run

    def bare(self, cell: Cell) -> Measured:
        """Join without any store."""
        history = History(ENTITIES, cell.per_entity)
        join = bare_join(history, history.file(self._rows), history.asking(self._rows, cell.rows))
        return joined(join, self.folder / "bare" / "told.json")

    @cached_property
    def _rows(self) -> Path:
        return self.folder / "rows"


def table(lines: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines with their columns aligned."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(map(str.rjust, line, widths)) for line in lines]


def _side(runs: Mapping[Cell, Measured], summed: Sequence[Measured], remarks: Sequence[str] = ()) -> Measured:
    details: dict[str, float] = {}
    for cell, run in runs.items():
        details |= {f"{cell}: seconds": run.seconds, f"{cell}: {ADDED}": run.details[ADDED]}
    return Measured(len(runs), sum(run.seconds for run in summed), details, remarks)


def _told(run: Measured) -> str:
    return f"{run.seconds:.2f} s, {run.details[ADDED]:,.0f} MB"
