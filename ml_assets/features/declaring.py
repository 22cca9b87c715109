"""What a Feast repository needs to declare views over lake tables."""

from __future__ import annotations

import os
from pathlib import Path


def lake_table(view: str, definitions: str) -> str:
    """Return the path of a view's table, for a module of definitions (its `__file__`) that lies in the repository's folder.

    The table is in ../data/lake as seen from there, or in the lake that $ML_ASSETS_LAKE names: a URL, or a folder as
    seen from the folder above the repository.
    """
    lake = os.environ.get("ML_ASSETS_LAKE")
    if not lake:
        lake = "../data/lake"
    elif "://" not in lake:
        lake = str(Path(definitions).resolve().parent.parent / lake)
    return f"{lake.rstrip('/')}/features/{view}"
