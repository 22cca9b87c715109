"""Stage 7 in Dagster: the champion's predictions, day by day."""

from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import dagster as dg

from ml_assets import keys
from ml_assets.resources.evidence import CHECK, check_result, check_specs, data_version, nothing_asked, show
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
        from ml_assets.deployment.batch import Scoring, score_table
        from ml_assets.packaging.champion import in_office
        from ml_assets.preparation.writing import empty

        store, partitions, now = lake.open(), of_run_or_whole(context, problem.days), clock.open(problem.clock).now()
        may_be_empty = not problem.observations.every_day
        if partitions and may_be_empty and not any(item.rows for item in store.live(observed, partitions).values()):
            empty(store, table, partitions, written_at=now)
            return dg.MaterializeResult(metadata={"dagster/row_count": 0}, check_results=[nothing_asked(table)])

        scoring = Scoring(observed, table, problem.observations.key, problem.ignored, may_be_empty=may_be_empty)
        if problem.features:
            joined = partial(feature_store.for_scoring, problem.features.service, views=problem.features.views)
            scoring = replace(scoring, with_features=joined)
        champion = in_office(tracking.open(), problem.name, store=store.store)
        scored = score_table(store, scoring, champion, partitions, now=now, tell=context.log.info)
        written = scored.written
        return dg.MaterializeResult(
            metadata=show(context, table, written.manifests, partitions)
            | {
                "model_version": champion.version,
                "rows in sample": scored.in_sample,
                **({"mean score": scored.mean_score} if scored.mean_score is not None else {}),
            },
            check_results=[check_result(written.verdict, table=table)],
            data_version=data_version(written.manifests),
        )

    return predictions


def served_predictions_asset(problem: "MlProblem") -> dg.AssetsDefinition:
    """Return `<problem>/served_predictions`: what was answered online, day by day, by which model and how quickly."""
    table = keys.problem(problem.name, "served_predictions")

    @dg.asset(
        key=table.split("/"),
        description="Every logged online prediction with the features that the model saw: champion, canary, and shadow, which "
        "answered nobody. A day on which nothing was asked has no rows.",
        deps=[keys.problem(problem.name, "champion").split("/")],
        group_name=keys.DEPLOYMENT,
        owners=list(problem.owners),
        kinds={"fastapi", "polars"},
        tags={"stage": keys.DEPLOYMENT},
        partitions_def=partitions_of(problem.days),
        backfill_policy=dg.BackfillPolicy.single_run(),
        check_specs=check_specs(
            table, "Each prediction once, an answer of the task, by a model that the registry knows."
        ),
    )
    def served_predictions(
        context: dg.AssetExecutionContext, lake: LakeResource, tracking: TrackingResource, clock: ClockResource
    ) -> dg.MaterializeResult:
        from ml_assets.deployment.served_predictions import merge_log, summary_markdown

        partitions = of_run_or_whole(context, problem.days)
        known = [one.version for one in tracking.open().versions() if one.problem == problem.name]
        merged = merge_log(
            lake.open(),
            table,
            problem.name,
            task=problem.task.plain(),
            versions=known,
            days=partitions,
            now=clock.open(problem.clock).now(),
        )
        if merged.verdict is None:
            return dg.MaterializeResult(metadata={"dagster/row_count": 0}, check_results=[nothing_served(table)])
        details = {"served": dg.MetadataValue.md(summary_markdown(merged.summary)), "latency": _latency(merged.hours)}
        return dg.MaterializeResult(
            metadata=show(context, table, merged.manifests, partitions, details),
            check_results=[check_result(merged.verdict, table=table)],
            data_version=data_version(merged.manifests),
        )

    return served_predictions


def nothing_served(table: str) -> dg.AssetCheckResult:
    """Return the check of days on which nothing was answered online: nothing to judge, and nothing to block."""
    description = "not applicable: on these days no prediction was answered online"
    return dg.AssetCheckResult(check_name=CHECK, asset_key=table.split("/"), passed=True, description=description)


def _latency(hours: Any) -> dg.MarkdownMetadataValue:
    """Return a plot of the 95th percentile, hour by hour."""
    from ml_assets.evaluation.plots import as_markdown, timeline_plot

    values = hours["p95"].to_list()
    plot = timeline_plot(hours["event_timestamp"].to_list(), values, metric="p95 ms", title="Latency of answers")
    return dg.MetadataValue.md(as_markdown(plot, "95th percentile of latency by hour"))
