"""Stage 3 in Dagster: clean tables and a problem's observations."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from ml_assets import keys
from ml_assets.resources.code import load, tables_version
from ml_assets.resources.evidence import check_result, check_specs, data_version, nothing_asked, show, unchanged
from ml_assets.resources.partitions import CLOCK, anew, of_run_or_whole, partitions_of, upstream
from ml_assets.resources.places import ClockResource, LakeResource

if TYPE_CHECKING:
    from ml_assets.problem import MlProblem
    from ml_assets.source import Cleaning, Source


ROOMS = ("lake", "quality", "tasks", "preparation")  # whose code decides what these tables become


def clean_asset(source: "Source", cleaning: "Cleaning") -> dg.AssetsDefinition:
    """Return `clean/<source>`: the raw table with its repairs, each counted."""
    table, raw = keys.clean(source.name), keys.raw(source.name)

    @dg.asset(
        key=table.split("/"),
        description=f"{source.description} Repaired: duplicates by key, implausible values, and what `derive` adds.",
        deps=[upstream(raw), *(upstream(used) for used in cleaning.uses)],
        group_name=keys.PREPARATION,
        owners=list(source.owners),
        kinds={"polars", "parquet"},
        tags={"stage": keys.PREPARATION},
        code_version=clean_version(cleaning),
        partitions_def=partitions_of(source.days),
        backfill_policy=dg.BackfillPolicy.single_run(),
        check_specs=check_specs(table, "The cleaned rows fit their expectations."),
    )
    def clean(context: dg.AssetExecutionContext, lake: LakeResource, clock: ClockResource) -> dg.MaterializeResult:
        from ml_assets.preparation.making import make_clean

        partitions = of_run_or_whole(context, source.days)
        work = clean_recipe(source, cleaning).work(lake.open(), partitions, anew=anew(context))
        now, repairs = clock.open(source.clock).now(), repairs_of(source, cleaning)
        written, counts = make_clean(work, repairs, cleaning.expectations, now=now)
        return dg.MaterializeResult(
            metadata=show(context, table, written.manifests, partitions)
            | {f"repairs: {kind}": count for kind, count in counts.items()}
            | unchanged(len(work.unchanged)),
            check_results=[check_result(written.verdict, table=table)],
            data_version=data_version(written.manifests),
        )

    return clean


def clean_recipe(source: "Source", cleaning: "Cleaning") -> Any:
    """Return the `ml_assets.preparation.recipe.Recipe` of `clean/<source>`: the raw table, day by day, and all of those it uses."""
    from ml_assets.preparation.recipe import Recipe

    reads: dict[str, int | None] = {keys.raw(source.name): 0 if source.days else None}
    declared = cleaning.model_dump() | {"key": key_of(source, cleaning)}
    return Recipe(keys.clean(source.name), reads | dict.fromkeys(cleaning.uses), clean_version(cleaning), declared)


def clean_version(cleaning: "Cleaning") -> str:
    """Return the version of the code that decides a clean table."""
    return tables_version(*filter(None, [cleaning.derive]), rooms=ROOMS)


def key_of(source: "Source", cleaning: "Cleaning") -> list[str]:
    """Return the columns that name one row of the clean table."""
    return list(source.key if cleaning.key is None else cleaning.key)


def repairs_of(source: "Source", cleaning: "Cleaning") -> Any:
    """Return the `ml_assets.preparation.cleaning.Repairs` of the declaration."""
    from ml_assets.preparation.cleaning import Repairs

    return Repairs(
        key=key_of(source, cleaning),
        plausible={column: (low, high) for column, (low, high) in cleaning.plausible.items()},
        derive=load(cleaning.derive) if cleaning.derive else None,
    )


def observations_asset(problem: "MlProblem") -> dg.AssetsDefinition:
    """Return `<problem>/observations`: what is predicted, as of when, and the outcome with the time it became known."""
    table = keys.problem(problem.name, "observations")
    sources: Sequence[str] = problem.observations.tables

    @dg.asset(
        key=table.split("/"),
        code_version=tables_version(rooms=ROOMS),
        description=f"{problem.question} One row for each time the question is asked; the label where it is known.",
        deps=[upstream(source) for source in sources],
        group_name=keys.PREPARATION,
        owners=list(problem.owners),
        kinds={"polars", "sql"},
        tags={"stage": keys.PREPARATION},
        metadata={
            "query": dg.MetadataValue.md(f"```sql\n{problem.observations.query}\n```"),
            CLOCK: problem.clock,
        },
        partitions_def=partitions_of(problem.days),
        backfill_policy=dg.BackfillPolicy.single_run(),
        check_specs=check_specs(
            table, "The moment of prediction is there, before the outcome is known; keys are unique."
        ),
    )
    def observations(
        context: dg.AssetExecutionContext, lake: LakeResource, clock: ClockResource
    ) -> dg.MaterializeResult:
        from ml_assets.preparation.making import make_observations

        partitions, asked = of_run_or_whole(context, problem.days), problem.observations
        work = observations_recipe(problem).work(lake.open(), partitions, anew=anew(context))
        now, task = clock.open(problem.clock).now(), problem.task.plain()
        written, counts = make_observations(work, asked.query, task, key=asked.key, every_day=asked.every_day, now=now)
        rows = sum(manifest.rows for manifest in written.manifests.values())
        nothing = bool(partitions) and not asked.every_day and not rows
        return dg.MaterializeResult(
            metadata=show(context, table, written.manifests, partitions) | counts | unchanged(len(work.unchanged)),
            check_results=[nothing_asked(table) if nothing else check_result(written.verdict, table=table)],
            data_version=data_version(written.manifests),
        )

    return observations


def observations_recipe(problem: "MlProblem") -> Any:
    """Return the `ml_assets.preparation.recipe.Recipe` of `<problem>/observations`: the query's tables, of the same days."""
    from ml_assets.preparation.recipe import Recipe

    reads = dict.fromkeys(problem.observations.tables, 0 if problem.days else None)
    declared = problem.observations.model_dump() | {"task": problem.task.model_dump()}
    return Recipe(keys.problem(problem.name, "observations"), reads, tables_version(rooms=ROOMS), declared)
