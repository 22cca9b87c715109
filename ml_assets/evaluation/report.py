"""The evaluation report: what was measured, on which rows, how certainly; for people and for programs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from ml_assets.evaluation.metrics import RESAMPLES, Answered, EvaluationError, Interval, bootstrap_intervals
from ml_assets.evaluation.slices import slice_metrics

SLICE_METRICS = 5
_WIDE = frozenset(
    [
        *("f1", "brier", "expected_calibration_error", "mse", "noise_share", "balanced_accuracy"),
        *(
            f"{name}_{average}"
            for name in ("precision", "recall", "f1", "roc_auc")
            for average in ("micro", "weighted")
        ),
        *(f"pinball_{quantile}" for quantile in (10, 50, 90)),
    ]
)
_NUMBER = r"[-+]?[\d.,]+(?:e[-+]?\d+)?"
_NUMBERS = re.compile(rf"-|{_NUMBER}(?: to {_NUMBER})?")


@dataclass(frozen=True)
class Rival:
    """Another model on the same rows: its metrics, and by how much ours is better (`Metric.gain`), with 95 % intervals.

    A rival that cannot be compared has no metrics, and `note` says why.
    """

    name: str
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    gains: Mapping[str, Interval | None] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class EvaluationReport:
    """How well one version of a model does on one split.

    `outcomes` are the labels in a few words, `metric` is the one that counts as success. `metrics`, `intervals` (95 % unless
    made otherwise), `baseline` are by metric name; None is "not applicable", and `not_applicable` says why. `rivals` are other
    models on the same rows, the baseline first. `unlabelled` counts rows left out, by reason. `slices` has the rows of
    `slice_metrics`, `candidates` one row per candidate (its name under "candidate"). `told` is what else a reader should know,
    by topic.
    """

    problem: str
    task: str
    model_version: str
    split: str
    rows: int
    outcomes: str
    threshold: float
    metrics: Mapping[str, float | None]
    made_at: datetime
    metric: str = ""
    unlabelled: Mapping[str, int] = field(default_factory=dict)
    intervals: Mapping[str, Interval | None] = field(default_factory=dict)
    not_applicable: Mapping[str, str] = field(default_factory=dict)
    baseline: Mapping[str, float | None] = field(default_factory=dict)
    rivals: Sequence[Rival] = ()
    slices: Sequence[Mapping[str, Any]] = ()
    candidates: Sequence[Mapping[str, Any]] = ()
    told: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """The report as JSON text with sorted keys; numbers that are not finite become null."""
        return json.dumps(_plain(asdict(self)), sort_keys=True, allow_nan=False, indent=1)

    @classmethod
    def from_json(cls, text: str) -> EvaluationReport:
        """The report that `to_json` wrote. An EvaluationError names fields that are missing or unknown."""
        values = json.loads(text)
        try:
            values["made_at"] = datetime.fromisoformat(values["made_at"])
            values["intervals"] = _intervals(values["intervals"])
            values["rivals"] = [Rival(**rival | {"gains": _intervals(rival["gains"])}) for rival in values["rivals"]]
            return cls(**values)
        except (KeyError, TypeError) as error:
            raise EvaluationError(
                f"this is not an evaluation report ({error}): give the text that to_json wrote"
            ) from error

    def tables(self) -> str:
        """The metrics, the candidates and the slices, as markdown."""
        parts = [self._metrics(), _records("### Candidates", self.candidates), self._slices()]
        return "\n\n".join(part for part in parts if part)

    def summary(self) -> str:
        """What was measured, on what, and what else is told, as markdown."""
        left_out = ", ".join(f"{count:,} {reason}" for reason, count in self.unlabelled.items() if count) or "none"
        lines = [
            f"**{self.problem}**, model version **{self.model_version}**, on the {self.split} split: "
            f"{self.rows:,} rows{f' ({self.outcomes})' if self.outcomes else ''}.",
            f"Rows left out: {left_out}. Made at {self.made_at.isoformat(timespec='seconds')}.",
            *(f"{topic.capitalize()}: {text}." for topic, text in self.told.items()),
        ]
        return "\n".join(lines)

    def metrics_table(self) -> tuple[list[str], list[list[str]]]:
        """Heads and cells of the table of metrics: the value with its interval, each rival's value, and the gain over it."""
        shown = [rival for rival in self.rivals if rival.metrics]
        heads = ["metric", "value", "95 % interval"]
        for rival in shown:
            heads += [rival.name, "better by (95 %)"]
        return heads, [
            [name, number(value), interval(self.intervals.get(name)), *_against(shown, name)]
            for name, value in self.metrics.items()
        ]

    def slices_table(self) -> tuple[list[str], list[list[str]]]:
        """Heads and cells of the slices, with the columns that fit a page; `slices` has all metrics."""
        names = self._narrow()
        rows = [{**row, "note": self._own_note(str(row.get("note") or ""))} for row in self.slices]
        return cells([{name: row[name] for name in names if name in row} for row in rows])

    def _narrow(self) -> list[str]:
        others = [name for name in self.metrics if name not in (*_WIDE, self.metric) and self._some_slice_has(name)]
        return ["slice", "value", "rows", "outcomes", self.metric, *others[:SLICE_METRICS], "note"]

    def _some_slice_has(self, metric: str) -> bool:
        return any(row.get(metric) is not None for row in self.slices)

    def _own_note(self, note: str) -> str:
        """Return what is to be noted of a slice alone, without the reasons that hold for the whole report."""
        known = {f"{name}: {reason}" for name, reason in self.not_applicable.items()}
        return "; ".join(part for part in note.split("; ") if part not in known)

    def _metrics(self) -> str:
        why = [f"{name} does not apply: {reason}." for name, reason in self.not_applicable.items()]
        notes = [f"{rival.name}: {rival.note}." for rival in self.rivals if rival.note]
        return "\n\n".join(["### Metrics", table(*self.metrics_table()), *why, *notes])

    def _slices(self) -> str:
        return f"### Slices\n\n{table(*self.slices_table())}" if self.slices else ""


def make_report(
    rows: Answered,
    *,
    problem: str,
    model_version: str,
    split: str,
    made_at: datetime,
    metric: str = "",
    slices: Sequence[str] = (),
    minimum_rows: int = 100,
    unlabelled: Mapping[str, int] | None = None,
    baseline: Mapping[str, float | None] | None = None,
    rivals: Sequence[Rival] = (),
    candidates: Sequence[Mapping[str, Any]] = (),
    told: Mapping[str, str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> EvaluationReport:
    """Measure answered rows. `unlabelled` counts rows that are not among them, by reason; default: those without a label."""
    missing = rows.unlabelled.height
    return EvaluationReport(
        problem=problem,
        task=rows.task.kind,
        model_version=model_version,
        split=split,
        rows=len(rows),
        outcomes=rows.task.describe(rows.y) if rows.task.supervised else "",
        threshold=rows.threshold,
        metrics=rows.metrics,
        made_at=made_at,
        metric=metric or rows.task.default_metric,
        unlabelled=dict(unlabelled or {}) or ({"label is null": missing} if missing else {}),
        intervals=bootstrap_intervals(
            rows.y, rows.score, resamples=resamples, seed=seed, threshold=rows.threshold, task=rows.task
        ),
        not_applicable=rows.reasons,
        baseline=baseline or {},
        rivals=tuple(rivals),
        slices=slice_metrics(rows, slices, minimum_rows=minimum_rows).to_dicts(),
        candidates=tuple(candidates),
        told=told or {},
    )


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table; cells are escaped, and columns that hold numbers only are aligned to the right."""
    cells = [[_cell(cell) for cell in row] for row in rows]
    marks = ["---:" if numeric(cells, place) else "---" for place in range(len(heads))]
    return "\n".join(f"| {' | '.join(line)} |" for line in [list(heads), marks, *cells])


def numeric(rows: Sequence[Sequence[str]], place: int) -> bool:
    """Whether a column of cells holds numbers, ranges of numbers and dashes only."""
    return all(_NUMBERS.fullmatch(row[place]) for row in rows)


def number(value: float | None) -> str:
    """A number with four significant digits; a dash for None and for what is not finite."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.4g}"


def cells(records: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Heads and cells of records that have the same names, as text; without columns in which nothing stands."""
    shown = [{name: _show(value) for name, value in record.items()} for record in records]
    heads = [name for name in (records[0] if records else ()) if any(record.get(name) for record in shown)]
    return heads, [[record.get(head, "-") for head in heads] for record in shown]


def _records(title: str, records: Sequence[Mapping[str, Any]]) -> str:
    return f"{title}\n\n{table(*cells(records))}" if records else ""


def interval(pair: Interval | None) -> str:
    """A range in words; a dash for none."""
    return "-" if pair is None else f"{number(pair[0])} to {number(pair[1])}"


def _against(rivals: Sequence[Rival], name: str) -> list[str]:
    return [text for rival in rivals for text in (number(rival.metrics.get(name)), interval(rival.gains.get(name)))]


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


def _intervals(pairs: Mapping[str, Sequence[float] | None]) -> dict[str, Interval | None]:
    return {name: None if pair is None else (pair[0], pair[1]) for name, pair in pairs.items()}
