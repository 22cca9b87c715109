"""Alerts in Dagster: checks that failed and runs that failed become alerts, and alerts reach people. And the timeline of it all.

Both the assets and the sensor look at how things are, not at what just happened, so nothing is lost while nobody looks; what was
sent is remembered (see `alerts`), so that it does not matter who looks first, or how often.
"""

import base64
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from datetime import datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from ml_assets import keys
from ml_assets.resources.evidence import UNDECIDED, file
from ml_assets.resources.partitions import CLOCK
from ml_assets.resources.places import ClockResource, FilesResource, LakeResource

if TYPE_CHECKING:
    from ml_assets.problem import MlProblem

UI, DEFAULT_UI = "ML_ASSETS_UI_URL", "http://127.0.0.1:3000"
PLATFORM = "platform"
"""The problem of alerts that belong to none: sources, features, failed runs."""
ALERTS, CHECK, RUN = "alerts", "check", "run"
BY_HAND = "__"  # so begin the names that Dagster gives to runs of assets that a person chose
SECONDS = 60
RUNS, NUMBERS, LONGEST = 100, 12, 80
PLOT = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=]+)")


def alerts_asset(
    problem: "MlProblem", assets: Sequence[dg.AssetsDefinition], *, after: Sequence[dg.AssetsDefinition]
) -> dg.AssetsDefinition:
    """Return `<problem>/alerts`: what is wrong now, by the latest result of every check of the problem's `assets`.

    `after` are those that it comes after in a run: the reports.
    """
    specs = [spec for asset in assets for spec in asset.check_specs]

    @dg.asset(
        key=keys.problem(problem.name, ALERTS).split("/"),
        description="What a person should know: the checks that fail now. Each is sent once to the channels that are set up "
        "(log, file, webhook, email), again when it got worse or after a week, and once more when it is in order again.",
        deps=[asset.key for asset in after],
        group_name=keys.MONITORING,
        owners=list(problem.owners),
        kinds={"python"},
        tags={"stage": keys.MONITORING},
    )
    def alerts(context: dg.AssetExecutionContext, lake: LakeResource, clock: ClockResource) -> dg.MaterializeResult:
        from ml_assets.monitoring.alerts import notify, standing, table
        from ml_assets.monitoring.channels import channels

        store, now = lake.open().store, clock.open(problem.clock).now()
        red, well = checked(context.instance, specs, now=now, problem=problem.name)
        sent = notify(store, red, channels(os.environ, store, tell=context.log.warning), now=now, well=well)
        known = standing(store, problem.name)
        return dg.MaterializeResult(
            metadata={
                "sent now": len(sent),
                "open": sum(one.open for one in known),
                "failing now": len(red),
                "alerts": dg.MetadataValue.md(table(known) if known else "nothing was ever wrong"),
            }
        )

    return alerts


def timeline_asset(problem: "MlProblem", *, after: Sequence[dg.AssetsDefinition]) -> dg.AssetsDefinition:
    """Return `<problem>/timeline`: the whole story of the problem in production as one HTML page; `after` are the reports."""

    @dg.asset(
        key=keys.problem(problem.name, "timeline").split("/"),
        description="The whole story on one page: drift, performance, money, outcomes, promotions, decisions to retrain and alerts, "
        "over one axis of time.",
        deps=[asset.key for asset in after],
        group_name=keys.MONITORING,
        owners=list(problem.owners),
        kinds={"html"},
        tags={"stage": keys.MONITORING},
    )
    def timeline(lake: LakeResource, reports: FilesResource, clock: ClockResource) -> dg.MaterializeResult:
        from ml_assets.evaluation.plots import as_markdown
        from ml_assets.monitoring.story import story
        from ml_assets.monitoring.timeline import write_timeline
        from ml_assets.monitoring.timeline_plots import pictures

        told, path = story(lake.open(), problem.name), reports.folder(problem.name) / "timeline.html"
        now = clock.open(problem.clock).now()
        shown = pictures(told, metric=problem.metric)
        write_timeline(path, told, question=problem.question, metric=problem.metric, now=now, images=shown)
        return dg.MaterializeResult(
            metadata={
                "page": file(path),
                "events": len(told.events()),
                "not made": ", ".join(told.absent) or "nothing",
                **{title: dg.MetadataValue.md(as_markdown(png, title)) for title, png in shown.items()},
            }
        )

    return timeline


def alerts_sensor() -> dg.SensorDefinition:
    """Return the sensor `alerts`: the checks of every asset, of problems and of sources, and runs that failed."""

    @dg.sensor(
        name=ALERTS,
        minimum_interval_seconds=SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Sends what a person should know: checks and runs that failed, once each. Asks for no run.",
    )
    def sensor(context: dg.SensorEvaluationContext, lake: LakeResource, clock: ClockResource) -> dg.SkipReason:
        from ml_assets.monitoring.alerts import notify
        from ml_assets.monitoring.channels import channels

        if context.repository_def is None:
            raise ValueError("the sensor of alerts needs its repository; give build_sensor_context(repository_def=…)")
        graph: Any = context.repository_def.asset_graph
        specs = [graph.get_check_spec(key) for key in graph.asset_check_keys]
        problems = {key.path[0] for key in graph.get_all_asset_keys() if key.path[1:] == [ALERTS]}
        store, red, sent, silent = lake.open().store, 0, 0, set[str]()
        ways = channels(os.environ, store, tell=context.log.warning)
        for name, of in _by_problem(specs, problems):
            now = clock.open(_clock(graph, name)).now()
            alerts, well = checked(context.instance, of, now=now, problem=name)
            if name == PLATFORM:
                failed, ended_well = ran(context.instance, now=now)
                alerts, well = [*alerts, *failed], [*well, *ended_well]
            red += len(alerts)
            sent += len(notify(store, alerts, ways, now=now, well=well, failed=silent))
        return dg.SkipReason(f"{red} checks and runs failed; {sent} alerts sent")

    return sensor


def checked(
    instance: dg.DagsterInstance, specs: Sequence[dg.AssetCheckSpec], *, now: datetime, problem: str
) -> tuple[list[Any], list[Any]]:
    """Return the alerts of checks that failed when they last ran, and the subjects of those that passed.

    A check that says that it cannot judge (metadata `undecided`, see `evidence.warning`) is a note. One that never ran is in neither.
    """
    from ml_assets.monitoring.alerts import Subject

    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key([spec.key for spec in specs])
    alerts, well = [], []
    for spec in specs:
        evaluation = _evaluation(latest.get(spec.key))
        if evaluation is None:
            continue
        if evaluation.passed:
            well.append(Subject(problem, CHECK, _name(spec)))
        else:
            alerts.append(_of_check(instance, spec, evaluation, now, problem))
    return alerts, well


def ran(instance: dg.DagsterInstance, *, now: datetime) -> tuple[list[Any], list[Any]]:
    """Return the alerts of jobs whose newest finished run failed, and the subjects of those whose newest run succeeded."""
    from ml_assets.monitoring.alerts import Alert, Subject

    ended = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.SUCCESS])
    newest = {run.job_name: run for run in reversed(instance.get_runs(ended, limit=RUNS))}
    failed = {name: run for name, run in newest.items() if run.status == dg.DagsterRunStatus.FAILURE}
    alerts = [
        Alert(
            PLATFORM,
            RUN,
            name,
            title=f"{'a run by hand' if name.startswith(BY_HAND) else f'job {name}'} failed",
            text=f"{_sentence('; '.join(_whys(instance, run.run_id)) or 'No step says why')} What follows from it was not made.",
            at=now,
            severity="error",
            numbers={"run": run.run_id},
            link=f"{ui()}/runs/{run.run_id}",
        )
        for name, run in failed.items()
    ]
    return alerts, [Subject(PLATFORM, RUN, name) for name in newest if name not in failed]


def ui() -> str:
    """Return the address of the web UI, as people reach it: ML_ASSETS_UI_URL, or that of `make ui`."""
    return (os.environ.get(UI) or DEFAULT_UI).rstrip("/")


def _clock(graph: Any, problem: str) -> str:
    """Return whose time it is for a problem; for the platform, the replay's while there is one."""
    observations = dg.AssetKey([problem, "observations"])
    known = observations in graph.get_all_asset_keys()
    return str(graph.get(observations).metadata.get(CLOCK, "replay")) if known else "replay"


def _by_problem(
    specs: Sequence[dg.AssetCheckSpec], problems: Set[str]
) -> Iterator[tuple[str, list[dg.AssetCheckSpec]]]:
    """Yield the checks of each problem, whose assets are `<problem>/…` or `profiles/<problem>/…`, and the platform's."""
    owners = [next((part for part in spec.asset_key.path if part in problems), PLATFORM) for spec in specs]
    for name in sorted({*problems, PLATFORM}):
        yield name, [spec for spec, owner in zip(specs, owners, strict=True) if owner == name]


def _of_check(
    instance: dg.DagsterInstance, spec: dg.AssetCheckSpec, evaluation: Any, now: datetime, problem: str
) -> Any:
    from ml_assets.monitoring.alerts import Alert

    made = instance.get_latest_materialization_event(spec.asset_key)
    shown = made.asset_materialization.metadata if made and made.asset_materialization else {}
    undecided = UNDECIDED in evaluation.metadata
    expected = f"Expected: {spec.description}" if spec.description else f"Check {spec.name} should pass."
    return Alert(
        problem,
        CHECK,
        _name(spec),
        title=f"{spec.asset_key.to_user_string()}: {spec.name} {'cannot be judged' if undecided else 'failed'}",
        text=f"{_sentence(evaluation.description or 'The check failed')} {_sentence(expected)}",
        at=now,
        severity="note" if undecided else "error" if evaluation.severity == dg.AssetCheckSeverity.ERROR else "warning",
        numbers=_numbers(shown) | _numbers(evaluation.metadata),
        link=f"{ui()}/assets/{'/'.join(spec.asset_key.path)}?view=checks&checkDetail={spec.name}",
        plot=_plot([*evaluation.metadata.values(), *shown.values()]),
    )


def _evaluation(record: Any) -> Any:
    """Return the evaluation in a record of a check's execution; None where it has not come to one."""
    event = record and record.event and record.event.dagster_event
    found = event and event.event_specific_data
    return found if isinstance(found, dg.AssetCheckEvaluation) else None


def _whys(instance: dg.DagsterInstance, run_id: str) -> Iterator[str]:
    """Yield why a run failed: blocking checks that are red, then steps."""
    kinds = {dg.DagsterEventType.ASSET_CHECK_EVALUATION, dg.DagsterEventType.STEP_FAILURE}
    for entry in instance.all_logs(run_id, of_type=kinds):
        event: Any = entry.dagster_event
        detail = event.event_specific_data
        if isinstance(detail, dg.AssetCheckEvaluation):
            if not detail.passed and detail.severity == dg.AssetCheckSeverity.ERROR:
                yield f"check {detail.check_name} of {detail.asset_key.to_user_string()}: {detail.description or 'failed'}"
        else:
            cause = detail.error and (detail.error.cause or detail.error)
            yield f"step {event.step_key}: {cause.message.strip().splitlines()[0] if cause else 'failed'}"


def _name(spec: dg.AssetCheckSpec) -> str:
    return f"{spec.asset_key.to_user_string()}: {spec.name}"


def _numbers(metadata: Mapping[str, Any]) -> dict[str, float | str]:
    """Return the numbers and short texts among metadata, at most 12."""
    found: dict[str, float | str] = {}
    for name, entry in metadata.items():
        value = entry.value
        if isinstance(value, bool):
            continue
        if isinstance(value, (int, float)) or (isinstance(entry, dg.TextMetadataValue) and len(value or "") <= LONGEST):
            found[name] = value
    return dict(list(found.items())[:NUMBERS])


def _plot(entries: Iterable[Any]) -> bytes | None:
    """Return the first picture in a markdown text."""
    for entry in entries:
        if isinstance(entry, dg.MarkdownMetadataValue) and (match := PLOT.search(entry.value or "")):
            return base64.b64decode(match.group(1))
    return None


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text if text.endswith((".", "!", "?")) else f"{text}."
