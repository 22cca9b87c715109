"""From typed columns to float32 matrices, by statistics of the training rows only.

An `Encoder` is fitted once, is a value (JSON in, JSON out, same hash), and travels beside the model: what turns rows
into numbers when a model serves is what did so when it learned. Nothing is ever fitted on the rows being scored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import polars as pl

Kind = Literal["number", "boolean", "category"]
Matrix = np.ndarray

FORMAT = 1
MOST_CATEGORIES = 2_000
"""Categories that get a code, the most frequent first; all others share the code of the unseen (NaN)."""
FREQUENT_CATEGORIES = 40
"""Categories that get a dense column of their own."""
FREQUENT_ROWS = 20
"""Training rows below which a category gets no dense column of its own: its weight would be noise."""
MOST_DEVIATIONS = 10.0
"""Standardised numbers are clipped here, so that one absurd value cannot drive a linear model or a network."""
SLICE_ROWS = 50_000
"""Rows encoded at a time: the intermediate columns of a slice stay in tens of MB."""

_DTYPES: dict[Kind, pl.DataType] = {"number": pl.Float64(), "boolean": pl.Boolean(), "category": pl.String()}
_FIXES: dict[Kind, str] = {
    "number": "cast it to Float64",
    "boolean": "cast it to Boolean",
    "category": "cast it to String",
}


class EncodingError(ValueError):
    """A frame does not have the columns or types that an encoder was declared with."""


@dataclass(frozen=True)
class Column:
    """What the training rows taught about one column.

    `median`, `mean` and `std` describe numbers and booleans in the column's own unit (0 and 1 for a column of nulls);
    `categories` is the fixed category space, the most frequent first, of which the first `frequent` get dense columns.
    """

    name: str
    kind: Kind
    nulls: bool = False
    median: float = 0.0
    mean: float = 0.0
    std: float = 1.0
    categories: tuple[str, ...] = ()
    frequent: int = 0

    @property
    def dense_names(self) -> tuple[str, ...]:
        """Return the names of the dense columns that this column becomes."""
        missing = (f"{self.name} is null",) if self.nulls else ()
        if self.kind != "category":
            return (self.name, *missing)
        return (*(f"{self.name}={value}" for value in self.categories[: self.frequent]), f"{self.name}=other", *missing)


@dataclass(frozen=True)
class Encoder:
    """Turns frames with declared columns into float32 matrices; see `fit`.

    >>> encoder = Encoder.fit(pl.DataFrame({"delay": [1.0, None, 3.0], "origin": ["JFK", "EWR", "JFK"]}))
    >>> encoder.codes(pl.DataFrame({"delay": [None], "origin": ["LGA"]})).tolist()
    [[nan, nan]]
    """

    columns: tuple[Column, ...]

    @classmethod
    def fit(cls, frame: pl.DataFrame, columns: Sequence[str] | Mapping[str, Kind] | None = None) -> Encoder:
        """Learn categories, medians, means and deviations of `columns` from training rows.

        `columns` are names, whose kinds then come from the schema, or names with kinds, or None for all of the frame.
        Raises `EncodingError` for no rows, no columns, a column that is missing or named twice, and a type that is
        neither number, boolean nor text (derive a number from a date; the encoder will not guess which).
        """
        names = tuple(frame.columns if columns is None else columns)
        _refuse_ambiguous(names, frame)
        given = columns if isinstance(columns, Mapping) else {}
        kinds = {name: given.get(name) or _kind(name, _dtype(frame, name)) for name in names}
        return cls(tuple(_learn(frame, name, kind) for name, kind in kinds.items()))

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the columns that the encoder reads, in order."""
        return tuple(column.name for column in self.columns)

    @property
    def dtypes(self) -> dict[str, str]:
        """Return the Polars type by which each column is asked for: Float64, Boolean or String."""
        return {column.name: str(_DTYPES[column.kind]) for column in self.columns}

    @property
    def feature_types(self) -> list[str]:
        """Return XGBoost's type of each column of `codes`: "c" for categories, "q" for numbers."""
        return ["c" if column.kind == "category" else "q" for column in self.columns]

    @cached_property
    def dense_names(self) -> tuple[str, ...]:
        """Return the name of each column of `dense`."""
        return tuple(name for column in self.columns for name in column.dense_names)

    def frame(self, rows: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
        """Return records (such as parsed JSON) as a frame of the declared types, or raise `EncodingError`."""
        schema = {column.name: _DTYPES[column.kind] for column in self.columns}
        try:
            return pl.DataFrame(list(rows), schema=schema, strict=True)
        except (TypeError, pl.exceptions.PolarsError) as error:
            raise EncodingError(f"the rows do not have the types {self.dtypes}: {error}") from error

    def codes(self, frame: pl.DataFrame, *, missing: float = float("nan")) -> Matrix:
        """Return an (n, p) float32 matrix for trees: numbers as they are, categories as codes.

        `missing` stands for null, for categories that training never saw, and for numbers that are NaN, infinite or
        beyond float32. Raises `EncodingError` for a missing or mistyped column.
        """
        self._refuse_other(frame)
        return _by_rows(frame, [[_code(column) for column in self.columns]], len(self.columns), missing=missing)

    def dense(self, frame: pl.DataFrame) -> Matrix:
        """Return an (n, d) float32 matrix without NaN or infinity for linear models, kernels and networks.

        Numbers are imputed with the training median, standardised with the training mean and deviation and clipped at
        ten deviations; frequent categories are one-hot, all others share `other`; a column that had nulls in training
        has a null indicator. Columns are `dense_names`. Raises `EncodingError` for a missing or mistyped column.
        """
        self._refuse_other(frame)
        steps = [
            [_clean(column) for column in self.columns],
            [one for column in self.columns for one in _dense(column)],
        ]
        return _by_rows(frame, steps, len(self.dense_names))

    def to_json(self) -> str:
        """Return the encoder as JSON with sorted keys: equal encoders have equal text."""
        content = {"format": FORMAT, "columns": [asdict(column) for column in self.columns]}
        return json.dumps(content, sort_keys=True, indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Encoder:
        """Read what `to_json` wrote; `EncodingError` when it is something else."""
        try:
            content = json.loads(text)
            if content["format"] != FORMAT:
                raise EncodingError(
                    f"encoder format {content['format']} is not {FORMAT}: write it again with this version"
                )
            return cls(tuple(Column(**raw | {"categories": tuple(raw["categories"])}) for raw in content["columns"]))
        except (KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise EncodingError(f"not an encoder: {error!r}; write it with Encoder.to_json") from error

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of `to_json`, which names what was learned."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def _refuse_other(self, frame: pl.DataFrame) -> None:
        for column in self.columns:
            dtype = _dtype(frame, column.name)
            if dtype != pl.Null and not _fits(column.kind, dtype):
                raise EncodingError(
                    f"column {column.name!r} is {dtype}, but was declared as {column.kind}: {_FIXES[column.kind]}"
                )


def _refuse_ambiguous(names: tuple[str, ...], frame: pl.DataFrame) -> None:
    if not names:
        raise EncodingError("no columns to encode: name at least one feature")
    if len(set(names)) < len(names):
        twice = sorted({first for first, second in pairwise(sorted(names)) if first == second})
        raise EncodingError(f"columns {twice} are named twice: name each once")
    if frame.is_empty():
        raise EncodingError("no training rows to fit an encoder on: check the split and the labels")


def _dtype(frame: pl.DataFrame, name: str) -> pl.DataType:
    if name not in frame.schema:
        raise EncodingError(f"column {name!r} is missing: add it to the frame, which has {frame.columns}")
    return frame.schema[name]


def _kind(name: str, dtype: pl.DataType) -> Kind:
    for kind in _DTYPES:
        if _fits(kind, dtype):
            return kind
    if dtype == pl.Null:
        return "number"
    raise EncodingError(
        f"column {name!r} is {dtype}, which no encoding fits: cast it to Float64, Boolean or String, or leave it out"
    )


def _fits(kind: Kind, dtype: pl.DataType) -> bool:
    if kind == "category":
        return isinstance(dtype, (pl.String, pl.Categorical, pl.Enum))
    return dtype == pl.Boolean if kind == "boolean" else dtype.is_numeric()


def _learn(frame: pl.DataFrame, name: str, kind: Kind) -> Column:
    dtype = _dtype(frame, name)
    if dtype != pl.Null and not _fits(kind, dtype):
        raise EncodingError(f"column {name!r} is {dtype}, but was declared as {kind}: {_FIXES[kind]}")
    return _learn_category(frame, name) if kind == "category" else _learn_number(frame, name, kind)


def _learn_number(frame: pl.DataFrame, name: str, kind: Kind) -> Column:
    values = frame.select(_number(name)).to_series().drop_nulls().to_numpy().astype(np.float64)
    if not values.size:
        return Column(name, kind, nulls=True)
    return Column(
        name,
        kind,
        nulls=values.size < frame.height,
        median=float(np.median(values)),
        mean=float(values.mean()),
        std=float(values.std()) or 1.0,
    )


def _learn_category(frame: pl.DataFrame, name: str) -> Column:
    values = frame.get_column(name).cast(pl.String)
    counted = pl.DataFrame({"value": values.drop_nulls()}).group_by("value").len()
    ordered = counted.sort(["len", "value"], descending=[True, False]).head(MOST_CATEGORIES)
    frequent = ordered.head(FREQUENT_CATEGORIES).filter(pl.col("len") >= FREQUENT_ROWS).height
    return Column(
        name,
        "category",
        nulls=values.null_count() > 0,
        categories=tuple(ordered.get_column("value")),
        frequent=frequent or min(ordered.height, FREQUENT_CATEGORIES),
    )


def _number(name: str) -> pl.Expr:
    """Read a column as float32, null where float32 cannot hold it, so that both matrices see the same."""
    value = pl.col(name).cast(pl.Float32, strict=False)
    return pl.when(value.is_finite()).then(value)


def _code(column: Column) -> pl.Expr:
    if column.kind != "category":
        return _number(column.name)
    known = pl.Enum(column.categories)
    return pl.col(column.name).cast(pl.String).cast(known, strict=False).to_physical().cast(pl.Float32)


def _clean(column: Column) -> pl.Expr:
    """Numbers as float64; categories as codes, where one that training never saw is not a null: it is one code more."""
    if column.kind != "category":
        return _number(column.name).cast(pl.Float64)
    return pl.when(pl.col(column.name).is_not_null()).then(_code(column).fill_null(len(column.categories)))


def _dense(column: Column) -> list[pl.Expr]:
    value, names = pl.col(column.name), column.dense_names
    missing = [value.is_null().cast(pl.Float32).alias(names[-1])] if column.nulls else []
    if column.kind != "category":
        standard = (value.fill_null(column.median) - column.mean) / column.std
        return [standard.clip(-MOST_DEVIATIONS, MOST_DEVIATIONS).cast(pl.Float32).alias(names[0]), *missing]
    # A null is `other` where training had none, and has an indicator of its own where it had some.
    other = (value >= column.frequent).fill_null(not column.nulls)
    hot = [(value == code).fill_null(False).cast(pl.Float32).alias(names[code]) for code in range(column.frequent)]
    return [*hot, other.cast(pl.Float32).alias(names[column.frequent]), *missing]


def _by_rows(frame: pl.DataFrame, steps: Sequence[Sequence[pl.Expr]], width: int, missing: float = 0.0) -> Matrix:
    """Run the steps on slices of the frame into one C-ordered matrix; intermediate columns are one slice long."""
    matrix = np.empty((frame.height, width), dtype=np.float32)
    for start in range(0, frame.height, SLICE_ROWS):
        part = frame.slice(start, SLICE_ROWS)
        for step in steps:
            part = part.select(step)
        matrix[start : start + SLICE_ROWS] = part.cast(pl.Float32).fill_null(missing).to_numpy()
    return matrix
