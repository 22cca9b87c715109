"""The entry point: what `defs/` declares, with the resources of this environment."""

import warnings
from pathlib import Path
from typing import TypeVar

import dagster as dg

from ml_assets.resources.environment import resources
from ml_assets.resources.measured import measured_in_process

T = TypeVar("T", bound=dg.Component)


@dg.definitions
def defs() -> dg.Definitions:
    """Load `defs/` and bind its resources; every part has an environment variable that moves it to production.

    The tree is built from its folder instead of by `dg.load_from_defs_folder`, which also imports every component library that
    is installed (Google's clients among them, 2 s in every process) for the docs tab of the UI.
    """
    tree = _tree()
    loaded = tree.build_defs_at_path(tree.defs_module_path)
    bound = dg.Definitions(
        resources=resources(Path(__file__).parents[1]), executor=measured_in_process, component_tree=tree
    )
    return dg.Definitions.merge(loaded, _watched_views(tree), bound)


def declared(of_type: type[T]) -> list[T]:
    """Return the components of a type as they are declared, such as every `MlProblem`; no instance is needed."""
    return _tree().get_all_components(of_type)


def _watched_views(tree: dg.ComponentTree) -> dg.Definitions:
    """Return the profiles of all feature views. Their component is of a stage before monitoring, and may not know of them."""
    from ml_assets.features.assets import FeatureViews
    from ml_assets.monitoring.profile_assets import view_profiles

    found = tree.get_all_components(FeatureViews)
    return dg.Definitions(assets=[view_profiles(component, view) for component in found for view in component.views])


def _tree() -> dg.ComponentTree:
    # Chosen on purpose (STYLE): backfill policies, freshness policies, code references.
    warnings.simplefilter("ignore", dg.BetaWarning)
    warnings.simplefilter("ignore", dg.PreviewWarning)
    return dg.ComponentTree.for_project(Path(__file__))
