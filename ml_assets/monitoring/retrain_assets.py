"""Retraining in Dagster: the decision with its log, the sensor and the schedule that follow it, and how models age."""

import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES
from dagster._utils.schedules import schedule_execution_time_iterator

from ml_assets import keys
from ml_assets.development.assets import SETTLED, metric_of, plan_of
from ml_assets.evaluation.assets import seen_by
from ml_assets.resources.evidence import warning
from ml_assets.resources.partitions import upstream
from ml_assets.resources.places import ClockResource, FeatureStoreResource, LakeResource, TrackingResource

if TYPE_CHECKING:
    from ml_assets.problem import MlProblem

DECISION, DECIDED = "retrain_decision", "decided"
CARRIES_OUT, TRAINS = "ml_assets/decision", "ml_assets/trains"
"""Tags of a run that trains: the decision that it follows, and the problem."""
TRAINING_JOBS = ("train", "everything")  # the named jobs that train every problem
STALENESS, CADENCE = "staleness_curve", "cadence"
MONTHLY = "0 4 2 * *"
SENSOR_SECONDS = 60
LATEST = 20  # decisions that the web UI shows


def decision_asset(problem: "MlProblem") -> dg.AssetsDefinition:
    """Return `<problem>/retrain_decision`: whether the champion should be trained again, and why."""
    table = keys.problem(problem.name, DECISION)

    @dg.asset(
        key=table.split("/"),
        description="Whether to retrain: drift or loss that persists asks, a backtest on the latest labelled "
        f"{problem.retrain.window_days} days answers, and the log keeps what was decided and why.",
        deps=[keys.problem(problem.name, part).split("/") for part in _reports(problem)],
        group_name=keys.MONITORING,
        owners=list(problem.owners),
        kinds={"python"},
        tags={"stage": keys.MONITORING},
        check_specs=[
            dg.AssetCheckSpec(DECIDED, asset=table.split("/"), description="What asks for retraining could be decided.")
        ],
    )
    def retrain_decision(
        context: dg.AssetExecutionContext,
        lake: LakeResource,
        tracking: TrackingResource,
        feature_store: FeatureStoreResource,
        clock: ClockResource,
    ) -> dg.MaterializeResult:
        from ml_assets.monitoring.retraining import decisions

        found = decide_now(
            problem,
            lake=lake,
            tracking=tracking,
            feature_store=feature_store,
            now=clock.open(problem.clock).now(),
            who=f"run {context.run.run_id[:8]}",
            running=training_run(context.instance, problem),
        )
        context.log.info(f"{found.outcome}: {found.reason}")
        undecided = found.outcome == "undecided"
        return dg.MaterializeResult(
            metadata=_metadata(found, decisions(lake.open().store, problem.name)),
            check_results=[warning(DECIDED, not undecided, found.reason, undecided=undecided)],
        )

    return retrain_decision


def retrain_sensor(problem: "MlProblem") -> dg.SensorDefinition:
    """Return the sensor `<problem>_retrain_when_needed`: it carries out the latest decision to retrain, once.

    It is stopped where `ML_ASSETS_SENSORS` says so, until somebody switches it on in the web UI.
    """
    running = os.environ.get("ML_ASSETS_SENSORS", "running") == "running"

    @dg.sensor(
        name=f"{problem.name}_retrain_when_needed",
        target=training_assets(problem),
        minimum_interval_seconds=SENSOR_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED,
        description="Trains the candidates when it was decided to retrain; the gates decide on promotion as always.",
    )
    def sensor(context: dg.SensorEvaluationContext, lake: LakeResource) -> dg.SkipReason | dg.RunRequest:
        store = lake.open().store
        found = due(problem, store)
        if isinstance(found, str):
            return dg.SkipReason(found)
        if run := training_run(context.instance, problem):
            return dg.SkipReason(f"{run} trains already")
        if done := context.instance.get_runs(dg.RunsFilter(tags={CARRIES_OUT: found.id}), limit=1):
            return dg.SkipReason(f"decision {found.number} was carried out by run {done[0].run_id[:8]}")
        return request(found)

    return sensor


def retrain_schedule(problem: "MlProblem") -> dg.ScheduleDefinition:
    """Return the schedule `<problem>_retrain`: it needs no backtest, but is a decision like any other, with its cooldown."""

    @dg.schedule(
        name=f"{problem.name}_retrain",
        target=training_assets(problem),
        cron_schedule=problem.retrain.cron,
        description="Trains all candidates on the months before, and promotes the best when it passes the gates.",
    )
    def schedule(
        context: dg.ScheduleEvaluationContext, lake: LakeResource, clock: ClockResource
    ) -> dg.SkipReason | dg.RunRequest:
        from ml_assets.monitoring.retraining import SCHEDULE, Trigger

        found = scheduled(
            problem,
            lake.open(),
            Trigger(SCHEDULE, f"the schedule {problem.retrain.cron}"),
            now=clock.open(problem.clock).now(),
            running=training_run(context.instance, problem),
        )
        return request(found) if found.retrain else dg.SkipReason(found.reason)

    return schedule


def staleness_asset(problem: "MlProblem") -> dg.AssetsDefinition:
    """Return `<problem>/staleness_curve`: what a model loses as it ages, and how often to retrain because of it."""
    table = keys.problem(problem.name, STALENESS)

    @dg.asset(
        key=table.split("/"),
        description="What a model of the champion's kind loses as it ages, from models trained at several moments of the past and "
        "compared on the months after; and how often to retrain because of it.",
        deps=[keys.problem(problem.name, "champion").split("/"), upstream(keys.problem(problem.name, "observations"))],
        group_name=keys.MONITORING,
        owners=list(problem.owners),
        kinds={"polars"},
        tags={"stage": keys.MONITORING, keys.SELDOM: "true"},
        check_specs=[
            dg.AssetCheckSpec(
                CADENCE, asset=table.split("/"), description="The schedule retrains before more than tolerated is lost."
            )
        ],
    )
    def staleness_curve(
        lake: LakeResource, tracking: TrackingResource, feature_store: FeatureStoreResource, clock: ClockResource
    ) -> dg.MaterializeResult:
        now = clock.open(problem.clock).now()
        found = staleness_now(problem, lake=lake, tracking=tracking, feature_store=feature_store, now=now)
        if not isinstance(found, str):
            lake.open().write(table, found.to_frame(), written_at=now)
        return dg.MaterializeResult(metadata=_aged(found), check_results=[_cadence_check(problem, found)])

    return staleness_curve


def staleness_schedule(problem: "MlProblem") -> dg.ScheduleDefinition:
    """Return the schedule of the staleness curve, every month."""
    return dg.ScheduleDefinition(
        name=f"{problem.name}_{STALENESS}",
        target=dg.AssetSelection.assets(keys.problem(problem.name, STALENESS).split("/")),
        cron_schedule=MONTHLY,
        description="Measures how quality falls with a model's age.",
    )


def training_assets(problem: "MlProblem") -> dg.AssetSelection:
    """Return what is made when a problem is trained again."""
    parts = ("training_set", "challenger", "evaluation_report", "bundle", "champion", "model_card")
    return dg.AssetSelection.assets(
        *(keys.problem(problem.name, part).split("/") for part in parts),
        *(keys.candidate(problem.name, kind).split("/") for kind in problem.kinds),
    )


def training_run(instance: dg.DagsterInstance, problem: "MlProblem") -> str:
    """Return in words which run trains the problem now or is queued to, or nothing."""
    challenger = dg.AssetKey(keys.problem(problem.name, "challenger").split("/"))
    for run in instance.get_runs(dg.RunsFilter(statuses=list(NOT_FINISHED_STATUSES))):
        named = challenger in run.asset_selection if run.asset_selection else run.job_name in TRAINING_JOBS
        if named or run.tags.get(TRAINS) == problem.name:
            return f"run {run.run_id[:8]}"
    return ""


def request(decision: Any) -> dg.RunRequest:
    """Return the run that carries out a decision; the same decision asks for the same run."""
    return dg.RunRequest(run_key=decision.id, tags={CARRIES_OUT: decision.id, TRAINS: decision.problem})


def due(problem: "MlProblem", store: Any) -> Any:
    """Return the latest decision, if it is to retrain and nothing has followed it yet; or in words why there is none."""
    from ml_assets.monitoring.retraining import decisions
    from ml_assets.packaging.history import latest

    log = decisions(store, problem.name)
    found = next((one for one in reversed(log) if one.settled), None)
    if found is None or not found.retrain:
        return f"there is no decision to retrain; last: {log[-1].reason if log else 'nothing was decided yet'}"
    if found.scheduled:
        return f"decision {found.number} is the schedule's, which carries it out itself"
    office = latest(store, problem.name)
    if office is not None and office.when > found.at:
        return f"version {office.version} took office after decision {found.number}"
    return found


def scheduled(problem: "MlProblem", lake: Any, trigger: Any, *, now: datetime, running: str) -> Any:
    """Return the `Decision` on what a schedule asks, entered in the log: once for the same observations and champion."""
    from ml_assets.monitoring.retraining import Facts, decide, enter
    from ml_assets.packaging.history import latest

    office, observed = latest(lake.store, problem.name), keys.problem(problem.name, "observations")

    def make(log: Sequence[Any]) -> Any:
        facts = Facts(
            problem=problem.name,
            at=now,
            triggers=[trigger],
            inputs={observed: lake.version(observed)},
            champion=office.version if office else "",
            log=log,
            promoted=office.when if office else None,
            running=running,
            who=f"schedule {problem.name}_retrain",
        )
        return decide(facts, lambda: "a schedule needs no backtest", policy=problem.retrain.plain())

    return enter(lake.store, problem.name, make)


def decide_now(
    problem: "MlProblem",
    *,
    lake: LakeResource,
    tracking: TrackingResource,
    feature_store: FeatureStoreResource,
    now: datetime,
    who: str,
    running: str = "",
) -> Any:
    """Return the `ml_assets.monitoring.retraining.Decision` on what the latest reports say, entered in the log."""
    from dataclasses import replace
    from functools import cache

    from ml_assets.monitoring.retraining import decide, enter

    facts = facts_now(problem, lake.open(), tracking.open(), now=now)

    @cache  # whoever has to decide again need not train again
    def answer() -> Any:
        return backtest_now(problem, lake=lake, tracking=tracking, feature_store=feature_store, now=now)

    def make(log: Sequence[Any]) -> Any:
        told = replace(facts, log=log, running=running, who=who)
        return decide(told, answer, policy=problem.retrain.plain())

    return enter(lake.open().store, problem.name, make)


def facts_now(problem: "MlProblem", store: Any, registry: Any, *, now: datetime) -> Any:
    """Return the `Facts` that the latest reports on the model in office tell."""
    import json

    from ml_assets.monitoring.retraining import Facts, asked
    from ml_assets.packaging.champion import TEST_METRICS
    from ml_assets.packaging.history import settle

    office = settle(registry, store.store, problem.name)
    ref = registry.champion(problem.name) if office else None
    if office is None or ref is None:
        return Facts(problem.name, now)
    metric = metric_of(problem)
    triggers, inputs = asked(
        store,
        problem.name,
        metric,
        version=ref.version,
        since=office.when,
        expected=json.loads(ref.tags.get(TEST_METRICS, "{}")).get(metric.name),
        tolerance=problem.monitoring.tolerance,
        weeks=problem.retrain.weeks,
    )
    return Facts(problem.name, now, triggers, inputs, champion=ref.version, promoted=office.when)


def backtest_now(
    problem: "MlProblem",
    *,
    lake: LakeResource,
    tracking: TrackingResource,
    feature_store: FeatureStoreResource,
    now: datetime,
) -> Any:
    """Return the `ml_assets.monitoring.backtest.Backtest` of the champion, or in words why there is none."""
    from ml_assets.monitoring.backtest import backtest, backtest_rows, window_of

    office = office_of(problem, lake, tracking)
    if isinstance(office, str):
        return office
    told = _reading(problem, lake, now)
    window = window_of(**told, days=problem.retrain.window_days, since=office.since)
    if isinstance(window, str):
        return window
    split, key, most = problem.split.plain(problem.seed), list(problem.observations.key), problem.retrain.rows
    try:
        rows, known = backtest_rows(**told, split=split, window=window, key=key, most=most)
    except ValueError as error:
        return f"no rows for a backtest: {error}"
    joined = with_all_features(problem, feature_store, rows)
    plan = plan_of(problem, joined.columns)
    return backtest(plan, joined, office, window=window, known=known, key=key, most=most)


def staleness_now(
    problem: "MlProblem",
    *,
    lake: LakeResource,
    tracking: TrackingResource,
    feature_store: FeatureStoreResource,
    now: datetime,
) -> Any:
    """Return the `ml_assets.monitoring.staleness.Staleness` of the champion's kind, or in words why there is none."""
    from ml_assets.monitoring.staleness import block_rows, blocks_of, staleness

    office = office_of(problem, lake, tracking)
    if isinstance(office, str):
        return office
    told, key = _reading(problem, lake, now), list(problem.observations.key)
    blocks = blocks_of(**told, split=problem.split.plain(problem.seed))
    if isinstance(blocks, str):
        return blocks
    rows = with_all_features(
        problem, feature_store, block_rows(**told, blocks=blocks, key=key, most=problem.retrain.rows)
    )
    plan, tolerance = plan_of(problem, rows.columns), problem.monitoring.tolerance
    return staleness(plan, rows, office.settled, blocks, tolerance=tolerance, key=key)


def _reading(problem: "MlProblem", lake: LakeResource, now: datetime) -> dict[str, Any]:
    """Return the arguments that say which observations are read, and as of when."""
    observed = lake.open().scan(keys.problem(problem.name, "observations"))
    return {"observations": observed, "now": now, "supervised": problem.task.plain().supervised}


def office_of(problem: "MlProblem", lake: LakeResource, tracking: TrackingResource) -> Any:
    """Return the `ml_assets.monitoring.backtest.Office` of the champion, or in words what it lacks."""
    import json

    from ml_assets.monitoring.backtest import Office
    from ml_assets.packaging.champion import in_office

    registry, store = tracking.open(), lake.open()
    champion = in_office(registry, problem.name, store=store.store)
    ref = registry.version(problem.name, champion.version)
    settled = registry.text(ref.run_id, SETTLED) if ref else None
    if settled is None:
        return f"version {champion.version} does not say what its search settled on; run job train"
    table = keys.problem(problem.name, "training_set")
    learned = store.scan_version(table, champion.data_hash)
    return Office(champion, json.loads(settled), learned, seen_by(champion, problem, lake))


def with_all_features(problem: "MlProblem", feature_store: FeatureStoreResource, rows: Any) -> Any:
    """Return observations with the problem's features as of each moment, from all that is known by now."""
    if problem.features is None:
        return rows
    return feature_store.for_scoring(problem.features.service, rows, views=problem.features.views)


def _cadence_check(problem: "MlProblem", found: Any) -> dg.AssetCheckResult:
    """Return whether the schedule's longest pause is within the cadence; without a curve it does not pass."""
    if isinstance(found, str):
        return warning(CADENCE, False, found, undecided=True)
    pause = longest_pause(problem.retrain.cron)
    passed = found.cadence is None or pause <= timedelta(weeks=found.cadence)
    told = f"{found.sentence()}; retrain.cron {problem.retrain.cron!r} retrains every {pause.days} days"
    return warning(CADENCE, passed, told)


def longest_pause(cron: str) -> timedelta:
    """Return the longest time between two of the next twelve ticks of a cron schedule."""
    ticks = islice(schedule_execution_time_iterator(0, cron, "UTC", ascending=True), 13)
    return max(later - earlier for earlier, later in pairwise(ticks))


def _aged(found: Any) -> dict[str, Any]:
    from ml_assets.evaluation.plots import as_markdown
    from ml_assets.monitoring.staleness import ages_plot

    if isinstance(found, str):
        return {"status": found}
    plot = as_markdown(ages_plot(found), "loss by age")
    return {
        "status": found.sentence(),
        "cadence in weeks": found.cadence or "no loss seen",
        "candidate": found.kind,
        "seconds": round(found.seconds, 1),
        "curve": dg.MetadataValue.md(f"{plot}\n\n{found.markdown()}"),
    }


def _reports(problem: "MlProblem") -> tuple[str, ...]:
    """Return the reports that ask for retraining: without labels there is no performance to measure."""
    return ("drift_report", "performance_report") if problem.task.plain().supervised else ("drift_report",)


def _metadata(found: Any, log: Sequence[Any]) -> dict[str, Any]:
    from ml_assets.evaluation.plots import as_markdown
    from ml_assets.monitoring.backtest import NUMBERS, weeks_plot
    from ml_assets.monitoring.retraining import table

    told = {
        "decision": found.outcome,
        "retrain": found.retrain,
        "reason": found.reason,
        "triggers": "; ".join(found.triggers) or "none",
        "decisions": dg.MetadataValue.md(table(log[-LATEST:]) if log else "nothing was decided yet"),
    }
    if found.backtest is None:
        return told
    numbers = {f"backtest {name}": found.backtest[name] for name in NUMBERS if found.backtest[name] is not None}
    plot = weeks_plot(found.backtest)
    return told | numbers | {"backtest": dg.MetadataValue.md(as_markdown(plot, "both models by week"))}
