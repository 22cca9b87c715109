"""Profiles: what a partition's columns hold, in a few numbers each, which can be added to those of other partitions.

A year against a week is then a matter of so many partitions, not of rows. All of a profile but the last digits of its moments
is exact, except `distinct`, which is estimated from a sketch where there are more values than categories that are counted.
"""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from base64 import b64decode, b64encode
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import polars as pl

from ml_assets.monitoring.errors import MonitoringError

Kind = Literal["numeric", "categorical", "unknown", "mixed"]
DECILES = np.arange(0.1, 0.95, 0.1)
MOST_CATEGORIES = 256
"""So many values of a text column are counted each; of more, the commonest, and the others together."""
LEAST = 5  # rows of a category that is worth a bin
FEW, LOOK = 32, 8192
"""So many categories, seen in so many rows at the top, are counted by comparing with each, which is quicker than grouping."""
BUCKETS, RANKS = 512, 64  # of the sketch: its standard error is 1.04 / sqrt(512), 4.6 %
CLOSE, EXACT = 2**16, 2**53  # numbers that are marked in an array; those below are whole as floats too
AT_ONCE = 100_000  # rows that are sketched together, so that they stay in the processor's cache
ENTRIES = {"rows", "nulls", "nans", "infinities", "zeros", "rest"}


@dataclass(frozen=True)
class Cut:
    """How a column's values are counted: in bins between ascending finite edges, or by category.

    The bins of a numeric cut are (-inf, e0], (e0, e1] … (ek, inf); those of a categorical one its categories, and all others.
    """

    kind: Literal["numeric", "categorical"]
    edges: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()


Cuts = Mapping[str, Cut]


def _no_registers() -> np.ndarray:
    return np.zeros(BUCKETS, dtype=np.uint8)


@dataclass(frozen=True, eq=False)
class ColumnProfile:
    """One column of so many rows.

    dtype: Polars' name of the type, several joined by " | " where partitions differ. kind: "numeric" (numbers, and times as
    microseconds, dates as days), "categorical" (texts, booleans, categories), "mixed" where partitions are of both kinds,
    and "unknown" for what is neither. low, high, mean and m2 (the sum of squared deviations from the mean) are of the
    finite values; None, and 0, without any. zeros: values that are 0. counts: rows in each bin of the column's cut, without
    nulls and NaN; infinities count in the outer bins. None without a fitting cut. categories: rows of each category, the
    commonest when there are more than `MOST_CATEGORIES`; rest: rows of the others. registers: the sketch of distinct values.
    """

    name: str
    dtype: str
    kind: Kind
    rows: int
    nulls: int = 0
    nans: int = 0
    infinities: int = 0
    low: float | None = None
    high: float | None = None
    mean: float | None = None
    m2: float = 0.0
    zeros: int = 0
    counts: np.ndarray | None = None
    categories: Mapping[str, int] = field(default_factory=dict)
    rest: int = 0
    registers: np.ndarray = field(default_factory=_no_registers)

    @property
    def finite(self) -> int:
        """Number of finite values of a numeric column; 0 of any other."""
        return self.rows - self.nulls - self.nans - self.infinities if self.kind == "numeric" else 0

    @property
    def missing(self) -> int:
        """Number of rows without a value: null or NaN."""
        return self.nulls + self.nans

    @property
    def missing_share(self) -> float | None:
        """Share of rows without a value, in [0, 1]; None without rows."""
        return self.missing / self.rows if self.rows else None

    @property
    def std(self) -> float | None:
        """Standard deviation of the finite values, as of a population; None without any."""
        return math.sqrt(self.m2 / self.finite) if self.finite else None

    @property
    def distinct(self) -> int:
        """Number of distinct values but null: exact where all categories are counted, else estimated, within some 10 %."""
        if self.kind == "categorical" and not self.rest:
            return len(self.categories)
        if self.kind == "numeric" and self.low is not None and self.low == self.high and not self.infinities:
            return 1
        return min(round(_estimate(self.registers)), self.rows - self.missing)

    @property
    def value(self) -> str | None:
        """The only value there is, spelled out; None when there are none or several."""
        if self.kind == "numeric" and self.low is not None and not self.infinities:
            return f"{self.low:g}" if self.low == self.high else None
        return next(iter(self.categories)) if len(self.categories) == 1 and not self.rest else None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold; what is empty, None or 0 is left out."""
        found: dict[str, Any] = {name: value for name in ENTRIES if (value := getattr(self, name))}
        numbers = {name: getattr(self, name) for name in ("low", "high", "mean", "m2")}
        found |= {name: _plain(value) for name, value in numbers.items() if value is not None}
        if self.counts is not None:
            found["counts"] = self.counts.tolist()
        if self.categories:
            found["categories"] = dict(self.categories)
        if self.registers.any():
            found["registers"] = b64encode(zlib.compress(self.registers.tobytes())).decode()
        return {"dtype": self.dtype, "kind": self.kind, **found}

    @classmethod
    def from_dict(cls, name: str, raw: Mapping[str, Any]) -> ColumnProfile:
        """Read what `to_dict` returned; `KeyError`, `TypeError` or `ValueError` for anything else."""
        values = dict(raw)
        for one in values.keys() & {"low", "high", "mean", "m2"}:
            values[one] = float(values[one])
        if "counts" in values:
            values["counts"] = np.array(values["counts"], dtype=np.int64)
        if "registers" in values:
            values["registers"] = _unpacked(values["registers"])
        return cls(name=name, **{"rows": 0} | values)


@dataclass(frozen=True, eq=False)
class Profile:
    """The columns of so many rows, by name, and the id of the cuts that they were counted with."""

    rows: int
    columns: Mapping[str, ColumnProfile]
    cuts: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        columns = {name: column.to_dict() for name, column in self.columns.items()}
        return {"rows": self.rows, "cuts": self.cuts, "columns": columns}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Profile:
        """Read what `to_dict` returned; `KeyError`, `TypeError` or `ValueError` for anything else."""
        columns = {name: ColumnProfile.from_dict(name, values) for name, values in raw["columns"].items()}
        return cls(int(raw["rows"]), columns, str(raw["cuts"]))


def kind_of(dtype: pl.DataType) -> Kind:
    """Return what a column of this type counts as; never "mixed"."""
    if dtype.is_numeric() or dtype.is_temporal():
        return "numeric"
    return "categorical" if dtype in (pl.String, pl.Boolean, pl.Categorical, pl.Enum) else "unknown"


def cuts_of(reference: pl.DataFrame | pl.LazyFrame, columns: Sequence[str], *, max_categories: int = 20) -> Cuts:
    """Return how the named columns are to be counted: as the reference's values lie.

    Numbers are cut just below their minimum, at their deciles and at their maximum, so that there is a bin for what the
    reference has never seen on either side; of categories the commonest `max_categories` that have at least five rows
    (Cochran, Biometrics 10, 1954) have a bin each. A column that does not exist, or is of neither kind, has no cut. Raises
    a MonitoringError for a nested column.
    """
    frame = _selected(reference, columns)
    numbers = frame.select(_number(name, dtype) for name, dtype in frame.schema.items() if kind_of(dtype) == "numeric")
    found: dict[str, Cut] = {column.name: Cut("numeric", edges=_edges(column)) for column in numbers}
    for column in (one for one in frame if kind_of(one.dtype) == "categorical"):
        common = _grouped(column).filter(pl.col("rows") >= LEAST)
        found[column.name] = Cut("categorical", categories=tuple(_commonest(common, max_categories)["value"]))
    return {name: found[name] for name in frame.columns if name in found}


def cuts_id(cuts: Cuts | None) -> str:
    """Return 16 hex digits for cuts: equal for equal ones; empty for none."""
    if not cuts:
        return ""
    plain = sorted((name, cut.kind, cut.edges, cut.categories) for name, cut in cuts.items())
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()[:16]


def profile(
    frame: pl.DataFrame | pl.LazyFrame, *, columns: Sequence[str] | None = None, cuts: Cuts | None = None
) -> Profile:
    """Profile the named columns, default all, counting them by `cuts`; a column that does not exist is left out.

    Raises a MonitoringError when a named column is nested; when none is named, such a column is profiled by its nulls alone.
    """
    rows = _selected(frame, columns)
    numbers = rows.select(_number(name, dtype) for name, dtype in rows.schema.items() if kind_of(dtype) == "numeric")
    found = _of_numbers(rows, numbers, cuts or {}) | _of_categories(rows, cuts or {}) | _of_others(rows)
    return Profile(_height(frame, rows), {name: found[name] for name in rows.columns}, cuts_id(cuts))


def merge(profiles: Sequence[Profile]) -> Profile:
    """Return the profile of all their rows together, whatever their order.

    A column that some of them lack is merged from the others; its own `rows` says of how many rows. Raises a
    MonitoringError for an empty list, or for profiles that were counted with different cuts.
    """
    if not profiles:
        raise MonitoringError("there are no profiles to merge: give at least one, such as that of an empty frame")
    cuts = {one.cuts for one in profiles}
    if len(cuts) > 1:
        raise MonitoringError(f"profiles have cuts {sorted(cuts)}: profile all partitions with the same cuts")
    columns: dict[str, list[ColumnProfile]] = {}
    for one in profiles:
        for name, column in one.columns.items():
            columns.setdefault(name, []).append(column)
    return Profile(
        sum(one.rows for one in profiles), {name: _merged(parts) for name, parts in columns.items()}, profiles[0].cuts
    )


def _plain(value: float) -> float | str:
    """Return a number as JSON can hold it: infinities as their names."""
    return value if math.isfinite(value) else str(value)


def _unpacked(text: str) -> np.ndarray:
    registers = np.frombuffer(zlib.decompress(b64decode(text)), dtype=np.uint8)
    if len(registers) != BUCKETS:
        raise ValueError(f"a sketch has {len(registers)} registers, not {BUCKETS}")
    return registers


def _selected(frame: pl.DataFrame | pl.LazyFrame, columns: Sequence[str] | None) -> pl.DataFrame:
    """Return the columns that there are, in memory; a nested one is refused where it is named."""
    lazy = frame.lazy()
    schema = lazy.collect_schema()
    wanted = [name for name in dict.fromkeys(schema.names() if columns is None else columns) if name in schema]
    for name in wanted if columns is not None else ():
        if kind_of(schema[name]) == "unknown" and schema[name] != pl.Null:
            raise MonitoringError(f"feature {name!r} is {schema[name]}: give a number, time, text or boolean")
    return lazy.select(wanted).collect()


def _height(frame: pl.DataFrame | pl.LazyFrame, selected: pl.DataFrame) -> int:
    return selected.height if selected.width else frame.lazy().select(pl.len()).collect().item()


def _number(name: str, dtype: pl.DataType) -> pl.Expr:
    """Return a column as floats: times in microseconds whatever their unit, else a change of it would look like drift."""
    column = pl.col(name)
    if dtype in (pl.Datetime, pl.Duration):
        column = column.dt.cast_time_unit("us")
    return column.to_physical().cast(pl.Float64)


# ---- numbers


def _of_numbers(rows: pl.DataFrame, numbers: pl.DataFrame, cuts: Cuts) -> dict[str, ColumnProfile]:
    """Profile the columns of `numbers`, all in one parallel pass; those with NaN or infinities once more without them."""
    edges = {name: cuts[name].edges for name in numbers.columns if name in cuts and cuts[name].kind == "numeric"}
    found = _measured(numbers, edges)
    odd = [name for name in numbers.columns if not math.isfinite(found[name]["sum"])]
    if odd:
        clean = numbers.select(pl.when(pl.col(name).is_finite()).then(pl.col(name)) for name in odd)
        for name, own in _measured(clean, edges).items():
            found[name] = own | _not_finite(numbers[name], found[name]["nulls"])
    sketches = _sketches_of_numbers(rows, numbers, found)
    return {
        name: _of_number(rows[name], numbers[name], found[name], edges.get(name), sketches[name])
        for name in numbers.columns
    }


def _sketches_of_numbers(
    rows: pl.DataFrame, numbers: pl.DataFrame, found: Mapping[str, Mapping[str, Any]]
) -> dict[str, np.ndarray]:
    """Return the sketch of each column; of whole numbers that repeat, each number is looked at once."""
    few = [name for name in numbers.columns if _repeats(rows[name], found[name])]
    once = {name: _once(rows[name], found[name]) for name in few}
    return _sketches(numbers.drop(few)) | {name: _sketches(one.to_frame())[name] for name, one in once.items()}


def _repeats(column: pl.Series, found: Mapping[str, Any]) -> bool:
    """Tell whether a long column is of whole numbers that lie close together, and are the same as floats."""
    whole = len(column) >= AT_ONCE and column.dtype.is_integer() and found["low"] is not None
    return whole and found["high"] - found["low"] < CLOSE and max(-found["low"], found["high"]) < EXACT


def _once(column: pl.Series, found: Mapping[str, Any]) -> pl.Series:
    """Return the numbers of such a column as floats, each once."""
    seen = np.zeros(int(found["high"] - found["low"]) + 1, dtype=bool)
    seen[(column.drop_nulls().cast(pl.Int64) - int(found["low"])).to_numpy()] = True
    return pl.Series(column.name, np.flatnonzero(seen) + found["low"], dtype=pl.Float64)


def _measured(numbers: pl.DataFrame, edges: Mapping[str, Sequence[float]]) -> dict[str, dict[str, Any]]:
    """Return, for each column, nulls, sum, variance, low, high, zeros, and in `above` the rows above each edge."""
    wanted: dict[tuple[str, str], pl.Expr] = {}
    for name in numbers.columns:
        one = pl.col(name)
        wanted |= {
            (name, "nulls"): one.null_count(),
            (name, "sum"): one.sum(),
            (name, "variance"): one.var(ddof=0),
            (name, "low"): one.min(),
            (name, "high"): one.max(),
            (name, "zeros"): (one == 0).sum(),
        }
        wanted |= {(name, f"{at}"): (one > edge).sum() for at, edge in enumerate(edges.get(name, ()))}
    values = numbers.select(one.alias(f"{at}") for at, one in enumerate(wanted.values())).row(0) if wanted else ()
    found: dict[str, dict[str, Any]] = {name: {"above": []} for name in numbers.columns}
    for (name, what), value in zip(wanted, values, strict=True):
        if what.isdigit():
            found[name]["above"].append(value)
        else:
            found[name][what] = value
    return found


def _not_finite(column: pl.Series, nulls: int) -> dict[str, int]:
    """Return the counts of what is not finite, which `_measured` took for nulls."""
    infinite = column.filter(column.is_infinite())
    below = int((infinite < 0).sum())
    return {"nulls": nulls, "nans": int(column.is_nan().sum()), "below": below, "over": len(infinite) - below}


def _of_number(
    original: pl.Series,
    column: pl.Series,
    found: Mapping[str, Any],
    edges: Sequence[float] | None,
    registers: np.ndarray,
) -> ColumnProfile:
    nans, below, over = (found.get(name, 0) for name in ("nans", "below", "over"))
    finite = len(column) - found["nulls"] - nans - below - over
    low, high = (found["low"], found["high"]) if finite else (None, None)
    mean = min(max(found["sum"] / finite, low), high) if finite and math.isfinite(found["sum"]) else None
    if finite and mean is None:  # the sum of huge values is infinite, their mean is not
        mean = float((column.filter(column.is_finite()) / finite).sum())
    variance = found["variance"] if finite else 0.0
    return ColumnProfile(
        name=original.name,
        dtype=str(original.dtype),
        kind="numeric",
        rows=len(column),
        nulls=found["nulls"],
        nans=nans,
        infinities=below + over,
        low=low,
        high=high,
        mean=mean,
        m2=variance * finite if math.isfinite(variance) else math.inf,
        zeros=found["zeros"],
        counts=None if edges is None else _counts(finite, found["above"], below, over),
        registers=registers,
    )


def _counts(finite: int, above: Sequence[int], below: int, over: int) -> np.ndarray:
    counts = -np.diff(np.array([finite, *above, 0], dtype=np.int64))
    counts[0] += below
    counts[-1] += over
    return counts


def _edges(column: pl.Series) -> tuple[float, ...]:
    ordered = column.filter(column.is_finite()).sort().to_numpy()
    if len(ordered) == 0:
        return ()
    deciles = ordered[np.minimum((DECILES * len(ordered)).astype(int), len(ordered) - 1)]
    below = max(np.nextafter(ordered[0], -np.inf), -np.finfo(float).max)
    return tuple(np.unique(np.concatenate([[below], deciles, [ordered[-1]]])).tolist())


# ---- categories


def _of_categories(rows: pl.DataFrame, cuts: Cuts) -> dict[str, ColumnProfile]:
    return {
        column.name: _of_category(column, cuts.get(column.name))
        for column in rows
        if kind_of(column.dtype) == "categorical"
    }


def _of_category(original: pl.Series, cut: Cut | None) -> ColumnProfile:
    column = original.cast(pl.String)
    own = cut.categories if cut and cut.kind == "categorical" else ()
    found = _compared(column, own) if _all_different(column) else _counted(column)
    values, nulls = len(column), column.null_count()
    kept, complete = dict(_commonest(found, MOST_CATEGORIES).iter_rows()), found["rows"].sum() == values - nulls
    return ColumnProfile(
        name=original.name,
        dtype=str(original.dtype),
        kind="categorical",
        rows=values,
        nulls=nulls,
        counts=_by_category(found, own, values - nulls) if cut and cut.kind == "categorical" else None,
        categories=kept,
        rest=values - nulls - sum(kept.values()),
        registers=_sketches((found if complete else column.to_frame("value")).select("value"))["value"],
    )


def _all_different(column: pl.Series) -> bool:
    """Tell whether a long column seems to name its rows: grouping it takes longest, and tells least."""
    return len(column) > LOOK and column.head(LOOK).n_unique() > LOOK / 2


def _counted(column: pl.Series) -> pl.DataFrame:
    """Return the `rows` of each `value`. Few known ones are compared with one by one; the others are grouped."""
    known = column.head(LOOK).drop_nulls().unique()
    if len(column) <= LOOK or len(known) > FEW:
        return _grouped(column)
    found = _compared(column, known.to_list())
    if found["rows"].sum() == len(column) - column.null_count():
        return found
    return pl.concat([found, _grouped(column.filter(~column.is_in(known)))])


def _compared(column: pl.Series, known: Sequence[str]) -> pl.DataFrame:
    frame = column.to_frame("value")
    counts = frame.select((pl.col("value") == one).sum().alias(f"{at}") for at, one in enumerate(known))
    rows = pl.Series("rows", counts.row(0) if known else (), dtype=pl.Int64)
    return pl.DataFrame([pl.Series("value", known, dtype=pl.String), rows]).filter(pl.col("rows") > 0)


def _grouped(column: pl.Series) -> pl.DataFrame:
    counted = column.alias("value").cast(pl.String).drop_nulls().value_counts(name="rows")
    return counted.with_columns(pl.col("rows").cast(pl.Int64))


def _commonest(found: pl.DataFrame, most: int) -> pl.DataFrame:
    """Return the commonest categories, those first; of equal ones the first in the alphabet."""
    return found.sort("rows", "value", descending=[True, False]).head(most)


def _by_category(found: pl.DataFrame, categories: Sequence[str], values: int) -> np.ndarray:
    known = dict(found.filter(pl.col("value").is_in(categories)).iter_rows())
    own = [known.get(category, 0) for category in categories]
    return np.array([*own, values - sum(own)], dtype=np.int64)


def _of_others(rows: pl.DataFrame) -> dict[str, ColumnProfile]:
    return {
        column.name: ColumnProfile(column.name, str(column.dtype), "unknown", len(column), column.null_count())
        for column in rows
        if kind_of(column.dtype) == "unknown"
    }


# ---- distinct values


def _sketches(values: pl.DataFrame) -> dict[str, np.ndarray]:
    """Return a HyperLogLog sketch of each column's values but null and NaN: in each bucket of hashes the longest run of zeros.

    Flajolet et al., HyperLogLog, AofA 2007. `datasketches` takes one value a call, which is longer than all else that is
    counted here. Rows that could not raise any bucket are left out before the buckets are looked at.
    """
    found = {name: _no_registers() for name in values.columns}

    def look(column: pl.Series) -> None:
        floats = values.schema[column.name] == pl.Float64
        _raise(found[column.name], column.to_numpy(), no_values=_NO_VALUES[floats])

    with ThreadPoolExecutor(pl.thread_pool_size()) if values.height >= AT_ONCE else nullcontext() as pool:
        for part in values.iter_slices(AT_ONCE):
            hashes = part.select(pl.all().hash()).get_columns()
            deque(pool.map(look, hashes) if pool else map(look, hashes), maxlen=0)
    return found


def _hashes_of_nothing(*values: pl.Series) -> np.ndarray:
    return np.concatenate([one.hash().to_numpy() for one in values])


_NO_VALUES = {
    True: _hashes_of_nothing(pl.Series([None, math.nan], dtype=pl.Float64)),
    False: _hashes_of_nothing(pl.Series([None], dtype=pl.String)),
}
"""What Polars makes of null and NaN, by whether the column holds floats."""


def _raise(registers: np.ndarray, hashes: np.ndarray, *, no_values: np.ndarray) -> None:
    """Raise the registers, in place: the bucket is a hash's last bits, the run of zeros its first."""
    floor = int(registers.min())
    if floor:  # nothing that begins with fewer zeros could raise any
        hashes = hashes[np.flatnonzero(hashes < np.uint64(1 << (64 - floor)))]  # twice as fast as by truth
    for one in no_values:
        if (same := hashes == one).any():
            hashes = hashes[np.flatnonzero(~same)]
    places = (((hashes & np.uint64(BUCKETS - 1)) << np.uint64(6)) + _runs(hashes)).view(np.int64)
    if len(hashes) < BUCKETS * 4:
        np.maximum.at(registers, places // RANKS, (places % RANKS).astype(np.uint8))
        return
    marks = np.zeros(BUCKETS * RANKS, dtype=bool)  # which pairs there are: NumPy sets them faster than it compares
    marks[places] = True
    highest = marks.reshape(BUCKETS, RANKS) * np.arange(RANKS, dtype=np.uint8)
    np.maximum(registers, highest.max(axis=1), out=registers)


def _runs(hashes: np.ndarray) -> np.ndarray:
    """Return one more than the zeros before each hash's first bit, at most 53: from the exponent of a float of its first bits.

    All in unsigned numbers: NumPy takes thirty times as long to shift the others.
    """
    first = (hashes >> np.uint64(11)) | np.uint64(1)
    return np.uint64(1076) - (first.view(np.int64).astype(np.float64).view(np.uint64) >> np.uint64(52))


def _estimate(registers: np.ndarray) -> float:
    """Return the number of distinct values of a sketch: the improved estimator of Ertl, arXiv:1702.01284, algorithm 6."""
    most = RANKS - int(math.log2(BUCKETS))
    counts = np.bincount(np.minimum(registers, most + 1), minlength=most + 2)
    total = BUCKETS * _tau(1 - counts[most + 1] / BUCKETS)
    for rank in range(most, 0, -1):
        total = (total + counts[rank]) / 2
    total += BUCKETS * _sigma(counts[0] / BUCKETS)
    return 0.0 if math.isinf(total) else BUCKETS * BUCKETS / (2 * math.log(2) * total)


def _sigma(share: float) -> float:
    if share == 1:
        return math.inf
    power, total, last = 1.0, share, -1.0
    while total != last:
        share, last = share * share, total
        total, power = total + share * power, power * 2
    return total


def _tau(share: float) -> float:
    if share in (0, 1):
        return 0.0
    power, total, last = 1.0, 1 - share, -1.0
    while total != last:
        share, last, power = math.sqrt(share), total, power / 2
        total -= (1 - share) ** 2 * power
    return total / 3


# ---- merging


def _merged(parts: Sequence[ColumnProfile]) -> ColumnProfile:
    kind = _kind_together({one.kind for one in parts})
    common: dict[str, Any] = {
        "name": parts[0].name,
        "dtype": " | ".join(sorted({dtype for one in parts for dtype in one.dtype.split(" | ")})),
        "kind": kind,
        **{name: sum(getattr(one, name) for one in parts) for name in ("rows", "nulls", "nans", "infinities")},
        "registers": np.maximum.reduce([one.registers for one in parts]),
    }
    if kind == "mixed":
        return ColumnProfile(**common)
    return ColumnProfile(**common, **_moments_together(parts), **_counts_together(parts))


def _kind_together(kinds: set[Kind]) -> Kind:
    """Return the kind of partitions together: numbers and texts are mixed for good; what has no kind leaves it to the others."""
    known = kinds - {"unknown"}
    if not known:
        return "unknown"
    return next(iter(known)) if len(known) == 1 else "mixed"


def _moments_together(parts: Sequence[ColumnProfile]) -> dict[str, Any]:
    """Return low, high, mean and m2 together: Chan, Golub & LeVeque, The American Statistician 37, 1983."""
    own = [one for one in parts if one.finite]
    if not own:
        return {}
    finite = sum(one.finite for one in own)
    means = [(one.finite, one.mean or 0.0) for one in own]
    mean = sum(rows / finite * value for rows, value in means)
    return {
        "low": min(one.low for one in own if one.low is not None),
        "high": max(one.high for one in own if one.high is not None),
        "mean": mean,
        "m2": sum(one.m2 for one in own) + sum(rows * (value - mean) * (value - mean) for rows, value in means),
        "zeros": sum(one.zeros for one in own),
    }


def _counts_together(parts: Sequence[ColumnProfile]) -> dict[str, Any]:
    """Return counts and categories together; a part without any value has neither, and adds nothing."""
    counts = [one.counts for one in parts if one.counts is not None]
    found: Counter[str] = Counter()
    for one in parts:
        found.update(one.categories)
    kept = dict(sorted(found.items(), key=lambda one: (-one[1], one[0]))[:MOST_CATEGORIES])
    return {
        "counts": np.sum(counts, axis=0) if counts else None,
        "categories": kept,
        "rest": sum(one.rest for one in parts) + sum(found.values()) - sum(kept.values()),
    }


def columns_of(profiles: Iterable[Profile]) -> list[str]:
    """Return the names of all columns that any of the profiles has, in the order of their first sight."""
    return list(dict.fromkeys(name for one in profiles for name in one.columns))
