"""Stage 8 in Dagster: drift of what the champion sees, and when monitoring is looked at."""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from ml_assets import keys
from ml_assets.resources.evidence import file, warning
from ml_assets.resources.partitions import upstream
from ml_assets.resources.places import ClockResource, FilesResource, LakeResource, TrackingResource

if TYPE_CHECKING:
    from ml_assets.problem import MlProblem

DRIFT = "no_drift"
SHOWN = 52  # windows on the map


def drift_asset(problem: "MlProblem") -> dg.AssetsDefinition:
    """Return `<problem>/drift_report`: each window of predictions against the training data, feature by feature."""
    table, declared = keys.problem(problem.name, "drift_report"), problem.monitoring.drift

    @dg.asset(
        key=table.split("/"),
        description=f"Every {problem.monitoring.drift.window_days} days of predictions against the reference: effects, "
        "a test and a verdict for each feature, the prediction and the label, and Evidently's report.",
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
        from ml_assets.monitoring.watching import drift_history, latest_drift, report_drift
        from ml_assets.packaging.champion import in_office

        folder = reports.folder(problem.name, "drift")
        made = report_drift(
            lake.open(),
            problem.name,
            in_office(tracking.open(), problem.name, store=lake.open().store),
            policy=declared.plain(),
            window_days=declared.window_days,
            reports=folder,
            now=clock.open(problem.clock).now(),
            reference=declared.reference,
            earlier=declared.earlier,
        )
        for item in made:
            context.log.info(f"{item.window.first}: {item.report.verdict}, {item.report.reason}")
        latest = latest_drift(lake.open(), problem.name)
        return dg.MaterializeResult(
            metadata=_drift_metadata(made, latest, drift_history(lake.open(), problem.name), folder),
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


def _drift_metadata(made: Any, latest: Any, history: Any, folder: Path) -> dict[str, Any]:
    from ml_assets.evaluation.plots import as_markdown, drift_map, drift_plot

    if latest is None:
        return {"windows": 0, "status": "no predictions out of sample yet"}
    effects = dict(zip(latest.frame["feature"], latest.frame["psi"], strict=True))
    plot = drift_plot(effects, limit=latest.limit, drifted=latest.drifted)
    windows = drift_map(**_by_window(history), limit=latest.limit)
    return {
        "windows": latest.count,
        "made now": len(made),
        "latest window": f"{latest.first} to {latest.last}",
        "verdict": latest.verdict,
        "reason": latest.reason,
        "rows": latest.rows,
        "drifted columns": len(latest.drifted),
        "told apart": latest.domain,
        "effects": dg.MetadataValue.md(f"{as_markdown(plot, 'drift')}\n\n{latest.markdown}"),
        "by window": dg.MetadataValue.md(as_markdown(windows, "drift by window")),
        "evidently": file(folder / latest.html),
        "workspace": f"evidently ui --workspace {folder.parent / 'evidently'}",
    }


def _by_window(history: Any) -> dict[str, Any]:
    """Return what `drift_map` shows of the stored windows, the newest `SHOWN` of them."""
    windows = history["window_first"].unique(maintain_order=True).to_list()[-SHOWN:]
    cells = {(row["window_first"], row["feature"]): row for row in history.to_dicts()}
    names = dict.fromkeys(feature for window, feature in cells if window in windows)

    def values(name: str, key: str) -> list[Any]:
        return [cells.get((window, name), {}).get(key) for window in windows]

    firsts = {row["window_first"]: row.get("model_version") or "" for row in cells.values()}
    return {
        "windows": windows,
        "effects": {name: values(name, "psi") for name in names},
        "alarms": {name: [bool(one) for one in values(name, "alarming")] for name in names},
        "versions": [firsts[window] for window in windows],
    }


def _drift_check(latest: Any) -> dg.AssetCheckResult:
    """Return whether the latest window is stable; a suspicion passes until the next window confirms it."""
    if latest is None:
        told, passed, numbers = "undecided: there is no window of predictions yet", False, {}
    else:
        told, passed = f"{latest.verdict}: {latest.reason}", latest.verdict in ("stable", "suspected")
        numbers = {"window": latest.first, "rows": latest.rows, "drifted": ", ".join(latest.drifted) or "none"}
    return warning(DRIFT, passed, told, metadata=numbers)
