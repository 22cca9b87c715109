"""A workspace of Evidently's own, for `evidently ui`: one project for a problem, one run for each window."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evidently.core.report import Snapshot

SPACE = uuid.uuid5(uuid.NAMESPACE_URL, "ml_assets/evidently")


def keep_run(folder: Path, run: Snapshot, *, problem: str, window: str) -> uuid.UUID:
    """Write a run into the workspace in `folder`, which is made when it is not there, and return the run's id.

    The id follows from the problem and the first day of the window, so that a window that is judged again replaces its run.
    """
    from evidently.sdk.models import ProjectModel
    from evidently.ui.workspace import Workspace

    workspace = Workspace.create(str(folder))
    project, own = uuid.uuid5(SPACE, problem), uuid.uuid5(SPACE, f"{problem}/{window}")
    if workspace.get_project(project) is None:
        workspace.add_project(
            ProjectModel(id=project, name=problem, description=f"Drift of {problem}, window by window")
        )
    workspace.state.write_snapshot(project, own, run.to_snapshot_model())
    return own
