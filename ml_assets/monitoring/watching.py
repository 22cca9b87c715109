"""Monitoring over the lake: reports for windows that are new or have changed, and what the latest one says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from ml_assets import keys
from ml_assets.evaluation.evidently import with_summary
from ml_assets.lake import Lake
from ml_assets.monitoring.domain import Domain, domain_classifier
from ml_assets.monitoring.drift import DriftPolicy, DriftReport, FeatureDrift, findings, judge
from ml_assets.monitoring.references import ReferenceKind, Watched, training_rows
from ml_assets.monitoring.tables import DaysOf, days_of
from ml_assets.monitoring.windows import Window, windows
from ml_assets.packaging.champion import Champion

__all__ = [
    "LatestDrift",
    "WindowDrift",
    "days_of",
    "drift_history",
    "judge_window",
    "latest_drift",
    "report_drift",
    "training_rows",
]

WAITING = 0.05
"""Share of a window's labels that may still be waited for when they are judged."""
LOOK_BACK = 8
"""Windows before that are read to count how long a change has lasted."""


@dataclass(frozen=True)
class WindowDrift:
    """One window's report, and the name of its HTML page in the folder of reports."""

    window: Window
    report: DriftReport
    html: str


@dataclass(frozen=True)
class LatestDrift:
    """What the latest stored window says, and how many windows there are."""

    first: str
    last: str
    verdict: str
    reason: str
    rows: int
    limit: float
    html: str
    frame: pl.DataFrame
    markdown: str
    count: int
    domain: str = ""

    @property
    def drifted(self) -> list[str]:
        """Return the columns with an alarm."""
        alarming = pl.col("alarming") if "alarming" in self.frame.columns else pl.col("signs") != ""
        return self.frame.filter(alarming)["feature"].to_list()


def report_drift(
    lake: Lake,
    problem: str,
    champion: Champion,
    *,
    policy: DriftPolicy,
    window_days: int,
    reports: Path | None,
    now: datetime,
    reference: ReferenceKind = "training",
    earlier: int = 4,
) -> list[WindowDrift]:
    """Judge each window whose predictions, labels, champion, policy or predecessor changed; store and return the reports.

    A window is judged from the stored profiles of its days against `reference`, see `Watched`; the windows before are its
    history. Labels are judged once they are in, and the window then again. Stored as `<problem>/drift_report`, partitioned by
    the window's first day: one row per column. The folder `reports` gets Evidently's page for each; with None no rows are read,
    there are no pages, and no classifier looks for what no column shows by itself.
    """
    watched = Watched(lake, problem, champion, reference, window_days, earlier)
    found = windows(watched.predictions.days, anchor=champion.live_from.date(), length=window_days)
    made = []
    for window in found:
        stored = _stored_inputs(lake, problem, window) or {}
        labels = _Labels.of(watched, window, now, stored.get("labels", ""))
        inputs = _inputs(watched, window, labels, policy)
        if inputs == stored:
            continue
        watched.load([day for one in found for day in one.days])
        report = judge_window(watched, window, policy, labels.rows(now))
        shown = _shown(watched, window, report, reports, stored, inputs)
        frame = _stored_form(window, report, shown, policy, champion)
        lake.write(_reports(problem), frame, partition=window.first, written_at=now, inputs=inputs)
        made.append(WindowDrift(window, report, shown.html))
    return made


def judge_window(
    watched: Watched, window: Window, policy: DriftPolicy, labels: pl.DataFrame | None = None
) -> DriftReport:
    """Return the verdict on a window from stored profiles; `labels` (column label) are those of its rows, when they are in."""
    reference, current = watched.reference(window), watched.current(window)
    judged = "label" if labels is not None and "label" in reference.profile.columns else None
    if judged and labels is not None:
        current = replace(current, columns={**current.columns, **watched.labels(labels).columns})
    report = judge(
        reference.profile,
        current,
        features=watched.champion.bundle.features,
        policy=policy,
        history=_history(watched, window),
        cuts=watched.trained[1],
        prediction=watched.answer,
        label=judged,
    )
    return replace(report, verdict="undecided", reason=reference.lacking) if reference.lacking else report


def latest_drift(lake: Lake, problem: str) -> LatestDrift | None:
    """Return what the latest stored window says, or None."""
    found = lake.partitions(_reports(problem))
    if not found:
        return None
    frame = lake.read(_reports(problem), found[-1:])
    first = frame.row(0, named=True)
    return LatestDrift(
        first=first["window_first"],
        last=first["window_last"],
        verdict=first["window_verdict"],
        reason=first["window_reason"],
        rows=frame.select(pl.col("current_rows").max()).item() or 0,
        limit=first["limit"],
        html=first["html"],
        frame=frame,
        markdown=first["markdown"],
        count=len(found),
        domain=first.get("domain", ""),
    )


def _reports(problem: str) -> str:
    return keys.problem(problem, "drift_report")


def drift_history(lake: Lake, problem: str) -> pl.DataFrame:
    """Return all stored windows, one row per window and column, the oldest first; no rows without any."""
    parts = [lake.read(_reports(problem), [name]) for name in lake.partitions(_reports(problem))]
    return pl.concat(parts, how="diagonal_relaxed") if parts else pl.DataFrame(schema={"window_first": pl.String})


class _Labels(NamedTuple):
    """The labels of a window's observations: `days` of a table once they are in, none before; `state` changes when they do."""

    table: DaysOf
    days: Sequence[str]
    state: str

    @classmethod
    def of(cls, watched: Watched, window: Window, now: datetime, stored: str) -> _Labels:
        """Look whether they are in; not again when the `stored` state says so of the same rows."""
        table = watched.observations
        known = set(table.days)
        days = [day for day in window.days if day in known]
        if not watched.champion.bundle.task.supervised or not days:
            return cls(table, [], "none")
        state = f"in {table.version(days)}"
        arrived = state == stored or _known_labels(table.read(days), now) is not None
        return cls(table, days, state) if arrived else cls(table, [], "pending")

    def rows(self, now: datetime) -> pl.DataFrame | None:
        """Return the labels known by `now`, when they are in."""
        return _known_labels(self.table.read(self.days), now) if self.days else None


def _known_labels(observed: pl.DataFrame, now: datetime) -> pl.DataFrame | None:
    """The labels known by `now`, or None while more than `WAITING` of those that will come are waited for."""
    if "label" not in observed.columns:
        return None
    moment = next(name for name in ("label_timestamp", "event_timestamp") if name in observed.columns)
    coming = observed.filter(pl.col("label").is_not_null() | pl.col(moment).is_not_null())
    known = coming.filter((pl.col(moment) <= now) & pl.col("label").is_not_null())
    waiting = coming.filter((pl.col(moment) > now) | pl.col(moment).is_null()).height
    return known.select("label") if known.height and waiting <= WAITING * coming.height else None


class _Shown(NamedTuple):
    """What is made from rows, not from profiles: the page's name, and how well a classifier tells the sides apart."""

    html: str
    auc: float | None
    low: float | None
    high: float | None
    domain: str


def _shown(
    watched: Watched,
    window: Window,
    report: DriftReport,
    reports: Path | None,
    stored: Mapping[str, str],
    inputs: Mapping[str, str],
) -> _Shown:
    """Write the page of a window and let the classifier look; where its rows are those of the last time, only tell the verdict anew.

    Labels come when a window's rows are long known, and Evidently's page of the same rows takes ten seconds.
    """
    if reports is None:
        return _Shown("", None, None, None, Domain(None, None, None, 0, reason="nobody looked").text)
    path, summary = reports / f"{window.first}.html", _summary(window, report)
    if path.exists() and _of_rows(stored) == _of_rows(inputs):
        before = watched.lake.read(_reports(watched.problem), [window.first]).row(0, named=True)
        if before["html"] and before["window_verdict"] == report.verdict:
            _replace(path, with_summary(path.read_text(), summary))
            auc, low, high = (before[f"domain_{name}"] for name in ("auc", "low", "high"))
            return _Shown(before["html"], auc, low, high, before["domain"])
    sides, features = _Rows.of(watched, window), watched.champion.bundle.features
    domain = domain_classifier(sides.reference, sides.current, features=features)
    html = _write_html(path, sides, watched.problem, features, window, report)
    return _Shown(html, domain.auc, domain.low, domain.high, domain.text)


def _of_rows(inputs: Mapping[str, str]) -> dict[str, str]:
    """Return those inputs of a report that stand for rows of the two sides."""
    return {
        name: value
        for name, value in inputs.items()
        if name not in ("labels", "policy") and "/drift_report/" not in name
    }


class _Rows(NamedTuple):
    """Rows of both sides, for what cannot be made from profiles."""

    reference: pl.DataFrame
    current: pl.DataFrame

    @classmethod
    def of(cls, watched: Watched, window: Window) -> _Rows:
        """Read them; the training rows once for all windows."""
        days = watched.reference_days(window)
        reference = watched.training if watched.kind == "training" else watched.rows(days)
        return cls(reference, watched.rows(window.days))


def _history(watched: Watched, window: Window) -> list[dict[str, FeatureDrift]]:
    """The findings of the windows before, of the same champion, the oldest first."""
    lake, table = watched.lake, _reports(watched.problem)
    before = [keys.before(window.first, watched.window_days * back) for back in range(LOOK_BACK, 0, -1)]
    own = [name for name in before if _made_for(lake, table, name) == _champion(watched.champion)]
    return [findings(lake.read(table, [name])) for name in own]


def _made_for(lake: Lake, table: str, name: str) -> str | None:
    manifest = lake.manifest(table, name)
    return manifest.inputs.get("champion") if manifest else None


def _champion(champion: Champion) -> str:
    return f"{champion.version} {champion.data_hash}"


def _inputs(watched: Watched, window: Window, labels: _Labels, policy: DriftPolicy) -> dict[str, str]:
    """What a window's report is made from; the window before as well, because what lasts is counted on."""
    before = keys.before(window.first, watched.window_days)
    earlier = watched.lake.manifest(_reports(watched.problem), before)
    told = [asdict(policy), watched.kind, watched.earlier, watched.window_days]
    days = watched.reference_days(window)
    return {
        watched.predictions.name: watched.predictions.version(window.days),
        "champion": _champion(watched.champion),
        "labels": labels.state,
        "policy": hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16],
        **({"reference": watched.predictions.version(days)} if days else {}),
        **({f"{_reports(watched.problem)}/{before}": earlier.version} if earlier else {}),
    }


def _stored_inputs(lake: Lake, problem: str, window: Window) -> dict[str, str] | None:
    manifest = lake.manifest(_reports(problem), window.first)
    return dict(manifest.inputs) if manifest else None


def _stored_form(
    window: Window, report: DriftReport, shown: _Shown, policy: DriftPolicy, champion: Champion
) -> pl.DataFrame:
    return report.to_frame().with_columns(
        window_first=pl.lit(window.first),
        window_last=pl.lit(window.last),
        window_verdict=pl.lit(report.verdict),
        window_reason=pl.lit(_reason(report, window)),
        model_version=pl.lit(champion.version),
        limit=pl.lit(policy.psi),
        domain_auc=pl.lit(shown.auc, pl.Float64),
        domain_low=pl.lit(shown.low, pl.Float64),
        domain_high=pl.lit(shown.high, pl.Float64),
        domain=pl.lit(shown.domain),
        html=pl.lit(shown.html),
        markdown=pl.lit(f"{report.markdown()}\n{shown.domain}\n"),
    )


def _reason(report: DriftReport, window: Window) -> str:
    missing = [] if window.complete else [f"{len(window.days)} days of the window so far"]
    return "; ".join([report.reason, *missing])


def _summary(window: Window, report: DriftReport) -> list[str]:
    return [f"{_name(window)}: {report.verdict}, {_reason(report, window)}", *report.lines()]


def _name(window: Window) -> str:
    return f"{window.first} to {window.last}"


def _write_html(
    path: Path, sides: _Rows, problem: str, columns: Sequence[str], window: Window, report: DriftReport
) -> str:
    """Write Evidently's page with our summary on top, and the same as a run of the workspace beside the folder of pages."""
    from ml_assets.monitoring.evidently import drift_run
    from ml_assets.monitoring.workspace import keep_run

    told: dict[str, Any] = {
        "name": _name(window),
        "timestamp": datetime.fromisoformat(window.first),
        "tags": [report.verdict],
    }
    made = drift_run(sides.reference, sides.current, columns=columns, summary=_summary(window, report), **told)
    if made.run is not None:
        keep_run(path.parent.parent / "evidently", made.run, problem=problem, window=window.first)
    return _replace(path, made.html)


def _replace(path: Path, html: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    draft.write_text(html)
    return draft.replace(path).name
