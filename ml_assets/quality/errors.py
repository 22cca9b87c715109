"""The errors of the quality room. A bad frame is never an error here: it is a red verdict."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["ContractError", "EvaluationError", "QualityError", "SuiteError", "nearest"]


class QualityError(ValueError):
    """Something in the quality room was asked for in a way that makes no sense."""


class SuiteError(QualityError):
    """A suite or an expectation is written wrongly; the message names suite, expectation, key and the fix."""


class ContractError(QualityError):
    """A column contract contradicts itself; the message names column, field and the fix."""


class EvaluationError(QualityError):
    """A suite cannot be evaluated, or verdicts cannot be merged, in the way that was asked for."""


def nearest(word: str, choices: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the choice nearest to `word`, or an empty string when none is near."""
    found = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else ""
