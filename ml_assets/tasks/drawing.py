"""What plots are made with: one style, Agg canvas, no global state of pyplot, PNG bytes of 450 x 350 pixels.

A plot function makes a figure, draws, and returns `png(canvas)`; where there is nothing to draw it returns `sorry(…)`.
matplotlib is imported by the functions that draw.
"""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, QUIET, GRID = "#1f2933", "#7b8794", "#e4e7eb"
BLUE, ORANGE, GREEN, RED = "#2f6fb2", "#e07b39", "#3a9b6e", "#c8453b"
PALETTE = (BLUE, ORANGE, GREEN, RED, "#7d5ba6", "#8c6d4f", "#d174a8", "#b8a52f", "#3fa7b5", "#5b6770")
DOTTED: dict[str, Any] = {"color": BLUE, "linewidth": 1.6, "marker": "o", "markersize": 4.5}
DASHED: dict[str, Any] = {"color": QUIET, "linewidth": 1, "linestyle": "--"}
DPI, WIDTH, HEIGHT = 100, 4.5, 3.5
COLORS = 64
NAME_LENGTH = 28
CURVE_POINTS = 400
BARS = 15


def as_markdown(png: bytes, alt: str) -> str:
    """The PNG as a markdown image with the bytes inside (a data URI); `alt` is what a reader without images sees."""
    text = alt.replace("[", "(").replace("]", ")").replace("\n", " ")
    return f"![{text}]({data_uri(png)})"


def data_uri(png: bytes) -> str:
    """The PNG as the source of an image: the bytes are in it."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def figure(title: str, x_label: str, y_label: str) -> tuple[Figure, Axes]:
    """An empty canvas in our style, with one pair of axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(canvas)
    axes = canvas.add_subplot()
    # above the figure, not the axes: long names beside the axes would push the title out
    canvas.suptitle(plain(title), x=0.01, ha="left", fontsize=10, color=INK, fontweight="bold")
    axes.set_xlabel(plain(x_label), fontsize=9, color=INK)
    axes.set_ylabel(plain(y_label), fontsize=9, color=INK)
    axes.tick_params(labelsize=8, colors=INK, length=0)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(GRID)
    return canvas, axes


def png(canvas: Figure) -> bytes:
    """Render, and keep 64 colours: a third of the bytes, and no difference that an eye would see."""
    from PIL import Image

    full, small = io.BytesIO(), io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # names in any script: boxes at worst
        canvas.savefig(full, format="png")
    full.seek(0)
    with Image.open(full) as image:
        image.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE).save(small, format="png", optimize=True)
    return small.getvalue()


def sorry(title: str, why: str) -> bytes:
    """A plot that says why there is none."""
    canvas, axes = figure(title, "", "")
    axes.text(0.5, 0.5, f"not applicable: {plain(why)}", ha="center", va="center", fontsize=10, color=QUIET, wrap=True)
    axes.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(0, 1))
    return png(canvas)


def plain(text: str) -> str:
    """The text as it is: matplotlib would read what stands between dollar signs as mathematics."""
    return text.replace("$", r"\$")


def shorten(name: str, length: int = NAME_LENGTH) -> str:
    """The name in at most `length` characters, without its middle: names that begin alike end differently."""
    if len(name) <= length:
        return plain(name)
    tail = (length - 1) // 2
    return plain(f"{name[: length - 1 - tail]}…{name[-tail:]}")


def line(axes: Axes, x: np.ndarray, y: np.ndarray, label: str, *, color: str = BLUE) -> None:
    """A curve of at most 400 points."""
    step = np.unique(np.linspace(0, len(x) - 1, min(len(x), CURVE_POINTS)).astype(int))
    axes.plot(x[step], y[step], color=color, linewidth=1.8, label=label)


def unit_square(axes: Axes) -> None:
    """Both axes from 0 to 1, with room for a line on the edge."""
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))


def legend(axes: Axes, where: str = "best", **style: Any) -> None:
    """The legend, without a frame."""
    options: dict[str, Any] = {"loc": where, "frameon": False, "fontsize": 8, **style}
    axes.legend(**options)


def bars(
    axes: Axes,
    *,
    names: Sequence[str],
    values: Sequence[float | None],
    colors: Sequence[str],
    absent: str = "no value",
    ranges: Sequence[tuple[float, float] | None] | None = None,
    texts: Sequence[str] | None = None,
) -> None:
    """Horizontal bars from the top down, each with its number (or text) beside it and its range, low to high, on it.

    A value that is None keeps its place, without a bar: `absent` says so.
    """
    places = range(len(names))
    axes.barh(places, [value or 0.0 for value in values], color=colors, height=0.62)
    size = 8 if len(names) <= 10 else 7
    axes.set_yticks(list(places), [shorten(name) for name in names], fontsize=size)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.22)
    known = texts or [absent if value is None else f"{value:.3g}" for value in values]
    for place, value, low_high, text in zip(places, values, ranges or [None] * len(names), known, strict=True):
        if low_high is not None:
            axes.plot(low_high, [place, place], color=INK, linewidth=1.2, marker="|", markersize=5)
        color = QUIET if value is None else INK
        beside(axes, max(value or 0.0, *(low_high or (0.0,))), place, text, fontsize=size, color=color)


def beside(axes: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Text to the right of a point, on white, so that no line runs through it."""
    white = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
    axes.annotate(text, (x, y), (5, 0), "data", "offset points", va="center", bbox=white, zorder=5, **style)


def squares(
    axes: Axes, table: np.ndarray, names: Sequence[str], texts: Sequence[Sequence[str]], *, size: float = 11
) -> None:
    """A square table of shares in [0, 1] (rows by columns) as blue cells with a text each; both sides have the names."""
    axes.imshow(table, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), share in np.ndenumerate(table):
        color = "white" if share > 0.55 else INK
        axes.text(column, row, texts[row][column], ha="center", va="center", color=color, fontsize=size)
    places = list(range(len(names)))
    shown = [shorten(name, 14) for name in names]
    axes.set(xticks=places, yticks=places, xticklabels=shown, yticklabels=shown)
    axes.grid(False)
