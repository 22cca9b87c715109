"""Stage 8 in Dagster: how the champion does, realised and estimated, and whether it sees online what it sees in batches."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from ml_assets import keys
from ml_assets.development.assets import metric_of
from ml_assets.resources.evidence import warning
from ml_assets.resources.partitions import upstream
from ml_assets.resources.places import ClockResource, LakeResource, TrackingResource

if TYPE_CHECKING:
    from ml_assets.problem import MlProblem

PERFORMANCE, ESTIMATED, DELAY = "performance_within_tolerance", "estimated_performance", "label_delay_as_declared"
SKEW = "no_training_serving_skew"


def performance_asset(problem: "MlProblem") -> dg.AssetsDefinition:
    """Return `<problem>/performance_report`: predictions against the outcomes that are known by now, and estimates until then."""
    table = keys.problem(problem.name, "performance_report")

    @dg.asset(
        key=table.split("/"),
        description="How the predictions really did, week by week, on the outcomes that are known by now; estimated where outcomes "
        "are waited for.",
        deps=[upstream(keys.problem(problem.name, part)) for part in ("predictions", "observations")],
        group_name=keys.MONITORING,
        owners=list(problem.owners),
        kinds={"polars", "scikitlearn"},
        tags={"stage": keys.MONITORING},
        check_specs=_specs(problem, table),
    )
    def performance_report(
        lake: LakeResource, tracking: TrackingResource, clock: ClockResource
    ) -> dg.MaterializeResult:
        from ml_assets.monitoring.realised import report_performance
        from ml_assets.packaging.champion import in_office

        found = report_performance(
            lake.open(),
            problem.name,
            in_office(tracking.open(), problem.name, store=lake.open().store),
            key=problem.observations.key,
            now=clock.open(problem.clock).now(),
            metric=problem.metric,
            slices=problem.success.slices,
            label_delay=problem.availability.declared["label_delay"],
        )
        return dg.MaterializeResult(metadata=_metadata(problem, found), check_results=_results(problem, found))

    return performance_report


def skew_check(problem: "MlProblem") -> dg.AssetChecksDefinition:
    """Return the check `no_training_serving_skew` of `<problem>/served_predictions`: online as in batches."""
    served = keys.problem(problem.name, "served_predictions")

    @dg.asset_check(
        name=SKEW,
        asset=served.split("/"),
        description="What the model was asked online looks like what it was asked in batches on the same days.",
    )
    def no_training_serving_skew(lake: LakeResource, tracking: TrackingResource) -> dg.AssetCheckResult:
        from dataclasses import replace

        from ml_assets.monitoring.skew import serving_skew
        from ml_assets.packaging.champion import incumbent

        champion = incumbent(tracking.open(), problem.name, store=lake.open().store)
        found = serving_skew(
            lake.open(),
            problem.name,
            champion.bundle.features if champion else (),
            policy=replace(problem.monitoring.drift.plain(), windows=1),
            days=problem.monitoring.served.days,
        )
        told = {} if found.report is None else {"features": dg.MetadataValue.md(found.report.markdown())}
        return warning(SKEW, found.passed, found.reason, table=served, metadata=told)

    return no_training_serving_skew


def _specs(problem: "MlProblem", table: str) -> list[dg.AssetCheckSpec]:
    tolerance = f"{problem.metric} is not worse than the test's by more than {problem.monitoring.tolerance}"
    told = {
        PERFORMANCE: f"On the latest weeks whose labels are in, {tolerance}.",
        ESTIMATED: f"As estimated for the latest week that waits for labels, {tolerance}.",
        DELAY: "Labels come as late as availability.label_delay says, and none before its prediction.",
    }
    return [dg.AssetCheckSpec(name, asset=table.split("/"), description=text) for name, text in told.items()]


def _metadata(problem: "MlProblem", found: Any) -> dict[str, Any]:
    from ml_assets.evaluation.plots import as_markdown
    from ml_assets.monitoring.realised import performance_plot

    plot = performance_plot(found, metric_of(problem), problem.monitoring.tolerance)
    overall = found.report.overall
    return {
        "summary": dg.MetadataValue.md(found.headline()),
        "status": overall.status,
        "outcomes known": overall.matured,
        "outcomes pending": overall.pending,
        "never an outcome": overall.never,
        "contradictory outcomes": overall.contradictory,
        "estimates that held": "{} of {}".format(*found.coverage),
        **{f"realised {name}": value for name, value in overall.metrics.items() if value is not None},
        "timeline": dg.MetadataValue.md(as_markdown(plot, "performance over time")),
        "report": dg.MetadataValue.md(found.markdown()),
    }


def _results(problem: "MlProblem", found: Any) -> list[dg.AssetCheckResult]:
    from ml_assets.monitoring.realised import as_declared, estimate_within_tolerance, within_tolerance

    metric, tolerance = metric_of(problem), problem.monitoring.tolerance
    verdicts = {
        PERFORMANCE: within_tolerance(found, metric, tolerance),
        ESTIMATED: estimate_within_tolerance(found, metric, tolerance),
        DELAY: as_declared(found),
    }
    return [warning(name, passed, reason) for name, (passed, reason) in verdicts.items()]
