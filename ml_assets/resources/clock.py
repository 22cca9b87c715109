"""The clock. Nothing else in the project asks the system for the time."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from pathlib import Path


class Clock:
    """The system's time, or the time that a replay has written to a file."""

    def __init__(self, replay_file: str | Path = "") -> None:
        """An empty `replay_file`, or one that does not exist, means the system's time."""
        self._file = Path(replay_file) if replay_file else None

    def now(self) -> datetime:
        """Return the time in UTC; `ValueError` when the replay's file holds none."""
        if self._file is None or not self._file.is_file():
            return datetime.now(UTC)
        text = self._file.read_text().strip()
        with contextlib.suppress(ValueError):
            if (moment := datetime.fromisoformat(text)).tzinfo:
                return moment.astimezone(UTC)
        raise ValueError(f"{self._file}: {text!r} is not a time like 2013-11-03T00:00:00+00:00")

    def set(self, now: datetime) -> None:
        """Set the replay's time; it never goes back."""
        if self._file is None:
            raise ValueError("the system's clock cannot be set; give the clock a replay file")
        if self._file.is_file() and now < self.now():
            raise ValueError(
                f"time {now.isoformat()} is before the replay's now {self.now().isoformat()}; run `make clean`"
            )
        self._file.parent.mkdir(parents=True, exist_ok=True)
        draft = self._file.with_suffix(".tmp")
        draft.write_text(now.astimezone(UTC).isoformat())
        draft.replace(self._file)
