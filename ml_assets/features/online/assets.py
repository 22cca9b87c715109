"""The online side in Dagster: what changed goes online, and a check compares it with the offline join."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from ml_assets import keys
from ml_assets.resources.partitions import daily, of_run, upstream
from ml_assets.resources.places import ClockResource, FeatureStoreResource

PARITY = "parity"


def online_asset(view: str, *, days: str | None, owners: Sequence[str]) -> dg.AssetsDefinition:
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
        partitions_def=daily(days) if days else None,
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

        side, now = feature_store.online(), clock.open().now()
        source = side.source(view)
        done = materialize(source, side.backend, now=now, partitions=of_run(context) if days else None)
        found = parity(source, side.backend, now=now)
        side.backend.tell(view, found.reason())
        return dg.MaterializeResult(metadata=_told(done), check_results=[_checked(found)])

    return online


def _told(done: Any) -> Mapping[str, Any]:
    """Return what was done, for the web UI."""
    return {
        "dagster/row_count": done.written,
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
