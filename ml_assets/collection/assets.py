"""Stage 2 in Dagster: raw tables from the landing zone, and the sensor that watches it."""

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from ml_assets import keys
from ml_assets.resources.evidence import check_result, check_specs, data_version, show
from ml_assets.resources.partitions import of_run_or_whole, partitions_of
from ml_assets.resources.places import ClockResource, LakeResource, LandingResource

if TYPE_CHECKING:
    from datetime import datetime

    from ml_assets.source import Source

PATTERN = "ml_assets/landing_pattern"
DAYS = "ml_assets/days"
EVERY = "ml_assets/every_hours"  # from one pull to the next; only of what is pulled
LOOKBACK = "ml_assets/lookback_days"  # the metadata of a table that depends on earlier days of its source
COLLECTS = "ml_assets/collects"
BATCH = "ml_assets/batch"
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
FILES = "files"
CHAMPION = "champion"
MOST_ENTRIES_SHOWN = 50
MOST_RUNS = 10  # of one request
# A run key is never taken twice: what was cancelled is asked for under another one, or its files would wait in silence.
IN_VAIN = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


def raw_asset(source: "Source") -> dg.AssetsDefinition:
    """Return `raw/<source>`: every new file of the source, checked against its contract, as partitions of the lake."""
    from datetime import timedelta

    table = keys.raw(source.name)

    @dg.asset(
        key=table.split("/"),
        description=source.description,
        group_name=keys.COLLECTION,
        owners=list(source.owners),
        kinds={"polars", "parquet"},
        tags={"stage": keys.COLLECTION},
        metadata={
            PATTERN: source.pattern,
            DAYS: source.days or "",
            **({EVERY: source.pulled.every_hours} if source.pulled else {}),
            "columns": dg.MetadataValue.md(_columns_table(source)),
        },
        partitions_def=partitions_of(source.days),
        backfill_policy=dg.BackfillPolicy.single_run(),
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=source.fresh_within_hours)),
        check_specs=[
            *check_specs(
                table, "Every row fits the source's contract: columns, types, nulls, ranges, categories, key."
            ),
            dg.AssetCheckSpec(
                FILES,
                asset=table.split("/"),
                description="No delivered file is waiting in quarantine, and none that is in was accepted with another schema.",
            ),
        ],
    )
    def raw(
        context: dg.AssetExecutionContext, landing: LandingResource, lake: LakeResource, clock: ClockResource
    ) -> dg.MaterializeResult:
        from ml_assets.collection.collect import collect

        places, now = landing.open(), clock.open(source.clock).now()
        pulled = _pull(source, places, now)
        partitions = of_run_or_whole(context, source.days)
        done = collect(source.contract(), places, now=now, partitions=partitions)
        manifests = places.lake.manifests(table, partitions)
        return dg.MaterializeResult(
            metadata=show(context, table, manifests, partitions, pulled | _files_metadata(done, places, source)),
            check_results=[_contract_check(table, manifests), _files_check(table, places, source)],
            data_version=data_version(manifests),
        )

    return raw


def _pull(source: "Source", places: Any, now: "datetime") -> dict[str, Any]:
    """Pull what is new into the landing zone, all of it, whatever the run's days are; return what to show of it."""
    declared = source.pulled
    if declared is None:
        return {}
    from ml_assets.collection.pull import pull

    done = pull(declared.opened(), source.contract(), places, now=now)
    return {
        "rows pulled": done.rows,
        "days pulled": len(done.days),
        "files pulled": len(done.files),
        **({"requests answered": done.requests} if done.requests else {}),
        "cursor": str(done.cursor),
    }


def landing_sensor(
    *,
    job: Any,
    selection: dg.AssetSelection,
    needs_champion: dg.AssetSelection,
    interval: int = 30,
    running: bool = True,
) -> dg.SensorDefinition:
    """Return the sensor on the landing zone; `ml_assets.collection.watch.look` decides what it asks for.

    A run makes the assets of `selection`, without reference tables that have no new file, and without the assets in
    `needs_champion` of a problem that has no champion yet: nothing could be scored. `interval` in seconds; `running` is its
    state until somebody switches it in the web UI.
    """

    @dg.sensor(
        name="landing_sensor",
        job=job,
        minimum_interval_seconds=interval,
        default_status=dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED,
        description="Watches the landing zone: new files fire one run for each stretch of days, and so does a pull that is due.",
    )
    def sensor(
        context: dg.SensorEvaluationContext, landing: LandingResource, clock: ClockResource
    ) -> dg.SkipReason | list[dg.RunRequest]:
        from ml_assets.collection.watch import cursor_of, look, remembered

        graph = _graph(context)
        places, now = landing.open(), clock.open().now()
        pending = _pending(context.instance, remembered(context.cursor))
        found = look(
            places,
            [contract for key in graph.get_all_asset_keys() if (contract := _watched(graph.get(key)))],
            now=now,
            due=_due(graph, places, now),
            in_flight=_in_flight(context.instance),
            failures=_failures(context.instance),
            failed_runs={request: failed for request, failed in pending.items() if failed},
            reach=max(int(graph.get(key).metadata.get(LOOKBACK, 0)) for key in graph.get_all_asset_keys()),
        )
        asked = [] if isinstance(found, str) else found
        context.update_cursor(cursor_of([*(one for one in pending if not _renewed(one, asked)), *asked]))
        if isinstance(found, str):
            return dg.SkipReason(found)
        blocked = _without_champion(graph, context.instance, needs_champion.resolve(graph))
        wanted = selection.resolve(graph) - blocked
        return [_run_request(graph, request, wanted) for request in found]

    return sensor


def _watched(node: Any) -> Any:
    """Return what the sensor needs of a raw asset's contract (no columns), or None for any other asset."""
    from ml_assets.collection.contract import SourceContract

    pattern = node.metadata.get(PATTERN)
    days = node.metadata.get(DAYS)
    return SourceContract(node.key.path[-1], pattern, (), days=days or None) if pattern else None


def _due(graph: Any, places: Any, now: "datetime") -> list[Any]:
    """Return the sources that are to be pulled again; what they are pulled from is not asked."""
    from ml_assets.collection.due import due

    nodes = [node for key in graph.get_all_asset_keys() if EVERY in (node := graph.get(key)).metadata]
    found = [due(places, _watched(node), now=now, hours=float(node.metadata[EVERY])) for node in nodes]
    return [one for one in found if one]


def _graph(context: dg.SensorEvaluationContext) -> Any:
    if context.repository_def is None:
        raise ValueError("the landing sensor needs its repository; give build_sensor_context(repository_def=…)")
    return context.repository_def.asset_graph


def _in_flight(instance: dg.DagsterInstance) -> list[str]:
    filters = dg.RunsFilter(tags={COLLECTS: "true"}, statuses=list(NOT_FINISHED_STATUSES))
    return [run.run_id for run in instance.get_runs(filters, limit=1)]


def _failures(instance: dg.DagsterInstance) -> dict[str, int]:
    filters = dg.RunsFilter(tags={COLLECTS: "true"}, statuses=list(IN_VAIN))
    return Counter(run.tags.get(BATCH, "") for run in instance.get_runs(filters, limit=100))


def _pending(instance: dg.DagsterInstance, asked: Sequence[Any]) -> dict[Any, int]:
    """Return the requests whose last run did not succeed, and how many of their runs failed: 0 while it is not over."""
    found = {}
    for request in asked:
        tags = {BATCH: request.batch} | ({RANGE_START: request.first} if request.first else {})
        runs = instance.get_runs(dg.RunsFilter(tags=tags), limit=MOST_RUNS)
        if not runs or runs[0].status != dg.DagsterRunStatus.SUCCESS:
            failed = [run for run in runs if run.status in IN_VAIN]
            found[request] = len(failed) if runs and runs[0] in failed else 0
    return found


def _renewed(request: Any, asked: Sequence[Any]) -> bool:
    """Tell whether a request is among those that are asked for (again)."""
    return any((request.batch, request.first) == (other.batch, other.first) for other in asked)


def _without_champion(graph: Any, instance: dg.DagsterInstance, keys_: Set[dg.AssetKey]) -> set[dg.AssetKey]:
    """Return those of the keys whose problem has no champion yet."""
    champions = {key.path[0]: key for key in graph.get_all_asset_keys() if key.path[-1] == CHAMPION}
    missing = {name for name, key in champions.items() if instance.get_latest_materialization_event(key) is None}
    return {key for key in keys_ if missing.intersection(key.path[:-1])}  # profiles/<problem>/predictions is its too


def _run_request(graph: Any, request: Any, wanted: Set[dg.AssetKey]) -> dg.RunRequest:
    idle = {
        key
        for key in wanted
        if PATTERN in graph.get(key).metadata
        and not graph.get(key).is_partitioned
        and key.path[-1] not in request.sources
    }
    selected = wanted - idle
    tags = {BATCH: request.batch, "ml_assets/files": str(request.files)}
    if request.first is None:
        watched = {key for key in selected if PATTERN in graph.get(key).metadata and key.path[-1] in request.sources}
        selected = _without_days(graph, watched, selected)
    else:
        tags |= {RANGE_START: request.first, RANGE_END: request.last}
    return dg.RunRequest(run_key=request.key, tags=tags, asset_selection=sorted(selected))


def _without_days(graph: Any, keys_: Set[dg.AssetKey], wanted: Set[dg.AssetKey]) -> set[dg.AssetKey]:
    """Return the keys and what follows from them, as far as it has no days: a new table of aircraft is a new feature view."""
    found, following = set(keys_), set(keys_)
    while following:
        children = {child for key in following for child in graph.get(key).child_keys}
        following = {child for child in children & wanted if not graph.get(child).is_partitioned} - found
        found |= following
    return found


def _columns_table(source: "Source") -> str:
    rows = [f"| {c.name} | {c.type} | {c.unit} | {c.nullable} | {c.description} |" for c in source.columns]
    return "\n".join(["| column | type | unit | nullable | description |", "|---|---|---|---|---|", *rows])


def _files_metadata(done: Any, places: Any, source: "Source") -> dict[str, Any]:
    """Return what this run decided, and the source's ledger as it stands: counts, and what was not simply ingested."""
    from ml_assets.collection.ledger import STATUSES

    ledger = [entry for entry in places.ledger.entries() if entry.source == source.name]
    counts = " · ".join(f"{sum(entry.status == status for entry in ledger)} {status}" for status in STATUSES)
    return {
        **{f"files {status}": len(done.with_status(status)) for status in STATUSES},
        "decisions": dg.MetadataValue.md(_entries_table(done.entries)),
        "ledger": dg.MetadataValue.md(f"{counts}\n\n{_entries_table(ledger)}"),
    }


def _entries_table(entries: Sequence[Any]) -> str:
    notable = [entry for entry in entries if entry.status != "ingested" or entry.note][-MOST_ENTRIES_SHOWN:]
    if not notable:
        return "every file was ingested"
    rows = [
        f"| {entry.name} | {entry.status} | {'; '.join(filter(None, (entry.reason, entry.note)))} |"
        for entry in notable
    ]
    return "\n".join(["| file | status | reason |", "|---|---|---|", *rows])


def _contract_check(table: str, manifests: Mapping[str, Any]) -> dg.AssetCheckResult:
    from ml_assets.quality import Verdict, merge

    verdicts = {name: Verdict.from_dict(manifest.verdicts[0]) for name, manifest in manifests.items()}
    return check_result(merge(verdicts), table=table)


def _files_check(table: str, places: Any, source: "Source") -> dg.AssetCheckResult:
    from ml_assets.collection.collect import waiting

    changed = {entry.name: entry.note for entry in places.ledger.live(source.name).values() if entry.note}
    told = {entry.name: entry.reason for entry in waiting(source.contract(), places)} | changed
    rows = [f"| {name} | {reason} |" for name, reason in list(told.items())[-MOST_ENTRIES_SHOWN:]]
    return dg.AssetCheckResult(
        check_name=FILES,
        asset_key=table.split("/"),
        passed=not told,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(f"{name}: {reason}" for name, reason in list(told.items())[:3]) or None,
        metadata={"quarantine": dg.MetadataValue.md("\n".join(["| file | reason |", "|---|---|", *rows]))},
    )
