"""What time it is inside Feast, whose interfaces pass no time: a replay's now, while there is one."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

VARIABLE = "ML_ASSETS_REPLAY_CLOCK"
NONE = "none"  # the system's time


def replayed_now(named: str | None, repo: Path | str | None) -> datetime | None:
    """Return the time in the file that `ML_ASSETS_REPLAY_CLOCK`, or else `named`, names; None while there is no such file.

    `named` is relative to the repository.
    """
    name = os.environ.get(VARIABLE) or named
    file = Path(repo or ".", name) if name and name != NONE else None
    return datetime.fromisoformat(file.read_text().strip()) if file and file.is_file() else None
