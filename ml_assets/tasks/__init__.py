"""What differs between kinds of problems. `task("regression")` is the one place where a kind is looked up."""

from __future__ import annotations

from collections.abc import Sequence

from ml_assets.tasks import classification, clustering, multiclass, regression
from ml_assets.tasks.base import Metric, Task, TaskError

__all__ = ["KINDS", "Metric", "Task", "TaskError", "task"]

KINDS: tuple[str, ...] = ("classification", "regression", "clustering")


def task(kind: str, *, classes: Sequence[str] = (), clusters: Sequence[int] | None = None) -> Task:
    """The task called `kind`, with its classes (more than two) or numbers of clusters; a TaskError lists the known ones."""
    if kind not in KINDS:
        raise TaskError(f"task kind {kind!r} does not exist; use one of: {', '.join(KINDS)}")
    if kind == "clustering":
        return clustering.task(clusters)
    if kind == "regression":
        return regression.TASK
    return multiclass.task(classes) if classes else classification.TASK
