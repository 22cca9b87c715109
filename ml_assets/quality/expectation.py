"""One expectation: a type of Great Expectations, its kwargs, and how bad it is when it fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from ml_assets.quality.errors import SuiteError, nearest
from ml_assets.quality.plain import plain
from ml_assets.quality.rules import RULES, Rule, kwargs_problem

__all__ = ["ALL_NULL_ALLOWED", "PERSONAL", "Expectation", "Severity"]

Severity = Literal["critical", "warning"]

ALL_NULL_ALLOWED: dict[str, Any] = {"all_null": "allowed"}
"""`meta` of an expectation for which a column without a single value is "not applicable" and not red."""

PERSONAL: dict[str, Any] = {"personal": True}
"""`meta` of an expectation whose results must not show values of the column."""


@dataclass(frozen=True)
class Expectation:
    """What must hold, in Great Expectations' words.

    `Expectation("expect_column_values_to_be_unique", {"column": "flight_id"})`

    `kwargs` and `meta` are stored JSON-safe (times as ISO 8601 text, tuples and sets as lists, infinities as
    "Infinity"). A failed "critical" expectation makes a verdict red, a failed "warning" is only shown. `meta` and
    `notes` are Great Expectations' free fields; `ALL_NULL_ALLOWED` and `PERSONAL` are the two entries read here.
    Mistakes in type or kwargs are reported by the `Suite`.
    """

    type: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    severity: Severity = "critical"
    meta: Mapping[str, Any] = field(default_factory=dict)
    notes: str = ""

    def __post_init__(self) -> None:
        """Make kwargs and meta JSON-safe; a key given as None means the default, as in Great Expectations."""
        given = {key: plain(value) for key, value in self.kwargs.items() if value is not None}
        object.__setattr__(self, "kwargs", given)
        object.__setattr__(self, "meta", plain(self.meta))

    @property
    def rule(self) -> Rule:
        """The rule of this type, with these kwargs."""
        return RULES[self.type](self.kwargs)

    @property
    def column(self) -> str | None:
        """The column or columns that it is about, joined with ", "; None when it is about the table."""
        return self.kwargs.get("column") or ", ".join(self.rule.columns) or None

    def requirement(self) -> str:
        """Return the expectation in words: "`distance` must be at least 1"."""
        return self.rule.requirement()

    def problem(self) -> str:
        """Return what is wrong with it, naming the key and the fix; "" when nothing is."""
        if self.type not in RULES:
            return f"unknown expectation type {self.type!r}{nearest(str(self.type), RULES)}"
        if self.severity not in get_args(Severity):
            return f"severity must be one of {', '.join(get_args(Severity))}; it is {self.severity!r}"
        return kwargs_problem(RULES[self.type], self.kwargs)

    def to_dict(self) -> dict[str, Any]:
        """Return it in Great Expectations' JSON form."""
        core = {"type": self.type, "kwargs": dict(self.kwargs), "meta": dict(self.meta), "severity": self.severity}
        return core | ({"notes": self.notes} if self.notes else {})

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Expectation:
        """Read Great Expectations' JSON form; fields for its cloud (`id`, `rendered_content`, …) are left out.

        Raises `SuiteError` when it is no object with a `type`.
        """
        fits = isinstance(raw, Mapping) and isinstance(raw.get("type"), str)
        if not fits or not all(isinstance(raw.get(key) or {}, Mapping) for key in ("kwargs", "meta")):
            raise SuiteError(f"an expectation must be an object with type, kwargs, meta, severity; it is {raw!r}")
        notes = raw.get("notes") or ""
        return cls(
            type=raw["type"],
            kwargs=raw.get("kwargs") or {},
            severity=raw.get("severity") or "critical",
            meta=raw.get("meta") or {},
            notes=notes if isinstance(notes, str) else "\n".join(notes),
        )
