"""Versions in Dagster: the check that a champion can be made again, and what the commands need of the declarations."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg

from ml_assets import keys
from ml_assets.development.assets import DECLARED, SETTLED, code_version_of_models, plan_of
from ml_assets.features.assets import TRAINING_ROOMS, training_frame
from ml_assets.resources.code import rooms_version
from ml_assets.resources.places import FeatureStoreResource, LakeResource, TrackingResource

if TYPE_CHECKING:
    from ml_assets.problem import MlProblem

REBUILDS = "rebuilds"
WEEKLY = "0 5 * * 0"


def rebuilds_check(problem: "MlProblem") -> dg.AssetChecksDefinition:
    """Return the check `rebuilds` of `<problem>/champion`: made again, it has the same training set and the same scores.

    It runs when it is asked for by itself, as its schedule does; in a run that makes the champion it says nothing.
    """
    champion = keys.problem(problem.name, "champion").split("/")

    spec = dg.AssetCheckSpec(
        REBUILDS,
        asset=champion,
        description="The model in office, made again from the versions that it was made from, has the same training set and scores.",
    )

    @dg.multi_asset_check(name=f"{problem.name}__champion_{REBUILDS}", specs=[spec], can_subset=True)
    def rebuilds(
        context: dg.AssetCheckExecutionContext,
        lake: LakeResource,
        feature_store: FeatureStoreResource,
        tracking: TrackingResource,
    ) -> Iterator[dg.AssetCheckResult]:
        made_now = context.op_execution_context.job_def.asset_layer.executable_asset_keys
        if dg.AssetKey(champion) in made_now:  # a run that trains need not train twice
            return
        found = rebuild(problem, lake=lake, feature_store=feature_store, tracking=tracking)
        yield dg.AssetCheckResult(
            passed=found.passed,
            severity=dg.AssetCheckSeverity.WARN,
            description=found.text(),
            metadata={"data_hash": found.data_hash, "same_files": found.same_files, "rows": found.rows}
            | ({} if found.difference is None else {"difference": found.difference}),
        )

    return rebuilds


def rebuilds_schedule(problem: "MlProblem") -> dg.ScheduleDefinition:
    """Return the schedule that runs the check every week."""
    check = dg.AssetCheckKey(dg.AssetKey(keys.problem(problem.name, "champion").split("/")), REBUILDS)
    return dg.ScheduleDefinition(
        name=f"{problem.name}_rebuild",
        target=dg.define_asset_job(f"{problem.name}_rebuild_job", dg.AssetSelection.checks(check)),
        cron_schedule=WEEKLY,
        description="Makes the model in office again from what it was made from, and compares.",
    )


def rebuild(
    problem: "MlProblem",
    *,
    lake: LakeResource,
    feature_store: FeatureStoreResource,
    tracking: TrackingResource,
    version: str = "",
) -> Any:
    """Make a registered model again (default: the champion) and return the `ml_assets.versions.rebuild.Rebuilt`.

    `RebuildError` when there is no such model or it does not say what it was made from; the errors of
    `ml_assets.versions.past.restore` when that is gone.
    """
    import json
    from datetime import datetime
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from ml_assets.lake import Lake, content_hash
    from ml_assets.packaging.bundle import load_bundle, verify
    from ml_assets.versions.past import restore
    from ml_assets.versions.rebuild import Rebuilt, code_differs, compare, refit

    registry = tracking.open()
    ref, declared, settled = _registered(problem, registry, version)
    bundle = load_bundle(Path(ref.source), digest=ref.tags["bundle_digest"])
    told = {
        "problem": problem.name,
        "version": ref.version,
        "registered_hash": ref.tags["data_hash"],
        "code": code_differs(ref.tags, versions_of_code()),
    }
    with TemporaryDirectory(prefix="ml_assets_past_") as folder:
        past = Lake(f"{folder}/lake")
        restore(lake.open(), json.loads(ref.tags["inputs"]), past)
        there = FeatureStoreResource(repo=feature_store.repo, lake=past.url)
        moment = datetime.fromisoformat(ref.tags["as_known_at"])
        frame = training_frame(declared, past, there, as_known_at=moment).labelled
        if (made_of := content_hash(frame)) != ref.tags["data_hash"]:
            return Rebuilt(data_hash=made_of, **told)
        made = refit(plan_of(declared, frame.columns), frame, json.loads(settled), Path(folder) / "models")
        test = frame.filter(frame["split"] == "test")
        files = verify(Path(ref.source), ref.tags["bundle_digest"]).files
        same, difference = compare(made, bundle, files, test)
    return Rebuilt(data_hash=made_of, rows=test.height, same_files=same, difference=difference, **told)


def versions_of_code() -> dict[str, str]:
    """Return the versions of today's code by the names of a model's tags."""
    return {"code_version": code_version_of_models(), "tables_version": rooms_version(*TRAINING_ROOMS)}


def _registered(problem: "MlProblem", registry: Any, version: str) -> tuple[Any, Any, str]:
    """Return the registered version, the problem as it was declared then, and what its search settled on."""
    import yaml

    from ml_assets.versions.rebuild import RebuildError

    name = f"{problem.name}:{version or 'champion'}"
    ref = registry.version(problem.name, version) if version else registry.champion(problem.name)
    if ref is None:
        raise RebuildError(f"{name} is not registered; run job train")
    declared, settled = (registry.text(ref.run_id, text) for text in (DECLARED, SETTLED))
    missing = [tag for tag in ("inputs", "as_known_at", "data_hash", "bundle_digest") if tag not in ref.tags]
    if missing or not declared or not settled:
        raise RebuildError(f"{name} does not say what it was made from ({missing or 'its run has no declaration'})")
    return ref, type(problem).resolve_from_dict(yaml.safe_load(declared)), settled
