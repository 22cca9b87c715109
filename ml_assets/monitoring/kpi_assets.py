"""Business value in Dagster: what the decisions earned, where the outcomes are known."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from ml_assets import keys
from ml_assets.resources.evidence import warning
from ml_assets.resources.partitions import upstream
from ml_assets.resources.places import ClockResource, LakeResource, TrackingResource

if TYPE_CHECKING:
    from ml_assets.problem import MlProblem

EARNS = "earns_more_than_baseline"


def kpi_asset(problem: "MlProblem") -> dg.AssetsDefinition:
    """Return `<problem>/kpi_report`: the live decisions as money, by day, by slice and by threshold."""
    table = keys.problem(problem.name, "kpi_report")

    @dg.asset(
        key=table.split("/"),
        description="What the decisions earned day by day, beside the baseline's and perfect ones, on the outcomes known by now.",
        deps=[
            *(upstream(keys.problem(problem.name, part)) for part in ("predictions", "observations")),
            keys.problem(problem.name, "training_set").split("/"),
        ],
        group_name=keys.MONITORING,
        owners=list(problem.owners),
        kinds={"polars"},
        tags={"stage": keys.MONITORING},
        check_specs=[
            dg.AssetCheckSpec(
                EARNS,
                asset=table.split("/"),
                description="The last 28 days with outcomes surely earned more than the baseline, and than the same decision for "
                "every row that hindsight would choose.",
            )
        ],
    )
    def kpi_report(lake: LakeResource, tracking: TrackingResource, clock: ClockResource) -> dg.MaterializeResult:
        from ml_assets.monitoring.kpi import earns_more, offices, report_kpi
        from ml_assets.packaging.champion import in_office

        registry = tracking.open()
        kpi = report_kpi(
            lake.open(),
            problem.name,
            in_office(registry, problem.name, store=lake.open().store),
            key=problem.observations.key,
            terms=terms_of(problem),
            now=clock.open(problem.clock).now(),
            before=offices(registry, problem.name),
        )
        passed, reason = earns_more(kpi)
        return dg.MaterializeResult(
            metadata=_metadata(kpi, reason),
            check_results=[warning(EARNS, passed, reason)],
        )

    return kpi_report


def terms_of(problem: "MlProblem") -> Any:
    """Return the `ml_assets.monitoring.kpi.Terms` of the declaration."""
    from ml_assets.monitoring.kpi import Terms
    from ml_assets.tasks.value import declared_value

    delay: timedelta | None = problem.availability.declared["label_delay"]
    return Terms(
        value=declared_value(problem.task.plain(), problem.value),
        slices=tuple(problem.success.slices),
        last_value=problem.features.last_value if problem.features else "",
        label_delay=delay,
        seed=problem.seed,
    )


def _metadata(kpi: Any, verdict: str) -> dict[str, Any]:
    from ml_assets.evaluation.plots import as_markdown
    from ml_assets.monitoring.kpi_shown import cumulative_plot, daily_plot, days_table, money, rate, slices_table

    totals, currency = kpi.totals, kpi.terms.currency
    told: dict[str, Any] = {
        "verdict": verdict,
        "days": kpi.days.height,
        **{f"rows {name}": totals[of] or 0 for name, of in _ROWS.items()},
        "action rate": rate(totals["actions"], totals["rows"]),
        "conversion rate": rate(totals["conversions"], totals["actions"]),
        "by day": dg.MetadataValue.md(days_table(kpi)),
    }
    if kpi.terms.slices:
        told["by slice"] = dg.MetadataValue.md(slices_table(kpi))
    if kpi.terms.value is None:
        return told
    plots = [as_markdown(cumulative_plot(kpi), "money so far"), as_markdown(daily_plot(kpi), "gain by day")]
    amounts = {name: money(totals[name], currency) for name in ("earned", "baseline", "perfect")}
    baselines = ", ".join(f"version {version}: {name}" for version, name in kpi.baselines.items())
    return {
        **told,
        **amounts,
        "baseline decides": baselines,
        "money": dg.MetadataValue.md("\n\n".join(plots)),
        **_swept(kpi),
    }


_ROWS = {
    "with outcome": "rows",
    "pending": "pending",
    "that never have one": "never",
    "contradictory": "contradictory",
}


def _swept(kpi: Any) -> dict[str, Any]:
    from ml_assets.evaluation.plots import as_markdown
    from ml_assets.monitoring.kpi_shown import sweep_plot, sweep_sentence

    if kpi.sweep is None:
        return {}
    plot = as_markdown(sweep_plot(kpi.sweep, kpi.terms.currency), "value by threshold")
    return {"thresholds": dg.MetadataValue.md(f"{sweep_sentence(kpi.sweep, kpi.terms.currency)}\n\n{plot}")}
