"""All candidates by name, the simpler before the more complex: of equals the simpler wins. Each module of this folder has one."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from ml_assets.development.candidates.base import Candidate, CandidateError
from ml_assets.tasks import Task

_NO_CANDIDATES = ("base", "registry")


@cache
def candidates() -> tuple[Candidate, ...]:
    """Return every candidate with its defaults: what the modules beside this one define, the simpler first."""
    folder = __name__.rpartition(".")[0]
    names = [found.name for found in iter_modules(import_module(folder).__path__) if found.name not in _NO_CANDIDATES]
    modules = [import_module(f"{folder}.{name}") for name in names]
    kinds = [
        kind
        for module in modules
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Candidate) and kind.__module__ == module.__name__
    ]
    return tuple(sorted((kind() for kind in kinds), key=lambda one: (one.complexity, one.name)))


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
