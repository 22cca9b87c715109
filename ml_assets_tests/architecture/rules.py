"""The rules of the rooms (DESIGN), as functions from a source tree to its violations.

Each rule takes the modules of a tree and returns messages like `collection/collect.py:12: imports dagster; …`.
The trees are parsed, never imported, so that a rule can be tested on a planted violation.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from statistics import median, quantiles

PACKAGE = "ml_assets"
GROUND = ("lake", "quality", "tasks", "keys")
STAGES = (
    "collection",
    "preparation",
    "features",
    "development",
    "evaluation",
    "packaging",
    "versions",
    "deployment",
    "monitoring",
)
EXAMPLE = ("defs.flights", "replay")
KNOW_DAGSTER = ("definitions", "problem", "source", "keys", "resources", "defs", "check.dagster_side")
HEAVY = ("feast", "mlflow", "evidently", "great_expectations", "xgboost", "sklearn", "shap", "optuna", "dlt")
UNSAFE = ("pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve")
CLOCKS = re.compile(
    r"(^|\.)(datetime\.(now|utcnow|today)|date\.today|time\.(time|time_ns)|Timestamp\.(now|utcnow|today))$"
)
FLIGHTS_WORDS = re.compile(
    r"(?<![a-z])(flights?|nycflights\w*|tailnum|carriers?|airlines?|airports?)(?![a-z])", re.IGNORECASE
)


@dataclass(frozen=True)
class Import:
    """One import statement's target: `ml_assets.lake.store`, at a line, for type checkers only or for real."""

    target: str
    line: int
    typing_only: bool


@dataclass(frozen=True)
class Module:
    """A parsed file. `name` is dotted and below the package: `collection.assets`; the package itself is ``."""

    name: str
    path: str
    tree: ast.Module

    @property
    def room(self) -> str:
        return self.name.partition(".")[0]

    @property
    def is_assets(self) -> bool:
        return self.name.endswith((".assets", "_assets"))

    @cached_property
    def imports(self) -> list[Import]:
        return list(_imports(self.tree, typing_only=False))

    def within(self, *places: str) -> bool:
        """Tell whether the module is one of the places, or below one."""
        return any(self.name == place or self.name.startswith(f"{place}.") for place in places)

    def at(self, line: int, message: str) -> str:
        return f"{self.path}:{line}: {message}"


def modules(root: Path) -> list[Module]:
    """Parse every Python file below `root`, the folder of the package."""
    found = []
    for path in sorted(root.rglob("*.py")):
        parts = list(path.relative_to(root).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        found.append(Module(".".join(parts), str(path.relative_to(root)), ast.parse(path.read_text(), str(path))))
    return found


def _imports(node: ast.AST, *, typing_only: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, child.lineno, typing_only)
        elif isinstance(child, ast.ImportFrom) and child.module:
            for alias in child.names:
                yield Import(f"{child.module}.{alias.name}", child.lineno, typing_only)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for statement in child.body:
                yield from _imports(ast.Module([statement], []), typing_only=True)
            yield from _imports(ast.Module(child.orelse, []), typing_only=typing_only)
        else:
            yield from _imports(child, typing_only=typing_only)


def _top(target: str) -> str:
    return target.partition(".")[0]


def _local(target: str) -> str | None:
    """Return what an import means below the package, or None when it is from outside."""
    if target == PACKAGE:
        return ""
    return target.removeprefix(f"{PACKAGE}.") if target.startswith(f"{PACKAGE}.") else None


def dagster_stays_in_assets(tree: Sequence[Module]) -> list[str]:
    """Only `assets.py`, `<part>_assets.py`, the entry, declarations, `keys.py`, `resources/`, `defs/` and one of `check/` know Dagster."""
    return [
        module.at(
            found.line,
            f"imports {found.target}; only assets.py, *_assets.py and {', '.join(KNOW_DAGSTER)} may know Dagster",
        )
        for module in tree
        if module.name and not module.is_assets and not module.within(*KNOW_DAGSTER)
        for found in module.imports
        if _top(found.target).startswith("dagster")
    ]


def _rank(room: str) -> int | None:
    """Return the height of a room: an arrow must not point to a higher one. None: no part of the order."""
    if room in GROUND:
        return 0
    if room in STAGES:
        return 1 + STAGES.index(room)
    return {
        "source": 20,
        "problem": 20,
        "replay": 20,
        "defs": 30,
        "definitions": 40,
        "check": 45,
        "scaffold": 45,
        "cli": 50,
    }.get(room)


def arrows_run_one_way(tree: Sequence[Module]) -> list[str]:
    """definitions → problem and source → stages in their order → ground."""
    return [
        module.at(found.line, f"imports {found.target}; {module.room} must not know {room}")
        for module in tree
        for found, room in _arrows(module)
        if not _may_import(module, found, room)
    ]


def _arrows(module: Module) -> Iterator[tuple[Import, str]]:
    for found in module.imports:
        local = _local(found.target)
        if local and module.name and not found.typing_only:
            yield found, local.partition(".")[0]


def _may_import(module: Module, found: Import, room: str) -> bool:
    """`resources` is the boundary: assets and everything above hold it; it reaches the stages' plain modules."""
    if room == module.room:
        return True
    if room == "resources":
        return module.is_assets or (_rank(module.room) or 0) >= 20
    if module.room == "resources":
        return room in (*GROUND, *STAGES) and not _of_assets(found.target)
    if _of_assets(found.target) and module.room in STAGES and not module.is_assets:
        return False
    if module.room == "replay":
        return room in (*GROUND, "collection")
    own, other = _rank(module.room), _rank(room)
    return own is not None and other is not None and other < own


def _of_assets(target: str) -> bool:
    """Tell whether an import is of an asset module, or of something in one."""
    return any(part == "assets" or part.endswith("_assets") for part in target.split(".")[1:])


def no_circles(tree: Sequence[Module]) -> list[str]:
    """No module imports itself through others, whether at its top or inside functions."""
    names = {module.name for module in tree}
    arrows = {module.name: _targets(module, names) for module in tree}
    return [f"circle: {' → '.join(circle)}" for circle in _circles(arrows)]


def _targets(module: Module, names: set[str]) -> list[str]:
    found = []
    for item in module.imports:
        local = _local(item.target)
        while local and local not in names:
            local = local.rpartition(".")[0]
        if local and local != module.name and not item.typing_only:
            found.append(local)
    return sorted(set(found))


def _circles(arrows: dict[str, list[str]]) -> Iterator[list[str]]:
    done: set[str] = set()

    def walk(name: str, way: list[str]) -> Iterator[list[str]]:
        if name in way:
            yield [*way[way.index(name) :], name]
        elif name not in done:
            for target in arrows.get(name, []):
                yield from walk(target, [*way, name])
            done.add(name)

    for name in arrows:
        yield from walk(name, [])


def heavy_imports_are_late(tree: Sequence[Module]) -> list[str]:
    """Files that definitions load import no heavy library at their top."""
    return [
        module.at(node.lineno, f"imports {ast.unparse(node)!r} at its top; import it in the function that uses it")
        for module in tree
        if module.is_assets or module.within("definitions", "problem", "source", "keys", "resources", "defs", "cli")
        for node in module.tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for found in _imports(ast.Module([node], []), typing_only=False)
        if _top(found.target) in HEAVY
    ]


def only_the_example_knows_flights(tree: Sequence[Module]) -> list[str]:
    """Names and name-like strings of other rooms hold no word of the example; prose may give it as an example."""
    return [
        module.at(line, f"{name!r} belongs to the flights example; only defs/flights, feature_repo and replay know it")
        for module in tree
        if not module.within(*EXAMPLE)
        for line, name in _names(module.tree)
        if FLIGHTS_WORDS.search(name.replace("in_flight", "").replace("_", " "))
    ]


def _names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield identifiers, imported modules, and strings without blanks."""
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if not re.search(r"\s", node.value):
                yield line, node.value
        elif isinstance(node, ast.ImportFrom):
            yield line, node.module or ""
        else:
            for field in ("id", "attr", "arg", "name"):
                value = getattr(node, field, None)
                if isinstance(value, str):
                    yield line, value


def no_broad_except(tree: Sequence[Module]) -> list[str]:
    """A handler says what it expects."""
    return [
        module.at(node.lineno, "catches everything; name what is expected, or let it rise")
        for module in tree
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or re.search(r"\b(Exception|BaseException)\b", ast.unparse(node.type)))
    ]


def no_unsafe_formats(tree: Sequence[Module]) -> list[str]:
    """Nothing that runs code when it is read."""
    return [
        module.at(found.line, f"imports {found.target}; use Parquet, JSON, skops, UBJSON or ONNX")
        for module in tree
        for found in module.imports
        if _top(found.target) in UNSAFE
    ]


def time_comes_from_the_clock(tree: Sequence[Module]) -> list[str]:
    """Only `resources/clock.py` asks the system for the time. Durations (`perf_counter`, `monotonic`) are free."""
    return [
        module.at(node.lineno, f"asks {ast.unparse(node.func)}(); take `now` as an argument, from the clock resource")
        for module in tree
        if module.name != "resources.clock"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and CLOCKS.search(ast.unparse(node.func))
    ]


RULES: tuple[Callable[[Sequence[Module]], list[str]], ...] = (
    dagster_stays_in_assets,
    arrows_run_one_way,
    no_circles,
    heavy_imports_are_late,
    only_the_example_knows_flights,
    no_broad_except,
    no_unsafe_formats,
    time_comes_from_the_clock,
)


def function_lengths(tree: Sequence[Module]) -> dict[str, int]:
    """Return lines of code of each function, without its docstring, by `path:line name`."""
    return {
        f"{module.path}:{node.lineno} {node.name}": _length(node)
        for module in tree
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def _length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
    return (node.end_lineno or node.lineno) - first.lineno + 1


def length_summary(lengths: dict[str, int]) -> tuple[float, float]:
    """Return median and 90th percentile."""
    values = sorted(lengths.values())
    return median(values), quantiles(values, n=10)[-1]


assert all(_rank(earlier) < _rank(later) for earlier, later in pairwise(STAGES))  # type: ignore[operator]
