"""ml_assets: the ML lifecycle as a Dagster asset graph.

The component types below are loaded when they are asked for, so that `import ml_assets` stays cheap.
"""

from typing import Any

_HOMES = {
    "FeatureViews": "ml_assets.features.assets",
    "MlProblem": "ml_assets.problem",
    "Source": "ml_assets.source",
}
__all__ = ["FeatureViews", "MlProblem", "Source"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(_HOMES)}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """Name the component types too: `dg list components` asks."""
    return sorted([*globals(), *_HOMES])
