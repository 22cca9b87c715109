"""A Feast offline store on Polars, usable in any Feast repository.

```yaml
offline_store:
  type: ml_assets.features.offline_store.PolarsOfflineStore
```

A `FileSource` path may be a table of a lake (read through its manifests, red partitions refused), a Parquet file, a
folder of Parquet files or a glob; local paths are relative to the repository. Unlike Feast's own stores it keeps every
entity row, in order, and takes Polars and Arrow entity frames as well as pandas.

Feast is imported at the top because the classes derive from Feast's; only Feast and functions import this module.
"""

from __future__ import annotations

import glob
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import polars as pl
import pyarrow as pa
from feast.data_format import ParquetFormat
from feast.data_source import DataSource
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL, FeatureView
from feast.infra.offline_stores.file_source import FileSource
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob, RetrievalMetadata
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from feast.saved_dataset import SavedDatasetStorage

from ml_assets.features.point_in_time import (
    FeatureError,
    ViewJoin,
    point_in_time_join,
    require_columns,
    require_zone,
)
from ml_assets.lake import Lake, Store, content_hash

EVENT_TIMESTAMP = "event_timestamp"
# A partition named after a day holds that day's events; a source's day may end in another time zone than UTC's.
PARTITION_SLACK = timedelta(days=2)


@dataclass(frozen=True)
class Reading:
    """How sources are read: what was known when, and which lake stands in for the one in the registry."""

    as_known_at: datetime | None = None
    lake_url: str | None = None


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
    """The `offline_store` section of feature_store.yaml; it has no options."""

    type: Literal["ml_assets.features.offline_store.PolarsOfflineStore"] = (
        "ml_assets.features.offline_store.PolarsOfflineStore"
    )


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
    ) -> None:
        """`evaluate` returns the result before on-demand views, which Feast's base class adds."""
        self._evaluate = evaluate
        self._repo_path = repo_path
        self._full_feature_names = full_feature_names
        self._on_demand_feature_views = list(on_demand_feature_views)
        self._metadata = metadata

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
        """Return the result without leaving Polars, unless on-demand views are to be computed."""
        if not self._on_demand_feature_views:
            return self._evaluate()
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
        path = _location(storage.to_data_source(), self._repo_path, _PLAIN)
        if _parquet_files(path) and not allow_overwrite:
            raise SavedDatasetLocationAlreadyExists(location=path)
        _replace(path, self.to_polars())


class PolarsOfflineStore(OfflineStore):
    """Feast's offline store interface over Parquet and lake tables; see the module."""

    supports_filter_by_created_timestamp = True

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | pl.DataFrame | pa.Table | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
        **unsupported: Any,
    ) -> PolarsRetrievalJob:
        """Return the entity rows with the asked features as of each row's event time; see `point_in_time_join`.

        `entity_df` has the join keys and `event_timestamp` (or one other time column); Polars and Arrow are taken as
        they are. Raises `FeatureError` for what cannot be answered, before anything is computed where possible.
        """
        observations = _observations(entity_df)
        event_timestamp = _event_timestamp(observations)
        on_demand = OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry)
        _require_request_data(on_demand, observations)
        require_zone(observations.schema[event_timestamp], event_timestamp, "observations")
        first, last = _span(observations[event_timestamp])
        how = _READING.get()
        joins = [
            _view_join(view, asked, full_feature_names, (first, last), config, how)
            for view, asked in _asked_features(feature_views, feature_refs)
        ]

        def evaluate() -> pl.DataFrame:
            return point_in_time_join(
                observations,
                joins,
                event_timestamp=event_timestamp,
                as_known_at=how.as_known_at,
                known_at_event_time=filter_by_created_timestamp,
            )

        return PolarsRetrievalJob(
            evaluate,
            repo_path=config.repo_path,
            full_feature_names=full_feature_names,
            on_demand_feature_views=on_demand,
            metadata=RetrievalMetadata(
                features=feature_refs,
                keys=[name for name in observations.columns if name != event_timestamp],
                min_event_timestamp=first,
                max_event_timestamp=last,
            ),
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

        def evaluate() -> pl.DataFrame:
            ordered = rows.drop_nulls(join_key_columns or None).sort(times, maintain_order=True)
            if join_key_columns:
                return ordered.unique(join_key_columns, keep="last", maintain_order=True).collect()
            return _with_dummy_key(ordered.tail(1)).collect()

        return PolarsRetrievalJob(lambda: _signed(evaluate()), repo_path=config.repo_path)

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
        return PolarsRetrievalJob(lambda: _signed(rows.collect()), repo_path=config.repo_path)

    @staticmethod
    def offline_write_batch(
        config: RepoConfig,
        feature_view: FeatureView,
        table: pa.Table,
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Append rows to the view's Parquet folder (or file). The same batch twice is written once in a folder.

        Raises `FeatureError` for a lake table, whose only writer is its asset, and for columns other than the source's.
        """
        source = feature_view.batch_source
        where = f"feature view {feature_view.name!r}"
        path = _location(source, config.repo_path, _READING.get())
        if "*" in path or Lake.at_table_path(path):
            raise FeatureError(
                f"{where}: cannot append to {path}: a lake table is written by its asset and a glob names no place; "
                "give the view a Parquet folder as its source"
            )
        rows = pl.from_arrow(table)
        assert isinstance(rows, pl.DataFrame)
        _append(path, rows, where)
        if progress:
            progress(rows.height)

    def validate_data_source(self, config: RepoConfig, data_source: DataSource) -> None:
        """Check the time columns of a local source that has data.

        A repository can be applied before there is any, and without a network: the join looks at each table anyway.
        """
        path = _location(data_source, config.repo_path, _READING.get())
        if "://" in path or not _has_data(path):
            return
        reverse = _reverse(data_source)
        times = [data_source.timestamp_field, data_source.created_timestamp_column]
        where = f"source {data_source.name!r}"
        schema = _scan(data_source, config, where, _READING.get()).collect_schema()
        require_columns([reverse.get(name, name) for name in times if name], schema, where)

    def get_table_column_names_and_types_from_data_source(
        self, config: RepoConfig, data_source: DataSource
    ) -> Iterable[tuple[str, str]]:
        """Return the columns with their Arrow types as text, for Feast's inference."""
        rows = _scan(data_source, config, f"source {data_source.name!r}", _READING.get())
        schema = _arrow(rows.head(0).collect()).schema
        return list(zip(schema.names, map(str, schema.types), strict=True))


# -- what is asked -----------------------------------------------------------------------------------------------------


def _observations(entity_df: object) -> pl.DataFrame:
    if isinstance(entity_df, pl.DataFrame):
        return entity_df
    if isinstance(entity_df, pd.DataFrame):
        return pl.from_pandas(entity_df)
    if isinstance(entity_df, pa.Table):
        frame = pl.from_arrow(entity_df)
        assert isinstance(frame, pl.DataFrame)
        return frame
    raise FeatureError(
        f"entity_df is {type(entity_df).__name__}; this store answers for a Polars, pandas or Arrow frame of "
        "join keys and event_timestamp. Read the SQL or the dates into a frame first"
    )


def _event_timestamp(observations: pl.DataFrame) -> str:
    """Return the time column as Feast finds it: by name, or the only one."""
    if EVENT_TIMESTAMP in observations.columns:
        return EVENT_TIMESTAMP
    times = [name for name, dtype in observations.schema.items() if isinstance(dtype, pl.Datetime)]
    if len(times) != 1:
        raise FeatureError(
            f"entity_df: which of {observations.columns} is the moment of prediction? Name it {EVENT_TIMESTAMP!r}"
        )
    return times[0]


def _span(times: pl.Series) -> tuple[datetime | None, datetime | None]:
    first, last = times.min(), times.max()
    assert first is None or isinstance(first, datetime)
    assert last is None or isinstance(last, datetime)
    return first, last


def _require_request_data(on_demand: Sequence[OnDemandFeatureView], observations: pl.DataFrame) -> None:
    for view in on_demand:
        wanted = list(view.get_request_data_schema())
        require_columns(wanted, observations.schema, f"observations, for on-demand view {view.name!r}")


def _asked_features(views: Sequence[FeatureView], refs: Sequence[str]) -> Iterator[tuple[FeatureView, list[str]]]:
    for view in views:
        prefix = f"{view.projection.name_to_use()}:"
        yield view, [ref.removeprefix(prefix) for ref in refs if ref.startswith(prefix)]


def _view_join(
    view: FeatureView,
    asked: Sequence[str],
    full_feature_names: bool,
    period: tuple[datetime | None, datetime | None],
    config: RepoConfig,
    how: Reading,
) -> ViewJoin:
    source = view.batch_source
    where = f"feature view {view.name!r}"
    if source is None:
        raise FeatureError(f"{where} has no batch source; give it a FileSource")
    reverse = _reverse(source)
    prefix = f"{view.projection.name_alias or view.name}__" if full_feature_names else ""
    ttl = view.ttl or None  # Feast: zero means for ever
    first, last = period
    time = reverse.get(source.timestamp_field, source.timestamp_field)
    frame = _scan(source, config, where, how, (time, first - ttl if first and ttl else None, last))
    _require_declared_types(view, asked, reverse, frame.collect_schema())
    return ViewJoin(
        name=view.name,
        frame=frame,
        keys={
            view.projection.join_key_map.get(column.name, column.name): reverse.get(column.name, column.name)
            for column in view.entity_columns
            if column.name != DUMMY_ENTITY_ID
        },
        features={reverse.get(name, name): f"{prefix}{name}" for name in asked},
        event_timestamp=time,
        created_timestamp=reverse.get(source.created_timestamp_column, source.created_timestamp_column) or None,
        ttl=ttl,
    )


def _reverse(source: DataSource) -> dict[str, str]:
    return {mapped: stored for stored, mapped in (source.field_mapping or {}).items()}


def _require_declared_types(
    view: FeatureView, asked: Sequence[str], reverse: Mapping[str, str], schema: Mapping[str, pl.DataType]
) -> None:
    """Refuse a column of another kind than declared. Widths may differ, and whole numbers serve as declared floats."""
    from feast.type_map import feast_value_type_to_pa

    for field in view.features:
        column = reverse.get(field.name, field.name)
        if field.name not in asked or column not in schema:
            continue
        declared, found = _kind(feast_value_type_to_pa(field.dtype.to_value_type())), _polars_kind(schema[column])
        if "other" not in (declared, found) and declared != found and (declared, found) != ("float", "integer"):
            raise FeatureError(
                f"feature view {view.name!r}: column {column!r} is {schema[column]}, but feature {field.name!r} is "
                f"declared {field.dtype}; correct the declaration or the data"
            )


def _kind(dtype: pa.DataType) -> str:
    frame = pl.from_arrow(pa.table({"x": pa.array([], type=dtype)}))
    assert isinstance(frame, pl.DataFrame)
    return _polars_kind(frame.schema["x"])


def _polars_kind(dtype: pl.DataType) -> str:
    kinds = {
        "integer": dtype.is_integer(),
        "float": dtype.is_float(),
        "text": dtype in (pl.String, pl.Categorical, pl.Enum),
        "truth": dtype == pl.Boolean,
        "time": isinstance(dtype, pl.Datetime),
    }
    return next((kind for kind, true in kinds.items() if true), "other")


# -- reading -----------------------------------------------------------------------------------------------------------


def _location(source: DataSource | None, repo_path: Path | str | None, how: Reading) -> str:
    """Return the source's path or URL; local paths are relative to the repository."""
    if not isinstance(source, FileSource):
        raise FeatureError(f"source {source!r} is not a FileSource; this store reads Parquet files and lake tables")
    if source.file_format is not None and not isinstance(source.file_format, ParquetFormat):
        raise FeatureError(f"source {source.name!r} is {type(source.file_format).__name__}; this store reads Parquet")
    if how.lake_url:
        return f"{how.lake_url.rstrip('/')}/{'/'.join(source.path.rstrip('/').split('/')[-2:])}"
    path = FileSource.get_uri_for_file_path(repo_path, source.path)
    return path if "://" in path else os.path.abspath(path)


def _scan(
    source: DataSource,
    config: RepoConfig,
    where: str,
    how: Reading,
    period: tuple[str, datetime | None, datetime | None] | None = None,
) -> pl.LazyFrame:
    """Return all rows, or at least those that matter for a period: time column, first, last (None: no bound)."""
    path = _location(source, config.repo_path, how)
    found = None if "*" in path else Lake.at_table_path(path)
    if found:
        lake, table = found
        return lake.scan(table, _partitions(lake, table, where, *(period or (None, None, None))[1:]))
    files = _parquet_files(path)
    if not files:
        raise FeatureError(f"{where}: no Parquet file at {path}; materialize the view, or correct its source's path")
    rows = pl.scan_parquet(files, glob=False)
    if period is None:
        return rows
    schema, column = rows.collect_schema(), period[0]
    require_columns([column], schema, where)
    require_zone(schema[column], column, where)
    return rows.filter(_within(column, schema[column], *period[1:]))


def _partitions(lake: Lake, table: str, where: str, first: datetime | None, last: datetime | None) -> list[str]:
    """Return the partitions to read; if none is near, one whose rows will not match but which knows the columns."""
    names = lake.store.folders(table)
    if not names:
        raise FeatureError(f"{where}: lake table {table!r} in {lake.url} has no data; materialize it first")
    return [name for name in names if _near(name, first, last)] or names[:1]


def _near(partition: str, first: datetime | None, last: datetime | None) -> bool:
    try:
        day = date.fromisoformat(partition)
    except ValueError:
        return True  # not named after a day: it may hold anything
    after = first is None or day >= (first - PARTITION_SLACK).date()
    return after and (last is None or day <= (last + PARTITION_SLACK).date())


def _parquet_files(path: str) -> list[str]:
    if "*" in path and "://" not in path:
        return sorted(glob.glob(path, recursive=True))
    if path.endswith(".parquet"):
        folder, name = path.rsplit("/", 1)
        return [path] if Store(folder).exists(name) else []
    store = Store(path)
    return [store.path(name) for name in store.names() if name.endswith(".parquet")]


def _has_data(path: str) -> bool:
    found = None if "*" in path else Lake.at_table_path(path)
    return bool(found[0].store.folders(found[1]) if found else _parquet_files(path))


def _within(column: str, dtype: pl.DataType, first: datetime | None, last: datetime | None) -> pl.Expr:
    found = pl.lit(True)
    if first is not None:
        found &= _utc(column, dtype) >= first.astimezone(UTC)
    return found if last is None else found & (_utc(column, dtype) <= last.astimezone(UTC))


def _utc(column: str, dtype: pl.DataType) -> pl.Expr:
    """Return the time in UTC; a bare column where it is already, so that Parquet statistics can skip row groups."""
    bare = getattr(dtype, "time_zone", None) == "UTC"
    return pl.col(column) if bare else pl.col(column).dt.convert_time_zone("UTC")


def _pulled(
    config: RepoConfig,
    source: DataSource,
    columns: Sequence[str],
    times: Sequence[str],
    start: datetime | None,
    end: datetime | None,
) -> pl.LazyFrame:
    """Return the columns of the rows between the dates that had been created by `as_known_at`."""
    from feast.utils import make_tzaware

    first, last = (make_tzaware(moment) if moment else None for moment in (start, end))
    where, how = f"source {source.name!r}", _READING.get()
    rows = _scan(source, config, where, how, (times[0], first, last))
    schema = rows.collect_schema()
    require_columns([*columns, *times], schema, where)
    for name in times:
        require_zone(schema[name], name, where)
    if how.as_known_at:
        if len(times) == 1:
            raise FeatureError(f"{where} has no created timestamp; as_known_at={how.as_known_at} cannot be answered")
        rows = rows.filter(_within(times[1], schema[times[1]], None, how.as_known_at))
    return rows.filter(_within(times[0], schema[times[0]], first, last)).select(list(dict.fromkeys([*columns, *times])))


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


def _append(path: str, rows: pl.DataFrame, where: str) -> None:
    files = _parquet_files(path)
    stored = pl.scan_parquet(files, glob=False).collect_schema() if files else rows.schema
    require_columns(stored.names(), rows.schema, f"{where}, rows to append")
    if extra := [name for name in rows.columns if name not in stored]:
        raise FeatureError(f"{where}, rows to append: the source has no column {extra}; it has {stored.names()}")
    rows = rows.select(pl.col(name).cast(dtype) for name, dtype in stored.items())
    if path.endswith(".parquet"):
        _write(path, pl.concat([pl.read_parquet(files), rows]) if files else rows)
    else:
        _write(f"{path}/{content_hash(rows)[:20]}.parquet", rows)


def _replace(path: str, frame: pl.DataFrame) -> None:
    if path.endswith(".parquet"):
        return _write(path, frame)
    before = set(_parquet_files(path))
    target = f"{path}/{content_hash(frame)[:20]}.parquet"
    _write(target, frame)
    for old in before - {target}:
        Store(path).remove(old.removeprefix(f"{path}/"))
    return None


def _write(path: str, frame: pl.DataFrame) -> None:
    folder, name = path.rsplit("/", 1)
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    Store(folder).write(name, buffer.getvalue())
