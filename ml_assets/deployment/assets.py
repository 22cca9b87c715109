"""Stage 7 in Dagster: the champion's predictions, day by day."""

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from ml_assets import keys
from ml_assets.resources.evidence import check_result, check_specs, data_version, nothing_asked, show
from ml_assets.resources.partitions import of_run_or_whole, partitions_of, upstream
from ml_assets.resources.places import ClockResource, FeatureStoreResource, LakeResource, TrackingResource

if TYPE_CHECKING:
    from ml_assets.problem import MlProblem


def predictions_asset(problem: "MlProblem") -> dg.AssetsDefinition:
    """Return `<problem>/predictions`: each observation scored by the champion as of its moment of prediction."""
    table, observed = (keys.problem(problem.name, part) for part in ("predictions", "observations"))

    @dg.asset(
        key=table.split("/"),
        description="The champion's answer for each observation, as of its moment of prediction. Rows of days on which the "
        "champion was fitted or selected are marked `in_sample` and never count as performance.",
        deps=[
            upstream(observed),
            *(upstream(keys.feature_view(view)) for view in problem.views),
            keys.problem(problem.name, "champion").split("/"),
        ],
        group_name=keys.DEPLOYMENT,
        owners=list(problem.owners),
        kinds={"mlflow", "polars"},
        tags={"stage": keys.DEPLOYMENT},
        partitions_def=partitions_of(problem.days),
        backfill_policy=dg.BackfillPolicy.single_run(),
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(days=2)),
        check_specs=check_specs(table, "One prediction per observation, each an answer of the task."),
    )
    def predictions(
        context: dg.AssetExecutionContext,
        lake: LakeResource,
        feature_store: FeatureStoreResource,
        tracking: TrackingResource,
        clock: ClockResource,
    ) -> dg.MaterializeResult:
        from ml_assets.deployment.scoring import IN_SAMPLE, predictions_suite, score
        from ml_assets.packaging.champion import in_office
        from ml_assets.preparation.observations import without_outcome
        from ml_assets.preparation.writing import PARTITION, empty, write_checked

        store, partitions, now = lake.open(), of_run_or_whole(context, problem.days), clock.open(problem.clock).now()
        may_be_empty = not problem.observations.every_day
        there = store.live(observed, partitions)
        asked = {day: item for day, item in there.items() if item.rows or not may_be_empty}
        if partitions and may_be_empty and not asked:
            empty(store, table, partitions, written_at=now)
            return dg.MaterializeResult(metadata={"dagster/row_count": 0}, check_results=[nothing_asked(table)])
        by_day = PARTITION if problem.days else None
        observations = store.scan(observed, partitions, live=asked, partition_column=by_day).collect()
        champion = in_office(tracking.open(), problem.name)
        frame = observations.select(without_outcome(observations.columns))
        if problem.features:
            frame = feature_store.for_scoring(problem.features.service, frame, views=problem.features.views)
        scored = score(
            frame,
            champion.bundle,
            version=champion.version,
            fitted_until=champion.fitted_until,
            keep=problem.ignored,
        )
        written = write_checked(
            store,
            table,
            scored,
            predictions_suite(table, key=problem.observations.key, task=champion.bundle.task),
            now=now,
            partitions=partitions,
            may_be_empty=may_be_empty,
            inputs=lambda day: {**_made_from(observed, there, day), "champion": champion.version},
        )
        return dg.MaterializeResult(
            metadata=show(context, table, written.manifests, partitions)
            | {
                "model_version": champion.version,
                "rows in sample": int(scored[IN_SAMPLE].sum()),
                **_mean_score(scored),
            },
            check_results=[check_result(written.verdict, table=table)],
            data_version=data_version(written.manifests),
        )

    return predictions


def _made_from(observed: str, there: Mapping[str, Any], day: str) -> dict[str, str]:
    """Return the observations behind a day's predictions with their version, as a manifest names them."""
    name = f"{observed}/{day}" if there[day].partition else observed
    return {name: there[day].version}


def _mean_score(scored: Any) -> dict[str, float]:
    """Return the mean of the scores; clusters have none."""
    return {"mean score": scored["score"].mean() or 0.0} if "score" in scored.columns else {}
