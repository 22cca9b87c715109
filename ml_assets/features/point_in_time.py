"""The point-in-time join: for each observation, the newest feature row that had happened by then.

Plain Polars, no Feast: `PolarsOfflineStore` calls it, and so can a notebook. Observations are in memory, views are
lazy and read one after the other, so the peak is the observations plus one view.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import polars as pl

# Names of our own helper columns; columns of the caller never meet them in one frame.
ROW, MOMENT, CREATED, RANK, HAPPENED = "__row", "__moment", "__created", "__rank", "__happened"

TimeUnit = Literal["us", "ns"]


class FeatureError(ValueError):
    """A request to the feature store that cannot be answered; the message names the thing, the value and the fix."""


@dataclass(frozen=True)
class ViewJoin:
    """One feature view as the join needs it.

    `keys` maps observation columns to view columns (empty: one row for all), `features` maps view columns to output
    columns. `ttl` None means that a value never grows old; otherwise a row matches while
    `event_timestamp >= observation's - ttl`, as in Feast.
    """

    name: str
    frame: pl.LazyFrame
    keys: Mapping[str, str]
    features: Mapping[str, str]
    event_timestamp: str = "event_timestamp"
    created_timestamp: str | None = "created_timestamp"
    ttl: timedelta | None = None


def point_in_time_join(
    observations: pl.DataFrame,
    views: Sequence[ViewJoin],
    *,
    event_timestamp: str = "event_timestamp",
    as_known_at: datetime | None = None,
    known_at_event_time: bool = False,
) -> pl.DataFrame:
    """Return the observations, same rows in the same order, with the features of all views as further columns.

    Of a view's rows with equal keys and `event_timestamp` at or before the observation's, the newest counts; of rows
    with the same event time the one created last, then the one stored last. Null when it is older than the TTL, when
    there is none, or when a key is null. A view's rows without event time or with a null key match nothing.

    `as_known_at`: rows created later do not exist. `known_at_event_time`: for each observation, rows created after
    its own event time do not exist (Feast's `filter_by_created_timestamp`).

    Raises `FeatureError` for missing columns, wrong types, times without zone, null event times, clashing names.
    """
    _check_observations(observations, event_timestamp, views)
    if not views:
        return observations
    schemas = [_check_view(view, observations.schema, as_known_at) for view in views]
    unit = _time_unit([observations.schema, *schemas])
    asked = _asked(observations, views, event_timestamp, unit)
    ordered = asked[MOMENT].is_sorted()
    if not ordered:
        asked = asked.with_row_index(ROW).sort(MOMENT)
    parts = []
    for view, schema in zip(views, schemas, strict=True):
        casts = _key_casts(view, observations.schema, schema)
        rows = _view_rows(view, casts, unit, as_known_at, keep_created=known_at_event_time)
        join = _join_as_known if known_at_event_time and view.created_timestamp else _join
        parts.append(
            join(asked.select(MOMENT, *_keys(dict(zip(view.keys, view.keys, strict=True)), casts)), rows, view)
        )
    features = pl.concat(parts, how="horizontal") if ordered else _reordered(asked, parts)
    return pl.concat([observations, features], how="horizontal")


def require_zone(dtype: pl.DataType, column: str, where: str) -> None:
    """Raise `FeatureError` unless `dtype` is a Datetime with a time zone."""
    if not isinstance(dtype, pl.Datetime):
        raise FeatureError(f"{where}: column {column!r} is {dtype}, not a time; make it Datetime('us', 'UTC')")
    if dtype.time_zone is None:
        raise FeatureError(
            f"{where}: column {column!r} has no time zone; say which one it is in, for example "
            f'pl.col("{column}").dt.replace_time_zone("UTC")'
        )


def require_columns(wanted: Sequence[str], schema: Mapping[str, pl.DataType], where: str) -> None:
    """Raise `FeatureError` naming the wanted columns that `schema` lacks, and those it has."""
    missing = [name for name in wanted if name not in schema]
    if missing:
        raise FeatureError(f"{where}: no column {missing}; it has {list(schema)}. Add the column or correct the name")


def _check_observations(observations: pl.DataFrame, event_timestamp: str, views: Sequence[ViewJoin]) -> None:
    keys = list(dict.fromkeys(key for view in views for key in view.keys))
    require_columns([event_timestamp, *keys], observations.schema, "observations")
    require_zone(observations.schema[event_timestamp], event_timestamp, "observations")
    if nulls := observations[event_timestamp].null_count():
        raise FeatureError(
            f"observations: {nulls} of {observations.height} rows have no {event_timestamp!r}; without a moment of "
            "prediction there is no right answer: fill it in, or drop the rows and say so"
        )
    taken = set(observations.columns)
    for view in views:
        for output in view.features.values():
            if output in taken:
                raise FeatureError(
                    f"feature view {view.name!r}: column {output!r} exists already; rename the observations' column, "
                    "or ask for full feature names"
                )
            taken.add(output)


def _check_view(view: ViewJoin, observed: Mapping[str, pl.DataType], as_known_at: datetime | None) -> pl.Schema:
    where = f"feature view {view.name!r}"
    schema = view.frame.collect_schema()
    times = [name for name in (view.event_timestamp, view.created_timestamp) if name]
    require_columns([*view.keys.values(), *view.features, *times], schema, where)
    for name in times:
        require_zone(schema[name], name, where)
    _key_casts(view, observed, schema)
    if as_known_at and as_known_at.tzinfo is None:
        raise FeatureError(f"as_known_at={as_known_at} has no time zone; give it one, for example UTC")
    if as_known_at and not view.created_timestamp:
        raise FeatureError(
            f"{where} has no created timestamp, so nobody can tell what was known at {as_known_at}; "
            "declare created_timestamp_column in its source"
        )
    return schema


def _time_unit(schemas: Sequence[Mapping[str, pl.DataType]]) -> TimeUnit:
    """Compare in nanoseconds when any side has them: rounding could let a later value in."""
    units = {dtype.time_unit for schema in schemas for dtype in schema.values() if isinstance(dtype, pl.Datetime)}
    return "ns" if "ns" in units else "us"


def _key_casts(
    view: ViewJoin, observed: Mapping[str, pl.DataType], schema: Mapping[str, pl.DataType]
) -> dict[str, pl.DataType]:
    """Return the type in which each key of different types can be compared, by observation column."""
    casts = {}
    for key, column in view.keys.items():
        left, right = observed[key], schema[column]
        common = _common(left, right)
        if common is None:
            raise FeatureError(
                f"feature view {view.name!r}: key {key!r} is {left} in the observations but {right} in the view's "
                f"column {column!r}; cast the observations' column to {right}"
            )
        if left != right:
            casts[key] = common
    return casts


def _common(left: pl.DataType, right: pl.DataType) -> pl.DataType | None:
    text = (pl.String, pl.Categorical, pl.Enum)
    if left == right:
        return left
    if left.is_integer() and right.is_integer():
        return pl.Int64()
    if left in text and right in text:
        return pl.String()
    return right if left == pl.Null else None


def _asked(observations: pl.DataFrame, views: Sequence[ViewJoin], event_timestamp: str, unit: TimeUnit) -> pl.DataFrame:
    """Return only what decides the match: the moment and the keys."""
    keys = dict.fromkeys(key for view in views for key in view.keys)
    return observations.select(_moment(event_timestamp, unit).alias(MOMENT), *keys)


def _moment(column: str, unit: TimeUnit) -> pl.Expr:
    return pl.col(column).dt.convert_time_zone("UTC").dt.cast_time_unit(unit)


def _keys(columns: Mapping[str, str], casts: Mapping[str, pl.DataType]) -> list[pl.Expr]:
    """Return columns (values) as keys (names) of comparable type; what does not fit becomes null, matching nothing."""
    return [
        (pl.col(column).cast(casts[key], strict=False) if key in casts else pl.col(column)).alias(key)
        for key, column in columns.items()
    ]


def _view_rows(
    view: ViewJoin,
    casts: Mapping[str, pl.DataType],
    unit: TimeUnit,
    as_known_at: datetime | None,
    *,
    keep_created: bool,
) -> pl.DataFrame:
    """Return the view's rows, oldest first: the moment, the keys under the observations' names, the features."""
    rows = view.frame
    if as_known_at:
        rows = rows.filter(_moment(str(view.created_timestamp), unit) <= as_known_at.astimezone(UTC))
    created = [_moment(view.created_timestamp, unit).alias(CREATED)] if view.created_timestamp else []
    rows = rows.select(
        _moment(view.event_timestamp, unit).alias(MOMENT),
        *created,
        *_keys(view.keys, casts),
        *(pl.col(column).alias(output) for column, output in view.features.items()),
    ).sort(MOMENT, *([CREATED] if created else []), maintain_order=True)
    if created and not keep_created:
        rows = rows.drop(CREATED)
    found = rows.collect(engine="in-memory")  # the streaming sort costs half as much again
    return found.drop_nulls([MOMENT, *view.keys])


def _join(asked: pl.DataFrame, rows: pl.DataFrame, view: ViewJoin) -> pl.DataFrame:
    """Return the features for each row of `asked`, which is sorted by moment, as `rows` are."""
    return _asof(asked, rows, list(view.keys), view.ttl).select(view.features.values())


def _join_as_known(asked: pl.DataFrame, rows: pl.DataFrame, view: ViewJoin) -> pl.DataFrame:
    """Do the same with rows that exist only from their creation on.

    Each row is shown from the later of its two times; what counts from then on is the best of all rows shown so far.
    """
    keys = list(view.keys)
    known = rows.drop_nulls(CREATED).rename({MOMENT: HAPPENED}).with_row_index(RANK)
    shown = known.select(pl.max_horizontal(HAPPENED, CREATED).alias(MOMENT), RANK, *keys).sort(MOMENT, RANK)
    best = pl.col(RANK).cum_max()
    shown = shown.with_columns(best.over(keys) if keys else best)
    values = shown.hstack(known[shown[RANK]].select(HAPPENED, *view.features.values()))
    found = _asof(asked, values, keys, tolerance=None)
    if view.ttl:
        fresh = found[HAPPENED] >= asked[MOMENT] - view.ttl
        found = found.select(pl.when(fresh).then(pl.col(name)).alias(name) for name in view.features.values())
    return found.select(view.features.values())


def _asof(asked: pl.DataFrame, rows: pl.DataFrame, keys: Sequence[str], tolerance: timedelta | None) -> pl.DataFrame:
    return asked.join_asof(
        rows, on=MOMENT, by=keys or None, strategy="backward", tolerance=tolerance, check_sortedness=False
    )


def _reordered(asked: pl.DataFrame, parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat([asked.select(ROW), *parts], how="horizontal").sort(ROW).drop(ROW)
