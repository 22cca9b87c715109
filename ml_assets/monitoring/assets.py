"""Stage 8 in Dagster: drift of what the champion sees, and when monitoring is looked at."""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from ml_assets import keys
from ml_assets.resources.evidence import file
from ml_assets.resources.partitions import upstream
from ml_assets.resources.places import ClockResource, FilesResource, LakeResource, TrackingResource

if TYPE_CHECKING:
    from ml_assets.problem import MlProblem

DRIFT = "no_drift"


def drift_asset(problem: "MlProblem") -> dg.AssetsDefinition:
    """Return `<problem>/drift_report`: each window of predictions against the training data, feature by feature."""
    table, declared = keys.problem(problem.name, "drift_report"), problem.monitoring.drift

    @dg.asset(
        key=table.split("/"),
        description=f"Every {problem.monitoring.drift.window_days} days of predictions against the rows that the champion "
        "was trained on: effect size and verdict for each feature, and Evidently's report.",
        deps=[
            upstream(keys.problem(problem.name, "predictions")),
            keys.problem(problem.name, "training_set").split("/"),
        ],
        group_name=keys.MONITORING,
        owners=list(problem.owners),
        kinds={"evidently", "polars"},
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(days=declared.window_days + 1)),
        tags={"stage": keys.MONITORING},
        check_specs=[
            dg.AssetCheckSpec(DRIFT, asset=table.split("/"), description="The latest window has not drifted.")
        ],
    )
    def drift_report(
        context: dg.AssetExecutionContext,
        lake: LakeResource,
        tracking: TrackingResource,
        reports: FilesResource,
        clock: ClockResource,
    ) -> dg.MaterializeResult:
        from ml_assets.monitoring.drift import DriftPolicy
        from ml_assets.monitoring.watching import latest_drift, report_drift
        from ml_assets.packaging.champion import in_office

        policy = DriftPolicy(minimum_rows=declared.minimum_rows, psi=declared.psi, share=declared.share)
        made = report_drift(
            lake.open(),
            problem.name,
            in_office(tracking.open(), problem.name, store=lake.open().store),
            policy=policy,
            window_days=declared.window_days,
            reports=reports.folder(problem.name, "drift"),
            now=clock.open(problem.clock).now(),
        )
        for item in made:
            context.log.info(f"{item.window.first}: {item.report.verdict}, {item.report.reason}")
        latest = latest_drift(lake.open(), problem.name)
        return dg.MaterializeResult(
            metadata=_drift_metadata(made, latest, reports.folder(problem.name, "drift")),
            check_results=[_drift_check(latest)],
        )

    return drift_report


def schedules(problem: "MlProblem") -> list[dg.ScheduleDefinition]:
    """Return the schedule of monitoring, every Monday morning as a rule."""
    group = dg.AssetSelection.key_prefixes([problem.name]) & dg.AssetSelection.groups(keys.MONITORING)
    return [
        dg.ScheduleDefinition(
            name=f"{problem.name}_monitor",
            target=group - dg.AssetSelection.tag(keys.SELDOM, "true"),
            cron_schedule=problem.monitoring.cron,
            description="Reports how the model does: drift, performance, what follows from them, and what a person should know.",
        ),
    ]


def _drift_metadata(made: Any, latest: Any, folder: Path) -> dict[str, Any]:
    from ml_assets.evaluation.plots import as_markdown, drift_plot

    if latest is None:
        return {"windows": 0, "status": "no predictions out of sample yet"}
    effects = dict(zip(latest.frame["feature"], latest.frame["psi"], strict=True))
    plot = drift_plot(effects, limit=latest.limit, drifted=latest.drifted)
    return {
        "windows": latest.count,
        "made now": len(made),
        "latest window": f"{latest.first} to {latest.last}",
        "verdict": latest.verdict,
        "reason": latest.reason,
        "rows": latest.rows,
        "drifted features": len(latest.drifted),
        "effects": dg.MetadataValue.md(f"{as_markdown(plot, 'drift')}\n\n{latest.markdown}"),
        "evidently": file(folder / latest.html),
    }


def _drift_check(latest: Any) -> dg.AssetCheckResult:
    undecided = latest is None or latest.verdict == "undecided"
    return dg.AssetCheckResult(
        check_name=DRIFT,
        passed=not undecided and latest.verdict == "stable",
        severity=dg.AssetCheckSeverity.WARN,
        description="no window of predictions yet" if latest is None else f"{latest.verdict}: {latest.reason}",
    )
