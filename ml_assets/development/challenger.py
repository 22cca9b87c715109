"""The challenger: the winning candidate, fitted again on training and validation rows, calibrated, with its threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ml_assets.development.blend import NAME as ENSEMBLE
from ml_assets.development.calibration import Calibration, calibrate
from ml_assets.development.candidates.base import Fitting
from ml_assets.development.candidates.registry import candidate
from ml_assets.development.links import applied
from ml_assets.development.model_files import Model, ensemble, hashes, load
from ml_assets.development.rows import DevelopmentRows
from ml_assets.development.training import CandidateResult, keep_scores, refit


@dataclass(frozen=True)
class Challenger:
    """The winner's result, whose folder and hashes are those of the model fitted again, with threshold and calibration."""

    result: CandidateResult
    threshold: float
    calibration: str
    calibration_losses: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return it as values that JSON has."""
        return asdict(self) | {"result": self.result.to_dict(), "winner": self.result.name}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Challenger:
        """Read what `to_dict` returned; further entries are left out."""
        names = ("threshold", "calibration", "calibration_losses")
        return cls(result=CandidateResult.from_dict(content["result"]), **{name: content[name] for name in names})


def make_challenger(
    winner: str,
    results: Sequence[CandidateResult],
    rows: DevelopmentRows,
    how: Fitting,
    *,
    folder: Path,
    value: Mapping[str, float] | None = None,
) -> Challenger:
    """Fit the winner again on all development rows and save it to `folder`.

    Calibration and threshold come from the scores of rows that the model (before this last fit) was not fitted on; calibrated,
    these are the scores of its result.
    """
    by_name = {result.name: result for result in results}
    result = by_name[winner]
    scores = result.scores()
    y = rows.y[rows.scored] if how.task.supervised else np.empty(0)
    calibration = calibrate(how.task, y, scores, seed=how.seed)
    calibrated = applied(calibration.links, scores)
    threshold = how.task.choose_threshold(y, calibrated, value)
    model = _refitted(result, by_name, rows, how, Path(folder), calibration)
    notes = (*model.notes, f"fitted again on {rows.layout.rows} rows of train and validation")
    final = replace(model, links=(*model.links, *calibration.links), notes=notes)
    final.save(folder)
    keep_scores(Path(folder), calibrated)
    told = replace(result, folder=str(folder), sha256=hashes(final.files()), notes=notes)
    return Challenger(told, threshold, calibration.reason, calibration.log_loss)


def _refitted(
    result: CandidateResult,
    by_name: Mapping[str, CandidateResult],
    rows: DevelopmentRows,
    how: Fitting,
    folder: Path,
    calibration: Calibration,
) -> Model:
    if result.name == ENSEMBLE:
        weights = result.variant["weights"]
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent) as draft:
            members = {name: _one(by_name[name], rows, how, Path(draft) / name) for name in weights}
        return ensemble(members, weights, notes=result.notes)
    return _one(result, rows, how, folder)


def _one(result: CandidateResult, rows: DevelopmentRows, how: Fitting, folder: Path) -> Model:
    variant = candidate(result.name).variant(result.variant)
    share = np.mean([len(fold.fit) for fold in rows.folds]) / rows.layout.rows
    return load(folder, sha256=refit(variant, rows, how, result.size, share=float(share), folder=folder))
