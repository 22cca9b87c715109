"""Loading the definitions against `import dagster`: what every process of the code location pays before it works."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.processes import python
from benchmarks.runner import Arm, Bench, Comparison, Measured, Options

ROOT = Path(__file__).parents[1]
LOADED = "import ml_assets.definitions as d; print(len(list(d.defs().resolve_all_asset_specs())))"
IMPORTED = "import dagster; print(dagster.__version__)"
NOTES = """Whole processes: interpreter, imports, reading the YAML, building every asset.
The arms return different things, so there is no equality; ours must have found assets."""


@contextmanager
def bench(options: Options) -> Iterator[Bench]:
    """Yield the bench; `small` makes no difference."""
    yield Bench(
        name="definitions",
        title="Loading ml_assets.definitions against importing Dagster",
        target=1.3,
        ours=Arm("definitions", process(LOADED, options.folder / "definitions.log")),
        theirs=Arm("import dagster", process(IMPORTED, options.folder / "dagster.log")),
        compare=found_assets,
        rounds=9,
        notes=NOTES,
    )


def process(code: str, log: Path, *, root: Path = ROOT) -> Callable[[], Measured]:
    """Return an arm's run: `python -c code` in the project at `root`; its result is what it printed."""

    def run() -> Measured:
        done = python(["-c", code], root=root, log=log)
        return Measured(done.output.strip(), done.seconds)

    return run


def found_assets(ours: str, theirs: str) -> Comparison:
    """Refuse a time that was reached by loading nothing."""
    if not ours.isdecimal() or int(ours) == 0:
        return Comparison(False, f"the definitions have no assets: the process printed {ours!r}")
    return Comparison(None, f"not comparable: {ours} assets were loaded; the other arm imported Dagster {theirs}")
