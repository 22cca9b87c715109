"""How business value is shown: tables and sentences in Markdown, and plots of the money by day and by threshold."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from ml_assets.evaluation.plots import value_plot
from ml_assets.evaluation.report import table
from ml_assets.monitoring.kpi import Kpi
from ml_assets.monitoring.sweep import PER, Sweep
from ml_assets.tasks import drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN_DAYS, PLOTTED_DAYS = 14, 60
NAMED = 5
LINES = {"perfect": drawing.GREEN, "earned": drawing.BLUE, "baseline": drawing.QUIET}


def money(value: float | None, currency: str = "") -> str:
    """Return an amount in words; a dash for None."""
    if value is None:
        return "-"
    digits = 0 if abs(value) >= 100 or value == round(value) else 2
    return f"{value:,.{digits}f} {currency}".rstrip()


def rate(part: int | None, whole: int | None) -> str:
    """Return a share in percent; a dash where there is nothing to share."""
    return "-" if part is None or not whole else f"{part / whole:.1%}"


def days_table(kpi: Kpi) -> str:
    """Return a table of the last 14 days, the newest first, and the sum of all."""
    heads = ["day", "status", "rows", "pending", "action rate", "conversion rate", "earned", "baseline", "perfect"]
    last = kpi.days.sort("day", descending=True).head(SHOWN_DAYS).to_dicts()
    rows = [[day["day"], day["status"], *_cells(day, f"{day['pending']:,}")] for day in last]
    total = [f"all {kpi.days.height} days", "", *_cells(kpi.totals, f"{kpi.totals['pending'] or 0:,}")]
    return table(
        [*heads, "version"],
        [[*row, day["model_version"]] for row, day in zip(rows, last, strict=True)] + [[*total, ""]],
    )


def slices_table(kpi: Kpi) -> str:
    """Return the slices with their money, and a line for each column that names the worst and the best."""
    heads = ["slice", "value", "rows", "without outcome", "action rate", "conversion rate", "earned", "baseline"]
    rows = [
        [one["slice"], one["value"], *_cells(one, f"{one['without_outcome']:,}")[:-1], money(one["gain"]), one["note"]]
        for one in kpi.slices.to_dicts()
    ]
    absent = [f"Slice {name} is not among the columns of the predictions." for name in kpi.absent]
    lines = [*map("- {}".format, [*_extremes(kpi), *absent])]
    return "\n".join([*lines, "", table([*heads, f"gain per {PER:,} rows", "note"], rows)])


def sweep_sentence(sweep: Sweep, currency: str) -> str:
    """Return what the best threshold would have earned, and whether that is more than noise."""
    now, best = (f"{sweep.thresholds[place]:.3g}" for place in (sweep.present, sweep.best))
    if sweep.best == sweep.present:
        return f"No other threshold would have earned more than the present one, {now}."
    told = (
        f"At {best} instead of {now} these {sweep.rows:,} rows would have earned {money(sweep.missed, currency)} more."
    )
    if sweep.gain is None:
        return f"{told} {sweep.days} days are too few to tell whether that is more than noise: keep {now}."
    low, high = (money(one) for one in sweep.gain)
    tried = f"Chosen on some days and tried on others, a new threshold brings {low} to {high} per {PER:,} rows (95 %)"
    return f"{told} {tried}: {'worth a change' if sweep.pays else f'no more than noise, keep {now}'}."


def cumulative_plot(kpi: Kpi) -> bytes:
    """Money so far by day: earned, by the baseline, and perfect; dashed where another version took over."""
    title = "Money so far"
    if kpi.terms.value is None or kpi.days.is_empty():
        return drawing.sorry(title, "no value declared" if kpi.terms.value is None else "no live rows")
    canvas, axes = drawing.figure(title, "", kpi.terms.currency)
    days = _moments(kpi.days)
    for name, color in LINES.items():
        heights = kpi.days[f"{name}_so_far"].to_numpy()
        axes.plot(days, heights, color=color, linewidth=1.8, label=f"{name} {money(heights[-1])}")
    versions = kpi.days["model_version"].to_list()
    for day, version, before in zip(days[1:], versions[1:], versions, strict=False):
        if version != before:
            axes.axvline(day, **drawing.DASHED)
    _finish(axes)
    return drawing.png(canvas)


def daily_plot(kpi: Kpi) -> bytes:
    """What each of the last 60 days with outcomes earned more than the baseline; lighter while outcomes are pending."""
    title = "Earned more than the baseline, by day"
    known = kpi.days.filter(pl.col("earned").is_not_null(), pl.col("baseline").is_not_null()).tail(PLOTTED_DAYS)
    if known.is_empty():
        return drawing.sorry(title, "no value declared" if kpi.terms.value is None else "no outcome is known yet")
    canvas, axes = drawing.figure(title, "", kpi.terms.currency)
    gains = (known["earned"] - known["baseline"]).to_numpy()
    days: Any = _moments(known)
    bars = axes.bar(days, gains, width=0.8, color=[drawing.GREEN if gain > 0 else drawing.RED for gain in gains])
    for bar, status in zip(bars, known["status"], strict=True):
        bar.set_alpha(1.0 if status == "realised" else 0.4)
    axes.axhline(0, color=drawing.INK, linewidth=0.8)
    _finish(axes, legend=False)
    return drawing.png(canvas)


def sweep_plot(sweep: Sweep, currency: str) -> bytes:
    """What thresholds would have earned per 1,000 rows, with the present one and the best on these rows."""
    values, place = sweep.values / sweep.rows * PER, sweep.best
    other = None if place == sweep.present else (float(sweep.thresholds[place]), float(values[place]))
    return value_plot(
        sweep.thresholds[::-1],
        values[::-1],
        threshold=float(sweep.thresholds[sweep.present]),
        chosen=float(values[sweep.present]),
        everything=float(values[0]),
        nothing=float(values[-1]),
        best=other,
        unit=currency,
        title="Realised value by threshold",
    )


def _cells(one: dict[str, Any], without: str) -> list[str]:
    rates = [rate(one["actions"], one["rows"]), rate(one["conversions"], one["actions"])]
    return [f"{one['rows'] or 0:,}", without, *rates, *(money(one[name]) for name in ("earned", "baseline", "perfect"))]


def _extremes(kpi: Kpi) -> Iterator[str]:
    """For each sliced column the worst and the best of the slices with enough rows, and those without."""
    measure = "gain" if kpi.terms.value else "conversion"
    rated = kpi.slices.with_columns(conversion=pl.col("conversions") / pl.col("actions"))
    for (column,), part in rated.group_by("slice", maintain_order=True):
        enough = part.filter(pl.col("note") == "", pl.col(measure).is_finite()).sort(measure, maintain_order=True)
        few = part.filter(pl.col("note") != "")["value"].to_list()
        said = [_ranked(enough, measure)] if enough.height > 1 else []
        more = f" and {len(few) - NAMED} more" if len(few) > NAMED else ""
        said += [f"too few rows to judge {', '.join(few[:NAMED])}{more}"] if few else []
        if said:
            yield f"{column}: {'; '.join(said)}"


def _ranked(slices: pl.DataFrame, measure: str) -> str:
    spelled = "gain per 1,000 rows" if measure == "gain" else "conversion rate"
    worst, best = (
        f"{row['value']} ({_measured(row[measure], measure)})"
        for row in (slices.row(0, named=True), slices.row(-1, named=True))
    )
    return f"worst {worst}, best {best} by {spelled}"


def _measured(value: float, measure: str) -> str:
    return money(value) if measure == "gain" else f"{value:.1%}"


def _moments(days: pl.DataFrame) -> list[Any]:
    return [datetime.fromisoformat(day) for day in days["day"]]


def _finish(axes: Axes, *, legend: bool = True) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.ticker import EngFormatter

    locator = AutoDateLocator(maxticks=6)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.xaxis.get_offset_text().set_fontsize(8)
    axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    axes.margins(y=0.15)
    if legend:
        drawing.legend(axes)
