"""The evaluation report: what was measured, on which rows, how certainly; for people and for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import polars as pl

from ml_assets.evaluation.metrics import EvaluationError, bootstrap_intervals, evaluate, labelled, reasons
from ml_assets.evaluation.slices import slice_metrics
from ml_assets.tasks import Task

Interval = tuple[float, float]
_WIDE = frozenset({"unlabelled", "accuracy", "f1", "log_loss", "brier", "expected_calibration_error"})
_NUMERIC = frozenset("0123456789-")


@dataclass(frozen=True)
class EvaluationReport:
    """How well one version of a model does on one split.

    `metrics`, `intervals` (95 % unless made otherwise), `baseline` are by metric name; None is "not applicable", and
    `not_applicable` says why. `unlabelled` counts rows left out, by reason. `slices` has the rows of `slice_metrics`,
    `candidates` one row per candidate (its name under "candidate").
    """

    problem: str
    task: str
    model_version: str
    split: str
    rows: int
    positives: int
    threshold: float
    metrics: Mapping[str, float | None]
    made_at: datetime
    unlabelled: Mapping[str, int] = field(default_factory=dict)
    intervals: Mapping[str, Interval | None] = field(default_factory=dict)
    not_applicable: Mapping[str, str] = field(default_factory=dict)
    baseline: Mapping[str, float | None] = field(default_factory=dict)
    slices: Sequence[Mapping[str, Any]] = ()
    candidates: Sequence[Mapping[str, Any]] = ()

    def to_json(self) -> str:
        """The report as JSON text with sorted keys; numbers that are not finite become null."""
        return json.dumps(_plain(asdict(self)), sort_keys=True, allow_nan=False, indent=1)

    @classmethod
    def from_json(cls, text: str) -> EvaluationReport:
        """The report that `to_json` wrote. An EvaluationError names fields that are missing or unknown."""
        values = json.loads(text)
        try:
            values["made_at"] = datetime.fromisoformat(values["made_at"])
            values["intervals"] = {name: _interval(pair) for name, pair in values["intervals"].items()}
            return cls(**values)
        except (KeyError, TypeError) as error:
            raise EvaluationError(
                f"this is not an evaluation report ({error}): give the text that to_json wrote"
            ) from error

    def markdown(self, *, slices: bool = True) -> str:
        """The report as markdown: a summary, the metrics, the candidates, and the slices unless left out."""
        parts = [self._summary(), self._metrics_table(), self._candidates_table()]
        return "\n\n".join(part for part in [*parts, self._slices_table() if slices else ""] if part) + "\n"

    def _summary(self) -> str:
        left_out = ", ".join(f"{count:,} {reason}" for reason, count in self.unlabelled.items() if count) or "none"
        share = f"{self.positives / self.rows:.1%}" if self.rows else "no rows"
        return (
            f"**{self.problem}**, model version **{self.model_version}**, on the {self.split} split: "
            f"{self.rows:,} labelled rows, {share} positive, threshold {self.threshold:.4g}.\n"
            f"Rows without a label, left out: {left_out}. Made at {self.made_at.isoformat(timespec='seconds')}."
        )

    def _metrics_table(self) -> str:
        rows = [[name, number(value), self._range(name), *self._against(name)] for name, value in self.metrics.items()]
        heads = ["metric", "value", "95 % interval", *(["baseline"] if self.baseline else [])]
        why = [f"{name} does not apply: {reason}." for name, reason in self.not_applicable.items()]
        return "\n\n".join(["### Metrics", table(heads, rows), *why])

    def _range(self, name: str) -> str:
        pair = self.intervals.get(name)
        return "-" if pair is None else f"{number(pair[0])} to {number(pair[1])}"

    def _against(self, name: str) -> list[str]:
        return [number(self.baseline.get(name))] if self.baseline else []

    def _candidates_table(self) -> str:
        return _records("### Candidates", self.candidates)

    def _slices_table(self) -> str:
        """The columns that fit a page; `slices` has all metrics."""
        shown = [{name: value for name, value in row.items() if name not in _WIDE} for row in self.slices]
        return _records("### Slices", shown)


def make_report(
    frame: pl.DataFrame,
    *,
    problem: str,
    model_version: str,
    split: str,
    threshold: float,
    task: Task,
    made_at: datetime,
    slices: Sequence[str] = (),
    unlabelled: Mapping[str, int] | None = None,
    baseline: Mapping[str, float | None] | None = None,
    candidates: Sequence[Mapping[str, Any]] = (),
    label: str = "label",
    score: str = "score",
    resamples: int = 200,
    seed: int = 0,
) -> EvaluationReport:
    """Measure `frame` (one scored row per observation; rows with a null label are counted and left out).

    `unlabelled` explains them by reason; without it, or for what it does not explain, the reason is "label is null".
    """
    y, scores = labelled(frame, label=label, score=score)
    return EvaluationReport(
        problem=problem,
        task=task.kind,
        model_version=model_version,
        split=split,
        rows=len(y),
        positives=int((y == 1).sum()),
        threshold=threshold,
        metrics=evaluate(y, scores, threshold=threshold, task=task),
        made_at=made_at,
        unlabelled=_explain(frame.height - len(y), unlabelled or {}),
        intervals=bootstrap_intervals(y, scores, resamples=resamples, seed=seed, threshold=threshold, task=task),
        not_applicable=reasons(y, scores, threshold=threshold, task=task),
        baseline=baseline or {},
        slices=slice_metrics(frame, slices, label=label, score=score, threshold=threshold, task=task).to_dicts(),
        candidates=tuple(candidates),
    )


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table; cells are escaped, and columns that hold numbers only are aligned to the right."""
    cells = [[_cell(cell) for cell in row] for row in rows]
    marks = ["---:" if all(row[place][:1] in _NUMERIC for row in cells) else "---" for place in range(len(heads))]
    return "\n".join(f"| {' | '.join(line)} |" for line in [list(heads), marks, *cells])


def number(value: float | None) -> str:
    """A number with four significant digits; a dash for None and for what is not finite."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.4g}"


def _explain(missing: int, given: Mapping[str, int]) -> dict[str, int]:
    explained = sum(given.values())
    if explained > missing:
        raise EvaluationError(
            f"{explained} unlabelled rows are explained, but {missing} have a null label: count again"
        )
    rest = {"label is null": missing - explained} if missing > explained else {}
    return dict(given) | rest


def _records(title: str, records: Sequence[Mapping[str, Any]]) -> str:
    if not records:
        return ""
    heads = list(records[0])
    return f"{title}\n\n{table(heads, [[_show(record.get(head)) for head in heads] for record in records])}"


def _show(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return number(value) if value is None or isinstance(value, float) else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _interval(pair: Sequence[float] | None) -> Interval | None:
    return None if pair is None else (pair[0], pair[1])
