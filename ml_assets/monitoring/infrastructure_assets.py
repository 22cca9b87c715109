"""What the deployment itself does, in Dagster: how long assets take, and whether what serves is healthy."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from ml_assets import keys
from ml_assets.resources.environment import serving_addresses, serving_key, serving_limit
from ml_assets.resources.evidence import warning
from ml_assets.resources.places import ClockResource, LakeResource
from ml_assets.resources.runs import finished_steps

REPORT, RUNS, SAMPLES = (keys.infrastructure(part) for part in ("infrastructure_report", "runs", "serving_samples"))
REGRESSION, SERVING = "no_regression", "serving_healthy"
SERVED = "served_predictions"


def infrastructure_asset(*, owners: Sequence[str] = (), seconds: float = 5.0) -> dg.AssetsDefinition:
    """Return `monitoring/infrastructure_report`: one for the deployment.

    A run that takes less than `seconds` longer than those before is no regression, however quick they were.
    """

    @dg.asset(
        key=REPORT.split("/"),
        description="How long each asset took, how much memory, how many rows, against the ten runs like it before; and requests, "
        "errors, latencies, memory of what serves, from its metrics (`ML_ASSETS_SERVING_METRICS`), or else from the log.",
        group_name=keys.MONITORING,
        owners=list(owners),
        kinds={"polars", "prometheus"},
        tags={"stage": keys.MONITORING},
        check_specs=[
            dg.AssetCheckSpec(
                REGRESSION,
                asset=REPORT.split("/"),
                description="No asset's last run took more than twice the time or memory of the ten like it before.",
            ),
            dg.AssetCheckSpec(
                SERVING,
                asset=REPORT.split("/"),
                description="What serves answers, in time, almost without errors, and loses no row of the log.",
            ),
        ],
    )
    def infrastructure_report(
        context: dg.AssetExecutionContext, lake: LakeResource, clock: ClockResource
    ) -> dg.MaterializeResult:
        store, now = lake.open(), clock.open("system").now()
        runs, regression = _runs(store, context.instance, now, seconds)
        serving, healthy = _serving(store, _logs(context.instance), now)
        return dg.MaterializeResult(metadata=runs | serving, check_results=[regression, healthy])

    return infrastructure_report


def infrastructure_schedule() -> dg.ScheduleDefinition:
    """Return the schedule of the report: every hour, which is how often what serves is sampled."""
    return dg.ScheduleDefinition(
        name="infrastructure_watch",
        target=dg.AssetSelection.assets(REPORT.split("/")),
        cron_schedule="0 * * * *",
        description="Samples what serves, and compares runs with those before.",
    )


def _runs(
    store: Any, instance: dg.DagsterInstance, now: Any, seconds: float
) -> tuple[dict[str, Any], dg.AssetCheckResult]:
    """Take the runs that ended since the last report into the lake, and judge the last one of each asset."""
    from ml_assets.evaluation.plots import as_markdown
    from ml_assets.monitoring.infrastructure import (
        RunPolicy,
        appended,
        durations_plot,
        judge_runs,
        no_regression,
        regressions,
        runs_markdown,
        to_frame,
    )

    before = _stored(store, RUNS)
    known = set() if before is None else set(before["run"])
    since = None if before is None else before["ended"].max()
    runs = appended(before, finished_steps(instance, since=since, known=known))
    found = judge_runs(runs, RunPolicy(seconds=seconds))
    store.write(RUNS, runs, written_at=now)
    store.write(REPORT, to_frame(found), written_at=now)
    passed, reason = no_regression(found)
    told = {
        "dagster/row_count": len(found),
        "runs": runs["run"].n_unique(),
        "failed steps": sum(one.failed for one in found),
        "skipped steps": sum(one.skipped for one in found),
        "regressions": len(regressions(found)),
        "assets": dg.MetadataValue.md(runs_markdown(found)),
        "durations": dg.MetadataValue.md(as_markdown(durations_plot(runs), "durations")),
    }
    return told, warning(REGRESSION, passed, reason)


def _serving(store: Any, logs: dict[str, str], now: Any) -> tuple[dict[str, Any], dg.AssetCheckResult]:
    """Sample every declared address, keep the samples, and judge what happened since the ones before; or read the log."""
    from ml_assets.evaluation.plots import as_markdown
    from ml_assets.monitoring.scraping import kept, last_series, scrape
    from ml_assets.monitoring.serving_health import (
        ServingPolicy,
        health,
        hours_markdown,
        latency_plot,
        logged_hours,
        serving_healthy,
        serving_markdown,
    )

    policy, addresses = ServingPolicy(p99=serving_limit()), serving_addresses()
    scrapes = [scrape(one, now=now, api_key=serving_key(), timeout=policy.timeout) for one in addresses]
    before = _stored(store, SAMPLES)
    servers = [health(one, last_series(before, one.address), policy) for one in scrapes]
    hours = {} if addresses else {name: logged_hours(store, table) for name, table in logs.items()}
    told: dict[str, Any] = {"servers": len(servers)}
    if addresses:
        samples = kept(before, scrapes)
        store.write(SAMPLES, samples, written_at=now)
        plot = as_markdown(latency_plot(samples, limit=policy.p99), "latency")
        told["serving"] = dg.MetadataValue.md(f"{serving_markdown(servers)}\n\n{plot}")
    elif any(found.height for found in hours.values()):
        told["serving, from the log"] = dg.MetadataValue.md(hours_markdown(hours))
    passed, reason = serving_healthy(servers, hours, policy)
    return told, warning(SERVING, passed, reason)


def _logs(instance: dg.DagsterInstance) -> dict[str, str]:
    """Return the tables of served predictions by problem, of those that were ever made."""
    made = sorted("/".join(key.path) for key in instance.all_asset_keys())
    return {name.partition("/")[0]: name for name in made if name.endswith(f"/{SERVED}")}


def _stored(store: Any, table: str) -> Any:
    return None if store.manifest(table) is None else store.read(table)
