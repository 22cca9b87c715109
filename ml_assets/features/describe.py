"""What a view's features look like: a row of statistics for each, and one small picture of their distributions."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, QUIET, GRID, BLUE = "#1f2933", "#7b8794", "#e4e7eb", "#2f6fb2"
SAMPLED, SEED = 5_000, 0
BINS, BARS, ACROSS, NAME_LENGTH = 24, 6, 3, 26
DPI, WIDTH, ROW_HEIGHT = 80, 6.6, 1.25


@dataclass(frozen=True)
class Statistics:
    """One feature's values: the share of nulls (NaN counts as null), and the rest of those that are there.

    `least`, `median`, `mean` and `most` are None where the type has none or no value is there; so is `distinct` for lists.
    """

    feature: str
    nulls: float
    least: Any = None
    median: float | None = None
    mean: float | None = None
    most: Any = None
    distinct: int | None = None


def statistics(frame: pl.DataFrame, features: Sequence[str]) -> list[Statistics]:
    """Return the statistics of the features that the frame has, in their order, in one pass; no rows: all null."""
    known = [name for name in features if name in frame.columns]
    measured = {f"{name}.{what}": item for name in known for what, item in _measures(name, frame.schema[name]).items()}
    row = frame.lazy().select(**measured).collect().row(0, named=True) if measured else {}
    whats = ("nulls", "least", "median", "mean", "most", "distinct")
    return [
        Statistics(name, **{what: row[f"{name}.{what}"] for what in whats if f"{name}.{what}" in row}) for name in known
    ]


def _measures(name: str, dtype: pl.DataType) -> dict[str, pl.Expr]:
    there = pl.col(name).fill_nan(None) if dtype.is_float() else pl.col(name)
    found = {"nulls": (there.null_count() / pl.len().cast(pl.Float64)).fill_nan(1.0)}
    if dtype.is_nested() or dtype in (pl.Binary, pl.Object, pl.Null):
        return found
    found |= {"distinct": there.drop_nulls().n_unique()}
    if dtype.is_numeric():
        found |= {"median": there.median(), "mean": there.mean()}
    if dtype == pl.Boolean:
        return found | {"mean": there.mean()}
    return found | {"least": there.min(), "most": there.max()}


def statistics_table(found: Sequence[Statistics], types: Mapping[str, str], texts: Mapping[str, str]) -> str:
    """Return the statistics as a markdown table, with each feature's Feast type and description."""
    lines = ["| feature | type | description | null | min | median | mean | max | distinct |"]
    lines += ["|---|---|---|---:|---:|---:|---:|---:|---:|"]
    for one in found:
        numbers = map(_word, (one.least, one.median, one.mean, one.most))
        distinct = "" if one.distinct is None else f"{one.distinct:,}"
        about = f"{types.get(one.feature, 'not declared')} | {cell(texts.get(one.feature, ''))}"
        lines.append(f"| {one.feature} | {about} | {one.nulls:.1%} | {' | '.join(numbers)} | {distinct} |")
    return "\n".join(lines)


def cell(text: str) -> str:
    """Return text that is safe in a cell of a markdown table."""
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


def _word(value: Any) -> str:
    return "" if value is None else cell(f"{value:.4g}" if isinstance(value, int | float) else str(value))


# -- the picture -------------------------------------------------------------------------------------------------------


def distributions(frame: pl.DataFrame, features: Sequence[str]) -> bytes:
    """Return a PNG with one small histogram for each feature (bars for text), of at most 5,000 rows drawn with a seed.

    The outer percent of numbers is cut off on both sides, and the share of nulls is told. Raises `ValueError` without features.
    """
    if not features:
        raise ValueError("no features to draw; name at least one")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sample = frame.select(features).sample(min(SAMPLED, frame.height), seed=SEED)
    down = -(-len(features) // ACROSS)
    height = ROW_HEIGHT * down + 0.1
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    for place, name in enumerate(features):
        row, column = divmod(place, ACROSS)
        width = 1 / ACROSS
        box = (column * width + 0.02, 1 - (row + 0.76) * ROW_HEIGHT / height, width - 0.04, 0.5 * ROW_HEIGHT / height)
        _small(figure.add_axes(box), sample[name])
    return _png(figure)


def picture(png: bytes, alt: str) -> str:
    """Return the PNG as a markdown image with the bytes inside (a data URI)."""
    return f"![{alt}](data:image/png;base64,{base64.b64encode(png).decode('ascii')})"


def _small(axes: Axes, values: pl.Series) -> None:
    there = values.fill_nan(None).drop_nulls() if values.dtype.is_float() else values.drop_nulls()
    name = values.name if len(values.name) <= NAME_LENGTH else values.name[: NAME_LENGTH - 1] + "…"
    nulls = f"  {1 - len(there) / len(values):.0%} null" if len(there) < len(values) else ""
    axes.set_title(name + nulls, fontsize=7, color=INK, loc="left", pad=2)
    axes.set_yticks([])
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(GRID)
    if there.is_empty() or there.dtype.is_nested():
        why = "no value" if there.is_empty() else f"not drawn: {there.dtype}"
        axes.text(0.5, 0.5, why, ha="center", va="center", fontsize=7, color=QUIET, transform=axes.transAxes)
        axes.set_xticks([])
    elif there.dtype.is_numeric() or there.dtype.is_temporal():
        _histogram(axes, there)
    else:
        _bars(axes, there)


def _histogram(axes: Axes, values: pl.Series) -> None:
    numbers = values.to_physical().cast(pl.Float64).to_numpy()
    finite = numbers[np.isfinite(numbers)]
    low, high = np.quantile(finite, [0.01, 0.99]) if finite.size else (0.0, 0.0)
    low, high = (low, high) if low < high else (low - 0.5, high + 0.5)
    heights, edges = np.histogram(finite, bins=BINS, range=(low, high))
    axes.stairs(heights, edges, fill=True, color=BLUE)
    axes.set_xlim(low, high)
    ends = (
        [f"{low:.4g}", f"{high:.4g}"] if values.dtype.is_numeric() else [str(values.min())[:10], str(values.max())[:10]]
    )
    axes.set_xticks([low, high], ends, fontsize=6, color=QUIET)
    axes.tick_params(length=0, pad=1)
    first, last = axes.get_xticklabels()
    first.set_horizontalalignment("left")
    last.set_horizontalalignment("right")


def _bars(axes: Axes, values: pl.Series) -> None:
    counts = (
        values.cast(pl.String)
        .alias("value")
        .value_counts(sort=True, name="rows")
        .sort("rows", "value", descending=[True, False])
    )
    shown = counts.head(BARS)
    axes.bar(range(shown.height), shown["rows"].to_list(), color=BLUE, width=0.8)
    axes.set_xticks(range(shown.height), [str(value)[:8] for value in shown["value"]], fontsize=6, color=QUIET)
    axes.tick_params(length=0, pad=1)


def _png(figure: Any) -> bytes:
    """Render in 16 colours: a fifth of the bytes, and no difference that an eye would see."""
    from PIL import Image

    figure.canvas.draw()
    small = io.BytesIO()
    image = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
    image.quantize(16, dither=Image.Dither.NONE).save(small, format="png", optimize=True)
    return small.getvalue()
