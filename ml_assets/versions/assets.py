"""Versions in Dagster: the check that a champion can be made again, and what the commands need of the declarations."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from ml_assets import keys
from ml_assets.development.assets import DECLARED, SETTLED, code_version_of_models, plan_of
from ml_assets.features.assets import (
    AS_KNOWN_AT,
    TRAINING_ROOMS,
    inputs_of,
    training_frame,
    view_maker,
    view_recipe,
    write_training_set,
)
from ml_assets.packaging.assets import write_bundle
from ml_assets.preparation.assets import clean_recipe, observations_recipe, repairs_of
from ml_assets.resources.code import rooms_version
from ml_assets.resources.places import (
    ClockResource,
    FeatureStoreResource,
    FilesResource,
    LakeResource,
    TrackingResource,
)

if TYPE_CHECKING:
    from ml_assets.features.assets import FeatureViews
    from ml_assets.problem import MlProblem
    from ml_assets.source import Source

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
    from tempfile import TemporaryDirectory

    from ml_assets.development.lifecycle import develop_again
    from ml_assets.lake import Lake, content_hash
    from ml_assets.packaging.bundle import load_bundle, verify
    from ml_assets.versions.past import restore
    from ml_assets.versions.rebuild import Rebuilt, code_differs, compare

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
        made = develop_again(plan_of(declared, frame.columns), frame, json.loads(settled), Path(folder) / "models")
        test = frame.filter(frame["split"] == "test")
        files = verify(Path(ref.source), ref.tags["bundle_digest"]).files
        same, difference = compare(made, bundle, files, test)
    return Rebuilt(data_hash=made_of, rows=test.height, same_files=same, difference=difference, **told)


def preprocess(
    problem: "MlProblem",
    sources: "Sequence[Source]",
    components: "Sequence[FeatureViews]",
    *,
    lake: LakeResource,
    feature_store: FeatureStoreResource,
    now: datetime,
    place: Path,
) -> str:
    """Make all that the problem's training set needs from the raw tables, in a lake at `place`; return the training set's hash.

    It is that of the training set that the assets make of the same raw tables at the same `now`.
    """
    from ml_assets.lake import Lake
    from ml_assets.preparation.making import make_observations
    from ml_assets.versions.pipeline import LAKE, make_tables

    source, target = lake.open(), Lake(str(place / LAKE))
    there = FeatureStoreResource(repo=feature_store.repo, lake=target.url)
    recipes = _clean_recipes(sources, now) | _view_recipes(components, problem.views, there, now)
    asked, observed = problem.observations, observations_recipe(problem)
    recipes[observed.table] = (
        observed,
        lambda work: make_observations(
            work, asked.query, problem.task.plain(), key=asked.key, every_day=asked.every_day, now=now
        ),
    )

    def maker(recipe: Any, make: Any) -> Any:
        return lambda: make(recipe.work(target, target.partitions(next(iter(recipe.reads))) or None))

    make_tables(
        [*inputs_of(problem)],
        {table: maker(*found) for table, found in recipes.items()},
        {table: found[0].reads for table, found in recipes.items()},
        source=source,
        target=target,
    )
    return str(write_training_set(problem, target, there, now=now)[1].manifests["_"].version)


def _clean_recipes(sources: "Sequence[Source]", now: datetime) -> dict[str, Any]:
    """Return, by table, the recipe of each clean table and the function that makes it."""
    from ml_assets.preparation.making import make_clean

    def make(source: Any) -> Any:
        return lambda work: make_clean(work, repairs_of(source, source.clean), source.clean.expectations, now=now)

    return {keys.clean(one.name): (clean_recipe(one, one.clean), make(one)) for one in sources if one.clean}


def _view_recipes(
    components: "Sequence[FeatureViews]", wanted: Sequence[str], there: FeatureStoreResource, now: datetime
) -> dict[str, Any]:
    """Return, by table, the recipe of each wanted view and the function that makes it."""
    if not wanted:
        return {}
    repo = there.declared()
    return {
        keys.feature_view(view.name): (view_recipe(one, view, repo), view_maker(one, view, repo, now=now))
        for one in components
        for view in one.views
        if view.name in wanted
    }


def train(problem: "MlProblem", *, models: FilesResource, place: Path) -> dict[str, Any]:
    """Train on the training set at `place`, as the assets do; return hashes and metrics, which are also written there.

    Searches begin where those of `models` began.
    """
    from ml_assets.development.experiment import Experiment
    from ml_assets.lake import Lake
    from ml_assets.packaging.bundle import load_bundle
    from ml_assets.versions.pipeline import LAKE, MODELS, write_metrics

    table = keys.problem(problem.name, "training_set")
    lake = Lake(str(place / LAKE))
    training_set, data_hash = lake.scan(table), lake.live(table)["_"].version
    experiment = Experiment(place / MODELS, problem.name, data_hash)
    known = Experiment(models.folder(), problem.name, data_hash)
    frame = training_set.collect()
    plan = plan_of(problem, frame.columns)
    rows, results = plan.rows(frame), list[Any]()
    for kind in problem.kinds:
        folder = experiment.folder(f"candidates/{kind}")
        results.append(plan.train(kind, rows, folder, others=list(results), warm=known.warm(kind)))
        experiment.write(f"candidates/{kind}", results[-1].to_dict())
    selection = plan.select(results, rows)
    made = plan.challenger(selection.winner, results, rows, experiment.folder("challenger"))
    experiment.write("challenger", made.to_dict() | {"reason": selection.reason})
    _, built = write_bundle(problem, training_set, experiment)
    bundle, test = load_bundle(Path(built.folder), digest=built.digest), frame.filter(frame["split"] == "test")
    told = {
        "data_hash": data_hash,
        "winner": selection.winner,
        "bundle_digest": built.digest,
        "sha256": dict(made.result.sha256),
        "validation": selection.value,
        "test": plan.metric.compute(bundle.truth(test), bundle.predict(test), bundle.threshold),
    }
    write_metrics(place, told)
    return told


def moment_of(problem: "MlProblem", *, lake: LakeResource, clock: ClockResource) -> datetime:
    """Return as of when the problem's current training set was made; now, when there is none."""
    manifest = lake.open().manifest(keys.problem(problem.name, "training_set"))
    told = manifest.inputs.get(AS_KNOWN_AT) if manifest else None
    return datetime.fromisoformat(told) if told else clock.open(problem.clock).now()


def tag_champions(
    problems: "Sequence[MlProblem]", hashes: Mapping[str, str], *, lake: LakeResource, tracking: TrackingResource
) -> list[str]:
    """Let each champion that was made from the current training set name DVC's hashes; return their problems."""
    from ml_assets.versions.tracked import as_tags

    store, registry, found = lake.open(), tracking.open(), []
    for problem in problems:
        manifest, champion = store.manifest(keys.problem(problem.name, "training_set")), registry.champion(problem.name)
        if manifest and champion and champion.tags.get("data_hash") == manifest.version:
            registry.tag_version(problem.name, champion.version, as_tags(hashes))
            found.append(problem.name)
    return found


def needed_by_models(
    problems: "Sequence[MlProblem]",
    paths: Collection[Path],
    *,
    lake: LakeResource,
    models: FilesResource,
    tracking: TrackingResource,
) -> Any:
    """Return the `ml_assets.versions.garbage.Need` of all registered models and experiments; `paths` are files that must stay."""
    import json

    from ml_assets.versions.garbage import need_of

    registered = tracking.open().versions()
    wanted = {
        keys.problem(problem.name, "training_set"): {
            *(one.tags["data_hash"] for one in registered if one.problem == problem.name and "data_hash" in one.tags),
            *(folder.name for folder in models.folder(problem.name).glob("*") if folder.is_dir()),
        }
        for problem in problems
    }
    store = lake.open()
    root = Path(store.store.path("root")).parent
    return need_of(
        store,
        wanted,
        pinned=[json.loads(one.tags["inputs"]) for one in registered if "inputs" in one.tags],
        names=[path.relative_to(root).as_posix() for path in paths if path.is_relative_to(root)],
    )


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
