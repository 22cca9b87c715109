"""The online side in Dagster: what changed goes online, and a check compares it with the offline join."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from ml_assets import keys
from ml_assets.resources.evidence import combined_data_version, warning
from ml_assets.resources.partitions import of_run_or_whole, partitions_of, upstream
from ml_assets.resources.places import ClockResource, FeatureStoreResource

if TYPE_CHECKING:
    from ml_assets.problem import MlProblem

PARITY, REPLAYED = "parity", "replayed"
MOST_REQUESTS = 10_000  # the newest ones, in one replay


def online_asset(
    view: str, *, days: str | None, owners: Sequence[str], clock_of: str = "replay"
) -> dg.AssetsDefinition:
    """Return `feature_store/online/<view>`; `days` is the interval of a view with daily partitions, None for a view without.

    Its check `parity` blocks, and its outcome is kept in the online store: a feature server is not ready while a view is red.
    """
    asset = keys.online(view)

    @dg.asset(
        key=asset.split("/"),
        description="The newest row of each entity, for serving. Only partitions that changed are read; late and corrected ones "
        "are put right, and an older value never replaces a newer one.",
        deps=[upstream(keys.feature_view(view))],
        group_name=keys.FEATURE_STORE,
        owners=list(owners),
        kinds={"feast", "polars"},
        tags={"stage": keys.FEATURE_STORE},
        partitions_def=partitions_of(days),
        backfill_policy=dg.BackfillPolicy.single_run(),
        check_specs=[
            dg.AssetCheckSpec(
                name=PARITY,
                asset=asset.split("/"),
                blocking=True,
                description="For up to 10,000 entities, each online value equals the offline point-in-time join as of now.",
            )
        ],
    )
    def online(
        context: dg.AssetExecutionContext, feature_store: FeatureStoreResource, clock: ClockResource
    ) -> dg.MaterializeResult:
        from ml_assets.features.online.materialize import materialize
        from ml_assets.features.online.parity import parity
        from ml_assets.lake.manifest import WHOLE

        side, now, partitions = feature_store.online(), clock.open(clock_of).now(), of_run_or_whole(context, days)
        source = side.source(view)
        done = materialize(source, side.backend, now=now, partitions=partitions)
        found = parity(source, side.backend, now=now)
        side.backend.tell(view, found.reason())
        return dg.MaterializeResult(
            metadata=_told(done),
            check_results=[_checked(found)],
            data_version=combined_data_version(side.backend.versions(view, partitions or [WHOLE])),
        )

    return online


def served_asset(problem: "MlProblem") -> dg.AssetsDefinition:
    """Return `<problem>/served_requests`: what was answered online, held against what a training set would get.

    Its check `replayed` blocks. Without requests there is nothing to judge, and the check says so as a warning.
    """
    asset, declared, service = (
        keys.problem(problem.name, "served_requests"),
        problem.monitoring.served,
        problem.features.service if problem.features else "",
    )

    @dg.asset(
        key=asset.split("/"),
        description="Requests that were answered online, replayed through the point-in-time join: each value as it was known then.",
        deps=[upstream(keys.online(view)) for view in problem.views],
        group_name=keys.MONITORING,
        owners=list(problem.owners),
        kinds={"feast", "polars"},
        tags={"stage": keys.MONITORING},
        check_specs=[
            dg.AssetCheckSpec(
                name=REPLAYED,
                asset=asset.split("/"),
                blocking=True,
                description=f"The answers of the last {declared.days} days are those of the join; at most {declared.late_share:.1%} are "
                "contradicted by what came late.",
            )
        ],
    )
    def served_requests(
        context: dg.AssetExecutionContext, feature_store: FeatureStoreResource, clock: ClockResource
    ) -> dg.MaterializeResult:
        from ml_assets.features.online.replay import replay
        from ml_assets.features.served import ServedLog

        now = clock.open(problem.clock).now()
        days = [keys.day(now - timedelta(days=back)) for back in range(declared.days + 1)]
        served = ServedLog(feature_store.lake, service).read(days=days, most=MOST_REQUESTS)
        if served is None:
            return dg.MaterializeResult(
                metadata={"dagster/row_count": 0}, check_results=[_nothing_served(declared.days)]
            )
        outcomes = replay(
            feature_store.online(),
            service,
            served,
            lag=timedelta(minutes=declared.lag_minutes),
            late_share=declared.late_share,
        )
        told: dict[str, Any] = {"dagster/row_count": served.height, "outcome": dg.MetadataValue.md(_counts(outcomes))}
        return dg.MaterializeResult(metadata=told, check_results=[_replayed(outcomes)])

    return served_requests


def _nothing_served(days: int) -> dg.AssetCheckResult:
    """Say that the check does not apply: no pass, and nothing to stop for."""
    return warning(REPLAYED, False, f"not applicable: in the last {days} days no request was answered online")


def _replayed(outcomes: Sequence[Any]) -> dg.AssetCheckResult:
    red = [one.reason() for one in outcomes if not one.green]
    page = "\n\n".join(f"### {one.view}: {one.compared} compared\n\n{one.markdown()}" for one in outcomes)
    return dg.AssetCheckResult(
        check_name=REPLAYED,
        passed=not red,
        severity=dg.AssetCheckSeverity.ERROR,
        description="; ".join(red) or None,
        metadata={"views": dg.MetadataValue.md(page)},
    )


def _counts(outcomes: Sequence[Any]) -> str:
    """Return a table of what differs in each view; narrow, so that the page shows all of it."""
    lines = ["| view | rows | differ |", "|---|---:|---|"]
    for one in outcomes:
        differing = ", ".join(f"{count} {kind}" for kind, count in one.counts.items() if count)
        lines.append(f"| {one.view} | {one.compared} | {differing or 'none'} |")
    return "\n".join(lines)


def _told(done: Any) -> Mapping[str, Any]:
    """Return what was done, for the web UI."""
    return {
        "entities written": done.written,
        "entities removed": done.removed,
        "partitions new": len(done.new),
        "partitions revised": ", ".join(done.revised[:20]) or "none",
        "partitions beyond the TTL": len(done.expired),
        "partitions unchanged": done.unchanged,
        "newest event": done.newest_event.isoformat() if done.newest_event else "none",
    }


def _checked(found: Any) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=PARITY,
        passed=found.green,
        severity=dg.AssetCheckSeverity.ERROR,
        description=found.reason() or None,
        metadata={
            "entities compared": found.compared,
            **found.counts,
            "differences": dg.MetadataValue.md(found.markdown()),
        },
    )
