"""Names of code: dotted paths to functions, and versions of the modules that hold them."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any


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
    """Return 12 hex digits of the SHA-256 of the module files behind dotted function paths, without importing them."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(_module_file(path).read_bytes())
    return digest.hexdigest()[:12]


@cache
def rooms_version(*rooms: str) -> str:
    """Return 12 hex digits of the SHA-256 of all Python files below the named rooms of `ml_assets`."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(file for room in rooms for file in (root / room).rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _module_file(path: str) -> Path:
    try:
        spec = find_spec(path.rpartition(".")[0])
    except (ModuleNotFoundError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        raise ValueError(f"no module behind {path!r}; write it as package.module.function")
    return Path(spec.origin)
