"""Kinds of models, one module each; `registry` lists them in order."""

from __future__ import annotations

from pathlib import Path
from pkgutil import iter_modules

CLUSTERS = "clusters"
NO_CANDIDATES = ("base", "registry")


def module_names(below: str = "") -> list[str]:
    """Return the names of the candidates for labels, or of those in the folder `below`: those of their modules.

    Nothing is imported, so that a declaration is checked without numeric libraries.
    """
    folder = Path(__file__).parent / below
    return sorted(one.name for one in iter_modules([str(folder)]) if not one.ispkg and one.name not in NO_CANDIDATES)
