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
"""Categories of a column that get a dense column of their own."""
MOST_FREQUENT = 2_000
"""Dense columns for categories of all columns together: of 500 columns of text each has 4, and the matrix stays in memory."""
FREQUENT_ROWS = 20
"""Training rows below which a category gets no dense column of its own: its weight would be noise."""
MOST_DEVIATIONS = 10.0
"""Standardised numbers are clipped here, so that one absurd value cannot drive a linear model or a network."""
SLICE_ROWS, SLICE_CELLS = 50_000, 2_000_000
"""Rows, and rows times columns, encoded at a time: the intermediate columns of a slice stay in tens of MB."""

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
        given, schema = columns if isinstance(columns, Mapping) else {}, frame.schema
        kinds = {name: given.get(name) or _kind(name, _dtype(schema, name)) for name in names}
        _refuse_misfits(schema, kinds)
        texts = sum(kind == "category" for kind in kinds.values())
        most = min(FREQUENT_CATEGORIES, max(1, MOST_FREQUENT // max(1, texts)))
        return cls(tuple(_learn(frame.get_column(name), kind, most) for name, kind in kinds.items()))

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
        return _by_rows(frame, [_code(column) for column in self.columns], missing=missing)

    def dense(self, frame: pl.DataFrame) -> Matrix:
        """Return an (n, d) float32 matrix without NaN or infinity for linear models, kernels and networks.

        Numbers are imputed with the training median, standardised with the training mean and deviation and clipped at
        ten deviations; frequent categories are one-hot, all others share `other`; a column that had nulls in training
        has a null indicator. Columns are `dense_names`. Raises `EncodingError` for a missing or mistyped column.
        """
        self._refuse_other(frame)
        clean = _by_rows(frame, [_clean(column) for column in self.columns], missing=float("nan"))
        matrix = np.zeros((frame.height, len(self.dense_names)), dtype=np.float32)
        for part in _slices(frame.height, len(self.columns)):
            self._plan.fill(matrix[part], clean[part])
        return matrix

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

    @cached_property
    def _plan(self) -> _Plan:
        return _Plan.of(self.columns)

    def _refuse_other(self, frame: pl.DataFrame) -> None:
        _refuse_misfits(frame.schema, {column.name: column.kind for column in self.columns})


@dataclass(frozen=True, eq=False)
class _Plan:
    """Where each column of the clean matrix goes in the dense one: many columns are filled by one step of NumPy.

    `numbers` are the places of numbers and booleans among the columns, `at` their places in the dense matrix, and `median`,
    `mean`, `std` what they are made of. `flagged` are those with a null indicator, which is one place further.
    `texts` are the places of categories, `first` where their dense columns begin, `frequent` how many of these there are;
    a null goes to `null_at`.
    """

    numbers: np.ndarray
    at: np.ndarray
    median: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    flagged: np.ndarray
    texts: np.ndarray
    first: np.ndarray
    frequent: np.ndarray
    null_at: np.ndarray

    @classmethod
    def of(cls, columns: Sequence[Column]) -> _Plan:
        widths = [len(column.dense_names) for column in columns]
        first = np.cumsum([0, *widths])[:-1]
        texts = np.array([column.kind == "category" for column in columns])
        known = [column for column in columns if column.kind != "category"]
        named = [column for column in columns if column.kind == "category"]
        frequent = np.array([column.frequent for column in named], dtype=np.int64)
        return cls(
            numbers=np.flatnonzero(~texts),
            at=first[~texts],
            median=np.array([column.median for column in known], dtype=np.float64),
            mean=np.array([column.mean for column in known], dtype=np.float64),
            std=np.array([column.std for column in known], dtype=np.float64),
            flagged=np.array([column.nulls for column in known], dtype=bool),
            texts=np.flatnonzero(texts),
            first=first[texts],
            frequent=frequent,
            # A null is `other` where training had none, and has an indicator of its own where it had some.
            null_at=first[texts] + frequent + np.array([column.nulls for column in named], dtype=np.int64),
        )

    def fill(self, dense: Matrix, clean: Matrix) -> None:
        """Write rows of the clean matrix into the same rows of the dense one, which holds zeros."""
        values = clean[:, self.numbers].astype(np.float64)
        missing = np.isnan(values)
        values = (np.where(missing, self.median, values) - self.mean) / self.std
        dense[:, self.at] = np.clip(values, -MOST_DEVIATIONS, MOST_DEVIATIONS)
        dense[:, self.at[self.flagged] + 1] = missing[:, self.flagged]
        codes = clean[:, self.texts]
        rank = np.fmin(codes, self.frequent).astype(np.float64)  # those beyond the frequent share `other`
        place = np.where(np.isnan(codes), self.null_at, self.first + rank).astype(np.int64)
        dense[np.arange(len(dense))[:, None], place] = 1


def _refuse_ambiguous(names: tuple[str, ...], frame: pl.DataFrame) -> None:
    if not names:
        raise EncodingError("no columns to encode: name at least one feature")
    if len(set(names)) < len(names):
        twice = sorted({first for first, second in pairwise(sorted(names)) if first == second})
        raise EncodingError(f"columns {twice} are named twice: name each once")
    if frame.is_empty():
        raise EncodingError("no training rows to fit an encoder on: check the split and the labels")


def _dtype(schema: pl.Schema, name: str) -> pl.DataType:
    if name not in schema:
        raise EncodingError(f"column {name!r} is missing: add it to the frame, which has {list(schema)}")
    return schema[name]


def _refuse_misfits(schema: pl.Schema, kinds: Mapping[str, Kind]) -> None:
    for name, kind in kinds.items():
        dtype = _dtype(schema, name)
        if dtype != pl.Null and not _fits(kind, dtype):
            raise EncodingError(f"column {name!r} is {dtype}, but was declared as {kind}: {_FIXES[kind]}")


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


def _learn(values: pl.Series, kind: Kind, most_frequent: int) -> Column:
    return _learn_category(values, most_frequent) if kind == "category" else _learn_number(values, kind)


def _learn_number(column: pl.Series, kind: Kind) -> Column:
    known = column.to_frame().select(_number(column.name)).to_series().drop_nulls()
    values = known.to_numpy().astype(np.float64)
    if not values.size:
        return Column(column.name, kind, nulls=True)
    return Column(
        column.name,
        kind,
        nulls=values.size < len(column),
        median=float(np.median(values)),
        mean=float(values.mean()),
        std=float(values.std()) or 1.0,
    )


def _learn_category(column: pl.Series, most_frequent: int) -> Column:
    values = column.cast(pl.String)
    counted = pl.DataFrame({"value": values.drop_nulls()}).group_by("value").len()
    ordered = counted.sort(["len", "value"], descending=[True, False]).head(MOST_CATEGORIES)
    frequent = ordered.head(most_frequent).filter(pl.col("len") >= FREQUENT_ROWS).height
    return Column(
        column.name,
        "category",
        nulls=values.null_count() > 0,
        categories=tuple(ordered.get_column("value")),
        frequent=frequent or min(ordered.height, most_frequent),
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
    """Numbers as they are; categories as codes, where one that training never saw is not a null: it is one code more."""
    if column.kind != "category":
        return _number(column.name)
    return pl.when(pl.col(column.name).is_not_null()).then(_code(column).fill_null(len(column.categories)))


def _by_rows(frame: pl.DataFrame, columns: Sequence[pl.Expr], *, missing: float) -> Matrix:
    """Run the expressions on slices of the frame into one C-ordered matrix; intermediate columns are one slice long."""
    matrix = np.empty((frame.height, len(columns)), dtype=np.float32)
    for part in _slices(frame.height, len(columns)):
        matrix[part] = frame[part].select(columns).cast(pl.Float32).fill_null(missing).to_numpy()
    return matrix


def _slices(rows: int, columns: int) -> Iterable[slice]:
    step = max(1, min(SLICE_ROWS, SLICE_CELLS // columns))
    return (slice(start, start + step) for start in range(0, rows, step))
