"""Stage 4 in Dagster: candidates, and the challenger that is selected among them."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from ml_assets import keys
from ml_assets.resources.places import FilesResource, LakeResource, TrackingResource

if TYPE_CHECKING:
    from ml_assets.problem import MlProblem

TRAINED = "trained"


def candidate_asset(problem: "MlProblem", kind: str) -> dg.AssetsDefinition:
    """Return `<problem>/candidates/<kind>`: one model, fitted on the train split and measured on validation."""
    table = keys.candidate(problem.name, kind)

    @dg.asset(
        key=table.split("/"),
        description=f"A {kind.replace('_', ' ')} fitted on the train split; its metrics are those on validation.",
        deps=[keys.problem(problem.name, "training_set").split("/")],
        group_name=keys.DEVELOPMENT,
        owners=list(problem.owners),
        kinds={"mlflow", KINDS.get(kind, "python")},
        tags={"stage": keys.DEVELOPMENT},
        check_specs=[dg.AssetCheckSpec(TRAINED, asset=table.split("/"), description="The candidate could be trained.")],
    )
    def candidate(
        context: dg.AssetExecutionContext, lake: LakeResource, models: FilesResource, tracking: TrackingResource
    ) -> dg.MaterializeResult:
        from ml_assets.development.training import train_candidate

        frame, experiment = training_set_of(problem, lake).collect(), open_experiment(problem, lake, models)
        result = train_candidate(
            kind,
            frame,
            label="label",
            features=features_of(problem, frame.columns),
            seed=problem.seed,
            folder=experiment.folder(f"candidates/{kind}"),
        )
        tags = {
            "data_hash": experiment.data_hash,
            "dagster_run_id": context.run.run_id,
            "code_version": code_version_of_models(),
        }
        run_id = tracking.open().log_candidate(problem.name, result, tags=tags)
        experiment.write(f"candidates/{kind}", result.to_dict() | {"mlflow_run_id": run_id})
        return dg.MaterializeResult(
            metadata={
                "outcome": result.outcome,
                "seconds": round(result.seconds, 2),
                "mlflow_run": run_id,
                "notes": "; ".join(result.notes),
                "parameters": dg.MetadataValue.json(dict(result.parameters)),
                **{f"validation {name}": value for name, value in result.metrics.items()},
            },
            check_results=[
                dg.AssetCheckResult(
                    check_name=TRAINED,
                    passed=result.trained,
                    severity=dg.AssetCheckSeverity.WARN,
                    description=result.reason or None,
                )
            ],
            data_version=dg.DataVersion(_digest(result.sha256)),
        )

    return candidate


def challenger_asset(problem: "MlProblem") -> dg.AssetsDefinition:
    """Return `<problem>/challenger`: the best candidate by the declared metric on validation."""

    @dg.asset(
        key=keys.problem(problem.name, "challenger").split("/"),
        description=f"The best candidate by {problem.success.metric} on validation; ties go to the simpler model.",
        deps=[keys.candidate(problem.name, kind).split("/") for kind in problem.candidates],
        group_name=keys.DEVELOPMENT,
        owners=list(problem.owners),
        kinds={"python"},
        tags={"stage": keys.DEVELOPMENT},
    )
    def challenger(lake: LakeResource, models: FilesResource) -> dg.MaterializeResult:
        from ml_assets.development.selection import select

        experiment = open_experiment(problem, lake, models)
        results = candidate_results(problem, experiment)
        metric = metric_of(problem)
        selection = select(results, metric.name, metric.greater_is_better)
        experiment.write("challenger", {"winner": selection.winner, "reason": selection.reason})
        return dg.MaterializeResult(
            metadata={
                "selected": selection.winner,
                "reason": selection.reason,
                f"validation {metric.name}": selection.value,
                "candidates": dg.MetadataValue.md(selection.markdown()),
            }
        )

    return challenger


KINDS = {"random_forest": "scikitlearn", "svm": "scikitlearn", "neural": "scikitlearn", "xgboost": "xgboost"}


def open_experiment(problem: "MlProblem", lake: LakeResource, models: FilesResource) -> Any:
    """Return the experiment made from the current training set."""
    from ml_assets.development.experiment import Experiment
    from ml_assets.lake import MissingPartitionError

    table = keys.problem(problem.name, "training_set")
    manifest = lake.open().manifest(table)
    if manifest is None:
        raise MissingPartitionError(f"{table} has not been materialized; run job train")
    return Experiment(models.folder(), problem.name, manifest.version)


def training_set_of(problem: "MlProblem", lake: LakeResource) -> Any:
    """Return the current training set as a lazy frame; refused when it is red."""
    return lake.open().scan(keys.problem(problem.name, "training_set"))


def candidate_results(problem: "MlProblem", experiment: Any) -> list[Any]:
    """Return what became of each declared candidate on the experiment's training set."""
    from ml_assets.development.training import CandidateResult

    found = [experiment.read(f"candidates/{kind}") for kind in problem.candidates]
    return [CandidateResult.from_dict({k: v for k, v in item.items() if k != "mlflow_run_id"}) for item in found]


def metric_of(problem: "MlProblem") -> Any:
    """Return the metric that the problem calls success."""
    from ml_assets.tasks import task

    return task(problem.task.kind).metric(problem.success.metric)


def features_of(problem: "MlProblem", columns: list[str]) -> list[str]:
    """Return the columns that a model of this problem may see."""
    from ml_assets.development.experiment import model_features

    return model_features(columns, not_features=[*problem.observations.key, *problem.features.ignore])


def code_version_of_models() -> str:
    """Return one version for all code that decides what a model becomes."""
    from ml_assets.resources.code import rooms_version

    return rooms_version("tasks", "preparation", "features", "development")


def _digest(sha256: Any) -> str:
    import hashlib

    return hashlib.sha256("".join(sorted(sha256.values())).encode()).hexdigest()[:20]
