"""Observations: what is predicted, for whom, as of when, and what was known about the outcome by then."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Literal

import polars as pl

from ml_assets import keys
from ml_assets.lake import Lake
from ml_assets.preparation.writing import PARTITION
from ml_assets.quality import ALL_NULL_ALLOWED, Expectation, Suite, suite_for

if TYPE_CHECKING:
    from sqlglot.tokens import Token

LABEL, LABEL_TIMESTAMP, EVENT_TIMESTAMP = "label", "label_timestamp", "event_timestamp"
UTC_TIME = pl.Datetime("us", "UTC")

# What a label must be: 0 or 1; one of several texts; a finite number; or absent, where nothing is to be learned from one.
Label = Literal["binary", "classes", "number", "none"]
LABELS: Mapping[str, Label] = {
    "probability": "binary",
    "probabilities": "classes",
    "value": "number",
    "cluster": "none",
}
"""What a label must be for each output of a `Task`."""

# What of SQL would make the rows of a day depend on which days are made with it, or leave the day out.
ACROSS_DAYS = ("UNION", "EXCEPT", "INTERSECT", "LIMIT", "OFFSET", "FETCH")


class ObservationsError(ValueError):
    """The declared query does not give observations: a column is missing, of a wrong type, or null where it must not be."""


# -- the query ---------------------------------------------------------------------------------------------------------


def query(
    sql: str, tables: Mapping[str, pl.LazyFrame], *, supervised: bool = True, label: Label = "binary"
) -> pl.LazyFrame:
    """Run the declared SQL (Polars' dialect) over lake tables, named like `clean_flights`; check the result's columns.

    The label comes out in one type for each kind: `true` is 1, a category is its text, and any number is a Float64, in
    which NaN, which pandas writes for "missing", is null: the row has no outcome, and is counted among those.
    """
    frame, schema = _executed(sql, tables)
    check_schema(schema, supervised=supervised, label=label)
    return frame.with_columns(_label(schema[LABEL], label)) if supervised and label != "none" else frame


def observe(
    lake: Lake,
    sql: str,
    tables: Sequence[str],
    partitions: Sequence[str] | None,
    *,
    supervised: bool = True,
    label: Label = "binary",
) -> pl.DataFrame:
    """Run the query on each table's given partitions; the result has the String column `_partition` of the first table.

    The first table gives the days: a row of observations belongs to the partition of the row that it comes from. A
    `GROUP BY` therefore groups within a day, and `DISTINCT` is within a day. With `partitions` None the problem has
    no days: the query runs on all of each table, and there is no such column. Raises `ObservationsError`, also for a
    label that is infinite.
    """
    if partitions is None:
        frames = {keys.sql_name(table): lake.scan(table) for table in tables}
    else:
        frames = {keys.sql_name(table): _scan(lake, table, partitions) for table in tables[1:]}
        frames[keys.sql_name(tables[0])] = lake.scan(tables[0], partitions, partition_column=PARTITION)
    return observe_frames(sql, frames, by_day=partitions is not None, supervised=supervised, label=label)


def observe_frames(
    sql: str, frames: Mapping[str, pl.LazyFrame], *, by_day: bool, supervised: bool = True, label: Label = "binary"
) -> pl.DataFrame:
    """Run the query as `observe` does, on frames by their names in SQL; with `by_day` the first table's has `_partition`."""
    frame = observed(sql, frames, by_day=by_day, supervised=supervised, label=label).collect()
    if by_day:
        frame = frame.select(PARTITION, pl.all().exclude(PARTITION))
    _refuse_infinite(frame)
    return _ordered(frame)


def observed(
    sql: str, frames: Mapping[str, pl.LazyFrame], *, by_day: bool, supervised: bool = True, label: Label = "binary"
) -> pl.LazyFrame:
    """Run the declared SQL as `observe` does; with `by_day` the column `_partition` of one frame is carried through it."""
    return query(_with_partition(sql, frames) if by_day else sql, frames, supervised=supervised, label=label)


def _executed(sql: str, tables: Mapping[str, pl.LazyFrame]) -> tuple[pl.LazyFrame, pl.Schema]:
    try:
        frame = pl.SQLContext(frames=dict(tables)).execute(sql)
        return frame, frame.collect_schema()
    except pl.exceptions.PolarsError as error:
        fix = f"tables are {sorted(tables)}"
        if PARTITION in str(error).partition("\n")[0]:
            fix = f"it is the day of each row: select `{PARTITION}` in subqueries too; a total needs GROUP BY"
        raise ObservationsError(f"observations.query: {error}; {fix}") from error


def _scan(lake: Lake, table: str, partitions: Sequence[str]) -> pl.LazyFrame:
    """Scan the partitions of a table, or the whole of one that has none, such as planes."""
    return lake.scan(table, None if lake.manifest(table) else partitions)


def _ordered(frame: pl.DataFrame) -> pl.DataFrame:
    """Put the rows in an order that depends on nothing but them: by moment, then by texts, then by what else can be ordered."""
    texts = [name for name, dtype in frame.schema.items() if dtype == pl.String]
    rest = [name for name, dtype in frame.schema.items() if not dtype.is_nested() and name not in texts]
    return frame.sort(EVENT_TIMESTAMP, *texts, *(name for name in rest if name != EVENT_TIMESTAMP))


# -- the day of a row, carried through the query -----------------------------------------------------------------------


def _with_partition(sql: str, frames: Mapping[str, pl.LazyFrame]) -> str:
    """Carry the day of each row through a declared `SELECT`; where a `*` carries it, the query is left as it is."""
    tokens = _tokens(sql)
    _refuse_across_days(tokens)
    if "*" in sql and PARTITION in _executed(sql, frames)[1]:
        return sql
    for end in sorted(_ends(tokens), reverse=True):
        sql = f"{sql[:end]}, {PARTITION}{sql[end:]}"
    return sql


def _tokens(sql: str) -> list[Token]:
    """Return the query's tokens, but of what is in parentheses only the last: the one that closes."""
    from sqlglot.errors import TokenError
    from sqlglot.tokens import Tokenizer, TokenType

    try:
        found = Tokenizer().tokenize(sql)
    except TokenError as error:
        told = " ".join(str(error).split())
        raise ObservationsError(f"observations.query: {told}; close what is open there") from error
    if not found or found[0].token_type != TokenType.SELECT:
        raise ObservationsError(f"observations.query: must begin with SELECT, not {sql.strip()[:30]!r}")
    outside, depth = [], 0
    for token in found:
        depth += (token.token_type == TokenType.L_PAREN) - (token.token_type == TokenType.R_PAREN)
        if depth == 0:
            outside.append(token)
    return outside


def _refuse_across_days(tokens: Sequence[Token]) -> None:
    kinds = [token.token_type.name for token in tokens]
    found = next((kind for kind in kinds if kind in ACROSS_DAYS), None)
    if kinds[1:2] == ["DISTINCT"] and tokens[2].text.upper() == "ON":
        found = "DISTINCT ON"
    if found:
        raise ObservationsError(
            f"observations.query: {found} does not go by days; write one SELECT with WHERE or GROUP BY, or declare no `days`"
        )


def _ends(tokens: Sequence[Token]) -> list[int]:
    """Return where the select list ends and, if there are columns to group by, where their list ends: places in the text."""
    from sqlglot.tokens import TokenType

    kinds = [token.token_type for token in tokens]
    if TokenType.FROM not in kinds:
        raise ObservationsError("observations.query: has no FROM; write FROM clean_<source> or raw_<source>")
    ends = [tokens[kinds.index(TokenType.FROM) - 1].end + 1]
    if TokenType.GROUP_BY in kinds:
        first = kinds.index(TokenType.GROUP_BY) + 1
        after = {TokenType.HAVING, TokenType.WINDOW, TokenType.QUALIFY, TokenType.ORDER_BY, TokenType.SEMICOLON}
        last = next((place for place in range(first, len(kinds)) if kinds[place] in after), len(kinds)) - 1
        if kinds[first : last + 1] != [TokenType.ALL]:
            ends.append(tokens[last].end + 1)
    return ends


# -- what the columns must be ------------------------------------------------------------------------------------------


def check_schema(schema: Mapping[str, pl.DataType], *, supervised: bool = True, label: Label = "binary") -> None:
    """Raise `ObservationsError` when a required column is missing or of another type.

    `event_timestamp` is always required. Supervised, `label` is too, of a type that fits its kind; `label_timestamp`
    may be left out: then a label counts as known at the moment of prediction. Unsupervised, neither may be there.
    """
    _check_time(schema, EVENT_TIMESTAMP)
    if not supervised or label == "none":
        for name in (LABEL, LABEL_TIMESTAMP):
            if name in schema:
                raise ObservationsError(
                    f"observations.query: column {name!r} is there, but the task learns from no label; take it out"
                )
        return
    if LABEL not in schema:
        raise ObservationsError(f"observations.query: no column {LABEL!r}; select the outcome AS label")
    _check_label(schema[LABEL], label)
    if LABEL_TIMESTAMP in schema:
        _check_time(schema, LABEL_TIMESTAMP)


def _check_time(schema: Mapping[str, pl.DataType], name: str) -> None:
    if name not in schema:
        raise ObservationsError(f"observations.query: no column {name!r}; select it as a UTC time in microseconds")
    if schema[name] != UTC_TIME:
        raise ObservationsError(
            f"observations.query: column {name!r} is {schema[name]}, not {UTC_TIME}; cast it to UTC"
        )


def _check_label(dtype: pl.DataType, label: Label) -> None:
    number = dtype.is_numeric()
    if label == "binary" and not (number or dtype == pl.Boolean):
        raise ObservationsError(
            f"observations.query: column 'label' is {dtype}, not 0 or 1; write CASE WHEN … THEN 1 ELSE 0 END AS label, "
            "or declare the task's classes"
        )
    if label == "number" and not number:
        raise ObservationsError(
            f"observations.query: column 'label' is {dtype}, not a number; cast it, or declare a classification"
        )
    if label == "classes" and not isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
        raise ObservationsError(
            f"observations.query: column 'label' is {dtype}, not text; write CAST(… AS VARCHAR) AS label"
        )


def _label(dtype: pl.DataType, label: Label) -> pl.Expr:
    column = pl.col(LABEL)
    if label == "classes":
        return column.cast(pl.String)
    if label == "number":
        return column.cast(pl.Float64).fill_nan(None)
    if dtype == pl.Boolean:
        return column.cast(pl.Int64)
    return column.fill_nan(None) if dtype.is_float() else column


def _refuse_infinite(frame: pl.DataFrame) -> None:
    """Refuse infinite labels: they are no outcome, and no missing one either, but a fault of the query or of its table."""
    if LABEL in frame.columns and frame.schema[LABEL].is_float() and (count := frame[LABEL].is_infinite().sum()):
        raise ObservationsError(
            f"observations.query: column 'label' is infinite in {count} of {frame.height} rows; "
            "divide by NULLIF(…, 0), which gives no outcome there, or leave the rows out"
        )


def suite(
    table: str,
    *,
    key: Sequence[str],
    supervised: bool = True,
    label: Label = "binary",
    classes: Sequence[str] = (),
    timed: bool = True,
) -> Suite:
    """Return the suite that guards observations: moments are there, keys unique, labels valid and known after the question.

    `classes` are those that the task declares; without them any text is one. `timed`: whether there is a
    `label_timestamp`. That a whole day has no label yet is no fault. Finite numbers need no check: `observe` refuses others.
    """
    valid = {"binary": (0, 1), "classes": tuple(classes)}.get(label, ())
    after = {"column_A": LABEL_TIMESTAMP, "column_B": EVENT_TIMESTAMP, "ignore_row_if": "either_value_is_missing"}
    extra = [
        Expectation("expect_column_values_to_not_be_null", {"column": EVENT_TIMESTAMP}),
        Expectation("expect_compound_columns_to_be_unique", {"column_list": [*key, EVENT_TIMESTAMP]}),
    ]
    if supervised and valid:
        allowed = {"column": LABEL, "value_set": list(valid)}
        extra.append(Expectation("expect_column_values_to_be_in_set", allowed, meta=ALL_NULL_ALLOWED))
    if supervised and timed:
        extra.append(Expectation("expect_column_pair_values_a_to_be_greater_than_b", after, meta=ALL_NULL_ALLOWED))
    return suite_for(table, (), extra=extra)


# -- what was known ----------------------------------------------------------------------------------------------------


def as_known_at(observations: pl.LazyFrame, moment: datetime, *, supervised: bool = True) -> pl.LazyFrame:
    """Hide the labels that were not known by `moment`: they become null, as they were then.

    Without a `label_timestamp` a label is known from its row's `event_timestamp` on.
    """
    if not supervised:
        return observations
    time = _known_from(observations.collect_schema().names())
    known = pl.col(time).is_not_null() & (pl.col(time) <= moment)
    return observations.with_columns(pl.when(known).then(pl.col(LABEL)).otherwise(None).alias(LABEL))


def unlabelled(observations: pl.DataFrame, moment: datetime, *, supervised: bool = True) -> dict[str, int]:
    """Count rows without a usable label by reason: `not yet` (known later) and `never` (no outcome, e.g. cancelled).

    With the rows that `as_known_at` leaves labelled, these are all rows. Unsupervised, no row needs a label: none are counted.
    """
    if not supervised:
        return {}
    time = _known_from(observations.columns)
    later = (observations[time] > moment).fill_null(False)
    without = observations[LABEL].is_null() | observations[time].is_null()
    return {"never": int((without & ~later).sum()), "not yet": int(later.sum())}


def _known_from(columns: Collection[str]) -> str:
    return LABEL_TIMESTAMP if LABEL_TIMESTAMP in columns else EVENT_TIMESTAMP


def without_outcome(columns: Collection[str]) -> list[str]:
    """Return the columns that are known at the moment of prediction: all but the label and its time."""
    return [name for name in columns if name not in (LABEL, LABEL_TIMESTAMP)]


def model_features(columns: Collection[str], *, not_features: Collection[str]) -> list[str]:
    """Return the columns that a model may see: all but times, outcome, split and what is declared as no feature."""
    never = {"event_timestamp", "label", "label_timestamp", "split", *not_features}
    return [name for name in columns if name not in never]
