"""What is wrong with a declaration, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

ORDERS = ("give ", "name ", "use ", "write ")  # how a fix begins
MOST = 60  # characters of a value that are shown


@dataclass(frozen=True, order=True)
class Fault:
    """One mistake: `file` is relative to the repository, `line` and `column` count from 1.

    `field` is the path of keys, such as `attributes.success.metric`; `value` is what is written there, as YAML would say
    it, "" when there is none.
    """

    file: str
    line: int
    column: int
    field: str
    problem: str
    fix: str = ""
    value: str = ""

    def __str__(self) -> str:
        """Return one line: place, field, what is wrong, fix."""
        place = f"{self.file}:{self.line}:{self.column}"
        return "  ".join(filter(None, [place, self.field, self.problem])) + (f"  → {self.fix}" if self.fix else "")


def shown(value: object) -> str:
    """Return a value as a person would write it in YAML, shortened; "" for mappings, lists and nothing."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None or isinstance(value, dict | list):
        return ""
    text = " ".join(str(value).split())
    return text if len(text) <= MOST else f"{text[: MOST - 1]}…"


def told(message: str) -> tuple[str, str]:
    """Split a message of the house, "what is wrong; what to do" or "what is written: what to do", into its two parts."""
    text = " ".join(message.split())
    problem, semicolon, fix = text.rpartition("; ")
    if semicolon:
        return problem, fix
    problem, colon, fix = text.rpartition(": ")
    return (f"{problem} does not fit", fix) if colon and fix.startswith(ORDERS) else (text, "")


def distinct(faults: Collection[Fault]) -> list[Fault]:
    """Return the faults in the order of files and lines; of several on one field in one place, those that differ."""
    found: dict[tuple[object, ...], Fault] = {}
    for fault in sorted(faults):
        found.setdefault((fault.file, fault.line, fault.column, fault.field, fault.problem), fault)
    return list(found.values())
