"""Stage 6 in Dagster: the challenger as a bundle, and its promotion to champion."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from ml_assets import keys
from ml_assets.development.assets import (
    challenger_of,
    code_version_of_models,
    features_of,
    metric_of,
    open_experiment,
    training_set_of,
)
from ml_assets.evaluation.assets import seen_by
from ml_assets.resources.evidence import file
from ml_assets.resources.places import FilesResource, LakeResource, TrackingResource

if TYPE_CHECKING:
    from ml_assets.problem import MlProblem

EXAMPLES = 5


def bundle_asset(problem: "MlProblem") -> dg.AssetsDefinition:
    """Return `<problem>/bundle`: the challenger with everything that inference needs, each file under its SHA-256."""

    @dg.asset(
        key=keys.problem(problem.name, "bundle").split("/"),
        description="The challenger, ready to run elsewhere: model (no pickle), preprocessing, requirements, an example, "
        "and a manifest of SHA-256 sums.",
        deps=[keys.problem(problem.name, "evaluation_report").split("/")],
        group_name=keys.PACKAGING,
        owners=list(problem.owners),
        kinds={"python"},
        tags={"stage": keys.PACKAGING},
    )
    def bundle(lake: LakeResource, models: FilesResource) -> dg.MaterializeResult:
        winner, built = write_bundle(problem, training_set_of(problem, lake), open_experiment(problem, lake, models))
        return dg.MaterializeResult(
            metadata={
                "model": winner,
                "digest": built.digest,
                "folder": file(built.folder),
                "files": dg.MetadataValue.md(_files_table(built)),
            },
            data_version=dg.DataVersion(built.digest[:20]),
        )

    return bundle


def write_bundle(problem: "MlProblem", training_set: Any, experiment: Any) -> tuple[str, Any]:
    """Write the bundle of the experiment's challenger; return the winner's name and the `BundleManifest`.

    `training_set` is the lazy frame that the experiment was made from: it gives types and the example.
    """
    import polars as pl

    from ml_assets.packaging.bundle import build_bundle, bundle_name

    schema, challenger = training_set.collect_schema(), challenger_of(experiment)
    result, winner, threshold = challenger.result, challenger.result.name, challenger.threshold
    features = features_of(problem, schema.names())
    built = build_bundle(
        experiment.folder("bundles") / bundle_name(result.sha256, code_version_of_models(), threshold),
        result=result,
        problem=problem.name,
        features={name: str(schema[name]) for name in features},
        example_rows=training_set.filter(pl.col("split") == "test").head(EXAMPLES).select(features).collect(),
        model_version=f"{winner}@{experiment.data_hash[:8]}",
        data_hash=experiment.data_hash,
        code_version=code_version_of_models(),
        threshold=threshold,
        task=problem.task.plain(),
    )
    experiment.write("bundle", {"digest": built.digest, "folder": built.folder, "winner": winner})
    return winner, built


def champion_asset(problem: "MlProblem") -> dg.AssetsDefinition:
    """Return `<problem>/champion`: the model in office, under the alias `champion` in the registry."""

    @dg.asset(
        key=keys.problem(problem.name, "champion").split("/"),
        description="The model in office: the version that the registry's alias `champion` names. The challenger takes office "
        "when it is better on rows that neither has seen.",
        deps=[keys.problem(problem.name, part).split("/") for part in ("bundle", "training_set")],
        group_name=keys.PACKAGING,
        owners=list(problem.owners),
        kinds={"mlflow"},
        tags={"stage": keys.PACKAGING},
    )
    def champion(lake: LakeResource, models: FilesResource, tracking: TrackingResource) -> dg.MaterializeResult:
        from ml_assets.packaging.bundle import load_bundle
        from ml_assets.packaging.champion import incumbent, promote, tags_of
        from ml_assets.packaging.promotion import boundaries, decide

        frame, experiment = training_set_of(problem, lake).collect(), open_experiment(problem, lake, models)
        metric, registry, built = metric_of(problem), tracking.open(), experiment.read("bundle")
        report = _report(experiment)
        office = incumbent(registry, problem.name)
        bundle = load_bundle(Path(built["folder"]), digest=built["digest"])
        decision = decide(frame, bundle, office, metric, seen=seen_by(office, problem, lake))
        version, tested = (office.version, office.test_metrics) if office else ("none", {})
        if decision.promote:
            edges = boundaries(frame, by_time=problem.split.by == "time")
            tested = report.metrics
            version = promote(
                registry,
                problem.name,
                run_id=experiment.read("challenger")["mlflow_run_id"],
                folder=Path(built["folder"]),
                digest=built["digest"],
                champion_tags=tags_of(
                    data_hash=experiment.data_hash,
                    fitted_until=edges.fitted_until,
                    live_from=edges.live_from,
                    test_metrics=report.metrics,
                    reason=decision.reason,
                )
                | _origin(registry, experiment),
            )
        return dg.MaterializeResult(
            metadata={
                "promoted": decision.promote,
                "reason": decision.reason,
                "version": version,
                **{f"test {name}": value for name, value in tested.items() if value is not None},
            }
        )

    return champion


def _origin(registry: Any, experiment: Any) -> dict[str, str]:
    """Return the tags of the challenger's run that say what it was made from."""
    from ml_assets.development.origin import TAGS

    told = registry.run(experiment.read("challenger")["mlflow_run_id"]).data.tags
    return {name: told[name] for name in TAGS if name in told}


def _report(experiment: Any) -> Any:
    from ml_assets.evaluation.report import EvaluationReport

    return EvaluationReport.from_json(experiment.read("evaluation_report")["report"])


def _files_table(built: Any) -> str:
    rows = [f"| {name} | `{digest[:16]}…` |" for name, digest in built.files.items()]
    return "\n".join(["| file | SHA-256 |", "|---|---|", *rows])
