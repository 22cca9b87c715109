"""What time it is inside Feast, whose interfaces pass no time: a replay's now, while there is one."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from feast import RepoConfig

VARIABLE = "ML_ASSETS_REPLAY_CLOCK"
NONE = "none"  # the system's time


def now_inside_feast(config: RepoConfig) -> datetime:
    """Return the replay's now while there is one, else Feast's, which is the system's."""
    from feast.utils import _utc_now

    return replayed_now(getattr(config.online_store, "replay_clock", None), config.repo_path) or _utc_now()


def replayed_now(named: str | None, repo: Path | str | None) -> datetime | None:
    """Return the time in the file that `ML_ASSETS_REPLAY_CLOCK`, or else `named`, names; None while there is no such file.

    `named` is relative to the repository.
    """
    name = os.environ.get(VARIABLE) or named
    file = Path(repo or ".", name) if name and name != NONE else None
    return datetime.fromisoformat(file.read_text().strip()) if file and file.is_file() else None
