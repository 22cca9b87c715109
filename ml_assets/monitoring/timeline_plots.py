"""The pictures of a timeline: each has the same axis of time at the same place, so that they can be read one below another."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ml_assets import keys
from ml_assets.monitoring.story import Event, Story, moment
from ml_assets.tasks import drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, LEFT, RIGHT = 11.0, 0.17, 0.985
TOP, BOTTOM = 0.34, 0.3  # inches above and below the axes
FEATURES = 20
DAY = timedelta(days=1)
MONEY = {"earned": drawing.BLUE, "baseline": drawing.QUIET, "perfect": drawing.GREEN}
LABELS = {"arrived": drawing.GREEN, "pending": drawing.ORANGE, "never": drawing.QUIET, "contradictory": drawing.RED}
ROWS: dict[str, dict[str, Any]] = {
    "took office": {"color": drawing.GREEN, "marker": "^"},
    "retrain": {"color": drawing.ORANGE, "marker": "o"},
    "kept": {"color": drawing.BLUE, "marker": "o"},
    "drift": {"color": drawing.RED, "marker": "s"},
    "alert": {"color": drawing.RED, "marker": "X"},
    "resolved": {"color": drawing.GREEN, "marker": "X"},
}
OFFICE = ("promotion", "forced", "rollback", "adopted")


def pictures(told: Story, *, metric: str) -> dict[str, bytes]:
    """Return the pictures by title, PNG; those of which there is nothing to show are left out."""
    span = told.span
    if span is None:
        return {}
    drawn = {
        "What happened": _events(told, span),
        f"Performance: {metric}": _performance(told, span, metric),
        "Drift": _drift(told, span),
        "Value": _value(told, span),
        "Outcomes": _labels(told, span),
    }
    return {title: png for title, png in drawn.items() if png is not None}


def _events(told: Story, span: tuple[datetime, datetime]) -> bytes | None:
    """A row for each kind of event, a mark for each event."""
    events = [(_row(event), event.at) for event in told.events()]
    names = [name for name in ROWS if any(name == row for row, _ in events)]
    if not names:
        return None
    canvas, axes = _panel(told, span, "What happened", 0.32 * len(names) + 0.15)
    for place, name in enumerate(names):
        moments: Any = [at for row, at in events if row == name]
        axes.plot(moments, [place] * len(moments), linestyle="", markersize=7, markeredgewidth=0, **ROWS[name])
    for one in told.promotions:
        when: Any = one.when
        drawing.beside(axes, when, names.index("took office"), f"v{one.version}", fontsize=8, color=drawing.INK)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    return drawing.png(canvas)


def _row(event: Event) -> str:
    if event.kind in OFFICE:
        return "took office"
    return event.kind if event.kind in ROWS else "kept"


def _performance(told: Story, span: tuple[datetime, datetime], metric: str) -> bytes | None:
    """The metric week by week: realised, and estimated with its interval; the versions that answered stand above."""
    frame = told.performance
    if metric not in frame.columns:
        return None
    canvas, axes = _panel(told, span, f"Performance: {metric}", 1.9)
    middle: Any = (frame["start"] + (frame["end"] - frame["start"]) / 2).to_list()
    estimate = f"estimated_{metric}"
    if estimate in frame.columns:
        values = [_floats(frame, name) for name in (estimate, "estimated_low", "estimated_high")]
        axes.fill_between(middle, values[1], values[2], color=drawing.ORANGE, alpha=0.18, linewidth=0)
        axes.plot(middle, values[0], color=drawing.ORANGE, linewidth=1.2, linestyle="--", label="estimated before")
    axes.plot(middle, _floats(frame, metric), label="realised", **drawing.DOTTED)
    axes.margins(y=0.25)
    drawing.legend(axes, "upper left", ncols=2)
    return drawing.png(canvas)


def _drift(told: Story, span: tuple[datetime, datetime]) -> bytes | None:
    """Features by windows: how large the effect is against the limit, and a cross where it is an alarm; grey is not judged."""
    if told.drift.is_empty():
        return None
    firsts, names = told.windows["window_first"].to_list(), _ranked(told.drift)
    height = len(names) + 1
    canvas, axes = _panel(
        told, span, f"Drift{'' if len(names) < FEATURES else f' (the {FEATURES} largest effects)'}", 0.19 * height
    )
    effects, alarms = _matrix(told.drift, names, firsts)
    axes.set_facecolor(drawing.GRID)
    for column, first in enumerate(firsts):
        edges: Any = [moment(first), moment(told.windows["window_last"][column]) + DAY]
        axes.pcolormesh(
            edges,
            np.arange(height),
            effects[:, [column]],
            cmap="Oranges",
            vmin=0,
            vmax=2,
            edgecolors="white",
            linewidth=0.4,
        )
        center: Any = edges[0] + (edges[1] - edges[0]) / 2
        for place in np.flatnonzero(alarms[:, column]):
            dark = effects[place, column] > 1  # False where it is masked
            axes.plot([center], [place + 0.5], "x", color="white" if dark is np.True_ else drawing.INK, markersize=5)
    axes.set_yticks(np.arange(len(names)) + 0.5, [drawing.shorten(name) for name in names], fontsize=7)
    axes.set_ylim(len(names), 0)
    axes.grid(False)
    return drawing.png(canvas)


def _ranked(drift: pl.DataFrame) -> list[str]:
    """The features with the most alarms first, then by their largest effect."""
    alarms, largest = (
        (pl.col("signs") != "").sum().alias("alarms"),
        pl.col("psi").max().fill_null(-1.0).alias("largest"),
    )
    ranked = (
        drift.group_by("feature")
        .agg(alarms, largest)
        .sort("alarms", "largest", "feature", descending=[True, True, False])
    )
    return ranked["feature"].head(FEATURES).to_list()


def _matrix(drift: pl.DataFrame, names: Sequence[str], firsts: Sequence[str]) -> tuple[np.ma.MaskedArray, np.ndarray]:
    """Effects over their limits (features, windows), masked where none is known; and which of them are alarms."""
    effects, alarms = np.full((len(names), len(firsts)), np.nan), np.zeros((len(names), len(firsts)), bool)
    shown = drift.filter(pl.col("feature").is_in(list(names)))
    for row in shown.iter_rows(named=True):
        place = names.index(row["feature"]), firsts.index(row["window_first"])
        if row["psi"] is not None:
            effects[place] = row["psi"] / (row["limit"] or 1.0)
        alarms[place] = bool(row["signs"])
    return np.ma.masked_invalid(effects), alarms


def _value(told: Story, span: tuple[datetime, datetime]) -> bytes | None:
    """What was earned since the beginning, beside the baseline and a perfect model."""
    frame = told.kpi
    if "earned" not in frame.columns or frame["earned"].null_count() == frame.height:
        return None
    unit = (frame["currency"].drop_nulls().to_list() or [""])[-1]
    canvas, axes = _panel(told, span, f"Earned since the beginning{f' ({unit})' if unit else ''}", 1.6)
    days: Any = [moment(day) + DAY for day in frame["day"]]
    for name, color in MONEY.items():
        total = frame[name].fill_null(0.0).cum_sum()
        axes.plot(days, total.to_numpy(), color=color, linewidth=1.6, label=f"{name} {total[-1]:,.0f}")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    drawing.legend(axes, "upper left", ncols=3)
    return drawing.png(canvas)


def _labels(told: Story, span: tuple[datetime, datetime]) -> bytes | None:
    """Predictions day by day, by what became of their outcomes."""
    frame = told.labels
    if frame.is_empty():
        return None
    canvas, axes = _panel(told, span, "Predictions by outcome", 1.2)
    every = pl.DataFrame({"day": keys.days(frame["day"][0], frame["day"][-1])})
    frame = every.join(frame, on="day", how="left")  # a day without predictions is a gap
    edges: Any = [*(moment(day) for day in frame["day"]), moment(frame["day"][-1]) + DAY]
    below = np.zeros(frame.height)
    for name, color in LABELS.items():
        above = below + np.nan_to_num(_floats(frame, name))
        if (above > below).any():
            low, high = (np.append(heights, heights[-1]) for heights in (below, above))
            axes.fill_between(edges, low, high, step="post", color=color, linewidth=0, label=name)
        below = above
    axes.set_ylim(0, max(below.max(initial=0.0) * 1.35, 1))
    drawing.legend(axes, "upper left", ncols=4)
    return drawing.png(canvas)


def _panel(told: Story, span: tuple[datetime, datetime], title: str, height: float) -> tuple[Figure, Axes]:
    """An empty picture with axes of `height` inches, the axis of time, and a line for each promotion."""
    canvas, axes = drawing.figure(title, "", "")
    whole = height + TOP + BOTTOM
    canvas.set_layout_engine("none")
    canvas.set_size_inches(WIDTH, whole)
    axes.set_position((LEFT, BOTTOM / whole, RIGHT - LEFT, height / whole))
    begin, end = span
    room = (end - begin) * 0.01
    limits: Any = (begin - room, end + room)
    axes.set_xlim(*limits)
    _time(axes)
    for one in told.promotions:
        at: Any = one.when
        axes.axvline(at, **drawing.DASHED)
    return canvas, axes


def _time(axes: Axes) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=4, maxticks=14)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))


def _floats(frame: pl.DataFrame, name: str) -> np.ndarray:
    """A column as floats, NaN for null and where there is no such column."""
    if name not in frame.columns:
        return np.full(frame.height, np.nan)
    return frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
