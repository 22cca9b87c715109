"""The feature store in Dagster: feature views as daily tables, and a problem's training set from Feast."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from ml_assets import keys
from ml_assets.resources.code import code_version, load
from ml_assets.resources.evidence import check_result, check_specs, show
from ml_assets.resources.partitions import daily, of_run, upstream
from ml_assets.resources.places import ClockResource, FeatureStoreResource, LakeResource

if TYPE_CHECKING:
    from ml_assets.problem import MlProblem

LOOKBACK = "ml_assets/lookback_days"


class View(dg.Model, dg.Resolvable):
    """How one feature view is computed. Its entity, types and time to live are declared in `feature_repo/`."""

    name: str
    description: str
    compute: str = Field(
        description="dotted path of a function from a Polars lazy frame of `source` to the view's rows"
    )
    source: str = Field(description="the table it is computed from, such as clean/flights")
    entity: Sequence[str] = Field(description="join key columns")
    lookback_days: int = Field(default=0, description="days of `source` before a day on which the day's rows depend")
    partitioned: bool = True
    expectations: Sequence[Mapping[str, Any]] = Field(default=(), description="Great Expectations: {type, kwargs}")


class FeatureViews(dg.Component, dg.Model, dg.Resolvable):
    """Feature views as assets.

    ```yaml
    type: ml_assets.FeatureViews
    attributes:
      days: 2013-01-01/2013-12-31
      time_zone: America/New_York
      owners: [team:operations]
      views:
        - name: carrier_history
          description: How the carrier's flights went lately.
          compute: ml_assets.defs.flights.features.carrier_history
          source: clean/flights
          entity: [carrier]
          lookback_days: 9
    ```

    A view's row belongs to the day of its `event_timestamp` in `time_zone`, which should be that of the source's days.
    """

    days: str
    time_zone: str = "UTC"
    owners: Sequence[str] = ()
    views: Sequence[View]

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Return one asset per view."""
        return dg.Definitions(assets=[feature_asset(self, view) for view in self.views])


def feature_asset(component: FeatureViews, view: View) -> dg.AssetsDefinition:
    """Return `features/<view>`."""
    table = keys.feature_view(view.name)
    version = code_version(view.compute)

    @dg.asset(
        key=table.split("/"),
        description=view.description,
        deps=[upstream(view.source, lookback=view.lookback_days)],
        group_name=keys.FEATURE_STORE,
        owners=list(component.owners),
        kinds={"polars", "feast"},
        tags={"stage": keys.FEATURE_STORE},
        metadata={LOOKBACK: view.lookback_days},
        code_version=version,
        partitions_def=daily(component.days) if view.partitioned else None,
        backfill_policy=dg.BackfillPolicy.single_run(),
        check_specs=check_specs(table, "One row per entity and moment, the moment known, values in their range."),
    )
    def features(context: dg.AssetExecutionContext, lake: LakeResource, clock: ClockResource) -> dg.MaterializeResult:
        from ml_assets.features.views import compute_view, view_suite
        from ml_assets.preparation.writing import write_checked

        store = lake.open()
        partitions = of_run(context) if view.partitioned else None
        sources = _with_lookback(partitions, view.lookback_days)
        frame = compute_view(load(view.compute), store.scan(view.source, sources), time_zone=component.time_zone)
        written = write_checked(
            store,
            table,
            frame,
            view_suite(table, view.entity, view.expectations),
            now=clock.open().now(),
            partitions=partitions,
            inputs={view.source: store.version(view.source, sources)},
            code_version=version,
        )
        return dg.MaterializeResult(
            metadata=show(context, table, written.manifests, partitions),
            check_results=[check_result(written.verdict, table=table)],
        )

    return features


def training_set_asset(problem: "MlProblem") -> dg.AssetsDefinition:
    """Return `<problem>/training_set`: observations with a known outcome, each with its features as of its moment."""
    table, observed = (keys.problem(problem.name, part) for part in ("training_set", "observations"))
    views = [keys.feature_view(view) for view in problem.features.views]

    @dg.asset(
        key=table.split("/"),
        description="Observations with a known outcome, joined by Feast with the features as they were known at each "
        "moment of prediction, and split by time.",
        deps=[observed.split("/"), *(view.split("/") for view in views)],
        group_name=keys.DEVELOPMENT,
        owners=list(problem.owners),
        kinds={"feast", "polars"},
        tags={"stage": keys.DEVELOPMENT},
        check_specs=check_specs(table, "Labels are known and valid, no feature is empty, all three splits are there."),
    )
    def training_set(
        context: dg.AssetExecutionContext, lake: LakeResource, feature_store: FeatureStoreResource, clock: ClockResource
    ) -> dg.MaterializeResult:
        from ml_assets.features.training import training_rows, training_suite
        from ml_assets.preparation.splits import split_windows
        from ml_assets.preparation.writing import write_checked

        store, now = lake.open(), clock.open().now()
        split = problem.split
        windows = split_windows(as_known_at=now, train=split.train, validation=split.validation, test=split.test)
        rows = training_rows(store.scan(observed), windows, as_known_at=now)
        frame = feature_store.historical(
            problem.features.service, rows.labelled, as_known_at=now, views=problem.features.views
        )
        written = write_checked(
            store,
            table,
            frame,
            training_suite(table, frame.schema, key=problem.observations.key),
            now=now,
            inputs={name: store.version(name) for name in (observed, *views)},
        )
        return dg.MaterializeResult(
            metadata=show(context, table, written.manifests, None)
            | {f"rows in {name}": count for name, count in rows.counts.items()}
            | {f"left out, outcome {reason}": count for reason, count in rows.unlabelled.items()}
            | {"as_known_at": now.isoformat(), "data_hash": written.manifests["_"].version},
            check_results=[check_result(written.verdict, table=table)],
            data_version=dg.DataVersion(written.manifests["_"].version[:20]),
        )

    return training_set


def _with_lookback(partitions: Sequence[str] | None, count: int) -> list[str] | None:
    if partitions is None:
        return None
    wanted = {keys.before(partition, back) for partition in partitions for back in range(count + 1)}
    return sorted(wanted)
