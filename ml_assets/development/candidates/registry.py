"""All candidates by name, the simpler before the more complex: of equals the simpler wins.

Each module of this folder has one, of the module's name; those for a clustering are in `clusters/`.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from ml_assets.development.candidates.base import Candidate, CandidateError
from ml_assets.tasks import Task

CLUSTERS = "clusters"
NO_CANDIDATES = ("base", "registry")


@cache
def candidates() -> tuple[Candidate, ...]:
    """Return every candidate with its defaults, the simpler first: what the modules of `module_names` define."""
    folder = __name__.rpartition(".")[0]
    modules = [import_module(f"{folder}.{name}") for name in (*module_names(), *module_names(CLUSTERS))]
    kinds = [
        kind
        for module in modules
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Candidate) and kind.__module__ == module.__name__
    ]
    return tuple(sorted((kind() for kind in kinds), key=lambda one: (one.complexity, one.name)))


def module_names(below: str = "") -> list[str]:
    """Return the modules of candidates for labels, or of those `below`, as names from this folder."""
    folder = Path(__file__).parent / below
    found = [one.name for one in iter_modules([str(folder)]) if not one.ispkg and one.name not in NO_CANDIDATES]
    return [f"{below}.{name}" if below else name for name in found]


def names() -> tuple[str, ...]:
    """Return the names of all candidates, the simpler first."""
    return tuple(known.name for known in candidates())


def candidate(name: str) -> Candidate:
    """Return the candidate of that name; `CandidateError` names those that exist."""
    for known in candidates():
        if known.name == name:
            return known
    raise CandidateError(f"candidate {name!r} does not exist: use one of {list(names())}")


def supported(task: Task, rows: int) -> tuple[Candidate, ...]:
    """Return the candidates that apply to a task with this many training rows, in order."""
    return tuple(known for known in candidates() if known.supports(task, rows))
