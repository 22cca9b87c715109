"""Stage 6 in Dagster: the challenger as a bundle, and its promotion to champion."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from ml_assets import keys
from ml_assets.development.assets import (
    SETTLED,
    challenger_of,
    code_version_of_models,
    features_of,
    metric_of,
    open_experiment,
    training_set_of,
)
from ml_assets.evaluation.assets import declaration_of, learned_by, seen_by
from ml_assets.resources.evidence import file
from ml_assets.resources.places import ClockResource, FilesResource, LakeResource, TrackingResource

if TYPE_CHECKING:
    from ml_assets.problem import MlProblem

EXAMPLES = 5
BUNDLE_GATES = {
    "parity": "What the bundle answers online is what the trained model answers.",
    "budget": "One answer takes, and the bundle has, no more than is declared.",
}
LATEST = 20  # promotions that the web UI shows
EVALUATION, DECISION = "evaluation.json", "decision.json"
"""Files of a challenger's run: what its evaluation told, and what became of it when it last stood for office."""


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
        check_specs=[
            dg.AssetCheckSpec(
                name, asset=keys.problem(problem.name, "bundle").split("/"), blocking=True, description=text
            )
            for name, text in BUNDLE_GATES.items()
        ],
    )
    def bundle(lake: LakeResource, models: FilesResource, tracking: TrackingResource) -> dg.MaterializeResult:
        training_set, experiment = training_set_of(problem, lake), open_experiment(problem, lake, models)
        winner, built = write_bundle(problem, training_set, experiment)
        gates = _bundle_gates(problem, training_set, experiment, built)
        version = register_challenger(problem, training_set.collect(), experiment, built, tracking, gates=gates)
        experiment.write("bundle", experiment.read("bundle") | {"version": version})
        return dg.MaterializeResult(
            metadata={
                "model": winner,
                "version": version,
                "digest": built.digest,
                "folder": file(built.folder),
                "files": dg.MetadataValue.md(_files_table(built)),
            },
            check_results=[
                dg.AssetCheckResult(check_name=gate.name, passed=gate.passed, description=gate.reason) for gate in gates
            ],
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
        parity_rows=_parity_rows(training_set, features),
        model_version=f"{winner}@{experiment.data_hash[:8]}",
        data_hash=experiment.data_hash,
        code_version=code_version_of_models(),
        threshold=threshold,
        task=problem.task.plain(),
    )
    experiment.write("bundle", {"digest": built.digest, "folder": built.folder, "winner": winner})
    return winner, built


def _parity_rows(training_set: Any, features: Any) -> Any:
    """Return the features of rows from all over the training set, on which bundle and model are compared."""
    import polars as pl

    from ml_assets.packaging.bundle import PARITY_ROWS

    every = max(1, training_set.select(pl.len()).collect().item() // PARITY_ROWS)
    return training_set.select(features).gather_every(every).head(PARITY_ROWS).collect()


def _bundle_gates(problem: "MlProblem", training_set: Any, experiment: Any, built: Any) -> Any:
    """Return the verdicts of the gates on the packed model."""
    from ml_assets.packaging.budget import bundle_gates
    from ml_assets.packaging.bundle import load_bundle

    bundle, trained = load_bundle(Path(built.folder), digest=built.digest), challenger_of(experiment).result.load()
    rows = _parity_rows(training_set, list(bundle.features))
    return bundle_gates(bundle, built, trained, rows, problem.promotion.plain())


def champion_asset(problem: "MlProblem") -> dg.AssetsDefinition:
    """Return `<problem>/champion`: the model in office, under the alias `champion` in the registry."""

    @dg.asset(
        key=keys.problem(problem.name, "champion").split("/"),
        description="The model in office: the version that the log of promotions and the registry's alias `champion` name. The "
        "challenger takes office when it passes the gates and is better on rows that neither has seen.",
        deps=[keys.problem(problem.name, part).split("/") for part in ("bundle", "training_set")],
        group_name=keys.PACKAGING,
        owners=list(problem.owners),
        kinds={"mlflow"},
        tags={"stage": keys.PACKAGING},
    )
    def champion(
        context: dg.AssetExecutionContext,
        lake: LakeResource,
        models: FilesResource,
        tracking: TrackingResource,
        clock: ClockResource,
    ) -> dg.MaterializeResult:
        from ml_assets.packaging.history import history, table

        version = open_experiment(problem, lake, models).read("bundle")["version"]
        who, now = f"run {context.run.run_id[:8]}", clock.open(problem.clock).now()
        found = promote_version(problem, version, who=who, when=now, lake=lake, tracking=tracking)
        decision, office = found.decision, found.office
        tested = _tested(tracking.open(), problem.name, office.version) if office else {}
        return dg.MaterializeResult(
            metadata={
                "promoted": found.promoted,
                "reason": decision.reason,
                "version": office.version if office else "none",
                "challenger": version,
                "decision": dg.MetadataValue.md(decision.table() or decision.reason),
                "history": dg.MetadataValue.md(table(history(lake.open().store, problem.name)[-LATEST:])),
                **{f"test {name}": value for name, value in tested.items() if value is not None},
            }
        )

    return champion


def register_challenger(
    problem: "MlProblem", frame: Any, experiment: Any, built: Any, tracking: TrackingResource, *, gates: Any = ()
) -> str:
    """Register the experiment's bundle as the version that the alias `challenger` names, and return the version.

    Its evaluation is kept with its run: report, explanation, and the verdicts of all gates so far (`gates` are the bundle's).
    """
    from ml_assets.packaging.champion import tags_of
    from ml_assets.packaging.office import register
    from ml_assets.packaging.promotion import boundaries

    registry, edges = tracking.open(), boundaries(frame, by_time=problem.split.by == "time")
    run_id = experiment.read("challenger")["mlflow_run_id"]
    told = tags_of(
        data_hash=experiment.data_hash,
        fitted_until=edges.fitted_until,
        live_from=edges.live_from,
        test_metrics=_report(experiment).metrics,
    )
    version = register(
        registry,
        problem.name,
        run_id=run_id,
        folder=Path(built.folder),
        digest=built.digest,
        tags=told | _origin(registry, run_id),
    )
    ref = registry.version(problem.name, version)
    evaluation = experiment.read("evaluation_report")
    verdicts = [*evaluation.get("gates", ()), *(asdict(gate) for gate in gates)]
    registry.log_text(ref.run_id, EVALUATION, json.dumps(evaluation | {"gates": verdicts}, sort_keys=True))
    return version


def promote_version(
    problem: "MlProblem",
    version: str,
    *,
    who: str,
    when: Any,
    lake: LakeResource,
    tracking: TrackingResource,
    why: str = "",
    force: bool = False,
) -> Any:
    """Let a registered version (default: the challenger) take office when gates, comparison and approval allow it.

    Returns the `ml_assets.packaging.office.Outcome`. What a version was refused for is kept as its tag. With `force` nothing is
    asked, and the log says so; a bundle that was altered is refused even then.
    """
    from ml_assets.packaging.approval import approved
    from ml_assets.packaging.office import promote

    registry, store = tracking.open(), lake.open().store
    ref = registered(problem, tracking, version)
    approval, waits = (None, "") if force else approved(store, problem.name, ref.version, evidence_of(registry, ref))
    found = promote(
        registry,
        store,
        problem.name,
        ref.version,
        decide=_forced if force else _judge(problem, ref, registry, lake, waits="" if approval else waits),
        who=who,
        when=when,
        why=why,
        kind="forced" if force else "promotion",
        approval=approval.to_dict() if approval else None,
    )
    if (
        found.promoted or found.office is None or found.office.version != ref.version
    ):  # else it stays what it was told before
        _remember(registry, ref, found, force)
    return found


def _remember(registry: Any, ref: Any, found: Any, force: bool) -> None:
    """Keep with a version what became of it when it stood for office."""
    decision = found.decision
    told = {
        "promoted": found.promoted,
        "reason": decision.reason,
        "forced": force,
        "gates": [asdict(gate) for gate in decision.gates],
        "comparison": [asdict(part) for part in decision.comparison],
    }
    registry.log_text(ref.run_id, DECISION, json.dumps(told, sort_keys=True))
    registry.tag_version(
        ref.problem, ref.version, {f"{'promoted' if found.promoted else 'refused'}_because": decision.reason}
    )


def model_card_asset(problem: "MlProblem") -> dg.AssetsDefinition:
    """Return `<problem>/model_card`: what a person must know of the challenger, whether it took office or not."""

    @dg.asset(
        key=keys.problem(problem.name, "model_card").split("/"),
        description="The model card of the version that stood for office last, promoted or refused: question, data, features, "
        "search, metrics, slices, calibration, explanation, gates, approval, limits, how to make it again.",
        deps=[keys.problem(problem.name, "champion").split("/")],
        group_name=keys.PACKAGING,
        owners=list(problem.owners),
        kinds={"html"},
        tags={"stage": keys.PACKAGING},
    )
    def model_card(
        lake: LakeResource,
        models: FilesResource,
        tracking: TrackingResource,
        reports: FilesResource,
        clock: ClockResource,
    ) -> dg.MaterializeResult:
        from ml_assets.packaging.card import markdown

        version = open_experiment(problem, lake, models).read("bundle")["version"]
        now = clock.open(problem.clock).now()
        card, path = write_card(problem, version, now=now, lake=lake, tracking=tracking, reports=reports)
        return dg.MaterializeResult(
            metadata={
                "version": version,
                "standing": card.standing,
                "page": file(path),
                "card": dg.MetadataValue.md(markdown(card)),
            }
        )

    return model_card


def write_card(
    problem: "MlProblem",
    version: str,
    *,
    now: Any,
    lake: LakeResource,
    tracking: TrackingResource,
    reports: FilesResource,
) -> tuple[Any, Path]:
    """Write the card of a registered version as `model_card/<version>.md` and `.html`, and with its run in the registry.

    Returns the `ml_assets.packaging.card.Card`, and the path of the page.
    """
    from ml_assets.packaging.card import make_card, markdown, page

    registry = tracking.open()
    ref = registered(problem, tracking, version)
    card = make_card(_facts(problem, ref, registry, lake), made_at=now)
    folder = reports.folder(problem.name, "model_card")
    folder.mkdir(parents=True, exist_ok=True)
    for ending, text in (("md", markdown(card)), ("html", page(card))):
        draft = folder / f"{ref.version}.{ending}.tmp"
        draft.write_text(text)
        draft.replace(folder / f"{ref.version}.{ending}")
        registry.log_text(ref.run_id, f"model_card.{ending}", text)
    return card, folder / f"{ref.version}.html"


def _facts(problem: "MlProblem", ref: Any, registry: Any, lake: LakeResource) -> Any:
    """Return what is recorded of a registered version."""
    from ml_assets.evaluation.report import EvaluationReport
    from ml_assets.packaging.approval import approved
    from ml_assets.packaging.bundle import load_bundle
    from ml_assets.packaging.card import Facts
    from ml_assets.packaging.history import history

    told, store, search = evaluation_of(registry, ref), lake.open().store, problem.search
    approval, why = approved(store, problem.name, ref.version, evidence_of(registry, ref))
    table = keys.problem(problem.name, "training_set")
    return Facts(
        problem=problem.name,
        version=ref.version,
        bundle=load_bundle(Path(ref.source), digest=ref.tags["bundle_digest"]),
        tags=ref.tags,
        declaration=declaration_of(problem),
        rows=lake.open().scan_version(table, ref.tags["data_hash"]).collect(),
        views=problem.views,
        ignored=problem.ignored,
        inputs=json.loads(ref.tags.get("inputs", "{}")),
        settled=json.loads(registry.text(ref.run_id, SETTLED) or "{}"),
        budget=f"{search.trials} trials of each candidate, on up to {search.rows:,} rows and {search.folds} folds",
        report=EvaluationReport.from_json(told["report"]),
        explanation=told.get("explanation", {}),
        gates=told.get("gates", ()),
        decision=json.loads(registry.text(ref.run_id, DECISION) or "{}"),
        history=history(store, problem.name),
        approval=approval,
        approved=why if approval or problem.promotion.approval else "not asked for (promotion.approval)",
        label_delay=problem.availability.label_delay,
    )


def approve_version(
    problem: "MlProblem", version: str, *, who: str, when: Any, why: str, lake: LakeResource, tracking: TrackingResource
) -> Any:
    """Record that a person approves a registered version (default: the challenger), with the hashes of what they saw.

    Returns the `ml_assets.packaging.approval.Approval`. The bytes of the bundle are verified first.
    """
    from ml_assets.packaging.approval import Approval, approve
    from ml_assets.packaging.bundle import verify

    ref = registered(problem, tracking, version)
    evidence = evidence_of(tracking.open(), ref)
    verify(Path(ref.source), evidence.model)
    return approve(lake.open().store, Approval(problem.name, ref.version, evidence, who, when, why))


def registered(problem: "MlProblem", tracking: TrackingResource, version: str = "") -> Any:
    """Return a registered version, by default the one that the alias `challenger` names; `ChampionError` when there is none."""
    from ml_assets.development.tracking import CHALLENGER
    from ml_assets.packaging.champion import ChampionError

    registry = tracking.open()
    found = registry.version(problem.name, version) if version else registry.champion(problem.name, alias=CHALLENGER)
    if found is None:
        what = f"version {version}" if version else "no challenger: the last one is in office, or none was made"
        raise ChampionError(f"{problem.name} has {what}; ml-assets history {problem.name} lists who was in office")
    return found


def evidence_of(registry: Any, ref: Any) -> Any:
    """Return the `ml_assets.packaging.approval.Evidence` of a registered version: the hashes that an approval is of."""
    from ml_assets.packaging.approval import Evidence, evaluation_hash
    from ml_assets.packaging.champion import BUNDLE_DIGEST, DATA_HASH

    told = evaluation_of(registry, ref)
    return Evidence(
        ref.tags[BUNDLE_DIGEST], ref.tags[DATA_HASH], evaluation_hash(told["report"], told.get("gates", ()))
    )


def evaluation_of(registry: Any, ref: Any) -> dict[str, Any]:
    """Return what the evaluation of a registered version told: `report` (JSON text), `explanation`, `gates`."""
    from ml_assets.packaging.champion import ChampionError

    text = registry.text(ref.run_id, EVALUATION)
    if text is None:
        raise ChampionError(f"{ref.problem}:{ref.version} was registered without its evaluation; run job train")
    return dict(json.loads(text))


def _judge(problem: "MlProblem", ref: Any, registry: Any, lake: LakeResource, *, waits: str) -> Any:
    """Return the function that decides against a champion: the evaluation's gates, the comparison, the approval.

    `waits` says why an approval is lacking, where one is asked for; "" when there is one.
    """
    from ml_assets.packaging.bundle import load_bundle
    from ml_assets.packaging.promotion import Decision, decide

    red = [gate for gate in evaluation_of(registry, ref).get("gates", ()) if not gate["passed"]]
    table, tags = keys.problem(problem.name, "training_set"), ref.tags
    frame = lake.open().scan_version(table, tags["data_hash"]).collect()
    bundle = load_bundle(Path(ref.source), digest=tags["bundle_digest"])

    def judge(office: Any) -> Any:
        if red:
            return Decision(False, "; ".join(f"gate {gate['name']}: {gate['reason']}" for gate in red))
        decision = decide(
            frame,
            bundle,
            office,
            metric_of(problem),
            policy=problem.promotion.plain(),
            slices=problem.success.slices,
            seen=seen_by(office, problem, lake),
            learned=learned_by(office, problem, lake),
            key=problem.observations.key,
            seed=problem.seed,
        )
        if decision.promote and decision.approval and waits:
            return replace(decision, promote=False, reason=f"{decision.reason}; {waits}")
        return decision

    return judge


def _forced(_: Any) -> Any:
    from ml_assets.packaging.promotion import Decision

    return Decision(True, "forced: neither gates nor approval were asked")


def _tested(registry: Any, name: str, version: str) -> dict[str, float]:
    from ml_assets.packaging.champion import TEST_METRICS

    ref = registry.version(name, version)
    return dict(json.loads(ref.tags.get(TEST_METRICS, "{}"))) if ref else {}


def _origin(registry: Any, run_id: str) -> dict[str, str]:
    """Return the tags of the challenger's run that say what it was made from."""
    from ml_assets.development.origin import TAGS

    told = registry.run(run_id).data.tags
    return {name: told[name] for name in TAGS if name in told}


def _report(experiment: Any) -> Any:
    from ml_assets.evaluation.report import EvaluationReport

    return EvaluationReport.from_json(experiment.read("evaluation_report")["report"])


def _files_table(built: Any) -> str:
    rows = [f"| {name} | `{digest[:16]}…` |" for name, digest in built.files.items()]
    return "\n".join(["| file | SHA-256 |", "|---|---|", *rows])
