"""Stage 4 in Dagster: candidates, and the challenger that is selected among them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from ml_assets import keys
from ml_assets.resources.code import git_state
from ml_assets.resources.places import FilesResource, LakeResource, TrackingResource

if TYPE_CHECKING:
    from ml_assets.problem import MlProblem

TRAINED = "trained"
DECLARED, SETTLED = "declaration.yaml", "settled.json"
"""Files of a run: the declaration with its defaults, and what the search of each candidate settled on."""
ENSEMBLE = "ensemble"
KINDS = {"xgboost": "xgboost"}  # the library's mark in the UI, where it is not scikit-learn


def candidate_asset(problem: "MlProblem", kind: str) -> dg.AssetsDefinition:
    """Return `<problem>/candidates/<kind>`: one model, searched and fitted on the train split, measured on rows it has not seen."""
    table = keys.candidate(problem.name, kind)
    others = [name for name in problem.kinds if name != kind] if kind == ENSEMBLE else []
    upstream = [keys.candidate(problem.name, name) for name in others]

    @dg.asset(
        key=table.split("/"),
        description=f"{kind.replace('_', ' ').capitalize()}: the best of its search, fitted on the train split; its metrics are on rows "
        "that it was not fitted on.",
        deps=[keys.problem(problem.name, "training_set").split("/"), *(name.split("/") for name in upstream)],
        group_name=keys.DEVELOPMENT,
        owners=list(problem.owners),
        kinds={"mlflow", KINDS.get(kind, "scikitlearn")},
        tags={"stage": keys.DEVELOPMENT},
        check_specs=[dg.AssetCheckSpec(TRAINED, asset=table.split("/"), description="The candidate could be trained.")],
    )
    def candidate(
        context: dg.AssetExecutionContext, lake: LakeResource, models: FilesResource, tracking: TrackingResource
    ) -> dg.MaterializeResult:
        frame, experiment = training_set_of(problem, lake).collect(), open_experiment(problem, lake, models)
        plan = plan_of(problem, frame.columns)
        result = plan.train(
            kind,
            plan.rows(frame),
            experiment.folder(f"candidates/{kind}"),
            others=candidate_results(problem, experiment, others),
            warm=experiment.warm(kind),
            tell=context.log.info,
        )
        tags = provenance(problem, lake, experiment) | {"dagster_run_id": context.run.run_id}
        run_id = tracking.open().log_candidate(
            problem.name, result, tags=tags, metric=plan.metric.name, texts={DECLARED: problem.declared[0]}
        )
        experiment.write(f"candidates/{kind}", result.to_dict() | {"mlflow_run_id": run_id})
        if result.trials:
            experiment.remember(kind, result.variant)
        return dg.MaterializeResult(
            metadata={
                "outcome": result.outcome,
                "seconds": round(result.seconds, 2),
                "mlflow_run": run_id,
                "notes": "; ".join(result.notes),
                "parameters": dg.MetadataValue.json(dict(result.parameters)),
                **{f"validation {name}": value for name, value in result.metrics.items()},
                **_trials(result, plan.metric),
            },
            check_results=[
                dg.AssetCheckResult(
                    check_name=TRAINED,
                    passed=result.outcome != "failed",
                    severity=dg.AssetCheckSeverity.WARN,
                    description=result.reason or None,
                )
            ],
            data_version=dg.DataVersion(_digest(result.sha256)),
        )

    return candidate


def challenger_asset(problem: "MlProblem") -> dg.AssetsDefinition:
    """Return `<problem>/challenger`: the best candidate, fitted again on train and validation, calibrated, with its threshold."""

    @dg.asset(
        key=keys.problem(problem.name, "challenger").split("/"),
        description=f"The best candidate by {problem.metric}, the simplest of those within noise; fitted again on train and "
        "validation, calibrated where that helps, with the threshold of its decisions.",
        deps=[keys.candidate(problem.name, kind).split("/") for kind in problem.kinds],
        group_name=keys.DEVELOPMENT,
        owners=list(problem.owners),
        kinds={"python"},
        tags={"stage": keys.DEVELOPMENT},
    )
    def challenger(
        context: dg.AssetExecutionContext, lake: LakeResource, models: FilesResource, tracking: TrackingResource
    ) -> dg.MaterializeResult:
        from ml_assets.development.origin import settled

        frame, experiment = training_set_of(problem, lake).collect(), open_experiment(problem, lake, models)
        plan = plan_of(problem, frame.columns)
        rows, results = plan.rows(frame), candidate_results(problem, experiment)
        selection = plan.select(results, rows)
        made = plan.challenger(selection.winner, results, rows, experiment.folder("challenger"))
        tags = provenance(problem, lake, experiment) | {"dagster_run_id": context.run.run_id, "role": "challenger"}
        run_id = tracking.open().log_candidate(
            problem.name,
            made.result,
            tags=tags,
            metric=plan.metric.name,
            texts={DECLARED: problem.declared[0], SETTLED: settled(selection.winner, results)},
        )
        told = {"reason": selection.reason, "mlflow_run_id": run_id}
        experiment.write("challenger", made.to_dict() | told)
        return dg.MaterializeResult(
            metadata={
                "selected": selection.winner,
                "reason": selection.reason,
                f"validation {plan.metric.name}": selection.value,
                "threshold": made.threshold,
                "calibration": made.calibration,
                "notes": "; ".join(made.result.notes),
                "mlflow_run": run_id,
                "candidates": dg.MetadataValue.md(selection.markdown()),
            },
            data_version=dg.DataVersion(_digest(made.result.sha256)),
        )

    return challenger


def open_experiment(problem: "MlProblem", lake: LakeResource, models: FilesResource) -> Any:
    """Return the experiment made from the current training set."""
    from ml_assets.development.experiment import Experiment
    from ml_assets.lake import MissingPartitionError

    table = keys.problem(problem.name, "training_set")
    manifest = lake.open().manifest(table)
    if manifest is None:
        raise MissingPartitionError(f"{table} has not been materialized; run job train")
    return Experiment(models.folder(), problem.name, manifest.version)


def provenance(problem: "MlProblem", lake: LakeResource, experiment: Any) -> dict[str, str]:
    """Return the tags that say what a model was made from: training set, moment, declaration, code.

    `data_hash` is the training set's hash, `dvc_md5` that of its file by which DVC finds it in cache and remote, `training_set` that
    of all that it was made from.
    """
    from ml_assets.development.origin import origin_of

    manifest = lake.open().manifest(keys.problem(problem.name, "training_set"))
    origin = origin_of(lake.open(), manifest) if manifest and manifest.version == experiment.data_hash else {}
    own = {"data_hash": experiment.data_hash, "declaration": problem.declared[1]}
    return origin | own | {"code_version": code_version_of_models()} | git_state(Path(__file__).parents[2])


def training_set_of(problem: "MlProblem", lake: LakeResource) -> Any:
    """Return the current training set as a lazy frame; refused when it is red."""
    return lake.open().scan(keys.problem(problem.name, "training_set"))


def candidate_results(problem: "MlProblem", experiment: Any, kinds: Any = None) -> list[Any]:
    """Return what became of each declared candidate (or of `kinds`) on the experiment's training set."""
    from ml_assets.development.training import CandidateResult

    found = [experiment.read(f"candidates/{kind}") for kind in (problem.kinds if kinds is None else kinds)]
    return [CandidateResult.from_dict({k: v for k, v in item.items() if k != "mlflow_run_id"}) for item in found]


def challenger_of(experiment: Any) -> Any:
    """Return the `ml_assets.development.challenger.Challenger` of the experiment."""
    from ml_assets.development.challenger import Challenger

    return Challenger.from_dict(experiment.read("challenger"))


def metric_of(problem: "MlProblem") -> Any:
    """Return the metric that the problem calls success."""
    return problem.task.plain().metric(problem.metric)


def plan_of(problem: "MlProblem", columns: list[str]) -> Any:
    """Return the `ml_assets.development.lifecycle.Plan` of the declaration."""
    from ml_assets.development.lifecycle import Plan
    from ml_assets.development.search import Budget

    task, declared = problem.task.plain(), problem.search
    return Plan(
        task=task,
        metric=task.metric(problem.metric),
        features=tuple(features_of(problem, columns)),
        seed=problem.seed,
        budget=Budget(declared.trials, declared.seconds, declared.rows, declared.folds),
        by_time=problem.split.by == "time",
        group=problem.split.group,
        gap=problem.split.plain(problem.seed).gap,
        value=outcomes_of(problem),
        last_value=problem.features.last_value if problem.features else "",
    )


def outcomes_of(problem: "MlProblem") -> dict[str, float]:
    """Return what each outcome of a yes or no is worth, by which the threshold is chosen; nothing of other tasks."""
    from ml_assets.tasks.classification import OUTCOMES

    return {name: float(worth) for name, worth in problem.value.items() if name in OUTCOMES}


def features_of(problem: "MlProblem", columns: list[str]) -> list[str]:
    """Return the columns that a model of this problem may see."""
    from ml_assets.preparation.observations import model_features

    return model_features(columns, not_features=problem.ignored)


def code_version_of_models() -> str:
    """Return one version for all code that decides what a model becomes."""
    from ml_assets.resources.code import rooms_version

    return rooms_version("tasks", "preparation", "features", "development")


def _trials(result: Any, metric: Any) -> dict[str, Any]:
    """Return the search as a plot and a table, when there was one."""
    if not result.trials:
        return {}
    from ml_assets.development.trials import table

    return {"trials": len(result.trials), "search": dg.MetadataValue.md(table(result.trials, metric))}


def _digest(sha256: Any) -> str:
    import hashlib

    return hashlib.sha256("".join(sorted(sha256.values())).encode()).hexdigest()[:20]
