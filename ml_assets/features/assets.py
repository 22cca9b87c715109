"""The feature store in Dagster: feature views as daily tables, and a problem's training set from Feast."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg
from pydantic import Field

from ml_assets import keys
from ml_assets.features.online.assets import online_asset
from ml_assets.resources.code import load, rooms_version, tables_version
from ml_assets.resources.evidence import check_result, check_specs, data_version, show, unchanged
from ml_assets.resources.partitions import anew, of_run_or_whole, partitions_of, upstream
from ml_assets.resources.places import ClockResource, FeatureStoreResource, LakeResource
from ml_assets.resources.scaffolder import ExampleScaffolder

if TYPE_CHECKING:
    from ml_assets.problem import MlProblem

LOOKBACK = "ml_assets/lookback_days"
AS_KNOWN_AT = "as_known_at"
AVAILABILITY, AS_DECLARED = "availability", "History reaches back, and outcomes become known, as the problem declares."
DECLARATION, FRESHNESS = "declaration", "freshness"
ROOMS = ("lake", "quality", "preparation", "features")  # whose code decides what a view's table becomes
TRAINING_ROOMS = ("tasks", "preparation", "features")  # and of a training set
COLUMN_SCHEMA, COLUMN_LINEAGE = "dagster/column_schema", "dagster/column_lineage"


class View(dg.Model, dg.Resolvable):
    """How one feature view is computed. Its entity, types and time to live are declared in `feature_repo/`."""

    name: str = Field(description="as Feast declares it; the table is features/<name>")
    description: str = Field(description="what a row says, for people")
    compute: str = Field(
        description="dotted path of a function from a Polars lazy frame of `source` to the view's rows"
    )
    source: str = Field(description="the table it is computed from, such as clean/flights")
    uses: Sequence[str] = Field(
        default=(),
        description="further tables of the same days that `compute` takes, as keyword arguments: clean/weather as clean_weather",
    )
    entity: Sequence[str] = Field(description="join key columns")
    lookback_days: int = Field(
        default=0, description="days of `source` before a day on which the day's rows depend; on others they must not"
    )
    partitioned: bool = Field(default=True, description="false: one table without days, such as a register")
    fresh_within_hours: float | None = Field(
        default=None, description="the newest event may be this old; without it, freshness is not judged"
    )
    expectations: Sequence[Mapping[str, Any]] = Field(default=(), description="Great Expectations: {type, kwargs}")


@dg.scaffold_with(ExampleScaffolder)
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
          fresh_within_hours: 36
    ```

    What the function returns is held against Feast's declaration of the same name: columns and types, both ways.
    A view's row belongs to the day of its `event_timestamp` in `time_zone`, which should be that of the source's days.
    """

    days: str | None = Field(default=None, description="first and last day; needed by views with partitions")
    time_zone: str = Field(default="UTC", description="of the days, an IANA name")
    clock: Literal["replay", "system"] = Field(
        default="replay", description="whose time it is: the replay's while there is one, or the system's"
    )
    owners: Sequence[str] = Field(default=(), description="e-mail addresses, or teams as team:name")
    views: Sequence[View] = Field(description="the views, one table each")

    def problems(self) -> Iterator[tuple[int, str, str]]:
        """Yield the number of a view, the field, and the words, for each contradiction of the declaration."""
        for number, view in enumerate(self.views):
            if view.fresh_within_hours is not None and not view.partitioned:
                yield number, "fresh_within_hours", "without days nothing is fresh or stale; remove fresh_within_hours"
            if view.partitioned and self.days is None:
                yield number, "partitioned", "a view by days needs days; declare days, or partitioned: false"

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Return each view's table and its online side; `ValueError` for a declaration that contradicts itself."""
        for number, _, problem in self.problems():
            raise ValueError(f"view {self.views[number].name}: {problem}")
        days = {view.name: self.days if view.partitioned else None for view in self.views}
        return dg.Definitions(
            assets=[
                *(feature_asset(self, view) for view in self.views),
                *(
                    online_asset(name, days=interval, owners=self.owners, clock_of=self.clock)
                    for name, interval in days.items()
                ),
            ]
        )


def feature_asset(component: FeatureViews, view: View) -> dg.AssetsDefinition:
    """Return `features/<view>`."""
    table = keys.feature_view(view.name)

    @dg.asset(
        key=table.split("/"),
        description=view.description,
        deps=[upstream(read, lookback=view.lookback_days) for read in (view.source, *view.uses)],
        group_name=keys.FEATURE_STORE,
        owners=list(component.owners),
        kinds={"polars", "feast"},
        tags={"stage": keys.FEATURE_STORE},
        metadata={LOOKBACK: view.lookback_days},
        code_version=tables_version(view.compute, rooms=ROOMS),
        partitions_def=partitions_of(component.days if view.partitioned else None),
        backfill_policy=dg.BackfillPolicy.single_run(),
        freshness_policy=_freshness_policy(view),
        check_specs=_check_specs(table, view),
    )
    def features(
        context: dg.AssetExecutionContext, lake: LakeResource, feature_store: FeatureStoreResource, clock: ClockResource
    ) -> dg.MaterializeResult:
        store, repo, now = lake.open(), feature_store.declared(), clock.open(component.clock).now()
        partitions = of_run_or_whole(context, component.days if view.partitioned else None)
        work = view_recipe(component, view, repo).work(store, partitions, anew=anew(context))
        tables = {read: work.scan(read) for read in work.recipe.reads}
        made = view_maker(component, view, repo, now=now)(work)
        fresh, freshness = _freshness(view, store, now=now)
        page = _page(view, repo, made.rows, tables) | {"freshness": fresh}
        manifests = made.written.manifests
        return dg.MaterializeResult(
            metadata=show(context, table, manifests, partitions, page) | unchanged(len(work.unchanged)),
            check_results=[
                check_result(made.written.verdict, table=table),
                check_result(made.declaration, name=DECLARATION, table=table),
                *freshness,
            ],
            data_version=data_version(manifests),
        )

    return features


def view_maker(component: FeatureViews, view: View, repo: Any, *, now: datetime) -> Callable[[Any], Any]:
    """Return what makes the view of a recipe's `Work`: it returns the `ml_assets.features.making.MadeView`."""
    from ml_assets.features.making import make_view

    def make(work: Any) -> Any:
        return make_view(
            work,
            view.name,
            _compute(view, {read: work.scan(read) for read in work.recipe.reads}),
            repo.views.get(view.name),
            entity=view.entity,
            expectations=view.expectations,
            time_zone=component.time_zone,
            now=now,
        )

    return make


def view_recipe(component: FeatureViews, view: View, repo: Any) -> Any:
    """Return the `ml_assets.preparation.recipe.Recipe` of `features/<view>`; Feast's declaration decides its verdict too."""
    from ml_assets.features.making import feast_declares
    from ml_assets.preparation.recipe import Recipe

    reads = dict.fromkeys((view.source, *view.uses), view.lookback_days if view.partitioned else None)
    declared = view.model_dump(exclude={"name", "description", "fresh_within_hours"})
    declared |= {"time_zone": component.time_zone, "feast": feast_declares(repo.views.get(view.name))}
    version = tables_version(view.compute, rooms=ROOMS)
    return Recipe(keys.feature_view(view.name), reads, version, declared)


def _check_specs(table: str, view: View) -> list[dg.AssetCheckSpec]:
    """Return the view's checks. A view that cannot be stale has no check of it: what does not apply must not pass."""
    found = [
        *check_specs(table, "One row per entity and moment, the moment known, values in their range, few nulls."),
        *check_specs(table, "Columns and types are those that Feast declares, both ways.", name=DECLARATION),
    ]
    if view.fresh_within_hours is not None:
        text = f"The newest event is at most {view.fresh_within_hours:g} hours old."
        found.append(dg.AssetCheckSpec(FRESHNESS, asset=table.split("/"), description=text))
    return found


def _freshness_policy(view: View) -> dg.FreshnessPolicy | None:
    if view.fresh_within_hours is None:
        return None
    return dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=view.fresh_within_hours))


def _freshness(view: View, store: Any, *, now: datetime) -> tuple[str, list[dg.AssetCheckResult]]:
    """Return in words how fresh the view is, and the check's result; none when it does not apply."""
    from ml_assets.features.views import freshness

    if view.fresh_within_hours is None:
        reason = "no fresh_within_hours is declared" if view.partitioned else "its rows are of no day"
        return f"not applicable: {reason}", []
    table = keys.feature_view(view.name)
    found = freshness(store, table, now=now, within_hours=view.fresh_within_hours)
    result = dg.AssetCheckResult(
        check_name=FRESHNESS,
        asset_key=table.split("/"),
        passed=found.fresh,
        severity=dg.AssetCheckSeverity.WARN,
        description=found.reason(),
    )
    return found.reason(), [result]


def _compute(view: View, tables: Mapping[str, Any]) -> Callable[..., Any]:
    """Return the view's function of its source alone, with the tables that it uses."""
    function = load(view.compute)
    return partial(function, **{keys.sql_name(used): tables[used] for used in view.uses}) if view.uses else function


def _page(view: View, repo: Any, frame: Any, tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the asset's page shows of the view and of the rows of this run."""
    from ml_assets.features import catalog
    from ml_assets.preparation.writing import PARTITION

    features = catalog.features_of(frame, view.entity)
    found = _lineages(view, tables, features)
    pages = catalog.page(repo, view.name, frame, features)
    pages["lineage"] = "\n\n".join(catalog.lineage_table(repo, view.name, read, of) for read, of in found.items())
    told = repo.views[view.name].descriptions if view.name in repo.views else {}
    columns = {name: str(dtype) for name, dtype in frame.schema.items() if name != PARTITION}
    return {
        COLUMN_SCHEMA: dg.TableSchema([dg.TableColumn(name, dtype, told.get(name)) for name, dtype in columns.items()]),
        **catalog.about(repo, view.name),
        **{title: dg.MetadataValue.md(text) for title, text in pages.items()},
        COLUMN_LINEAGE: dg.TableColumnLineage(
            {
                feature: [
                    dg.TableColumnDep(dg.AssetKey(read.split("/")), column)
                    for read, of in found.items()
                    for column in of.columns.get(feature, ())
                ]
                for feature in found[view.source].columns
            }
        ),
    }


def _lineages(view: View, tables: Mapping[str, Any], features: Sequence[str]) -> dict[str, Any]:
    """Return, for each table that the view reads, its columns behind each feature; the other tables are empty meanwhile."""
    from ml_assets.features import catalog

    def of(read: str) -> Any:
        def compute(noting: Any) -> Any:
            given = {name: table.clear() for name, table in tables.items()} | {read: noting}
            return _compute(view, given)(given[view.source])

        return catalog.lineage(compute, tables[read], features, view.entity)

    return {read: of(read) for read in tables}


def training_set_asset(problem: "MlProblem") -> dg.AssetsDefinition:
    """Return `<problem>/training_set`: observations with a known outcome, each with its features as of its moment."""
    table, observed = (keys.problem(problem.name, part) for part in ("training_set", "observations"))
    views = [keys.feature_view(view) for view in problem.views]
    how = "by time" if problem.split.by == "time" else "at random"
    declared = any(problem.availability.declared.values())

    @dg.asset(
        key=table.split("/"),
        description="Observations with a known outcome, joined by Feast with the features as they were known at each "
        f"moment of prediction, and split {how}.",
        deps=[observed.split("/"), *(view.split("/") for view in views)],
        group_name=keys.DEVELOPMENT,
        owners=list(problem.owners),
        kinds={"feast", "polars"},
        tags={"stage": keys.DEVELOPMENT},
        check_specs=[
            *check_specs(table, "Labels are known and valid, no feature is empty, all three splits are there."),
            *([dg.AssetCheckSpec(AVAILABILITY, asset=table.split("/"), description=AS_DECLARED)] if declared else []),
        ],
    )
    def training_set(
        context: dg.AssetExecutionContext, lake: LakeResource, feature_store: FeatureStoreResource, clock: ClockResource
    ) -> dg.MaterializeResult:
        from ml_assets.features.training import counts

        store, now = lake.open(), clock.open(problem.clock).now()
        made, written = write_training_set(problem, store, feature_store, now=now)
        return dg.MaterializeResult(
            metadata=show(context, table, written.manifests, None)
            | {f"rows in {name}": count for name, count in counts(made.labelled).items()}
            | {f"left out, {reason}": count for reason, count in made.left_out.items()}
            | {AS_KNOWN_AT: now.isoformat(), "data_hash": written.manifests["_"].version},
            check_results=[
                check_result(written.verdict, table=table),
                *(_availability(problem, store.scan(observed), table) if declared else []),
            ],
            data_version=dg.DataVersion(written.manifests["_"].version[:20]),
        )

    return training_set


def write_training_set(
    problem: "MlProblem", store: Any, feature_store: FeatureStoreResource, *, now: datetime
) -> tuple[Any, Any]:
    """Make the training set as known now and write it; return the `TrainingRows` with their features, and what was `Written`.

    Its manifest names the snapshots that it was made from, the moment, and the declaration: with these it can be made again. Raises
    `TrainingSetError` when something else was written meanwhile, three times in a row.
    """
    from ml_assets.features.training import pinned, training_suite
    from ml_assets.preparation.writing import write_checked

    table = keys.problem(problem.name, "training_set")
    made, snapshots = pinned(
        store, inputs_of(problem), lambda: training_frame(problem, store, feature_store, as_known_at=now)
    )
    suite = training_suite(
        table, made.labelled.schema, key=problem.observations.key, supervised=problem.task.plain().supervised
    )
    told = {AS_KNOWN_AT: now.isoformat(), DECLARATION: problem.declared[1]}
    written = write_checked(
        store,
        table,
        made.labelled,
        suite,
        now=now,
        inputs=snapshots | told,
        code_version=rooms_version(*TRAINING_ROOMS),
    )
    return made, written


def inputs_of(problem: "MlProblem") -> list[str]:
    """Return the tables that the problem's training set is made from: its observations and feature views."""
    return [keys.problem(problem.name, "observations"), *(keys.feature_view(view) for view in problem.views)]


def training_frame(
    problem: "MlProblem", store: Any, feature_store: FeatureStoreResource, *, as_known_at: datetime
) -> Any:
    """Return the `ml_assets.features.training.TrainingRows` as known at a moment, with features and split."""
    from dataclasses import replace

    from ml_assets.features.training import SPLIT, refuse_empty_splits, training_rows
    from ml_assets.preparation.observations import model_features

    plan = problem.split.plain(problem.seed)
    observed = store.scan(keys.problem(problem.name, "observations"))
    rows = training_rows(observed, plan, as_known_at=as_known_at, supervised=problem.task.plain().supervised)
    frame = with_features(problem, feature_store, rows.labelled, as_known_at=as_known_at)
    if not plan.by_time:
        features = model_features(frame.columns, not_features=problem.ignored)
        frame = frame.with_columns(plan.drawn(frame, features).alias(SPLIT))
    refuse_empty_splits(frame)
    return replace(rows, labelled=frame)


def _availability(problem: "MlProblem", observations: Any, table: str) -> list[dg.AssetCheckResult]:
    from ml_assets.features.training import availability

    found = availability(observations, **problem.availability.declared)
    result = dg.AssetCheckResult(
        check_name=AVAILABILITY,
        asset_key=table.split("/"),
        passed=found is None or found.as_declared,
        severity=dg.AssetCheckSeverity.WARN,
        description=found.reason if found else "not applicable: observations carry no time of their outcomes",
    )
    return [result]


def with_features(problem: "MlProblem", feature_store: FeatureStoreResource, observations: Any, **known: Any) -> Any:
    """Return observations with the problem's features as of each moment; as they are when it declares no features."""
    if problem.features is None:
        return observations
    return feature_store.historical(problem.features.service, observations, views=problem.features.views, **known)
