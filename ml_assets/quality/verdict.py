"""What an evaluation found: one result per expectation, one verdict per frame, group or table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ml_assets.quality.errors import EvaluationError
from ml_assets.quality.expectation import Expectation, Severity

__all__ = ["Result", "Verdict", "distinct", "merge"]

SHOWN_EXAMPLES = 5
TOLD_EXAMPLES = 3
NAMED_PARTITIONS = 20
NAMED_PER_RESULT = 5


@dataclass(frozen=True)
class Result:
    """How one expectation went.

    `element_count` are rows; `unexpected_count` are rows (distinct values for `..._distinct_values_to_be_in_set`), None
    where the expectation does not count; `observed` is the number, type or columns found; `examples` are at most five
    distinct unexpected values; `note` says what the numbers do not. Everything is JSON-safe.
    """

    expectation: Expectation
    success: bool
    element_count: int
    unexpected_count: int | None = None
    observed: Any = None
    examples: tuple[Any, ...] = ()
    note: str = ""

    @property
    def column(self) -> str | None:
        """The column or columns of the expectation; None when it is about the table."""
        return self.expectation.column

    @property
    def severity(self) -> Severity:
        """The severity of the expectation."""
        return self.expectation.severity

    def reason(self) -> str:
        """Return the result in one line: what must hold, and what was found instead."""
        return f"{self.expectation.requirement()}: {self.finding()}"

    def finding(self) -> str:
        """Return what was found: counts, examples, the observed value and the note, as far as there are any."""
        counts = "" if self.unexpected_count is None else f"{self.unexpected_count} of {self.element_count} not so"
        if self.unexpected_count and self.expectation.rule.counts_distinct:
            counts = f"{self.unexpected_count} other values"
        examples = f"for example {_words(self.examples[:TOLD_EXAMPLES])}" if self.examples else ""
        observed = f"it is {_words([self.observed])}" if self._tells_observed() else ""
        found = ", ".join(filter(None, (counts, examples, observed, self.note)))
        return found or ("holds" if self.success else "does not hold")

    def _tells_observed(self) -> bool:
        return self.observed is not None and not isinstance(self.observed, list)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe dictionary; empty fields are left out."""
        fields = {
            "expectation": self.expectation.to_dict(),
            "success": self.success,
            "element_count": self.element_count,
            "unexpected_count": self.unexpected_count,
            "observed": self.observed,
            "examples": list(self.examples) or None,
            "note": self.note or None,
        }
        return {key: value for key, value in fields.items() if value is not None}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Result:
        """Read what `to_dict` returned."""
        return cls(
            expectation=Expectation.from_dict(raw["expectation"]),
            success=raw["success"],
            element_count=raw["element_count"],
            unexpected_count=raw.get("unexpected_count"),
            observed=raw.get("observed"),
            examples=tuple(raw.get("examples", ())),
            note=raw.get("note", ""),
        )


@dataclass(frozen=True)
class Verdict:
    """How a suite went on one frame.

    Red (`success` is False) when a critical expectation failed, when there was no expectation, or when there was no
    row. `notes` say what holds for the frame as a whole.
    """

    suite: str
    success: bool
    rows: int
    results: tuple[Result, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def failures(self) -> list[Result]:
        """The results that failed: critical ones first, then warnings, each in the suite's order."""
        failed = [result for result in self.results if not result.success]
        return sorted(failed, key=lambda result: result.severity != "critical")

    def reason(self) -> str:
        """Return one line which a person can act on: how many failed, and the first two in words."""
        failed = self.failures
        head = f"{self.suite}: {len(failed)} of {len(self.results)} expectations failed on {self.rows} rows"
        if not failed:
            head = f"{self.suite}: {len(self.results)} expectations hold on {self.rows} rows"
        told = [result.reason() for result in failed[:2]] + [f"{len(failed) - 2} more"] * (len(failed) > 2)
        return " ".join("; ".join([head, *self.notes, *told]).split())

    def markdown(self) -> str:
        """Return a compact table for the web UI: failures first, critical before warning, then what passed."""
        passed = [result for result in self.results if result.success]
        lines = [f"**{'passed' if self.success else 'RED'}** · {self.suite} · {self.rows} rows", ""]
        lines += [f"- {_cell(note)}" for note in self.notes] + [""] * bool(self.notes)
        lines += ["| | expectation | unexpected | found |", "|---|---|---:|---|"]
        return "\n".join(lines + [_row(result) for result in (*self.failures, *passed)])

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe dictionary, as manifests keep it: suite, success, rows, reason, notes, results."""
        return {
            "suite": self.suite,
            "success": self.success,
            "rows": self.rows,
            "reason": self.reason(),
            "notes": list(self.notes),
            "results": [result.to_dict() for result in self.results],
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Verdict:
        """Read what `to_dict` returned; `EvaluationError` when a field is missing."""
        try:
            results = tuple(Result.from_dict(item) for item in raw["results"])
            return cls(raw["suite"], raw["success"], raw["rows"], results, tuple(raw["notes"]))
        except (KeyError, TypeError) as error:
            raise EvaluationError(f"not a verdict of this version: {error}; evaluate the data again") from error


def merge(verdicts: Mapping[str, Verdict]) -> Verdict:
    """Return one verdict over many, such as one per partition: rows and counts are summed, red partitions are named.

    `observed` becomes the common value, or the range "lowest to highest". No verdict at all is red. Raises
    `EvaluationError` when they are not of one suite.
    """
    if not verdicts:
        return Verdict("(none)", success=False, rows=0, notes=("there is no verdict, so nothing was judged",))
    first = next(iter(verdicts.values()))
    full = [verdict for verdict in verdicts.values() if verdict.results] or [first]
    for name, verdict in verdicts.items():
        if verdict.suite != first.suite or (verdict.results and not _same_suite(verdict, full[0])):
            raise EvaluationError(f"cannot merge verdicts of different suites: {name!r} is of {verdict.suite!r}")
    columns = zip(*(verdict.results for verdict in full), strict=True)
    names = [name for name, verdict in verdicts.items() if verdict.results] or list(verdicts)
    return Verdict(
        suite=first.suite,
        success=all(verdict.success for verdict in verdicts.values()),
        rows=sum(verdict.rows for verdict in verdicts.values()),
        results=tuple(_merge_results(names, results) for results in columns),
        notes=_merged_notes(verdicts),
    )


def _merge_results(names: Sequence[str], results: Sequence[Result]) -> Result:
    red = [name for name, result in zip(names, results, strict=True) if not result.success]
    counted = [result.unexpected_count for result in results if result.unexpected_count is not None]
    reasons = list(dict.fromkeys(result.note for result in results if result.note and not result.success))
    return replace(
        results[0],
        success=not red,
        element_count=sum(result.element_count for result in results),
        unexpected_count=sum(counted) if counted else None,
        observed=_merge_observed([result.observed for result in results if result.observed is not None]),
        examples=tuple(distinct(example for result in results for example in result.examples)),
        note="; ".join([f"fails in {_named(red, len(results), NAMED_PER_RESULT)}", *reasons[:1]]) if red else "",
    )


def _merge_observed(observed: Sequence[Any]) -> Any:
    if not observed or all(value == observed[0] for value in observed):
        return observed[0] if observed else None
    if all(isinstance(value, int | float) for value in observed) or all(isinstance(value, str) for value in observed):
        return f"{_word(min(observed))} to {_word(max(observed))}"
    return None


def _merged_notes(verdicts: Mapping[str, Verdict]) -> tuple[str, ...]:
    red = [name for name, verdict in verdicts.items() if not verdict.success]
    own = distinct((note for verdict in verdicts.values() for note in verdict.notes), most=NAMED_PARTITIONS)
    return tuple([f"red: {_named(red, len(verdicts), NAMED_PARTITIONS)}"] * bool(red) + own)


def _named(names: Sequence[str], total: int, most: int) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{len(names)} of {total} ({', '.join(names[:most])}{more})"


def _same_suite(verdict: Verdict, other: Verdict) -> bool:
    return [result.expectation for result in verdict.results] == [result.expectation for result in other.results]


def distinct(values: Iterable[Any], most: int = SHOWN_EXAMPLES) -> list[Any]:
    """Return the first `most` distinct values, in their order; values may be lists and dictionaries."""
    found: dict[str, Any] = {}
    for value in values:
        found.setdefault(repr(value), value)
        if len(found) == most:
            break
    return list(found.values())


def _row(result: Result) -> str:
    sign = "✓" if result.success else ("✗" if result.severity == "critical" else "!")
    count = "" if result.unexpected_count is None else str(result.unexpected_count)
    observed = _words([result.observed]) if result._tells_observed() else ""
    shown = [observed, f"e.g. {_words(result.examples)}" if result.examples else "", result.note]
    return f"| {sign} | {_cell(result.expectation.requirement())} | {count} | {_cell('; '.join(filter(None, shown)))} |"


def _words(values: Sequence[Any]) -> str:
    return ", ".join(map(_word, values))


def _word(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"({', '.join(f'{key}={_word(item)}' for key, item in value.items())})"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())
