"""Small plots as PNG bytes, to be embedded in markdown: one style, Agg canvas, no global state of pyplot.

Every function returns a PNG of about 450 x 350 pixels and at most 25 kB.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from ml_assets.tasks.classification import calibration_bins, confusion, curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, QUIET, GRID = "#1f2933", "#7b8794", "#e4e7eb"
BLUE, ORANGE, GREEN, RED = "#2f6fb2", "#e07b39", "#3a9b6e", "#c8453b"
DOTTED: dict[str, Any] = {"color": BLUE, "linewidth": 1.6, "marker": "o", "markersize": 4.5}
DPI, WIDTH, HEIGHT = 100, 4.5, 3.5
BARS = 15
NAME_LENGTH = 28
CURVE_POINTS = 400


def as_markdown(png: bytes, alt: str) -> str:
    """The PNG as a markdown image with the bytes inside (a data URI); `alt` is what a reader without images sees."""
    text = alt.replace("[", "(").replace("]", ")").replace("\n", " ")
    return f"![{text}](data:image/png;base64,{base64.b64encode(png).decode('ascii')})"


def roc_plot(y: np.ndarray, score: np.ndarray, *, threshold: float | None = None, title: str = "ROC") -> bytes:
    """True positive rate over false positive rate; a dot marks the threshold. Needs both classes, else it says so."""
    if not _both_classes(y):
        return _sorry(title, "needs rows of both classes")
    _thresholds, tp, fp = curve(y, score)
    figure, axes = _figure(title, "false positive rate", "true positive rate")
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle="--", label="chance")
    _line(axes, np.append(0, fp / fp[-1]), np.append(0, tp / tp[-1]), "model")
    if threshold is not None:
        counts = confusion(y, score, threshold)
        _dot(axes, counts.fp / fp[-1], counts.tp / tp[-1], threshold)
    _unit_square(axes)
    axes.legend(loc="lower right", frameon=False, fontsize=8)
    return _png(figure)


def pr_plot(
    y: np.ndarray, score: np.ndarray, *, threshold: float | None = None, title: str = "Precision and recall"
) -> bytes:
    """Precision over recall; the dashed line is the share of positives. Needs both classes, else it says so."""
    if not _both_classes(y):
        return _sorry(title, "needs rows of both classes")
    _thresholds, tp, fp = curve(y, score)
    figure, axes = _figure(title, "recall", "precision")
    axes.axhline(tp[-1] / len(y), color=QUIET, linewidth=1, linestyle="--", label="chance")
    _line(axes, tp / tp[-1], tp / (tp + fp), "model")
    if threshold is not None:
        counts = confusion(y, score, threshold)
        if counts.tp + counts.fp:
            _dot(axes, counts.tp / tp[-1], counts.tp / (counts.tp + counts.fp), threshold)
    _unit_square(axes)
    axes.legend(loc="upper right", frameon=False, fontsize=8)
    return _png(figure)


def calibration_plot(y: np.ndarray, score: np.ndarray, *, title: str = "Calibration") -> bytes:
    """Share of positives over mean score, in ten bins of equal mass; on the diagonal, a score means what it says."""
    if len(y) == 0:
        return _sorry(title, "no rows")
    bins = calibration_bins(y, score)
    figure, axes = _figure(title, "mean score of the bin", "share of positives")
    top = min(1.0, 1.08 * max(bins.mean_score.max(), bins.positive_share.max(), 0.05))
    axes.plot([0, top], [0, top], color=QUIET, linewidth=1, linestyle="--", label="perfect")
    axes.plot(bins.mean_score, bins.positive_share, label="model", **DOTTED)
    axes.set(xlim=(0, top), ylim=(0, top))
    axes.legend(loc="upper left", frameon=False, fontsize=8)
    return _png(figure)


def confusion_plot(y: np.ndarray, score: np.ndarray, *, threshold: float, title: str = "Confusion") -> bytes:
    """Rows by label and decision at the threshold: counts, and shares of the label's rows."""
    if len(y) == 0:
        return _sorry(title, "no rows")
    counts = confusion(y, score, threshold)
    table = np.array([[counts.tn, counts.fp], [counts.fn, counts.tp]])
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    figure, axes = _figure(f"{title} at threshold {threshold:.3g}", "predicted", "label")
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), count in np.ndenumerate(table):
        color = "white" if shares[row, column] > 0.55 else INK
        text = f"{count:,}\n{shares[row, column]:.1%}"
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=11)
    axes.set(xticks=[0, 1], yticks=[0, 1], xticklabels=["negative", "positive"], yticklabels=["negative", "positive"])
    axes.grid(False)
    return _png(figure)


def candidates_plot(
    values: Mapping[str, float | None],
    *,
    metric: str,
    selected: str | None = None,
    intervals: Mapping[str, tuple[float, float] | None] | None = None,
    target: float | None = None,
    title: str = "Candidates",
) -> bytes:
    """One bar per candidate with its value of `metric` (and interval, low to high); the selected one stands out.

    A candidate without a value (it failed) keeps its place, without a bar. `target` draws the line to be reached.
    """
    if not values:
        return _sorry(title, "no candidates")
    names = list(values)
    figure, axes = _figure(title, metric, "")
    colors = [ORANGE if name == selected else BLUE for name in names]
    ranges = [(intervals or {}).get(name) for name in names]
    shown = [values[name] for name in names]
    _bars(axes, names=names, values=shown, colors=colors, absent="no value", ranges=ranges)
    if target is not None:
        _target(axes, target, f"target {target:g}")
    return _png(figure)


def drift_plot(
    effects: Mapping[str, float | None],
    *,
    limit: float,
    drifted: Sequence[str] = (),
    measure: str = "population stability index",
    title: str = "Drift",
) -> bytes:
    """The largest effects, one bar per feature, with the limit; drifted features are red, the others green."""
    if not effects:
        return _sorry(title, "no features")
    ranked = sorted(effects, key=lambda name: (-(effects[name] or 0.0), name))
    names = ranked[:BARS]
    more = f" (largest {BARS} of {len(ranked)} features)" if len(ranked) > BARS else ""
    figure, axes = _figure(title + more, measure, "")
    colors = [RED if name in drifted else GREEN for name in names]
    shown = [effects[name] for name in names]
    _bars(axes, names=names, values=shown, colors=colors, absent="not judged", ranges=[None] * len(names))
    _target(axes, limit, f"limit {limit:g}")
    return _png(figure)


def timeline_plot(
    times: Sequence[datetime],
    values: Sequence[float | None],
    *,
    metric: str,
    expected: float | None = None,
    limit: float | None = None,
    versions: Sequence[str] | None = None,
    title: str = "Performance over time",
) -> bytes:
    """A metric over time, one point per period; periods without a value are gaps.

    `expected` is the value at evaluation (dashed), `limit` the worst that is tolerated (red). With `versions` (one per
    period), a dotted line marks each change of the model's version.
    """
    if not any(value is not None for value in values):
        return _sorry(title, "no period has a value yet")
    figure, axes = _figure(title, "", metric)
    moments: list[Any] = list(times)
    heights = [np.nan if value is None else value for value in values]
    axes.plot(moments, heights, label="realised", **DOTTED)
    for level, color, name in ((expected, QUIET, "at evaluation"), (limit, RED, "limit")):
        if level is not None:
            axes.axhline(level, color=color, linewidth=1, linestyle="--", label=f"{name} {level:.3g}")
    for before, after, moment in zip(versions or [], (versions or [])[1:], moments[1:], strict=False):
        if before != after:
            axes.axvline(moment, color=QUIET, linewidth=1, linestyle=":")
            axes.annotate(f"v{after}", (moment, 1), (3, -9), ("data", "axes fraction"), "offset points", fontsize=7)
    if len(times) == 1:
        axes.set_xlim(moments[0] - timedelta(days=1), moments[0] + timedelta(days=1))
    _dates(axes)
    axes.margins(y=0.2)
    axes.legend(loc="best", frameon=False, fontsize=8)
    return _png(figure)


def _figure(title: str, x_label: str, y_label: str) -> tuple[Figure, Axes]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=10, color=INK, loc="left", fontweight="bold")
    axes.set_xlabel(x_label, fontsize=9, color=INK)
    axes.set_ylabel(y_label, fontsize=9, color=INK)
    axes.tick_params(labelsize=8, colors=INK, length=0)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(GRID)
    return figure, axes


def _png(figure: Figure) -> bytes:
    """Render, and keep 64 colours: a third of the bytes, and no difference that an eye would see."""
    from PIL import Image

    full, small = io.BytesIO(), io.BytesIO()
    figure.savefig(full, format="png")
    full.seek(0)
    with Image.open(full) as image:
        image.convert("RGB").quantize(64, dither=Image.Dither.NONE).save(small, format="png", optimize=True)
    return small.getvalue()


def _sorry(title: str, why: str) -> bytes:
    figure, axes = _figure(title, "", "")
    axes.text(0.5, 0.5, f"not applicable: {why}", ha="center", va="center", fontsize=10, color=QUIET)
    axes.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(0, 1))
    return _png(figure)


def _both_classes(y: np.ndarray) -> bool:
    return len(y) > 0 and y.min() != y.max()


def _line(axes: Axes, x: np.ndarray, y: np.ndarray, label: str) -> None:
    step = np.unique(np.linspace(0, len(x) - 1, min(len(x), CURVE_POINTS)).astype(int))
    axes.plot(x[step], y[step], color=BLUE, linewidth=1.8, label=label)


def _dot(axes: Axes, x: float, y: float, threshold: float) -> None:
    axes.plot([x], [y], "o", color=ORANGE, markersize=7, label=f"threshold {threshold:.3g}", clip_on=False)


def _unit_square(axes: Axes) -> None:
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))


def _bars(
    axes: Axes,
    *,
    names: Sequence[str],
    values: Sequence[float | None],
    colors: Sequence[str],
    absent: str,
    ranges: Sequence[tuple[float, float] | None],
) -> None:
    places = range(len(names))
    axes.barh(places, [value or 0.0 for value in values], color=colors, height=0.62)
    size = 8 if len(names) <= 10 else 7
    axes.set_yticks(list(places), [_shorten(name) for name in names], fontsize=size)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.22)
    for place, value, low_high in zip(places, values, ranges, strict=True):
        text, color = (absent, QUIET) if value is None else (f"{value:.3g}", INK)
        if low_high is not None:
            axes.plot(low_high, [place, place], color=INK, linewidth=1.2, marker="|", markersize=5)
        _beside(axes, max(value or 0.0, *(low_high or (0.0,))), place, text, fontsize=size, color=color)


def _beside(axes: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Text to the right of a point, on white, so that no line runs through it."""
    white = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
    axes.annotate(text, (x, y), (5, 0), "data", "offset points", va="center", bbox=white, zorder=5, **style)


def _shorten(name: str) -> str:
    return name if len(name) <= NAME_LENGTH else name[: NAME_LENGTH - 1] + "…"


def _target(axes: Axes, level: float, label: str) -> None:
    axes.axvline(level, color=INK, linewidth=1, linestyle="--", label=label)
    axes.legend(loc="lower right", fontsize=8, facecolor="white", edgecolor="none", framealpha=0.9)


def _dates(axes: Axes) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(maxticks=6)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.xaxis.get_offset_text().set_fontsize(8)
