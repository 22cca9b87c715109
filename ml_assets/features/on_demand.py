"""Request-time features: one plain Polars function, run by the same code in training, batch scoring and serving.

A function takes a frame of input columns (columns of the request, and features of stored views) and returns a frame of
output columns, row for row::

    def trip(inputs: pl.DataFrame) -> pl.DataFrame:
        return inputs.select(speed=pl.col("miles") / pl.col("hours"))

`on_demand_view` declares it in a Feast repository, by its dotted path. `with_request_features` runs it on Polars frames
and imports no Feast. What Feast computes by itself (`to_df`, `to_arrow`, `get_online_features`, `feast serve`) comes
through `run_on_pandas` to the same function, with inputs and outputs of the same declared types.
"""

from __future__ import annotations

import hashlib
import json
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from ml_assets.features.point_in_time import FeatureError, require_columns, require_zone
from ml_assets.features.reading import kind

if TYPE_CHECKING:
    import pandas as pd
    from feast import FeatureView, Field, OnDemandFeatureView
    from feast.data_source import RequestSource

POLARS_TYPES: Mapping[str, pl.DataType] = {
    "String": pl.String(),
    "Bytes": pl.Binary(),
    "Bool": pl.Boolean(),
    "Int32": pl.Int32(),
    "Int64": pl.Int64(),
    "Float32": pl.Float32(),
    "Float64": pl.Float64(),
    "UnixTimestamp": pl.Datetime("us", "UTC"),
}
LIST = "Array("  # begins the name of Feast's type of a list
HASH_DIGITS = 12
# Feast stores this text in its registry and runs it, before it would look at pickled code. What is between the two
# parts is the view as JSON, which is the same in Python as long as there are only texts and lists in it.
_HEAD = """def request_time(inputs):
    from ml_assets.features.on_demand import run_on_pandas

    return run_on_pandas(inputs, """
_TAIL = ")\n"


def polars_type(declared: str) -> pl.DataType | None:
    """Return the Polars type of a Feast type, by its name: `Float64`, `Array(String)`, …; None for what has none here."""
    if declared.startswith(LIST):
        inner = polars_type(declared[len(LIST) : -1])
        return None if inner is None else pl.List(inner)
    return POLARS_TYPES.get(declared)


@dataclass(frozen=True)
class Input:
    """A column that a function reads: of the request, or a feature of the stored view `view`; with its Feast type."""

    name: str
    declared: str
    view: str = ""


@dataclass(frozen=True)
class Output:
    """A column that a function returns, with its Feast type."""

    name: str
    declared: str
    description: str = ""


@dataclass(frozen=True)
class OnDemand:
    """An on-demand view as it is run: the dotted path of its function, what it reads, returns and is asked for.

    `version` is a hash of the function's module at the time of `apply`. `asked` names the outputs to append. `hidden`
    names the inputs that are there for this function only, and are dropped when it has run. With `full_feature_names`
    stored features are read as `view__feature`, and outputs are named like that.
    """

    name: str
    function: str
    version: str
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    asked: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    full_feature_names: bool = False

    @property
    def request(self) -> tuple[Input, ...]:
        """Return the inputs that the caller has to bring."""
        return tuple(item for item in self.inputs if not item.view)

    def column(self, item: Input) -> str:
        """Return the column in which an input is found."""
        return f"{item.view}__{item.name}" if item.view and self.full_feature_names else item.name

    @property
    def added(self) -> dict[str, str]:
        """Return the asked outputs, each with the column in which it is returned."""
        return {name: f"{self.name}__{name}" if self.full_feature_names else name for name in self.asked}


# -- running -----------------------------------------------------------------------------------------------------------


def with_request_features(frame: pl.DataFrame, views: Sequence[OnDemand]) -> pl.DataFrame:
    """Return the frame with the asked outputs of all views as further columns; without the inputs that nobody asked for.

    Every view reads the frame as it came. Raises `FeatureError` that names view and column when an input is missing or
    of another kind than declared, when an output would hide a column, and when a function does not return what it
    declares.
    """
    if not views:
        return frame
    require_request(frame.schema, views)
    added = [column for view in views for column in _run(view, frame, view.added)]
    if hidden := {name for view in views for name in view.hidden}:
        frame = frame.drop(hidden)
    return frame.hstack(added)


def require_request(schema: Mapping[str, pl.DataType], views: Sequence[OnDemand]) -> None:
    """Check the request columns of observations, and that no output would hide a column; `FeatureError` if so."""
    taken = set(schema)
    for view in views:
        where = f"observations, for on-demand view {view.name!r}"
        require_columns([item.name for item in view.request], schema, where)
        for item in view.request:
            _require_kind(schema[item.name], item.declared, item.name, where)
        if clash := taken & set(view.added.values()):
            raise FeatureError(
                f"on-demand view {view.name!r}: column {sorted(clash)} exists already; rename the observations' "
                "column, or ask for full feature names"
            )
        taken |= set(view.added.values())


def run_on_pandas(inputs: pd.DataFrame, view: Mapping[str, Any]) -> pd.DataFrame:
    """Run a view's function on the pandas frame that Feast prepares; return all its outputs, by their short names.

    pandas holds whole numbers with gaps as floats; declared types are restored before the function sees them.
    """
    declared = on_demand_of(view)
    columns = {item.name: _from_pandas(inputs, item, declared.name) for item in declared.inputs}
    return _to_pandas(_run(declared, pl.DataFrame(columns), {item.name: item.name for item in declared.outputs}))


def _run(view: OnDemand, frame: pl.DataFrame, wanted: Mapping[str, str]) -> pl.DataFrame:
    """Return the wanted outputs, each under the name it is mapped to, one row for each row of the frame."""
    where, said = f"on-demand view {view.name!r}", f"on-demand view {view.name!r}: {view.function}"
    alone = frame.height == 1
    inputs = {item.name: (view.column(item), item.declared) for item in view.inputs}
    rows = _typed(frame, inputs, where, _with_company if alone else _as_it_is)
    found = load(view.function)(rows)
    _require_result(found, rows.height, [item.name for item in view.outputs], said)
    for item in view.outputs:
        _require_kind(found.schema[item.name], item.declared, item.name, said)
    outputs = {wanted[item.name]: (item.name, item.declared) for item in view.outputs if item.name in wanted}
    return _typed(found, outputs, said, _without_company if alone else _as_it_is)


def _as_it_is(value: pl.Expr) -> pl.Expr:
    return value


def _with_company(value: pl.Expr) -> pl.Expr:
    """Put a null after a single value.

    Polars divides one value by a constant, but multiplies several by its reciprocal, which differs in the last bit: the
    one row of a request must give what it gives among others.
    """
    return value.extend_constant(None, 1)


def _without_company(value: pl.Expr) -> pl.Expr:
    return value.head(1)


def _require_result(found: object, height: int, columns: Sequence[str], where: str) -> None:
    if not isinstance(found, pl.DataFrame):
        raise FeatureError(f"{where} returned {type(found).__name__}; return a polars.DataFrame")
    if set(found.columns) != set(columns):
        raise FeatureError(f"{where} returned columns {found.columns}, declared are {list(columns)}; make them agree")
    if found.height != height:
        raise FeatureError(f"{where} returned {found.height} rows for {height}; return one row for each, in order")


def _typed(
    frame: pl.DataFrame, columns: Mapping[str, tuple[str, str]], where: str, then: Callable[[pl.Expr], pl.Expr]
) -> pl.DataFrame:
    """Return columns by name, each from its (column, declared type). NaN becomes null: pandas does not tell them apart."""
    schema = frame.schema
    require_columns([column for column, _ in columns.values()], schema, where)
    for column, declared in columns.values():
        _require_kind(schema[column], declared, column, where)
    try:
        return frame.select(
            _expression(name, column, schema[column], declared, then) for name, (column, declared) in columns.items()
        )
    except pl.exceptions.InvalidOperationError as error:
        raise FeatureError(f"{where}: a value does not fit its declared type: {error}") from error


@lru_cache(maxsize=4096)  # making expressions anew costs a request of one row more than computing them
def _expression(
    name: str, column: str, found: pl.DataType, declared: str, then: Callable[[pl.Expr], pl.Expr]
) -> pl.Expr:
    value, wanted = pl.col(column), POLARS_TYPES[declared]
    if found.is_float():
        value = value.fill_nan(None)
    return then(value if found == wanted else value.cast(wanted)).alias(name)


def _require_kind(found: pl.DataType, declared: str, column: str, where: str) -> None:
    """Refuse another kind than declared. Widths may differ, whole numbers serve as floats, and nulls have no kind."""
    if found in (POLARS_TYPES[declared], pl.Null):
        return
    wanted, there = kind(POLARS_TYPES[declared]), kind(found)
    if wanted != there and (wanted, there) != ("float", "integer"):
        raise FeatureError(f"{where}: column {column!r} is {found}, declared is {declared}; correct one of them")
    if wanted == "time":
        require_zone(found, column, where)


def load(function: str) -> Callable[[pl.DataFrame], Any]:
    """Return the function at a dotted path; `FeatureError` when there is none."""
    try:
        found = pkgutil.resolve_name(function)
    except (ImportError, AttributeError, ValueError) as error:
        raise _no_function(function, error) from error
    if not callable(found):
        raise _no_function(function, f"it is {type(found).__name__}")
    return found


def module_version(function: str) -> str:
    """Return 12 hex digits of the SHA-256 of the module file behind a dotted path, without importing the module."""
    try:
        spec = find_spec(function.rpartition(".")[0])
    except (ImportError, ValueError) as error:
        raise _no_function(function, error) from error
    if spec is None or spec.origin is None:
        raise _no_function(function, "no such module")
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()[:HASH_DIGITS]


def _no_function(function: str, reason: object) -> FeatureError:
    return FeatureError(f"no function at {function!r} ({reason}); write it as package.module.function")


# -- pandas ------------------------------------------------------------------------------------------------------------


def _from_pandas(inputs: pd.DataFrame, item: Input, view: str) -> pl.Series:
    """Return an input column. Features are there by both names; only the full one cannot be a column of the request."""
    full = f"{item.view}__{item.name}"
    column = full if item.view and full in inputs.columns else item.name
    require_columns([column], dict.fromkeys(map(str, inputs.columns), pl.Null()), f"on-demand view {view!r}")
    found, declared = pl.Series(pl.from_pandas(inputs[column])), POLARS_TYPES[item.declared]
    if found.null_count() == len(found):  # pandas does not say what they are nulls of
        return pl.Series(values=[None] * len(found), dtype=declared)
    return _whole(found) if declared.is_integer() and found.dtype.is_float() else found


def _whole(values: pl.Series) -> pl.Series:
    """Return floats as whole numbers; as they are when one is none, so that the check of kinds refuses them."""
    return values if (values != values.round()).any() else values.cast(pl.Int64)


def _to_pandas(frame: pl.DataFrame) -> pd.DataFrame:
    """Return the frame with pandas' nullable types, where its others would lose the type for a null."""
    import pandas as pd
    import pyarrow as pa

    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    types = {
        pa.int32(): pd.Int32Dtype(),
        pa.int64(): pd.Int64Dtype(),
        pa.bool_(): pd.BooleanDtype(),
        pa.large_string(): pd.StringDtype(),
    }
    return table.to_pandas(types_mapper=types.get)


# -- declaring ---------------------------------------------------------------------------------------------------------


def on_demand_view(
    *,
    name: str,
    function: str,
    sources: Sequence[RequestSource | FeatureView],
    schema: Sequence[Field],
    description: str = "",
    owner: str = "",
    tags: Mapping[str, str] | None = None,
) -> OnDemandFeatureView:
    """Return a Feast on-demand view that runs the Polars function at the dotted path `function`.

    The function's inputs are the columns of the request sources and the features of the feature views (`view[["a"]]`
    for some of them), by their plain names; `schema` declares its outputs. All are of the types in `POLARS_TYPES`.
    The outputs' descriptions are kept in the source text and the compiled repository: Feast 0.67 forgets them when it
    reads its registry, and then takes a service's feature with a description for another one.

    Raises `FeatureError` when there is no such function, when names are not unique, and for sources that Feast would
    not hand over reliably: under another name, with other join keys, without declared features.
    """
    from feast import Field, OnDemandFeatureView

    from ml_assets.features.transformation import DeclaredTransformation

    load(function)
    view = OnDemand(
        name=name,
        function=function,
        version=module_version(function),
        inputs=tuple(item for source in sources for item in _inputs(source, f"on-demand view {name!r}")),
        outputs=tuple(Output(field.name, str(field.dtype), field.description) for field in schema),
    )
    _require_sound(view)
    fields = [Field(name=field.name, dtype=field.dtype) for field in schema]
    return OnDemandFeatureView(
        name=name,
        sources=list(sources),
        schema=fields,
        feature_transformation=DeclaredTransformation.of(source_text(view), fields),
        mode="pandas",
        description=description,
        owner=owner,
        tags=dict(tags or {}),
    )


def _inputs(source: RequestSource | FeatureView, where: str) -> list[Input]:
    from feast import FeatureView

    if not isinstance(source, FeatureView):
        return [Input(field.name, str(field.dtype)) for field in source.schema]
    projection = source.projection
    if projection.name_to_use() != source.name or projection.join_key_map:
        raise FeatureError(f"{where}: source {source.name!r} is renamed or has other join keys; use the view as it is")
    if not projection.features:
        raise FeatureError(f"{where}: source {source.name!r} declares no features; give the feature view a schema")
    return [Input(field.name, str(field.dtype), source.name) for field in projection.features]


def _require_sound(view: OnDemand) -> None:
    where = f"on-demand view {view.name!r}"
    columns: list[Input | Output] = [*view.inputs, *view.outputs]
    names = [item.name for item in columns]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise FeatureError(f"{where}: {twice} is there more than once among inputs and outputs; names must be unique")
    for item in columns:
        if item.declared not in POLARS_TYPES:
            raise FeatureError(f"{where}: {item.name!r} is declared {item.declared}; use one of {list(POLARS_TYPES)}")
    if not view.inputs or not view.outputs:
        raise FeatureError(f"{where}: it needs at least one input and one output")


def source_text(view: OnDemand) -> str:
    """Return the Python source by which Feast runs the view; it is a function of the declaration and the module's hash.

    So `feast plan` shows a change of either.
    """
    said = {key: value for key, value in asdict(view).items() if key in _DECLARED}
    return f"{_HEAD}{json.dumps(said, ensure_ascii=False, indent=4)}{_TAIL}"


_DECLARED = ("name", "function", "version", "inputs", "outputs")


# -- from Feast and JSON -----------------------------------------------------------------------------------------------


def asked_on_demand(
    views: Iterable[OnDemandFeatureView], refs: Sequence[str], *, full_feature_names: bool = False
) -> tuple[OnDemand, ...] | None:
    """Return Feast's views with what the references `view:feature` ask of them; None when one is not made here.

    A view that was made here but is asked for under another name counts as not made here: Feast does not compute it.
    """
    found = [_declared_here(view) for view in views]
    if any(view is None for view in found):
        return None
    return tuple(
        replace(
            view,
            asked=tuple(item.name for item in view.outputs if f"{view.name}:{item.name}" in refs),
            full_feature_names=full_feature_names,
        )
        for view in found
        if view
    )


def hiding_unasked(views: Iterable[OnDemand], refs: Sequence[str]) -> tuple[OnDemand, ...]:
    """Return the views with those inputs hidden that the references `view:feature` do not ask for themselves."""
    return tuple(
        replace(
            view,
            hidden=tuple(item.name for item in view.inputs if item.view and f"{item.view}:{item.name}" not in refs),
        )
        for view in views
    )


def _declared_here(view: OnDemandFeatureView) -> OnDemand | None:
    text = getattr(view.feature_transformation, "udf_string", None) or ""
    if not (text.startswith(_HEAD) and text.endswith(_TAIL)) or view.projection.name_to_use() != view.name:
        return None
    return on_demand_of(json.loads(text[len(_HEAD) : -len(_TAIL)]))


def on_demand_of(entry: Mapping[str, Any]) -> OnDemand:
    """Return the view that `dataclasses.asdict` and JSON were made from."""
    parts = {
        "inputs": tuple(Input(**item) for item in entry["inputs"]),
        "outputs": tuple(Output(**item) for item in entry["outputs"]),
    }
    names = {key: tuple(entry[key]) for key in ("asked", "hidden") if key in entry}
    return OnDemand(**{**entry, **parts, **names})
