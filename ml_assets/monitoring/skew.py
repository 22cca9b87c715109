"""Training-serving skew: does what the model is asked online look like what it is asked in batches on the same days?

Row by row, `served_requests` replays each request against the point-in-time join. Here whole distributions are compared, so that a
request that names no known entity counts too: a client that sends another unit, a default, or a null is seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from ml_assets import keys
from ml_assets.lake import Lake
from ml_assets.monitoring.drift import NAMED, DriftPolicy, DriftReport, drift_verdict
from ml_assets.monitoring.tables import days_of

ARM, SHADOW = "_arm", "shadow"


@dataclass(frozen=True)
class Skew:
    """Whether online looks as in batches, and why; the comparison, None when there was nothing to compare."""

    passed: bool
    reason: str
    report: DriftReport | None = None


def serving_skew(lake: Lake, problem: str, features: Sequence[str], *, policy: DriftPolicy, days: int) -> Skew:
    """Compare the features of the latest `days` days with served predictions against the predictions of the same days.

    It does not pass when any feature differs (`DriftReport.drifted`), or when none could be judged. Nothing served, or nobody to serve
    (no features): not applicable.
    """
    served, batch = (keys.problem(problem, part) for part in ("served_predictions", "predictions"))
    if not features:
        return Skew(True, "not applicable: no model is in office")
    if not _there(lake, served):
        return Skew(True, "not applicable: no prediction was answered online")
    online = days_of(lake, served)
    chosen = online.days[-days:]
    asked = online.read(chosen)
    asked = asked.filter(pl.col(ARM) != SHADOW) if ARM in asked.columns else asked
    if not asked.height:
        return Skew(True, "not applicable: on these days no prediction was answered online")
    if not _there(lake, batch):
        return Skew(False, f"undecided: there are no predictions to compare {asked.height:,} served ones with")
    scored = days_of(lake, batch)
    reference = scored.read([day for day in scored.days if day in set(chosen)])
    report = drift_verdict(reference, asked, features=features, policy=policy)
    return _verdict(report, f"{chosen[0]} to {chosen[-1]}")


def _there(lake: Lake, table: str) -> bool:
    return lake.manifest(table) is not None or bool(lake.partitions(table))


def _verdict(report: DriftReport, span: str) -> Skew:
    rows = f"{report.current_rows:,} rows served from {span} against {report.reference_rows:,} in batches"
    if report.drifted:
        more = f" and {len(report.drifted) - NAMED} more" if len(report.drifted) > NAMED else ""
        return Skew(False, f"{', '.join(report.drifted[:NAMED])}{more} look otherwise online: {rows}", report)
    if not any(feature.judged for feature in report.features):
        return Skew(False, f"undecided: no feature could be judged: {report.reason} ({rows})", report)
    return Skew(True, f"no feature looks otherwise online: {rows}", report)
