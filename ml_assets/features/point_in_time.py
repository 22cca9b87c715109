"""The point-in-time join: for each observation, the newest feature row that had happened by then.

Plain Polars, no Feast: `PolarsOfflineStore` calls it, and so can a notebook. Observations and the result are in memory,
views are lazy: all are read at once where that fits, else a few at a time, and the large ones in shards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

import polars as pl

from ml_assets.features.errors import FeatureError, require_columns, require_zone
from ml_assets.features.parquet import broken_file
from ml_assets.features.sharding import frame_bytes, free_bytes, join_in_shards, rounds

if TYPE_CHECKING:
    from polars._typing import EngineType

# Names of our own helper columns; columns of the caller never meet them in one frame.
ROW, MOMENT, CREATED, RANK, HAPPENED = "__row", "__moment", "__created", "__rank", "__happened"
KNOWN = "__known"

TimeUnit = Literal["us", "ns"]


@dataclass(frozen=True)
class ViewJoin:
    """One feature view as the join needs it.

    `keys` maps observation columns to view columns (empty: one row for all), `features` maps view columns to output
    columns. `ttl` None means that a value never grows old; otherwise a row matches while
    `event_timestamp >= observation's - ttl`, as in Feast. `rows` is how many rows `frame` has at most, where that is
    known without reading them; else they are counted when the join has a memory limit. `known_timestamp` names a column
    that says since when a row was known, where that is later than its creation: pushed rows are known when received.
    `files` are looked at when the rows cannot be read, to name the one at fault.
    """

    name: str
    frame: pl.LazyFrame
    keys: Mapping[str, str]
    features: Mapping[str, str]
    event_timestamp: str = "event_timestamp"
    created_timestamp: str | None = "created_timestamp"
    ttl: timedelta | None = None
    rows: int | None = None
    known_timestamp: str | None = None
    files: Sequence[str] = ()


@dataclass(frozen=True)
class _Side:
    """A view's side of the join: its rows in comparable types, and how they are matched."""

    view: ViewJoin
    casts: Mapping[str, pl.DataType]
    unit: TimeUnit
    as_known_at: datetime | None
    known_at_event_time: bool


def point_in_time_join(
    observations: pl.DataFrame,
    views: Sequence[ViewJoin],
    *,
    event_timestamp: str = "event_timestamp",
    as_known_at: datetime | None = None,
    known_at_event_time: bool = False,
    memory_limit: int | None = None,
) -> pl.DataFrame:
    """Return the observations, same rows in the same order, with the features of all views as further columns.

    Of a view's rows with equal keys and `event_timestamp` at or before the observation's, the newest counts; of rows
    with the same event time the one created last, then the one stored last. Null when it is older than the TTL, when
    there is none, or when a key is null. A view's rows without event time or with a null key match nothing.

    `as_known_at`: rows created later do not exist. `known_at_event_time`: for each observation, rows created after
    its own event time do not exist (Feast's `filter_by_created_timestamp`). `memory_limit`: bytes that the process may
    hold at its peak; views that are too large for it go through files in the temporary folder. The result is the same
    for every limit. None: everything at once.

    Raises `FeatureError` for missing columns, wrong types, times without zone, null event times, clashing names.
    """
    _check_observations(observations, event_timestamp, views)
    if not views:
        return observations
    schemas = [_check_view(view, observations.schema, as_known_at) for view in views]
    unit = _time_unit([observations.schema, *schemas])
    sides = [
        _Side(
            view=view,
            casts=_key_casts(view, observations.schema, schema),
            unit=unit,
            as_known_at=as_known_at,
            known_at_event_time=known_at_event_time and view.created_timestamp is not None,
        )
        for view, schema in zip(views, schemas, strict=True)
    ]
    asked = _asked(observations, views, event_timestamp, unit)
    ordered = asked[MOMENT].is_sorted()
    if not ordered:
        asked = asked.with_row_index(ROW).sort(MOMENT)
    parts = _at_once(asked, sides) if memory_limit is None else _within(memory_limit, asked, sides)
    features = pl.concat(parts, how="horizontal") if ordered else _reordered(asked, parts)
    # in one chunk: chunks would tell how many files there were, and the same answer is the same bytes
    return pl.concat([observations, features], how="horizontal").rechunk()


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


# -- at once, or in shards ---------------------------------------------------------------------------------------------


def _at_once(asked: pl.DataFrame, sides: Sequence[_Side]) -> list[pl.DataFrame]:
    """Return each view's features for each row of `asked`. While one view is read another one is joined."""

    def one(side: _Side) -> pl.DataFrame:
        rows = _collected(_selected(side), side)
        own = asked.select(MOMENT, *_own_keys(side))
        return _join(own, rows, side).collect(engine="in-memory")

    # Reading first and joining then takes two thirds of the time of one plan, and the streaming engine longer still.
    with ThreadPoolExecutor(max(2, pl.thread_pool_size())) as pool:
        return list(pool.map(one, sides))


def _within(limit: int, asked: pl.DataFrame, sides: Sequence[_Side]) -> list[pl.DataFrame]:
    """Do the same while the process holds no more than `limit` bytes."""
    schemas = [_selected(side).collect_schema() for side in sides]
    with ThreadPoolExecutor(max(2, pl.thread_pool_size())) as pool:
        counts = list(pool.map(_count, sides))
    sizes = [
        # rows that exist from their creation on only are sorted twice
        frame_bytes(schema, count) * (2 if side.known_at_event_time else 1)
        for schema, count, side in zip(schemas, counts, sides, strict=True)
    ]
    results = sum(
        frame_bytes({name: schema[name] for name in side.view.features.values()}, asked.height)
        for schema, side in zip(schemas, sides, strict=True)
    )
    found: list[pl.DataFrame] = []
    for group, shards in rounds(sizes, free_bytes(limit - 2 * results)):
        chosen = [sides[number] for number in group]
        split = shards > 1 and chosen[0].view.keys  # without keys there is nothing to split by
        found += [_in_shards(asked, chosen[0], shards)] if split else _at_once(asked, chosen)
    return found


def _in_shards(asked: pl.DataFrame, side: _Side, shards: int) -> pl.DataFrame:
    def join(part: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
        return _join(part, rows, side).collect(engine="in-memory")

    own = asked.select(MOMENT, *_own_keys(side))
    try:
        return join_in_shards(own, _selected(side), list(side.view.keys), join, shards=shards)
    except pl.exceptions.PolarsError as error:
        raise _unreadable(side, error) from error


def _count(side: _Side) -> int:
    if side.view.rows is not None:
        return side.view.rows
    return int(_collected(side.view.frame.select(pl.len()), side, engine="streaming").item())


def _collected(plan: pl.LazyFrame, side: _Side, *, engine: EngineType = "in-memory") -> pl.DataFrame:
    try:
        return plan.collect(engine=engine)
    except pl.exceptions.PolarsError as error:
        raise _unreadable(side, error) from error


def _unreadable(side: _Side, error: Exception) -> FeatureError:
    view = side.view
    times = [name for name in (view.event_timestamp, view.created_timestamp) if name]
    found = broken_file(view.files, [*times, *view.keys.values(), *view.features])
    reason = found or str(error).split("\n\n", 1)[0]
    return FeatureError(f"feature view {view.name!r}: {reason}. Repair the file or remove it")


# -- one view ----------------------------------------------------------------------------------------------------------


def _selected(side: _Side) -> pl.LazyFrame:
    """Return the view's rows as stored: the moment, the creation, the keys under the observations' names, the features."""
    view = side.view
    created = [_moment(view.created_timestamp, side.unit).alias(CREATED)] if view.created_timestamp else []
    if side.known_at_event_time and view.known_timestamp:
        created.append(_moment(view.known_timestamp, side.unit).alias(KNOWN))
    return view.frame.select(
        _moment(view.event_timestamp, side.unit).alias(MOMENT),
        *created,
        *_keys(view.keys, side.casts),
        *(pl.col(column).alias(output) for column, output in view.features.items()),
    )


def _own_keys(side: _Side) -> list[pl.Expr]:
    return _keys({key: key for key in side.view.keys}, side.casts)


def _join(asked: pl.DataFrame, stored: pl.DataFrame, side: _Side) -> pl.LazyFrame:
    """Return the features for each row of `asked`, which is sorted by moment."""
    rows = _oldest_first(_existing(stored, side), side)
    if side.known_at_event_time:
        return _join_as_known(asked, rows.collect(engine="in-memory"), side.view).lazy()
    found = _asof(asked.lazy(), rows, list(side.view.keys), side.view.ttl)
    return found.select(side.view.features.values())


def _existing(rows: pl.DataFrame, side: _Side) -> pl.DataFrame:
    """Leave out what cannot match, and what was not known yet. Looking is cheap, filtering copies all columns."""
    decisive = [MOMENT, *side.view.keys]
    if any(rows[name].null_count() for name in decisive):
        rows = rows.drop_nulls(decisive)
    if side.as_known_at is None:
        return rows
    known = (rows[CREATED] <= side.as_known_at.astimezone(UTC)).fill_null(False)
    return rows if known.all() else rows.filter(known)


def _oldest_first(rows: pl.DataFrame, side: _Side) -> pl.LazyFrame:
    """Sort by time; what was created last comes last, and so does what was stored last.

    Tables are usually stored in this order. Looking takes a tenth of the time of sorting, and copies nothing.
    """
    created = [CREATED] if side.view.created_timestamp else []
    if side.known_at_event_time:
        return rows.lazy().sort(MOMENT, *created, maintain_order=True)
    plan = rows.lazy() if _is_ordered(rows, side) else rows.lazy().sort(MOMENT, *created, maintain_order=True)
    return plan.drop(created)


def _is_ordered(rows: pl.DataFrame, side: _Side) -> bool:
    """Tell whether moments never fall, and of no entity's rows of one moment an earlier created one comes later."""
    if not rows[MOMENT].is_sorted():
        return False
    if not side.view.created_timestamp:
        return True
    now, before = pl.col(CREATED), pl.col(CREATED).shift()
    falls = (pl.col(MOMENT) == pl.col(MOMENT).shift()) & ((now < before) | (now.is_null() & before.is_not_null()))
    moments = rows.select(pl.col(MOMENT).filter(falls).unique())[MOMENT]
    if moments.is_empty():
        return True
    # different entities may come in any order; only where one of them has several rows of such a moment it matters
    decisive = rows.select(MOMENT, *side.view.keys).filter(pl.col(MOMENT).is_in(moments.implode()))
    return not decisive.is_duplicated().any()


def _join_as_known(asked: pl.DataFrame, rows: pl.DataFrame, view: ViewJoin) -> pl.DataFrame:
    """Do the same with rows that exist only from their creation on, or from when they were known.

    Each row is shown from the latest of its times; what counts from then on is the best of all rows shown so far.
    """
    keys, times = list(view.keys), [HAPPENED, CREATED, *([KNOWN] if view.known_timestamp else [])]
    known = rows.drop_nulls(CREATED).rename({MOMENT: HAPPENED}).with_row_index(RANK)
    shown = known.select(pl.max_horizontal(times).alias(MOMENT), RANK, *keys).sort(MOMENT, RANK)
    best = pl.col(RANK).cum_max()
    shown = shown.with_columns(best.over(keys) if keys else best)
    values = shown.hstack(known[shown[RANK]].select(HAPPENED, *view.features.values()))
    found = _asof(asked.lazy(), values.lazy(), keys, tolerance=None).collect(engine="in-memory")
    if view.ttl:
        fresh = found[HAPPENED] >= asked[MOMENT] - view.ttl
        found = found.select(pl.when(fresh).then(pl.col(name)).alias(name) for name in view.features.values())
    return found.select(view.features.values())


def _asof(asked: pl.LazyFrame, rows: pl.LazyFrame, keys: Sequence[str], tolerance: timedelta | None) -> pl.LazyFrame:
    return asked.join_asof(
        rows, on=MOMENT, by=keys or None, strategy="backward", tolerance=tolerance, check_sortedness=False
    )


def _reordered(asked: pl.DataFrame, parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat([asked.select(ROW), *parts], how="horizontal").sort(ROW).drop(ROW)
