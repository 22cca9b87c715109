"""All candidates by name, the simpler before the more complex: of equals the simpler wins.

Each module of this folder has one, of the module's name; those for a clustering are in `clusters/`.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module

from ml_assets.development.candidates import CLUSTERS, module_names
from ml_assets.development.candidates.base import Candidate, CandidateError


@cache
def candidates() -> tuple[Candidate, ...]:
    """Return every candidate with its defaults, the simpler first: what the modules of `module_names` define."""
    folder = __name__.rpartition(".")[0]
    below = (*module_names(), *(f"{CLUSTERS}.{name}" for name in module_names(CLUSTERS)))
    modules = [import_module(f"{folder}.{name}") for name in below]
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
