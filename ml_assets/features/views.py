"""Feature views as tables: computed lazily, one row per entity and moment, in the partition of that moment's day.

Beside the rows: whether they are what Feast declares, and how old the newest event is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from ml_assets.features.compiled import CompiledView
from ml_assets.features.reading import kind
from ml_assets.lake import Lake
from ml_assets.lake.lake import WHOLE
from ml_assets.preparation.writing import PARTITION
from ml_assets.quality import Expectation, Result, Suite, Verdict, suite_for

EVENT_TIMESTAMP, CREATED_TIMESTAMP = "event_timestamp", "created_timestamp"
# Feast's types by the kind of their values; what is not here is only compared by name.
KINDS = {
    "String": "text",
    "Int32": "integer",
    "Int64": "integer",
    "Float32": "float",
    "Float64": "float",
    "Bool": "truth",
    "UnixTimestamp": "time",
}


class ViewError(ValueError):
    """A feature function does not return what a feature view needs."""


def compute_view(
    compute: Callable[[pl.LazyFrame], pl.LazyFrame], source: pl.LazyFrame, *, time_zone: str
) -> pl.DataFrame:
    """Run a feature function and add the column `_partition`: the day of `event_timestamp` in `time_zone`."""
    frame = compute(source)
    schema = frame.collect_schema()
    for column in (EVENT_TIMESTAMP, CREATED_TIMESTAMP):
        if schema.get(column) != pl.Datetime("us", "UTC"):
            name = getattr(compute, "__name__", repr(compute))
            raise ViewError(f"{name}: column {column!r} is {schema.get(column)}; return it as Datetime('us', 'UTC')")
    day = pl.col(EVENT_TIMESTAMP).dt.convert_time_zone(time_zone).dt.date().dt.to_string()
    return frame.with_columns(day.alias(PARTITION)).collect()


def view_suite(table: str, entity: Sequence[str], expectations: Sequence[Mapping[str, Any]]) -> Suite:
    """Return the suite of a view: moments and keys are there and name one row; and what is declared besides."""
    there = [*entity, EVENT_TIMESTAMP, CREATED_TIMESTAMP]
    return suite_for(
        table,
        (),
        extra=[
            *(Expectation("expect_column_values_to_not_be_null", {"column": column}) for column in there),
            Expectation("expect_compound_columns_to_be_unique", {"column_list": [*entity, EVENT_TIMESTAMP]}),
            *(Expectation.from_dict(item) for item in expectations),
        ],
    )


# -- against the declaration -------------------------------------------------------------------------------------------


def declaration_verdict(
    view: str, frame: pl.DataFrame, declared: CompiledView | None, *, entity: Sequence[str]
) -> Verdict:
    """Return whether the columns are those that Feast declares for the view: the names both ways, and the types.

    `entity` are the join keys that the asset names; `_partition` is no column of the view. Types must be of one kind
    (integer, float, text …), widths may differ. A red verdict names view, column, both types and the fix.
    """
    suite, rows = f"{view} as declared in Feast", frame.height
    schema = {name: dtype for name, dtype in frame.schema.items() if name != PARTITION}
    if declared is None:
        note = f"feature view {view!r} is computed here, but Feast does not know it; declare it, or take the asset away"
        return Verdict(suite, success=False, rows=rows, notes=(note,))
    expected = declared_columns(declared)
    problems = [*_entity_problems(declared, entity), *_name_problems(schema, expected)]
    names = Expectation("expect_table_columns_to_match_set", {"column_set": list(expected)})
    results = [Result(names, success=not problems, element_count=rows, note=_note(view, problems))]
    results += [
        Result(_of_type(column, feast), success=False, element_count=rows, note=_note(view, [problem]))
        for column, feast, problem in _type_problems(schema, expected)
    ]
    return Verdict(suite, success=all(result.success for result in results), rows=rows, results=tuple(results))


def declared_columns(declared: CompiledView) -> dict[str, str]:
    """Return the stored columns of a view as Feast declares it, with their Feast types."""
    keys = {declared.declared.keys[key]: dtype for key, dtype in declared.keys.items()}
    times = filter(None, (declared.declared.event_timestamp, declared.declared.created_timestamp))
    features = {feature.column: feature.declared for feature in declared.declared.features}
    return {**keys, **dict.fromkeys(times, "UnixTimestamp"), **features}


def _entity_problems(declared: CompiledView, entity: Sequence[str]) -> Iterator[str]:
    if sorted(entity) != sorted(declared.declared.keys.values()):
        yield (
            f"its entity here is {sorted(entity)}, in Feast {sorted(declared.declared.keys.values())}; "
            "make `entity` and the join keys agree"
        )


def _name_problems(schema: Mapping[str, pl.DataType], expected: Mapping[str, str]) -> Iterator[str]:
    for column, feast in expected.items():
        if column not in schema:
            yield f"column {column!r} is declared {feast}, but not returned; return it, or take it out of Feast"
    for column, dtype in schema.items():
        if column not in expected:
            yield f"column {column!r} ({dtype}) is returned, but not declared; declare it in Feast, or do not return it"


def _type_problems(schema: Mapping[str, pl.DataType], expected: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yield column, Feast type and what is wrong."""
    for column, feast in expected.items():
        declared, dtype = feast_kind(feast), schema.get(column)
        if dtype is not None and declared and declared != _kind(dtype):
            problem = f"column {column!r} is {dtype}, but declared {feast}; cast it, or correct the declaration"
            yield column, feast, problem


def feast_kind(feast: str) -> str:
    """Return the kind of values of a Feast type by its name, such as "float" or "list of float"; "" when unknown."""
    if feast.startswith("Array("):
        inner = feast_kind(feast.removeprefix("Array(").removesuffix(")"))
        return inner and f"list of {inner}"
    return KINDS.get(feast, "")


def _kind(dtype: pl.DataType) -> str:
    return f"list of {_kind(dtype.inner)}" if isinstance(dtype, pl.List) else kind(dtype)  # type: ignore[arg-type]


def _of_type(column: str, feast: str) -> Expectation:
    polars = {"Bool": "Boolean", "UnixTimestamp": "Datetime"}.get(
        feast, feast.partition("(")[0].replace("Array", "List")
    )
    return Expectation("expect_column_values_to_be_of_type", {"column": column, "type_": polars})


def _note(view: str, problems: Sequence[str]) -> str:
    return f"feature view {view!r}: {'; '.join(problems)}" if problems else ""


# -- freshness ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Freshness:
    """How old a view's newest event is; `age` is negative when it lies in the future, None when there is no event."""

    newest: datetime | None
    age: timedelta | None
    within: timedelta

    @property
    def fresh(self) -> bool:
        """Tell whether there is an event that is old enough to have happened and young enough to be of use."""
        return self.age is not None and timedelta(0) <= self.age <= self.within

    def reason(self) -> str:
        """Return it in words, with the fix when it is not fresh."""
        limit = f"{self.within.total_seconds() / 3600:g} hours"
        if self.newest is None or self.age is None:
            return "no event has been computed yet; materialize the view"
        told = f"the newest event is of {self.newest:%Y-%m-%d %H:%M} UTC"
        if self.age < timedelta(0):
            return f"{told}, which has not come yet; correct the event times or the clock"
        hours = f"{told}, {self.age.total_seconds() / 3600:.1f} hours ago"
        return f"{hours}; at most {limit}" if self.fresh else f"{hours}, more than {limit}; materialize newer days"


def freshness(lake: Lake, table: str, *, now: datetime, within_hours: float) -> Freshness:
    """Return how fresh a table is, by its newest event in all of it: a backfill of old days makes nothing fresher."""
    newest = newest_event(lake, table)
    return Freshness(newest, now - newest if newest else None, timedelta(hours=within_hours))


def newest_event(lake: Lake, table: str) -> datetime | None:
    """Return the latest `event_timestamp` that readers may see, from the last partition with rows; None when there is none.

    Partitions are named after days, so the last by name holds it.
    """
    for partition in reversed(lake.store.folders(table)):
        name = None if partition == WHOLE else partition
        manifest = lake.manifest(table, name)
        if manifest and manifest.rows and not manifest.red:
            rows = lake.scan(table, [partition])
            found = rows.select(pl.col(EVENT_TIMESTAMP).max()).collect().item()
            assert found is None or isinstance(found, datetime)
            return found
    return None
