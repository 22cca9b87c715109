"""Windows of days for monitoring: consecutive, of equal length, counted from the day after the test split's end."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, timedelta

from ml_assets import keys


@dataclass(frozen=True)
class Window:
    """Days `first` to `last`, both included; `days` are those of them that have predictions."""

    first: str
    last: str
    days: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Tell whether every day of the window has predictions."""
        return len(self.days) == len(keys.days(self.first, self.last))


def windows(days: Collection[str], *, anchor: date, length: int) -> list[Window]:
    """Return the windows that have predictions, oldest first.

    They begin at `anchor` and every `length` days after it. While no day lies after the anchor, the last window before it
    is returned, so that the first report is about the end of the test split.
    """
    live = sorted(day for day in days if day >= keys.day(anchor))
    start = anchor if live else anchor - timedelta(days=length)
    known = live or sorted(day for day in days if keys.day(start) <= day < keys.day(anchor))
    found: dict[date, list[str]] = {}
    for day in known:
        steps = (date.fromisoformat(day) - start).days // length
        found.setdefault(start + timedelta(days=steps * length), []).append(day)
    return [
        Window(keys.day(first), keys.day(first + timedelta(days=length - 1)), tuple(inside))
        for first, inside in found.items()
    ]
