"""What differs between kinds of problems. `task("classification")` is the one place where a kind is looked up."""

from __future__ import annotations

from ml_assets.tasks import classification
from ml_assets.tasks.base import Metric, Task, TaskError

__all__ = ["KINDS", "Metric", "Task", "TaskError", "task"]

_TASKS: dict[str, Task] = {known.kind: known for known in (classification.TASK,)}

KINDS: tuple[str, ...] = tuple(_TASKS)


def task(kind: str) -> Task:
    """The task called `kind`; a TaskError lists the known ones."""
    if kind not in _TASKS:
        raise TaskError(f"task kind {kind!r} does not exist; use one of: {', '.join(KINDS)}")
    return _TASKS[kind]
