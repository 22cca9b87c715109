"""What people see of a table's profiles: a table of its columns, and how they went from day to day."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np

from ml_assets.evaluation.report import number, table
from ml_assets.lake.manifest import WHOLE
from ml_assets.monitoring.profiles import ColumnProfile, Profile, columns_of, merge
from ml_assets.tasks import drawing

MOST_COLUMNS = 40  # in the picture; the table has them all
FAR = 3.0  # standard deviations at which the colours end
NAMES, WIDTH, LINE = 170, 560, 12  # pixels: of the names, the days together, and a line
RED, BLUE, GREY = (np.array(colour) for colour in ((200, 69, 59), (47, 111, 178), (228, 231, 235)))  # as in `drawing`
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Panel(NamedTuple):
    """A part of the picture: what it shows, the columns' names, and their values (columns, days) from -1 to 1."""

    label: str
    names: Sequence[str]
    values: np.ndarray


def columns_table(profiles: Sequence[Profile]) -> str:
    """Return the columns of all the rows together, as markdown."""
    heads = ["column", "type", "nulls", "NaN", "infinite", "min", "mean", "max", "distinct", "commonest"]
    rows = [
        [
            one.name,
            one.dtype,
            *(f"{count:,}" for count in (one.nulls, one.nans, one.infinities)),
            *(_spelled(one, value) for value in (one.low, one.mean, one.high)),
            f"{one.distinct:,}",
            ", ".join(list(one.categories)[:3]),
        ]
        for one in (merge(profiles).columns.values() if profiles else ())
    ]
    return table(heads, rows)


def _spelled(column: ColumnProfile, value: float | None) -> str:
    if value is None or not column.dtype.startswith(("Datetime", "Date")):
        return number(value)
    span = timedelta(microseconds=value) if column.dtype.startswith("Datetime") else timedelta(days=value)
    try:
        return f"{EPOCH + span:%Y-%m-%d}"
    except OverflowError:
        return number(value)


def days_plot(days: Mapping[str, Profile], title: str) -> bytes:
    """Return a picture of the columns by day: above the share that is missing, below how far the day's mean is from all days'.

    A mean is told in standard deviations of the column over all days; red is more, blue less, white the usual.
    """
    dated = sorted(day for day in days if day != WHOLE)
    if len(dated) < 2:
        return drawing.sorry(title, "fewer than two days")
    names = columns_of([days[day] for day in dated])[:MOST_COLUMNS]
    parts = {name: [days[day].columns.get(name) for day in dated] for name in names}
    missing = np.array([[np.nan if one is None else _share(one) for one in parts[name]] for name in names])
    moved = [name for name in names if any(one and one.mean is not None and not _time(one) for one in parts[name])]
    means = np.array([_standardized(parts[name]) for name in moved]).reshape(len(moved), len(dated))
    panels = [
        Panel("share missing: white none, red all", names, missing),
        Panel(f"mean: white usual, red and blue {FAR:g} standard deviations above and below", moved, means / FAR),
    ]
    return _picture(title, dated, [panel for panel in panels if panel.names])


def _share(column: ColumnProfile) -> float:
    return column.missing_share if column.missing_share is not None else np.nan


def _time(column: ColumnProfile) -> bool:
    return column.dtype.startswith(("Date", "Time", "Duration"))


def _standardized(days: Sequence[ColumnProfile | None]) -> list[float]:
    values = np.array([np.nan if one is None or one.mean is None else one.mean for one in days])
    known = values[np.isfinite(values)]
    spread = float(np.mean([one.std for one in days if one and one.std is not None] or [0.0])) or float(np.std(known))
    return list((values - np.median(known)) / spread if spread else values * 0)


def _picture(title: str, days: Sequence[str], panels: Sequence[Panel]) -> bytes:
    """Draw the panels one below the other. Pillow does it in a twentieth of matplotlib's time, and every table has a picture."""
    from PIL import Image, ImageDraw, ImageFont

    cell = max(2, WIDTH // len(days))
    heights = [LINE * (len(panel.names) + 3) for panel in panels]
    image = Image.new("RGB", (NAMES + cell * len(days) + LINE, 2 * LINE + sum(heights)), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(LINE - 2)
    draw.text((4, 2), title, drawing.INK, font)
    top = LINE
    for panel, height in zip(panels, heights, strict=True):
        draw.text((NAMES, top + LINE - 2), panel.label, drawing.INK, font)
        for row, name in enumerate(panel.names):
            draw.text((4, top + LINE * (row + 2) - 2), drawing.shorten(name), drawing.INK, font)
        pixels = np.repeat(np.repeat(_colours(panel), LINE, axis=0), cell, axis=1)
        image.paste(Image.fromarray(pixels), (NAMES, top + 2 * LINE))
        top += height
    for place in sorted({0, len(days) // 2, len(days) - 1}):
        left = min(NAMES + cell * place, image.width - 6 * LINE)
        draw.text((left, image.height - LINE - 2), days[place], drawing.QUIET, font)
    return _png(image)


def _colours(panel: Panel) -> np.ndarray:
    """Return the colours (rows, days, 3): white for 0, red up to 1, blue down to -1, grey where there is no value."""
    share = np.nan_to_num(np.clip(panel.values, -1, 1))[..., None]
    shade = np.where(share >= 0, RED, BLUE)
    found = 255 + (shade - 255.0) * np.abs(share)
    return np.where(np.isfinite(panel.values)[..., None], found, GREY).astype(np.uint8)


def _png(image: Any) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    image.quantize(drawing.COLORS, method=Image.Quantize.FASTOCTREE).save(buffer, format="png", optimize=True)
    return buffer.getvalue()
