"""One HTML page of an evaluation, to send to a colleague."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ml_assets.evaluation.challenge import Examination, Gate, Limits
from ml_assets.evaluation.explanation import Explanation


def write_page(
    path: Path,
    found: Examination,
    explained: Explanation,
    verdicts: Sequence[Gate],
    *,
    declaration: Mapping[str, str],
    limits: Limits,
) -> Path:
    """Write the page, whole or not at all, and return its path."""
    from ml_assets.evaluation.evidently import task_report

    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    draft.write_text(task_report(found.test, found.reference))
    return draft.replace(path)
