"""When a source is to be pulled again, by the clock and by what is remembered of its last pull."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from ml_assets.collection.collect import Landing
from ml_assets.collection.contract import SourceContract
from ml_assets.collection.pull import state_of


@dataclass(frozen=True)
class Due:
    """A source to pull. `day` is the one that the run is for, None for a table without days.

    A run needs a day that has rows, so it is the last one that was pulled; what comes for other days waits in the landing
    zone, and fires a run for exactly these. Before the first pull there is none: it takes the whole history, and is left
    to a run that somebody starts, or that a file fires. `turn` names the turn of this pull: failures of one do not count in
    the next.
    """

    source: str
    day: str | None
    turn: str


def due(places: Landing, contract: SourceContract, *, now: datetime, hours: float) -> Due | None:
    """Return the pull that is due; None while the last one is less than `hours` old."""
    state = state_of(places.lake.store, contract.name)
    every = timedelta(hours=hours)
    if (state.pulled_at and now < state.pulled_at + every) or (contract.partitioned and state.newest is None):
        return None
    return Due(contract.name, state.newest, f"{contract.name}@{int(now.timestamp() // every.total_seconds())}")
