"""Stage 6 in Dagster: the challenger as a bundle, and its promotion to champion."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from ml_assets import keys

if TYPE_CHECKING:
    from ml_assets.problem import MlProblem


def bundle_asset(problem: "MlProblem") -> dg.AssetsDefinition:
    table = keys.problem(problem.name, "bundle")

    @dg.asset(key=table.split("/"), deps=[keys.problem(problem.name, "evaluation_report").split("/")], group_name=keys.PACKAGING)
    def bundle() -> None:
        pass

    return bundle


def champion_asset(problem: "MlProblem") -> dg.AssetsDefinition:
    @dg.asset(key=[problem.name, "champion"], deps=[keys.problem(problem.name, "bundle").split("/")], group_name=keys.PACKAGING)
    def champion() -> None:
        pass

    return champion
