"""All candidates in order, the simpler before the more complex: that order decides ties."""

from __future__ import annotations

from ml_assets.development.candidates.base import Candidate, CandidateError
from ml_assets.development.candidates.baseline import Baseline
from ml_assets.development.candidates.boosting import XGBoost
from ml_assets.development.candidates.forest import RandomForest
from ml_assets.development.candidates.neural import Neural
from ml_assets.development.candidates.svm import Svm

CANDIDATES: tuple[Candidate, ...] = (Baseline(), RandomForest(), XGBoost(), Svm(), Neural())
NAMES: tuple[str, ...] = tuple(known.name for known in CANDIDATES)


def candidate(name: str) -> Candidate:
    """Return the candidate of that name; `CandidateError` names those that exist."""
    for known in CANDIDATES:
        if known.name == name:
            return known
    raise CandidateError(f"candidate {name!r} does not exist: use one of {list(NAMES)}")


def supported(task: str, rows: int) -> tuple[Candidate, ...]:
    """Return the candidates that apply to a task with this many training rows, in order."""
    return tuple(known for known in CANDIDATES if known.supports(task, rows))
