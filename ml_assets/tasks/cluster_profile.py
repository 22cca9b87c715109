"""A cluster in words: its size, and by which features it differs most from the other rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ml_assets.tasks.grouping import NOISE

if TYPE_CHECKING:
    import polars as pl

FEWEST, MOST = 3, 5
WORTH_TELLING = 0.5
LEAST = 0.05
CATEGORIES = 30


class Difference(NamedTuple):
    """What sets a cluster apart in one feature: how much, in standard deviations of all rows, and in words."""

    strength: float
    more: bool
    words: str

    @property
    def rank(self) -> tuple[float, bool]:
        """What the strongest is found by; of two values of a category that are as strong, the more frequent is told."""
        return round(self.strength, 9), self.more


NOTHING = Difference(LEAST, True, "")


class _Column(NamedTuple):
    """A feature, or one category of it, as numbers (n,), NaN where it is not known."""

    name: str
    values: np.ndarray
    category: str | None = None


def profile(frame: pl.DataFrame, clusters: np.ndarray) -> list[str]:
    """One sentence per cluster, in order of its number; rows in no cluster (-1) come last.

    `frame` has the features in their own units, `clusters` the cluster of each row (n,). Told are the three to five
    features of the largest standardised difference (mean of the cluster less mean of the other rows, by the standard
    deviation of all), the fourth and fifth only from half a standard deviation on. Of a text, category or boolean it is
    the one value whose share differs most. Times and lists are left out. Unknown values do not count.
    """
    if frame.height != len(clusters):
        raise ValueError(f"{frame.height} rows of features and {len(clusters)} clusters: give one for each row")
    names, place = np.unique(clusters, return_inverse=True)
    found: list[dict[str, Difference]] = [{} for _ in names]
    for column in _columns(frame):
        for known, difference in zip(found, _differences(column, place, len(names)), strict=True):
            if difference and difference.rank > known.get(column.name, NOTHING).rank:
                known[column.name] = difference
    rows = np.bincount(place, minlength=len(names))
    sentences = [_sentence(*one, frame.height) for one in zip(names, rows, found, strict=True)]
    noise = int(len(names) > 0 and names[0] == NOISE)
    return sentences[noise:] + sentences[:noise]


def _columns(frame: pl.DataFrame) -> Iterator[_Column]:
    import polars as pl

    for name in frame.columns:
        column = frame[name]
        if column.dtype.is_numeric():
            values = column.cast(pl.Float64).to_numpy().astype(np.float64)
            yield _Column(name, np.where(np.isfinite(values), values, np.nan))
        elif column.dtype in (pl.String, pl.Categorical, pl.Enum, pl.Boolean):
            yield from _categories(name, column)


def _categories(name: str, column: pl.Series) -> Iterator[_Column]:
    """The values that a share of the rows have, as 0 and 1; rare ones would say little of a cluster."""
    import polars as pl

    texts = column.cast(pl.String)
    known = ~texts.is_null().to_numpy()
    counts = texts.drop_nulls().value_counts().sort(["count", texts.name], descending=[True, False])
    for value in counts.head(CATEGORIES)[texts.name]:
        yield _Column(name, np.where(known, (texts == value).fill_null(False).to_numpy(), np.nan), value)


def _differences(column: _Column, place: np.ndarray, groups: int) -> Iterator[Difference | None]:
    """What sets each group apart in this column; None where one side has no known value, or all values are equal."""
    known = ~np.isnan(column.values)
    values, place = column.values[known], place[known]
    spread = float(np.std(values)) if len(values) else 0.0
    # shares are counted exactly; numbers are centred first, so that sums of large ones keep their digits
    middle = float(np.mean(values)) if len(values) and column.category is None else 0.0
    rows, sums = np.bincount(place, minlength=groups), np.bincount(place, weights=values - middle, minlength=groups)
    for own_rows, own_sum in zip(rows, sums, strict=True):
        if spread == 0 or own_rows in (0, len(values)):
            yield None
        else:
            own, other = own_sum / own_rows, (sums.sum() - own_sum) / (len(values) - own_rows)
            yield _difference(column, (own - other) / spread, own + middle, other + middle)


def _difference(column: _Column, apart: float, own: float, other: float) -> Difference:
    tell = _tell_number if column.category is None else _tell_category
    return Difference(float(abs(apart)), bool(apart > 0), tell(column, apart, float(own), float(other)))


def _tell_number(column: _Column, apart: float, own: float, other: float) -> str:
    where = "above" if apart > 0 else "below"
    return f"{column.name} {abs(apart):.1f} standard deviations {where} the others ({_number(own)} against {_number(other)})"


def _tell_category(column: _Column, apart: float, own: float, other: float) -> str:
    shares = f"({own:.0%} against {other:.0%})"
    what = f"{column.name} is {column.category}"
    if own == 0:
        return f"{what} never {shares}"
    if other == 0:
        return f"{what} only here {shares}"
    return f"{what} {own / other:.1f} times as often as among the others {shares}"


def _sentence(number: int, rows: int, differences: dict[str, Difference], everything: int) -> str:
    name = "Rows in no cluster" if number == NOISE else f"Cluster {number}"
    size = f"{name}: {rows:,} {'row' if rows == 1 else 'rows'} ({rows / everything:.1%})"
    ranked = sorted(differences.values(), key=lambda difference: -difference.strength)
    told = ranked[:FEWEST] + [more for more in ranked[FEWEST:MOST] if more.strength >= WORTH_TELLING]
    if rows == everything:
        return f"{size}; there are no others to compare with."
    return f"{size}; {'; '.join(one.words for one in told)}." if told else f"{size}; like the others in every feature."


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"
