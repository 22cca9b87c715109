"""Stage 3 in Dagster: clean tables and a problem's observations."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import dagster as dg

from ml_assets import keys
from ml_assets.resources.code import code_version, load
from ml_assets.resources.evidence import check_result, check_specs, nothing_asked, show
from ml_assets.resources.partitions import CLOCK, of_run_or_whole, partitions_of, upstream
from ml_assets.resources.places import ClockResource, LakeResource

if TYPE_CHECKING:
    from ml_assets.problem import MlProblem
    from ml_assets.source import Cleaning, Source


def clean_asset(source: "Source", cleaning: "Cleaning") -> dg.AssetsDefinition:
    """Return `clean/<source>`: the raw table with its repairs, each counted."""
    table, raw = keys.clean(source.name), keys.raw(source.name)
    version = code_version(*filter(None, [cleaning.derive, "ml_assets.preparation.cleaning.clean"]))

    @dg.asset(
        key=table.split("/"),
        description=f"{source.description} Repaired: duplicates by key, implausible values, and what `derive` adds.",
        deps=[upstream(raw), *(upstream(used) for used in cleaning.uses)],
        group_name=keys.PREPARATION,
        owners=list(source.owners),
        kinds={"polars", "parquet"},
        tags={"stage": keys.PREPARATION},
        code_version=version,
        partitions_def=partitions_of(source.days),
        backfill_policy=dg.BackfillPolicy.single_run(),
        check_specs=check_specs(table, "The cleaned rows fit their expectations."),
    )
    def clean(context: dg.AssetExecutionContext, lake: LakeResource, clock: ClockResource) -> dg.MaterializeResult:
        from ml_assets.preparation.cleaning import Repairs
        from ml_assets.preparation.cleaning import clean as repair
        from ml_assets.preparation.writing import PARTITION, write_checked
        from ml_assets.quality import Expectation, suite_for

        store = lake.open()
        partitions = of_run_or_whole(context, source.days)
        repairs = Repairs(
            key=cleaning.key if cleaning.key is not None else source.key,
            plausible={column: (low, high) for column, (low, high) in cleaning.plausible.items()},
            derive=load(cleaning.derive) if cleaning.derive else None,
        )
        uses = {keys.sql_name(used): store.scan(used) for used in cleaning.uses}
        cleaned = repair(store.scan(raw, partitions, partition_column=PARTITION), repairs, uses=uses)
        suite = suite_for(table, (), extra=[Expectation.from_dict(item) for item in cleaning.expectations])
        written = write_checked(
            store,
            table,
            cleaned.frame,
            suite,
            now=clock.open(source.clock).now(),
            partitions=partitions,
            inputs={raw: store.version(raw, partitions)},
            code_version=version,
        )
        repaired = {f"repairs: {kind}": count for kind, count in cleaned.repairs.items()}
        return dg.MaterializeResult(
            metadata=show(context, table, written.manifests, partitions) | repaired,
            check_results=[check_result(written.verdict, table=table)],
        )

    return clean


def observations_asset(problem: "MlProblem") -> dg.AssetsDefinition:
    """Return `<problem>/observations`: what is predicted, as of when, and the outcome with the time it became known."""
    table = keys.problem(problem.name, "observations")
    sources: Sequence[str] = problem.observations.tables

    @dg.asset(
        key=table.split("/"),
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
        from ml_assets.preparation.observations import LABEL_TIMESTAMP, LABELS, observe, suite
        from ml_assets.preparation.writing import empty, write_checked

        store, partitions = lake.open(), of_run_or_whole(context, problem.days)
        task, now = problem.task.plain(), clock.open(problem.clock).now()
        frame = observe(
            store,
            problem.observations.query,
            sources,
            partitions,
            supervised=task.supervised,
            label=LABELS[task.output],
        )
        may_be_empty = not problem.observations.every_day
        if frame.is_empty() and may_be_empty and partitions:
            empty(store, table, partitions, written_at=now)
            return dg.MaterializeResult(metadata={"dagster/row_count": 0}, check_results=[nothing_asked(table)])
        written = write_checked(
            store,
            table,
            frame,
            suite(
                table,
                key=problem.observations.key,
                supervised=task.supervised,
                label=LABELS[task.output],
                classes=task.classes,
                timed=LABEL_TIMESTAMP in frame.columns,
            ),
            now=now,
            partitions=partitions,
            may_be_empty=may_be_empty,
            inputs={source: store.version(source, partitions) for source in sources},
        )
        return dg.MaterializeResult(
            metadata=show(context, table, written.manifests, partitions)
            | ({"rows without outcome": frame["label"].null_count()} if task.supervised else {}),
            check_results=[check_result(written.verdict, table=table)],
        )

    return observations
