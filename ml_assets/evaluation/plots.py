"""The plots that belong to no kind of problem: candidates, drift, time, importance, learning curve, trials; each returns a PNG.

A task draws its own (`Task.plots`), with the same `ml_assets.tasks.drawing`. A PNG is 450 x 350 pixels and at most 25 kB.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from ml_assets.tasks import drawing
from ml_assets.tasks.drawing import as_markdown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "as_markdown",
    "candidates_plot",
    "drift_map",
    "drift_plot",
    "importance_plot",
    "learning_curve_plot",
    "shap_plot",
    "timeline_plot",
    "trials_plot",
    "value_plot",
]

SHAP_FEATURES = 10
SHAP_POINTS = 300
SWARM_BINS = 40
TICKS = 6
MAP_ROWS = 20


def candidates_plot(
    values: Mapping[str, float | None],
    *,
    metric: str,
    selected: str | None = None,
    target: float | None = None,
    title: str = "Candidates",
) -> bytes:
    """One bar per candidate with its value of `metric`; the selected one stands out.

    A candidate without a value (it failed) keeps its place, without a bar. `target` draws the line to be reached.
    """
    if not values:
        return drawing.sorry(title, "no candidates")
    names = list(values)
    canvas, axes = drawing.figure(title, metric, "")
    colors = [drawing.ORANGE if name == selected else drawing.BLUE for name in names]
    shown = [values[name] for name in names]
    drawing.bars(axes, names=names, values=shown, colors=colors)
    if target is not None:
        _target(axes, target, f"target {target:g}")
    return drawing.png(canvas)


def drift_plot(
    effects: Mapping[str, float | None],
    *,
    limit: float,
    drifted: Sequence[str] = (),
    title: str = "Drift",
) -> bytes:
    """The largest effects, one bar per feature, with the limit; drifted features are red, the others green."""
    if not effects:
        return drawing.sorry(title, "no features")
    ranked = sorted(effects, key=lambda name: (-(effects[name] or 0.0), name))
    names = ranked[: drawing.BARS]
    more = f" (largest {drawing.BARS} of {len(ranked)} features)" if len(ranked) > drawing.BARS else ""
    canvas, axes = drawing.figure(title + more, "population stability index", "")
    colors = [drawing.RED if name in drifted else drawing.GREEN for name in names]
    shown = [effects[name] for name in names]
    drawing.bars(axes, names=names, values=shown, colors=colors, absent="not judged")
    _target(axes, limit, f"limit {limit:g}")
    return drawing.png(canvas)


def drift_map(
    windows: Sequence[str],
    effects: Mapping[str, Sequence[float | None]],
    *,
    limit: float,
    alarms: Mapping[str, Sequence[bool]],
    versions: Sequence[str] = (),
    title: str = "Drift by window",
) -> bytes:
    """Effects by column (down, the largest first) and window (across); red from the limit on, a cross where there is an alarm.

    `effects` and `alarms` have one value per window, grey where nothing was judged. A line with its name marks where another
    of the `versions` (one per window) took over.
    """
    if not effects or not windows:
        return drawing.sorry(title, "no window")
    known = {name: max((one for one in row if one is not None), default=0.0) for name, row in effects.items()}
    names = sorted(effects, key=lambda name: (-sum(alarms[name]), -known[name], name))[:MAP_ROWS]
    more = f" ({len(names)} of {len(effects)} columns)" if len(effects) > len(names) else ""
    canvas, axes = drawing.figure(title + more, "", "")
    cells = np.array([[np.nan if one is None else one for one in effects[name]] for name in names])
    axes.set_facecolor(drawing.GRID)
    axes.imshow(cells, cmap="RdYlGn_r", vmin=0, vmax=2 * limit, aspect="auto", interpolation="nearest")
    rows, columns = np.nonzero(np.array([alarms[name] for name in names]))
    axes.plot(columns, rows, "x", color=drawing.INK, markersize=4)
    axes.set_yticks(range(len(names)), [drawing.shorten(name) for name in names], fontsize=7)
    shown = range(0, len(windows), -(-len(windows) // TICKS))
    axes.set_xticks(list(shown), [windows[at] for at in shown], fontsize=7, rotation=30, ha="right")
    axes.grid(visible=False)
    _version_lines(axes, versions)
    return drawing.png(canvas)


def timeline_plot(
    times: Sequence[datetime],
    values: Sequence[float | None],
    *,
    metric: str,
    expected: float | None = None,
    limit: float | None = None,
    band: Sequence[tuple[float, float, float] | None] = (),
    before: Sequence[tuple[datetime, float | None]] = (),
    marks: Mapping[datetime, str] | None = None,
    title: str = "Performance over time",
) -> bytes:
    """A metric over time, one point per period; periods without a value are gaps.

    `expected` is the value at evaluation (dashed), `limit` the worst that is tolerated (red). `band` has an estimate of each
    period with its interval, or None; `before` are points of other models; `marks` name moments, such as a change of model.
    """
    if not any(value is not None for value in [*values, *band, *(value for _, value in before)]):
        return drawing.sorry(title, "no period has a value yet")
    canvas, axes = drawing.figure(title, "", metric)
    moments: list[Any] = list(times)
    _band(axes, moments, band)
    axes.plot(moments, _heights(values), label="realised", **drawing.DOTTED)
    if before:
        earlier = {**drawing.DOTTED, "color": drawing.QUIET, "linestyle": ""}
        when: list[Any] = [moment for moment, _ in before]
        axes.plot(when, _heights([value for _, value in before]), label="before", **earlier)
    _marks(axes, marks or {})
    for level, color, name in ((expected, drawing.QUIET, "at evaluation"), (limit, drawing.RED, "limit")):
        if level is not None:
            axes.axhline(level, color=color, linewidth=1, linestyle="--", label=f"{name} {level:.3g}")
    if len(times) == 1:
        axes.set_xlim(moments[0] - timedelta(days=1), moments[0] + timedelta(days=1))
    _dates(axes)
    axes.margins(y=0.2)
    drawing.legend(axes)
    return drawing.png(canvas)


def rivals_plot(
    times: Sequence[datetime], values: Mapping[str, Sequence[float | None]], *, metric: str, title: str
) -> bytes:
    """A metric of several models over time, one line each; periods without a value are gaps."""
    if not any(value is not None for line in values.values() for value in line):
        return drawing.sorry(title, "no period has a value")
    canvas, axes = drawing.figure(title, "", metric)
    moments: list[Any] = list(times)
    for (name, line), color in zip(values.items(), drawing.PALETTE, strict=False):
        axes.plot(moments, _heights(line), label=name, **drawing.DOTTED | {"color": color})
    if len(times) == 1:
        axes.set_xlim(moments[0] - timedelta(days=1), moments[0] + timedelta(days=1))
    _dates(axes)
    axes.margins(y=0.2)
    drawing.legend(axes)
    return drawing.png(canvas)


def importance_plot(
    values: Mapping[str, float],
    *,
    metric: str,
    intervals: Mapping[str, tuple[float, float] | None] | None = None,
    title: str = "Importance",
) -> bytes:
    """The features whose loss costs most of `metric`, largest first, with intervals (low, high); at most 15."""
    if not values:
        return drawing.sorry(title, "no features")
    ranked = sorted(values, key=lambda name: (-values[name], name))
    names = ranked[: drawing.BARS]
    more = f" (largest {drawing.BARS} of {len(ranked)} features)" if len(ranked) > drawing.BARS else ""
    canvas, axes = drawing.figure(title + more, f"loss of {metric} without the feature", "")
    shown = [values[name] for name in names]
    colors = [drawing.BLUE if value > 0 else drawing.QUIET for value in shown]
    drawing.bars(axes, names=names, values=shown, colors=colors, ranges=[(intervals or {}).get(name) for name in names])
    axes.axvline(0, color=drawing.GRID, linewidth=1)
    axes.locator_params(axis="x", nbins=4)
    return drawing.png(canvas)


def learning_curve_plot(
    rows: Sequence[int],
    train: Sequence[float | None],
    validation: Sequence[float | None],
    *,
    metric: str,
    title: str = "Learning curve",
) -> bytes:
    """`metric` on training and on validation rows over the number of training rows: do more rows help?

    All three are of one length; a value that is None is a gap.
    """
    if not any(value is not None for value in validation):
        return drawing.sorry(title, "no size has a value")
    canvas, axes = drawing.figure(title, "training rows", metric)
    for name, values, color in (("training", train, drawing.QUIET), ("validation", validation, drawing.BLUE)):
        heights = [np.nan if value is None else value for value in values]
        axes.plot(rows, heights, label=name, **{**drawing.DOTTED, "color": color})
    _row_ticks(axes, rows)
    axes.margins(y=0.2)
    drawing.legend(axes)
    return drawing.png(canvas)


def shap_plot(
    values: np.ndarray, features: np.ndarray, names: Sequence[str], *, unit: str = "score", title: str = "SHAP"
) -> bytes:
    """One dot per row and feature: how far the feature moved the row's answer, red where its value is high.

    `values` (n, d) are SHAP values, `features` (n, d) the features as numbers (NaN where there is none: grey), `names`
    (d,). Shown are the ten features of the largest mean absolute value, and at most 300 rows, evenly taken.
    """
    if values.size == 0:
        return drawing.sorry(title, "no rows or no features")
    weight = np.abs(values).mean(axis=0)
    chosen = np.argsort(-weight, kind="stable")[:SHAP_FEATURES]
    more = f" (largest {SHAP_FEATURES} of {len(names)} features)" if len(names) > SHAP_FEATURES else ""
    canvas, axes = drawing.figure(title + more, f"effect on the {unit} (red: high value)", "")
    rows = np.unique(np.linspace(0, len(values) - 1, min(len(values), SHAP_POINTS)).astype(int))
    axes.axvline(0, **drawing.DASHED)
    for place, feature in enumerate(chosen):
        _swarm(axes, values[rows, feature], _ranks(features[rows, feature]), place)
    axes.set_yticks(range(len(chosen)), [drawing.shorten(names[feature]) for feature in chosen], fontsize=8)
    axes.set_ylim(len(chosen) - 0.4, -0.6)
    return drawing.png(canvas)


def trials_plot(
    values: Sequence[float | None], *, metric: str, greater_is_better: bool, title: str = "Search"
) -> bytes:
    """`metric` of each trial in order, and the best until then; a trial without a value (pruned or failed) is a cross."""
    from matplotlib.ticker import MaxNLocator

    known = [value for value in values if value is not None]
    if not known:
        return drawing.sorry(title, "no trial has a value")
    heights = np.array([np.nan if value is None else value for value in values])
    best = (np.fmax if greater_is_better else np.fmin).accumulate(heights)
    canvas, axes = drawing.figure(title, "trial", metric)
    numbers = np.arange(1, len(values) + 1)
    lost = numbers[np.isnan(heights)]
    axes.plot(numbers, heights, "o", color=drawing.BLUE, markersize=4, label="trial")
    axes.step(numbers, best, where="post", color=drawing.ORANGE, linewidth=1.6, label=f"best {best[-1]:.4g}")
    if len(lost):
        worst = min(known) if greater_is_better else max(known)
        axes.plot(lost, [worst] * len(lost), "x", color=drawing.QUIET, markersize=5, label="pruned or failed")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(y=0.15)
    drawing.legend(axes)
    return drawing.png(canvas)


def value_plot(
    thresholds: np.ndarray,
    values: np.ndarray,
    *,
    threshold: float,
    chosen: float,
    everything: float,
    nothing: float,
    best: tuple[float, float] | None = None,
    unit: str = "",
    title: str = "Value by threshold",
) -> bytes:
    """What decisions are worth per 1,000 rows (m,) over the threshold (m,), with the chosen one, and of deciding nothing.

    `best` is another threshold to mark, with its value.
    """
    if not len(values):
        return drawing.sorry(title, "no rows")
    canvas, axes = drawing.figure(title, "threshold", f"value of 1,000 rows{f' ({unit})' if unit else ''}")
    axes.axhline(nothing, label=f"decide nothing {nothing:,.0f}", **drawing.DASHED)
    drawing.line(axes, np.append(thresholds, 0.0), np.append(values, everything), "decide from the threshold on")
    axes.plot(
        [threshold],
        [chosen],
        "o",
        color=drawing.ORANGE,
        markersize=7,
        label=f"threshold {threshold:.3g}: {chosen:,.0f}",
        clip_on=False,
    )
    if best is not None:
        label = f"best here {best[0]:.3g}: {best[1]:,.0f}"
        axes.plot(*([place] for place in best), "D", color=drawing.GREEN, markersize=6, label=label, clip_on=False)
    axes.margins(y=0.15)
    drawing.legend(axes)
    return drawing.png(canvas)


def _version_lines(axes: Axes, versions: Sequence[str]) -> None:
    """A line before each window that another known version than the one before answered."""
    for at, version in enumerate(versions):
        if at and versions[at - 1] not in ("", version):
            axes.axvline(at - 0.5, color=drawing.BLUE, linewidth=1.4)
            axes.text(at - 0.45, -0.6, f"v{drawing.plain(version)}", color=drawing.BLUE, fontsize=7, va="bottom")


def _row_ticks(axes: Axes, rows: Sequence[int]) -> None:
    """Ticks at the sizes themselves, on a logarithmic axis, as sizes usually double."""
    axes.set_xscale("log")
    shown = rows[:: -(-len(rows) // TICKS)]
    axes.set_xticks(list(shown), [f"{size:,}" for size in shown])
    axes.set_xticks([], minor=True)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Each value's share of the known values that are below it, ties in the middle, 0 to 1; NaN stays NaN."""
    known = np.sort(values[~np.isnan(values)])
    below, until = np.searchsorted(known, values, "left"), np.searchsorted(known, values, "right")
    return np.where(np.isnan(values), np.nan, (below + until) / 2 / max(len(known), 1))


def _swarm(axes: Axes, effect: np.ndarray, rank: np.ndarray, place: float) -> None:
    """Dots along a line, piled up where they are many, so that the width shows how many there are."""
    order = np.argsort(effect, kind="stable")
    low, high = effect[order[0]], effect[order[-1]]
    bins = ((effect - low) / max(high - low, np.finfo(float).tiny) * (SWARM_BINS - 1)).astype(int)
    height = np.zeros(len(effect))
    for number in np.unique(bins):
        members = order[bins[order] == number]
        height[members] = (np.arange(len(members)) + 1) // 2 * np.where(np.arange(len(members)) % 2, 1, -1)
    height *= 0.38 / max(np.abs(height).max(), 6)
    known = ~np.isnan(rank)
    axes.plot(effect[~known], place + height[~known], "o", color=drawing.QUIET, markersize=2.5, markeredgewidth=0)
    axes.scatter(
        effect[known], place + height[known], c=rank[known], cmap="coolwarm", vmin=0, vmax=1, s=7, linewidths=0
    )


def _target(axes: Axes, level: float, label: str) -> None:
    axes.axvline(level, color=drawing.INK, linewidth=1, linestyle="--", label=label)
    axes.legend(loc="lower right", fontsize=8, facecolor="white", edgecolor="none", framealpha=0.9)


def _heights(values: Sequence[float | None]) -> list[float]:
    return [np.nan if value is None else value for value in values]


def _band(axes: Axes, moments: Sequence[Any], band: Sequence[tuple[float, float, float] | None]) -> None:
    """Estimates as a bar each from low to high, and a line through them."""
    known = [(when, *one) for when, one in zip(moments, band or [None] * len(moments), strict=True) if one is not None]
    if not known:
        return
    when, value, low, high = zip(*known, strict=True)
    axes.vlines(when, low, high, color=drawing.ORANGE, linewidth=6, alpha=0.3)
    axes.plot(when, value, color=drawing.ORANGE, linewidth=1, linestyle=":", marker="_", label="estimated, 95 %")


def _marks(axes: Axes, marks: Mapping[datetime, str]) -> None:
    for when, text in marks.items():
        moment: Any = when
        axes.axvline(moment, color=drawing.INK, linewidth=1, linestyle=":")
        axes.annotate(
            drawing.plain(text),
            (moment, 0.02),
            (3, 0),
            ("data", "axes fraction"),
            "offset points",
            fontsize=7,
            rotation=90,
        )


def _dates(axes: Axes) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(maxticks=6)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.xaxis.get_offset_text().set_fontsize(8)
