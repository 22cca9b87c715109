"""A Feast offline store on Polars, usable in any Feast repository.

```yaml
offline_store:
  type: ml_assets.features.offline_store.PolarsOfflineStore
  memory_limit_mb: 2048 # optional, as is staging_location
```

A `FileSource` path may be a table of a lake (read through its manifests, red partitions refused), a Parquet file, a
folder of Parquet files or a glob; local paths are relative to the repository. Unlike Feast's own stores it keeps every
entity row, in order, takes Polars and Arrow entity frames as well as pandas, SQL, or two dates, and joins within a memory
limit.

Feast is imported at the top because the classes derive from Feast's; only Feast and functions import this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import polars as pl
import pyarrow as pa
from feast.data_format import ParquetFormat
from feast.data_source import DataSource, PushSource
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.feature_logging import LoggingConfig, LoggingSource
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL, FeatureView
from feast.infra.offline_stores.file_source import FileLoggingDestination, FileSource
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob, RetrievalMetadata
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from feast.saved_dataset import SavedDatasetStorage
from feast.utils import compute_non_entity_date_range, make_tzaware
from pydantic import PositiveInt

from ml_assets.features.entity_rows import Table, dated_rows, frame_rows, sql_rows
from ml_assets.features.on_demand import POLARS_TYPES, asked_on_demand, require_request, with_request_features
from ml_assets.features.online.rows import Packing
from ml_assets.features.parquet import (
    append_partitioned,
    append_rows,
    broken_file,
    parquet_files,
    replace_rows,
    write_file,
)
from ml_assets.features.point_in_time import FeatureError, point_in_time_join, require_columns, require_zone
from ml_assets.features.push_log import PushLog
from ml_assets.features.reading import (
    DeclaredView,
    Feature,
    Period,
    Reading,
    existing,
    has_data,
    kind,
    lake_table,
    location,
    observed_period,
    scan,
    scan_with_pushed,
    view_joins,
    within,
)
from ml_assets.features.replayed import now_inside_feast
from ml_assets.features.sharding import usable_memory
from ml_assets.lake import content_hash

if TYPE_CHECKING:
    from feast import FeatureStore

EXPORTED_ROWS = 1_000_000  # in one file of `to_remote_storage`
_PLAIN = Reading()
_READING: ContextVar[Reading] = ContextVar("polars_offline_store_reading", default=_PLAIN)


@contextmanager
def reading(*, as_known_at: datetime | None = None, lake_url: str | None = None) -> Iterator[None]:
    """Set, for Feast calls inside the block, what Feast's own signatures cannot carry.

    `as_known_at`: rows created later do not exist. `lake_url`: read the lake tables named by the last two parts of
    each source's path from this lake. A job remembers what was set when it was made. Threads do not see each other's.
    """
    token = _READING.set(Reading(as_known_at, lake_url))
    try:
        yield
    finally:
        _READING.reset(token)


class PolarsOfflineStoreConfig(FeastConfigBaseModel):
    """The `offline_store` section of feature_store.yaml.

    `memory_limit_mb`: what the process may hold at the peak of a join; views that do not fit are joined in shards, through
    the temporary folder. None: what the machine or its container has left. `staging_location`: a folder or URL for
    `RetrievalJob.to_remote_storage`.
    """

    type: Literal["ml_assets.features.offline_store.PolarsOfflineStore"] = (
        "ml_assets.features.offline_store.PolarsOfflineStore"
    )
    memory_limit_mb: PositiveInt | None = None
    staging_location: str | None = None


class PolarsRetrievalJob(RetrievalJob):
    """A query that runs when its result is asked for, as Polars, Arrow or pandas."""

    def __init__(
        self,
        evaluate: Callable[[], pl.DataFrame],
        *,
        repo_path: Path | str | None,
        full_feature_names: bool = False,
        on_demand_feature_views: Sequence[OnDemandFeatureView] = (),
        metadata: RetrievalMetadata | None = None,
        staging: str | None = None,
    ) -> None:
        """`evaluate` returns the result before on-demand views. `staging`: the folder or URL for `to_remote_storage`."""
        self._evaluate = evaluate
        self._repo_path = repo_path
        self._full_feature_names = full_feature_names
        self._on_demand_feature_views = list(on_demand_feature_views)
        self._metadata = metadata
        self._staging = staging

    @property
    def full_feature_names(self) -> bool:
        """Tell whether features are named `view__feature`."""
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        """Return the on-demand views to compute on top."""
        return self._on_demand_feature_views

    @property
    def metadata(self) -> RetrievalMetadata | None:
        """Return what was asked for; None for jobs over a single source."""
        return self._metadata

    def to_polars(self) -> pl.DataFrame:
        """Return the result without leaving Polars, unless there are on-demand views that only Feast can compute."""
        refs = self._metadata.features if self._metadata else []
        ours = asked_on_demand(self._on_demand_feature_views, refs, full_feature_names=self._full_feature_names)
        if ours is not None:
            return with_request_features(self._evaluate(), ours)
        frame = pl.from_arrow(self.to_arrow())
        assert isinstance(frame, pl.DataFrame)
        return frame

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return _arrow(self._evaluate())

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return self._to_arrow_internal().to_pandas()

    def persist(self, storage: SavedDatasetStorage, allow_overwrite: bool = False, timeout: int | None = None) -> None:
        """Write the result to the Parquet file or folder that `storage` names; whole or not at all.

        Raises `SavedDatasetLocationAlreadyExists` unless overwriting is allowed.
        """
        path = location(_path(storage.to_data_source()), self._repo_path)
        if parquet_files(path) and not allow_overwrite:
            raise SavedDatasetLocationAlreadyExists(location=path)
        replace_rows(path, self.to_polars())

    def to_sql(self) -> str:
        """Raise `NotImplementedError`: the result is computed on Polars frames, and no statement says how."""
        raise NotImplementedError(
            "PolarsOfflineStore joins frames and has no SQL; take to_polars(), to_arrow() or to_df()"
        )

    def supports_remote_storage_export(self) -> bool:
        """Tell whether `offline_store.staging_location` is set."""
        return self._staging is not None

    def to_remote_storage(self) -> list[str]:
        """Write the result as Parquet files of a million rows below the staging location, and return their paths.

        The same result has the same paths. Raises `FeatureError` without a staging location.
        """
        if self._staging is None:
            raise FeatureError("nowhere to export to: set offline_store.staging_location in feature_store.yaml")
        frame, root = self.to_polars(), location(self._staging, self._repo_path)
        folder = f"{root}/{content_hash(frame)[:20]}"
        parts = list(frame.iter_slices(EXPORTED_ROWS)) or [frame]
        paths = [f"{folder}/{number:06d}.parquet" for number in range(len(parts))]
        for path, part in zip(paths, parts, strict=True):
            write_file(path, part)
        return paths


class PolarsOfflineStore(OfflineStore):
    """Feast's offline store interface over Parquet and lake tables; see the module."""

    supports_filter_by_created_timestamp = True

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | pl.DataFrame | pl.LazyFrame | pa.Table | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> PolarsRetrievalJob:
        """Return the entity rows with the asked features as of each row's event time; see `point_in_time_join`.

        `entity_df` has the join keys and `event_timestamp` (or one other time column), as a frame or as SQL (see
        `entity_rows.sql_rows`). None: every key and moment at which one of the views has a row from `start_date` to
        `end_date` (see `entity_rows.dated_rows`). Raises `FeatureError` for what cannot be answered, before anything
        is computed where possible.
        """
        how, limit = _READING.get(), getattr(config.offline_store, "memory_limit_mb", None)
        views = [
            declared_view(view, asked, full_feature_names=full_feature_names)
            for view, asked in asked_features(feature_views, feature_refs)
        ]
        if entity_df is None:
            first, last = _dates(feature_views, start_date, end_date)
            observations = dated_rows(views, first, last, repo=config.repo_path, how=how)
        elif isinstance(entity_df, str):
            observations = sql_rows(entity_df, _tables(registry, project), repo=config.repo_path, how=how)
        else:
            observations = frame_rows(entity_df)
        period = observed_period(observations)
        on_demand = OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry)
        _require_request_data(on_demand, observations)
        ours = asked_on_demand(on_demand, feature_refs, full_feature_names=full_feature_names)
        require_request(observations.schema, ours or ())
        joins = view_joins(observations, views, repo=config.repo_path, how=how)

        def evaluate() -> pl.DataFrame:
            return point_in_time_join(
                observations,
                joins,
                event_timestamp=period.column,
                as_known_at=how.as_known_at,
                known_at_event_time=filter_by_created_timestamp,
                memory_limit=limit * 2**20 if limit else usable_memory(),
            )

        return PolarsRetrievalJob(
            evaluate,
            repo_path=config.repo_path,
            full_feature_names=full_feature_names,
            on_demand_feature_views=on_demand,
            metadata=_metadata(feature_refs, observations, period),
            staging=_staging(config),
        )

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> PolarsRetrievalJob:
        """Return the newest row per key with event time from `start_date` to `end_date`, both included.

        Of rows with the same event time the one created last counts. Rows with a null key are left out: nobody can ask.
        """
        times = [name for name in (timestamp_field, created_timestamp_column) if name]
        rows = _pulled(config, data_source, [*join_key_columns, *feature_name_columns], times, start_date, end_date)
        read = partial(_collected, path=_location(data_source, config), where=f"source {data_source.name!r}")

        def evaluate() -> pl.DataFrame:
            ordered = rows.drop_nulls(join_key_columns or None).sort(times, maintain_order=True)
            if join_key_columns:
                return read(ordered.unique(join_key_columns, keep="last", maintain_order=True))
            return read(_with_dummy_key(ordered.tail(1)))

        return PolarsRetrievalJob(lambda: _signed(evaluate()), repo_path=config.repo_path, staging=_staging(config))

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> PolarsRetrievalJob:
        """Return all rows with event time from `start_date` to `end_date`, both included, in stored order."""
        times = [name for name in (timestamp_field, created_timestamp_column) if name]
        rows = _pulled(config, data_source, [*join_key_columns, *feature_name_columns], times, start_date, end_date)
        if not join_key_columns:
            rows = _with_dummy_key(rows)
        read = partial(_collected, path=_location(data_source, config), where=f"source {data_source.name!r}")
        return PolarsRetrievalJob(lambda: _signed(read(rows)), repo_path=config.repo_path, staging=_staging(config))

    @staticmethod
    def offline_write_batch(
        config: RepoConfig,
        feature_view: FeatureView,
        table: pa.Table,
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Append rows to the view's Parquet folder (or file). The same batch twice is written once in a folder.

        Rows of a lake table, whose only writer is its asset, go to the log of what is pushed to it. Raises `FeatureError` for a
        lake table of a view without push source, and for columns other than the source's.
        """
        source = feature_view.batch_source
        where = f"feature view {feature_view.name!r}"
        path = _location(source, config)
        found = lake_table(path)
        rows = pl.from_arrow(table)
        assert isinstance(rows, pl.DataFrame)
        if found and isinstance(feature_view.stream_source, PushSource):
            _push(PushLog(found[0].url, found[1]), rows, feature_view, now_inside_feast(config))
        elif "*" in path or found:
            raise FeatureError(
                f"{where}: cannot append to {path}: a lake table is written by its asset and a glob names no place; "
                "give the view a push source, or a Parquet folder as its source"
            )
        else:
            append_rows(path, rows, where)
        if progress:
            progress(rows.height)

    @staticmethod
    def write_logged_features(
        config: RepoConfig,
        data: pa.Table | Path,
        source: LoggingSource,
        logging_config: LoggingConfig,
        registry: BaseRegistry,
    ) -> None:
        """Append served features, an Arrow table or a folder of Parquet files, to the log's folder; twice is once.

        The columns of the destination's `partition_by` become folders. Raises `FeatureError` for a destination that is no folder.
        """
        destination = logging_config.destination
        if not isinstance(destination, FileLoggingDestination):
            raise FeatureError(f"logs go to {destination!r}; this store writes them to a FileLoggingDestination")
        rows = pl.read_parquet(data) if isinstance(data, Path) else pl.from_arrow(data)
        assert isinstance(rows, pl.DataFrame)
        path = location(destination.path, config.repo_path)
        append_partitioned(path, rows, destination.partition_by or [])

    def validate_data_source(self, config: RepoConfig, data_source: DataSource) -> None:
        """Check the time columns of a local source that has data.

        A repository can be applied before there is any, and without a network: the join looks at each table anyway.
        """
        path = _location(data_source, config)
        if "://" in path or not has_data(path):
            return
        reverse = _reverse(data_source)
        times = [data_source.timestamp_field, data_source.created_timestamp_column]
        where = f"source {data_source.name!r}"
        schema = scan(path, where).collect_schema()
        require_columns([reverse.get(name, name) for name in times if name], schema, where)

    def get_table_column_names_and_types_from_data_source(
        self, config: RepoConfig, data_source: DataSource
    ) -> Iterable[tuple[str, str]]:
        """Return the columns with their Arrow types as text, for Feast's inference."""
        rows = scan(_location(data_source, config), f"source {data_source.name!r}")
        schema = _arrow(rows.head(0).collect()).schema
        return list(zip(schema.names, map(str, schema.types), strict=True))


# -- what is asked -----------------------------------------------------------------------------------------------------


def _metadata(refs: list[str], observations: pl.DataFrame, period: Period) -> RetrievalMetadata:
    keys = [name for name in observations.columns if name != period.column]
    return RetrievalMetadata(refs, keys, min_event_timestamp=period.first, max_event_timestamp=period.last)


def _dates(views: list[FeatureView], start: datetime | None, end: datetime | None) -> tuple[datetime, datetime]:
    """Return the range as Feast means it: times without zone are UTC; the start defaults to the longest TTL, or 30 days."""
    if end is None:
        raise FeatureError("without entity_df the rows are those between two dates; give end_date, and start_date")
    first, last = compute_non_entity_date_range(views, start_date=start, end_date=end)
    if first > last:
        raise FeatureError(f"start_date={first} is after end_date={last}; exchange them")
    return first, last


def _tables(registry: BaseRegistry, project: str) -> dict[str, Table]:
    """Return what SQL may name: the registered sources and the views, each by its name."""
    views = [view for view in registry.list_all_feature_views(project) if isinstance(view, FeatureView)]
    pushed = {
        view.batch_source.name for view in views if view.batch_source and isinstance(view.stream_source, PushSource)
    }
    named = {source.name: source for source in registry.list_data_sources(project)}
    named |= {view.name: view.batch_source for view in views if view.batch_source}
    return {name: _table(source, source.name in pushed) for name, source in named.items() if _is_parquet(source)}


def _table(source: DataSource, pushed: bool) -> Table:
    reverse, created = _reverse(source), source.created_timestamp_column
    return Table(_path(source), reverse.get(created, created) or None, pushed)


def _require_request_data(on_demand: Sequence[OnDemandFeatureView], observations: pl.DataFrame) -> None:
    for view in on_demand:
        wanted = list(view.get_request_data_schema())
        require_columns(wanted, observations.schema, f"observations, for on-demand view {view.name!r}")


def require_polars_store(store: FeatureStore) -> None:
    """Raise `FeatureError` unless the repository is configured with this store, which alone keeps rows and order."""
    if not isinstance(store.config.offline_store, PolarsOfflineStoreConfig):
        raise FeatureError(
            f"{store.repo_path}/feature_store.yaml: offline_store.type is {store.config.offline_store.type!r}, which "
            "does not keep rows and their order; use ml_assets.features.offline_store.PolarsOfflineStore"
        )


def asked_features(views: Sequence[FeatureView], refs: Sequence[str]) -> Iterator[tuple[FeatureView, list[str]]]:
    """Return each view with the features that the references `view:feature` ask of it, in their order."""
    for view in views:
        prefix = f"{view.projection.name_to_use()}:"
        yield view, [ref.removeprefix(prefix) for ref in refs if ref.startswith(prefix)]


def declared_view(view: FeatureView, asked: Sequence[str], *, full_feature_names: bool = False) -> DeclaredView:
    """Return what reading needs to know of a view (with its projection) and the asked features, free of Feast.

    Raises `FeatureError` when this store cannot read the view's source.
    """
    source = view.batch_source
    if source is None:
        raise FeatureError(f"feature view {view.name!r} has no batch source; give it a FileSource")
    reverse = _reverse(source)
    return DeclaredView(
        name=view.name,
        path=_path(source),
        keys={
            view.projection.join_key_map.get(column.name, column.name): reverse.get(column.name, column.name)
            for column in view.entity_columns
            if column.name != DUMMY_ENTITY_ID
        },
        features=tuple(_feature(view, name, reverse, full_feature_names) for name in asked),
        event_timestamp=reverse.get(source.timestamp_field, source.timestamp_field),
        created_timestamp=reverse.get(source.created_timestamp_column, source.created_timestamp_column) or None,
        ttl=view.ttl or None,  # Feast: zero means for ever
        pushed=isinstance(view.stream_source, PushSource),
    )


def _feature(view: FeatureView, name: str, reverse: dict[str, str], full_feature_names: bool) -> Feature:
    from feast.type_map import feast_value_type_to_pa

    prefix = f"{view.projection.name_alias or view.name}__" if full_feature_names else ""
    dtype = next((field.dtype for field in view.features if field.name == name), None)
    return Feature(
        name=name,
        column=reverse.get(name, name),
        output=f"{prefix}{name}",
        declared=str(dtype),
        kind=_arrow_kind(feast_value_type_to_pa(dtype.to_value_type())) if dtype else "other",
    )


def _reverse(source: DataSource) -> dict[str, str]:
    return {mapped: stored for stored, mapped in (source.field_mapping or {}).items()}


def _arrow_kind(dtype: pa.DataType) -> str:
    frame = pl.from_arrow(pa.table({"x": pa.array([], type=dtype)}))
    assert isinstance(frame, pl.DataFrame)
    return kind(frame.schema["x"])


# -- reading -----------------------------------------------------------------------------------------------------------


def _is_parquet(source: DataSource | None) -> bool:
    return isinstance(source, FileSource) and isinstance(source.file_format, ParquetFormat | None)


def _path(source: DataSource | None) -> str:
    """Return the path as declared; `FeatureError` when this store cannot read the source."""
    if not isinstance(source, FileSource):
        raise FeatureError(f"source {source!r} is not a FileSource; this store reads Parquet files and lake tables")
    if not _is_parquet(source):
        raise FeatureError(f"source {source.name!r} is {type(source.file_format).__name__}; this store reads Parquet")
    return str(source.path)


def _location(source: DataSource | None, config: RepoConfig) -> str:
    return location(_path(source), config.repo_path, _READING.get().lake_url)


def _pulled(
    config: RepoConfig,
    source: DataSource,
    columns: Sequence[str],
    times: Sequence[str],
    start: datetime | None,
    end: datetime | None,
) -> pl.LazyFrame:
    """Return the columns of the rows between the dates that had been created by `as_known_at`."""
    first, last = (make_tzaware(moment) if moment else None for moment in (start, end))
    where, how = f"source {source.name!r}", _READING.get()
    period = Period(times[0], first, last)
    rows = scan_with_pushed(_location(source, config), where, period, how.as_known_at)
    schema = rows.collect_schema()
    require_columns([*columns, *times], schema, where)
    for name in times:
        require_zone(schema[name], name, where)
    rows = existing(rows, times[1] if len(times) > 1 else None, how.as_known_at, where)
    return rows.filter(within(period, schema[times[0]])).select(list(dict.fromkeys([*columns, *times])))


def _collected(rows: pl.LazyFrame, path: str, where: str) -> pl.DataFrame:
    try:
        return rows.collect()
    except pl.exceptions.PolarsError as error:
        files = [] if lake_table(path) else parquet_files(path)
        reason = broken_file(files, rows.collect_schema().names()) or str(error).split("\n\n", 1)[0]
        raise FeatureError(f"{where}: {reason}. Repair the file or remove it") from error


def _staging(config: RepoConfig) -> str | None:
    return getattr(config.offline_store, "staging_location", None)


def _with_dummy_key(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.with_columns(pl.lit(DUMMY_ENTITY_VAL).alias(DUMMY_ENTITY_ID))


def _signed(frame: pl.DataFrame) -> pl.DataFrame:
    """Cast unsigned integers, on which Feast's materialization fails."""
    return frame.cast({pl.UInt8: pl.Int64, pl.UInt16: pl.Int64, pl.UInt32: pl.Int64, pl.UInt64: pl.Int64})


def _arrow(frame: pl.DataFrame) -> pa.Table:
    """Return Arrow with `string` for Polars' `large_string`, as other Feast stores do."""
    plain = frame.cast({pl.Categorical: pl.String, pl.Enum: pl.String})
    table = plain.to_arrow(compat_level=pl.CompatLevel.oldest())
    fields = [field.with_type(pa.string()) if field.type == pa.large_string() else field for field in table.schema]
    return table.cast(pa.schema(fields))


# -- writing -----------------------------------------------------------------------------------------------------------


def _push(log: PushLog, rows: pl.DataFrame, view: FeatureView, now: datetime) -> None:
    """Append what Feast pushes, whose columns have the declared names; times without a zone are UTC, as in Feast."""
    declared = declared_view(view, [field.name for field in view.features])
    names = dict(declared.keys) | {feature.name: feature.column for feature in declared.features}
    rows = _with_times(rows.rename(names, strict=False), [declared.event_timestamp, declared.created_timestamp])
    utc = {
        name: pl.col(name).dt.replace_time_zone("UTC")
        for name, dtype in rows.schema.items()
        if isinstance(dtype, pl.Datetime) and dtype.time_zone is None
    }
    rows = rows.with_columns(**utc).cast(
        {
            feature.column: POLARS_TYPES[feature.declared]
            for feature in declared.features
            if feature.declared in POLARS_TYPES
        }
    )
    if declared.created_timestamp in rows.columns:
        rows = rows.with_columns(pl.col(declared.created_timestamp).fill_null(now))
    packing = Packing({feature.name: feature.declared for feature in declared.features})
    packed = packing.pack_all(rows.rename({stored: name for name, stored in names.items()}))
    log.append(rows, event_timestamp=declared.event_timestamp, received_at=now, packed=packed)


def _with_times(rows: pl.DataFrame, columns: Sequence[str | None]) -> pl.DataFrame:
    """Return the rows with times that came as text, as `feast serve` passes them on, in UTC; `FeatureError` for other text."""
    written = [name for name in columns if name and rows.schema.get(name) == pl.String]
    try:
        return rows.with_columns(pl.col(name).str.to_datetime(time_unit="us", time_zone="UTC") for name in written)
    except pl.exceptions.PolarsError as error:
        raise FeatureError(f"rows to push: a value of {written} is no time; write 2013-11-03T12:00:00Z") from error
