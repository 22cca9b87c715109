"""Values that survive strict JSON, so that a verdict read back from a manifest equals the one that was stored."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import date, time
from decimal import Decimal
from typing import Any

__all__ = ["plain", "rounded"]

LONGEST_TEXT = 120


def plain(value: Any, *, longest: int | None = None) -> Any:
    """Return `value` made of None, bool, int, float, str, list and dict only.

    Times become ISO 8601 text, infinities and NaN become "Infinity", "-Infinity", "NaN" (JSON has no such numbers),
    sets become sorted lists, numpy's scalars Python's. Texts longer than `longest` characters are cut.
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return value if longest is None or len(value) <= longest else value[: longest - 1] + "…"
    if isinstance(value, float | Decimal):
        return _number(float(value))
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): plain(item, longest=longest) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((plain(item, longest=longest) for item in value), key=lambda item: (str(type(item)), item))
    if isinstance(value, Iterable) and not isinstance(value, bytes):
        return [plain(item, longest=longest) for item in value]
    return plain(value.item() if hasattr(value, "item") else str(value), longest=longest)


def rounded(value: Any) -> Any:
    """Return a computed float with 12 significant digits, because its last bits depend on the order of a sum."""
    return float(f"{value:.12g}") if isinstance(value, float) else value


def _number(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
