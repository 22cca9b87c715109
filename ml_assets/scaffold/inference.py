"""Say what a table is: the type of each column, its key, its time, its task. What was assumed is told in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

from ml_assets.collection.values import from_numbers, from_text
from ml_assets.scaffold.columns import Column, agreed, column_of, described
from ml_assets.scaffold.errors import ScaffoldError
from ml_assets.scaffold.moments import Notation, closest
from ml_assets.scaffold.names import column_named, free_name, listed, safe_names
from ml_assets.scaffold.outcome import Outcome, outcome_of
from ml_assets.scaffold.reading import Table

GENERATED_KEY = "row_id"
MOMENT = "event_at"
LEAST_TIMES = 5
"""Distinct times from which a split by time has something to cut."""
MOST_WITHOUT_TIME = 0.05
"""Share of rows without a time that is left out; more is refused."""
KEY_WORDS = frozenset(["id", "key", "uuid", "nr", "no", "number", "index", "code", "reference", "ref"])
# Days that say something about a row, but not when it happened.
_NOT_THE_EVENT = """
birth birthday birthdate dob born geburt geburtsdatum expiry expires expiration valid until due end ended closed resolved
finished cancelled canceled churn churned updated modified deleted last next
"""
NOT_THE_EVENT = frozenset(_NOT_THE_EVENT.split())
# Numbers that are times, when a person says so: name, lowest, highest, Polars expression of the moment.
NUMBER_TIMES = (
    ("year", 1000, 2999, 'pl.datetime(pl.col({name}).cast(pl.Int32), 1, 1, time_zone="UTC")'),
    ("seconds since 1970", 10**8, 10**10, '(pl.col({name}) * 1_000_000).cast(pl.Datetime("us", "UTC"))'),
    ("milliseconds since 1970", 10**11, 10**13, '(pl.col({name}) * 1_000).cast(pl.Datetime("us", "UTC"))'),
)


@dataclass(frozen=True, eq=False)
class Inferred:
    """What a table is. Names are the safe ones but for `Column.name`.

    `frame` holds the rows as the clean table will: safe names, types as each column `becomes`. With a `time` it has
    the column `event_at` (UTC, null where the row has none) besides, with a generated key the column `key`.
    `key` names rows by itself; it is made of the columns `key_of` where there are such, or numbers the rows.
    `unique` are the file's columns that the contract declares unique. `time_expression` makes moments of a number.
    """

    table: Table
    frame: pl.DataFrame
    columns: tuple[Column, ...]
    outcome: Outcome
    key: str
    key_of: tuple[str, ...] = ()
    unique: tuple[str, ...] = ()
    time: str | None = None
    time_expression: str = ""
    entity: str | None = None
    group: str | None = None
    assumptions: tuple[str, ...] = ()

    @property
    def target(self) -> str | None:
        """Return the target's safe name; None for clustering."""
        return self.outcome.column or None

    @property
    def generated_key(self) -> bool:
        """Tell whether the key is none of the file's columns."""
        return self.key not in {column.safe for column in self.columns}

    def column(self, safe: str) -> Column:
        """Return a column by its safe name."""
        return next(column for column in self.columns if column.safe == safe)

    @property
    def outcomes(self) -> pl.Series | None:
        """Return the target as numbers (see `Outcome.numbers`); None for clustering."""
        return self.outcome.numbers(self.frame[self.target]) if self.target else None

    @property
    def candidates(self) -> list[Column]:
        """Return the columns that may be features: all but key, target, group, and what is empty."""
        taken = {self.key, self.target, self.group}
        return [column for column in self.columns if column.safe not in taken and column.kind != "empty"]


def infer(
    table: Table,
    *,
    target: str | None = None,
    task: str | None = None,
    time: str | None = None,
    entity: str | None = None,
    group: str | None = None,
) -> Inferred:
    """Say what a table is.

    `target`, `time`, `entity` and `group` name columns as the file or as this room writes them. Without `time` the only
    column that can be the event's is taken, if there is one, and told; not with a `group`, which a split by time cannot keep.
    Raises `ScaffoldError` for what is no problem: see `outcome_of`, `safe_names`, and a time that does not parse.
    """
    safe = safe_names(table.frame.columns)
    roles = _roles(table, safe, {"--target": target, "--time": time, "--entity": entity, "--group": group})
    _refuse_roles(roles)
    columns, told = _columns(table, safe, roles)
    frame = pl.DataFrame([_typed(table, column) for column in columns])
    columns = [described(column, frame[column.safe]) for column in columns]
    by_name = {column.name: column for column in columns}
    goal = by_name.get(roles["--target"] or "")
    outcome, assumed = outcome_of(table, goal, frame[goal.safe] if goal else None, task)
    if goal and outcome.classes and goal.becomes != "String":
        columns, frame = _as_classes(columns, frame, goal)
    when, times = _time(columns, roles)
    found = Inferred(
        table,
        frame,
        tuple(columns),
        outcome,
        key="",
        time=when.safe if when else None,
        time_expression=_number_time(when, frame)[0] if when and when.kind != "moment" else "",
        entity=_safe(roles["--entity"], safe),
        group=_safe(roles["--group"], safe),
        assumptions=(*_names_told(safe), *told, *assumed, *times),
    )
    return _with_key(_with_moments(found))


# -- roles -------------------------------------------------------------------------------------------------------------


def _roles(table: Table, safe: dict[str, str], given: dict[str, str | None]) -> dict[str, str | None]:
    where = ", ".join(file.name for file in table.files[:2])
    return {
        option: column_named(name, safe, option=option, where=where) if name else None for option, name in given.items()
    }


def _refuse_roles(roles: dict[str, str | None]) -> None:
    taken: dict[str, str] = {}
    for option, name in roles.items():
        if name is None:
            continue
        if name in taken and {option, taken[name]} != {"--entity", "--group"}:
            raise ScaffoldError(f"{taken[name]} and {option} both name {name!r}; each needs a column of its own")
        taken[name] = option
    if roles["--time"] and roles["--group"]:
        raise ScaffoldError(
            "--time and --group: a split by time cannot keep groups on one side; leave one of them out, or use --entity"
        )
    if roles["--entity"] and not roles["--time"]:
        raise ScaffoldError(
            "--entity needs --time: what an entity's outcomes were before needs a before; or use --group"
        )
    if roles["--entity"] and not roles["--target"]:
        raise ScaffoldError("--entity needs --target: its history is that of its outcomes")


def _safe(name: str | None, safe: dict[str, str]) -> str | None:
    return safe[name] if name else None


def _names_told(safe: dict[str, str]) -> list[str]:
    changed = [f"{name} is {short}" for name, short in safe.items() if name != short]
    return [f"names: {listed(changed)}"] if changed else []


# -- columns -----------------------------------------------------------------------------------------------------------


def _columns(table: Table, safe: dict[str, str], roles: dict[str, str | None]) -> tuple[list[Column], list[str]]:
    typed = table.format != "csv"
    found = [
        column_of(table.frame[name], safe[name], table.dialect, typed=typed, padded=table.padded)
        for name in table.frame.columns
    ]
    if table.format == "parquet":
        found = [_in_notation(table, item, item.notation) if item.notation else item for item in found]
    named = {roles["--entity"], roles["--group"]}
    found = [replace(item, kind="category", becomes="String") if item.name in named else item for item in found]
    if roles["--time"]:
        found = [_as_time(table, item) if item.name == roles["--time"] else item for item in found]
    if goal := roles["--target"]:
        found = [_as_target(table, item) if item.name == goal else item for item in found]
    columns, doubtful = agreed(found)
    return columns, [*_dialect_told(table), *doubtful]


def _dialect_told(table: Table) -> list[str]:
    dialect, told = table.dialect, []
    if dialect.encoding != "utf-8":
        told.append(f"encoding: {dialect.encoding}")
    if table.format == "csv" and (dialect.decimal, dialect.thousands) != (".", ""):
        mark = f", {dialect.thousands!r} between thousands" if dialect.thousands else ""
        told.append(f"numbers: {dialect.decimal!r} before decimals{mark}")
    if table.format == "csv" and len(dialect.null_values) > 1:
        told.append(f"no value is written as: {listed(repr(word) for word in dialect.null_values)}")
    if len(table.files) > 1:
        told.append(f"{len(table.files)} files were put together as one delivery, in the order of their names")
    return told


def _as_target(table: Table, column: Column) -> Column:
    """A target's whole numbers are no codes: they count. Its yes and no stay words, which name the classes."""
    if column.kind == "category" and column.type in ("Int64", "Float64"):
        return replace(column, kind="number", becomes=column.type)
    values = table.frame[column.name]
    if column.kind == "boolean" and values.dtype == pl.String and values.drop_nulls().n_unique() == 2:
        return replace(column, kind="category", type="String", becomes="String")
    return column


def _as_time(table: Table, column: Column) -> Column:
    """Return the column as a time, which a person says it is; `ScaffoldError` names the values that are none."""
    if column.kind in ("moment", "number"):
        return column if column.kind == "moment" else _compact(table, column)
    text = table.frame[column.name]
    if text.dtype != pl.String or column.kind == "empty":
        raise ScaffoldError(f"--time {column.name!r} holds {column.type}: name a column of days or times")
    given = text.drop_nulls().str.strip_chars()
    best = closest(given)
    if best is None:
        raise ScaffoldError(
            f"--time {column.name!r} does not parse: {listed(repr(value) for value in given.head(3))} are no times; write "
            "them like 2024-01-31 or 2024-01-31T10:00:00Z"
        )
    notation, _ = best
    wrong = notation.read(text.str.strip_chars()).is_null() & text.is_not_null()
    if not wrong.any():
        return _in_notation(table, column, notation)
    places = [f"{text[row]!r} in {table.where(row)}" for row in wrong.arg_true().head(5).to_list()]
    raise ScaffoldError(
        f"--time {column.name!r} does not parse: {wrong.sum():,} values are no times like {notation.form or 'ISO 8601'}: "
        f"{', '.join(places)}; correct them"
    )


def _compact(table: Table, column: Column) -> Column:
    """Read numbers such as 20130131 as days, where text holds them."""
    text = table.frame[column.name]
    if text.dtype != pl.String:
        return column
    best = closest(text.drop_nulls().str.strip_chars())
    if best is None or best[1].any():
        return column
    return _in_notation(table, column, best[0])


def _in_notation(table: Table, column: Column, notation: Notation) -> Column:
    """Return the column as a time. In Parquet, text is declared as text, and becomes a time when it is cleaned."""
    declared = "String" if table.format == "parquet" or table.padded else notation.type
    return replace(column, type=declared, kind="moment", becomes=notation.type, notation=notation)


def _typed(table: Table, column: Column) -> pl.Series:
    """Return the column's values under its safe name, as it becomes."""
    values = table.frame[column.name]
    if values.dtype == pl.String:
        return _typed_text(table, column, values).alias(column.safe)
    return _cast(_typed_values(column, values), column.becomes).alias(column.safe)


def _typed_text(table: Table, column: Column, values: pl.Series) -> pl.Series:
    plain = values.str.strip_chars() if table.padded else values
    if column.notation:
        return column.notation.read(plain)
    kind = column.type if column.type != "String" else column.becomes
    return _cast(from_text(plain, kind, table.dialect), column.becomes)


def _typed_values(column: Column, values: pl.Series) -> pl.Series:
    if column.type in ("Int64", "Float64"):
        found = from_numbers(values, column.type)
        return found.fill_nan(None) if column.type == "Float64" else found
    if column.type in ("Date", "Datetime"):
        return _moments(values) if column.type == "Datetime" else values
    return values.cast(pl.String) if column.type == "String" else values


def _moments(values: pl.Series) -> pl.Series:
    """Return times of any unit and zone in microseconds and UTC; without a zone they are in UTC."""
    zoned = getattr(values.dtype, "time_zone", None) is not None
    return (values.dt.convert_time_zone("UTC") if zoned else values.dt.replace_time_zone("UTC")).dt.cast_time_unit("us")


def _cast(values: pl.Series, becomes: str) -> pl.Series:
    if becomes != "String" or values.dtype == pl.String:
        return values
    return (values.cast(pl.Int64) if values.dtype.is_float() else values).cast(pl.String)


def _as_classes(columns: Sequence[Column], frame: pl.DataFrame, goal: Column) -> tuple[list[Column], pl.DataFrame]:
    """Turn a target of whole numbers into text, as labels of several classes are."""
    text = _cast(frame[goal.safe], "String") if goal.kind == "number" else frame[goal.safe].cast(pl.String)
    changed = replace(goal, kind="category", becomes="String")
    return [changed if item.name == goal.name else item for item in columns], frame.with_columns(text)


# -- time --------------------------------------------------------------------------------------------------------------


def _time(columns: Sequence[Column], roles: dict[str, str | None]) -> tuple[Column | None, list[str]]:
    """Return the column that says when a row happened, and what was assumed."""
    if roles["--time"]:
        return next(item for item in columns if item.name == roles["--time"]), []
    if roles["--group"]:
        return None, [f"split: random, with the rows of each {roles['--group']} on one side"]
    taken = {roles["--target"], roles["--entity"]}
    plausible = [item for item in columns if item.name not in taken and _may_be_event(item)]
    if len(plausible) == 1:
        name = plausible[0].name
        return plausible[0], [f"time: {name}, the only column that can say when a row happened (--time names another)"]
    why = f"{listed(item.name for item in plausible)} could each be it" if plausible else "there is no such column"
    return None, [f"split: random, because no --time was named and {why}"]


def _may_be_event(column: Column) -> bool:
    if column.kind != "moment" or column.nulls or column.distinct < LEAST_TIMES:
        return False
    return not NOT_THE_EVENT & set(column.safe.strip("_").split("_"))


def _number_time(column: Column, frame: pl.DataFrame) -> tuple[str, str]:
    """Return the expression and the name of the unit in which numbers are times; `ScaffoldError` when they are none."""
    given = frame[column.safe].drop_nulls()
    if given.dtype.is_numeric() and len(given):
        for name, low, high, expression in NUMBER_TIMES:
            if given.is_between(low, high).all() and (given % 1 == 0).all():
                return expression.format(name=f'"{column.safe}"'), name
    raise ScaffoldError(
        f"--time {column.name!r} does not parse: {listed(given.head(3))} are neither years nor seconds since 1970; write "
        "times like 2024-01-31 or 2024-01-31T10:00:00Z"
    )


def _with_moments(found: Inferred) -> Inferred:
    """Add `event_at`, and refuse times that cannot order the rows."""
    if found.time is None:
        return found
    column = found.column(found.time)
    frame = found.frame.with_columns(_moment(found, column).alias(MOMENT))
    missing, distinct = frame[MOMENT].null_count(), frame[MOMENT].drop_nulls().n_unique()
    if distinct < LEAST_TIMES:
        raise ScaffoldError(f"--time {column.name!r} has {distinct} distinct times; at least {LEAST_TIMES} are needed")
    if missing > MOST_WITHOUT_TIME * frame.height:
        raise ScaffoldError(
            f"--time {column.name!r} is empty in {missing:,} of {frame.height:,} rows; fill it, or leave them out"
        )
    told = list(found.assumptions)
    if column.kind != "moment":
        told.append(f"time: {column.name} holds {_number_time(column, frame)[1]}")
    if missing:
        told.append(f"{missing:,} rows have no {column.name}: they have no place in time and are left out")
    if column.becomes == "Datetime" and not _zoned(found.table, column):
        told.append(f"time: {column.name} is in UTC, as it names no zone")
    return replace(found, frame=frame, assumptions=tuple(told))


def _moment(found: Inferred, column: Column) -> pl.Expr:
    """Return when each row happened, in UTC; a day begins at midnight."""
    name = pl.col(column.safe)
    if column.becomes == "Date":
        return name.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    if column.kind == "moment":
        return name
    unit = _number_time(column, found.frame)[1]
    if unit == "year":
        return pl.datetime(name.cast(pl.Int32), 1, 1, time_zone="UTC")
    return (name * (1_000_000 if unit.startswith("seconds") else 1_000)).cast(pl.Datetime("us", "UTC"))


def _zoned(table: Table, column: Column) -> bool:
    values = table.frame[column.name].drop_nulls()
    if values.dtype == pl.String:
        return bool(values.str.contains(r"(Z|[+-]\d{2}:?\d{2})$").any())
    return getattr(values.dtype, "time_zone", None) is not None


# -- key ---------------------------------------------------------------------------------------------------------------


def _with_key(found: Inferred) -> Inferred:
    """Find the column that names a row, or make one: of entity and time, or the row's number."""
    named = [item for item in found.columns if _names_rows(item, found)]
    if named:
        best = min(named, key=lambda item: (item.safe != "id", not item.safe.endswith("id")))
        columns = tuple(
            replace(item, kind="category", becomes="String") if item is best else item for item in found.columns
        )
        frame = found.frame.with_columns(_cast(found.frame[best.safe], "String"))
        told = f"key: {best.name}, which is different in every row"
        return replace(
            found,
            key=best.safe,
            unique=(best.name,),
            columns=columns,
            frame=frame,
            assumptions=(*found.assumptions, told),
        )
    return _with_made_key(found)


def _with_made_key(found: Inferred) -> Inferred:
    key = free_name(GENERATED_KEY, found.frame.columns)
    parts = [name for name in (found.entity, found.time) if name]
    together = found.frame.select(parts)
    if parts and not together.null_count().sum_horizontal().item() and together.is_unique().all():
        names = " and ".join(found.column(name).name for name in parts)
        told = f"key: {key}, made of {names}, which are different in every row"
        unique = tuple(found.column(name).name for name in parts)
        made = pl.concat_str([pl.col(name).cast(pl.String) for name in parts], separator="|").alias(key)
        return replace(
            found,
            key=key,
            key_of=tuple(parts),
            unique=unique,
            frame=found.frame.with_columns(made),
            assumptions=(*found.assumptions, told),
        )
    number = (pl.int_range(pl.len()) + 1).cast(pl.String).alias(key)
    told = f"key: {key}, the row's number, because no column names the rows; append new rows at the end"
    return replace(found, key=key, frame=found.frame.with_columns(number), assumptions=(*found.assumptions, told))


def _names_rows(column: Column, found: Inferred) -> bool:
    """Tell whether a column is unique, always there, and called like a key."""
    if column.safe in (found.target, found.time, found.entity, found.group) or column.kind not in (
        "category",
        "number",
    ):
        return False
    if column.nulls or column.distinct < found.frame.height or column.becomes == "Float64":
        return False
    return bool(KEY_WORDS & set(column.safe.strip("_").split("_")))
