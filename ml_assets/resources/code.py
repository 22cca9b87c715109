"""Names of code: dotted paths to functions, and versions of the modules that hold them."""

from __future__ import annotations

import ast
import hashlib
import importlib
import subprocess
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

GIT_COMMIT, GIT_DIRTY = "git_commit", "git_dirty"
GIT_SECONDS = 20


def load(path: str) -> Callable[..., Any]:
    """Return the function at a dotted path such as `ml_assets.defs.flights.features.origin_weather`."""
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"no function at {path!r} ({error}); write it as package.module.function") from error
    if not callable(found):
        raise ValueError(f"{path!r} is no function")
    return found


@cache
def code_version(*paths: str) -> str:
    """Return 12 hex digits of the SHA-256 of the module files behind dotted function paths, without importing them.

    The modules of the same project that they import count too, and what those import; installed packages do not.
    """
    digest = hashlib.sha256()
    for path in paths:
        for name, file in sorted(_with_imports(path.rpartition(".")[0], _module_file(path)).items()):
            digest.update(f"{name}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:12]


@cache
def rooms_version(*rooms: str) -> str:
    """Return 12 hex digits of the SHA-256 of all Python files below the named rooms of `ml_assets`."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(file for room in rooms for file in (root / room).rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def git_state(root: Path) -> dict[str, str]:
    """Return `git_commit` of the code in `root`, and `git_dirty` where files differ from it; `unknown` outside of git."""
    found = _git(root, "rev-parse", "HEAD")
    if found is None:
        return {GIT_COMMIT: "unknown"}
    changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    return {GIT_COMMIT: found} | ({GIT_DIRTY: "true"} if changed else {})


def _git(root: Path, *arguments: str) -> str | None:
    """Return what a git command prints; None where there is no git, or no repository."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, text=True, timeout=GIT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@cache
def tables_version(*paths: str, rooms: Sequence[str]) -> str:
    """Return 12 hex digits for all code that decides a table: declared functions, the rooms that compute, and Polars."""
    parts = [code_version(*paths), rooms_version(*rooms), version("polars")]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


@cache
def _with_imports(module: str, file: Path) -> dict[str, Path]:
    """Return the module and those of its project that it imports, directly or not, by dotted name."""
    root, package = file.parents[module.count(".") + (file.name == "__init__.py")], module.partition(".")[0]
    found, new = {module: file}, [module]
    while new:
        name = new.pop()
        for imported, there in _imported(root, name, found[name]):
            foreign = root.name.endswith("-packages") and imported.partition(".")[0] != package
            if imported not in found and not foreign:
                found[imported] = there
                new.append(imported)
    return found


def _imported(root: Path, module: str, file: Path) -> Iterator[tuple[str, Path]]:
    """Yield the modules below `root` that a file imports, wherever in it: dotted name and file."""
    for name, member in _imports(module, file):
        for target in (f"{name}.{member}", name) if member else (name,):  # a package's own file only for its own names
            if there := _below(root, target):
                yield target, there
                break


def _imports(module: str, file: Path) -> Iterator[tuple[str, str]]:
    """Yield what the import statements of a file name: a dotted module and, after `from`, what is taken of it."""
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            source = ".".join([*above, *filter(None, [node.module])])
            yield from ((source, alias.name) for alias in node.names)


def _below(root: Path, module: str) -> Path | None:
    """Return the file of a module, or of a package itself; None when there is none below `root`."""
    place = root.joinpath(*module.split("."))
    return next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()), None)


def _module_file(path: str) -> Path:
    try:
        spec = find_spec(path.rpartition(".")[0])
    except (ModuleNotFoundError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        raise ValueError(f"no module behind {path!r}; write it as package.module.function")
    return Path(spec.origin)
