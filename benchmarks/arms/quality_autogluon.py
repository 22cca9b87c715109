"""AutoGluon, in its own environment: `python -m benchmarks.arms.quality_autogluon ASKED.json INTO PRESET SECONDS`.

Nothing of this project but this file is imported: that environment has pandas and no Polars.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
from autogluon.tabular import TabularPredictor, __version__

METRICS = {"roc_auc": "roc_auc", "log_loss": "log_loss", "rmse": "root_mean_squared_error"}
MEDIUM = "medium_quality"
TIME = "event_timestamp"


def main() -> None:
    """Fit, score, tell."""
    asked, into = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    preset, seconds = sys.argv[3], float(sys.argv[4])
    with tempfile.TemporaryDirectory(dir=into) as folder:
        started = time.perf_counter()
        predictor = fitted(asked, folder, preset, seconds)
        took = time.perf_counter() - started
        scores(predictor, asked).to_parquet(into / "scores.parquet")
        told = {"seconds": took, "model": f"{predictor.model_best} of AutoGluon {__version__}", "limit": seconds}
    (into / "told.json").write_text(json.dumps(told))


def fitted(asked: dict[str, Any], folder: str, preset: str, seconds: float) -> TabularPredictor:
    """Return the predictor, told the kind of problem, the metric and the categories."""
    development = rows(asked, "development")
    validation = development["split"] == "validation"
    known = development[[*asked["features"], "label"]]
    options: dict[str, Any] = {"presets": preset, "time_limit": seconds, "num_cpus": asked["threads"], "num_gpus": 0}
    if asked["by_time"] and preset == MEDIUM:
        # Its own holdout would be random rows; the later ones are better, and it then learns from all of them.
        options |= {"tuning_data": known[validation], "refit_full": True, "set_best_to_refit_full": True}
        known = known[~validation]
    elif asked["by_time"]:
        # Nor may its folds be random: blocks of time, by a column that is no feature.
        known = known.assign(**{TIME: development[TIME]})
        options["validation_structure"] = {"time_on": TIME}
    try:
        return unfitted(asked, Path(folder) / "models").fit(known, **options)
    except AssertionError:
        if preset == MEDIUM:
            raise
        # Its trial of stacking used up a short limit: a fit without it gets the whole limit again.
        return unfitted(asked, Path(folder) / "again").fit(known, **options, dynamic_stacking=False)


def unfitted(asked: dict[str, Any], path: Path) -> TabularPredictor:
    """Return a predictor that knows what is asked."""
    metric = METRICS[asked["metric"]]
    return TabularPredictor(
        label="label",
        problem_type=asked["kind"],
        eval_metric=metric,
        path=str(path),
        learner_kwargs={"ignored_columns": [TIME]},
    )


def scores(predictor: TabularPredictor, asked: dict[str, Any]) -> pd.DataFrame:
    """Return `score`, or a probability for each class, of the test rows."""
    test = rows(asked, "test")[asked["features"]]
    if asked["kind"] == "regression":
        return pd.DataFrame({"score": predictor.predict(test).to_numpy()})
    probabilities = predictor.predict_proba(test)
    return probabilities[asked["classes"]] if asked["classes"] else pd.DataFrame({"score": probabilities[1].to_numpy()})


def rows(asked: dict[str, Any], name: str) -> pd.DataFrame:
    """Return rows with texts as categories, so that none is taken for prose."""
    frame = pd.read_parquet(asked[name])
    texts = [feature for feature in asked["features"] if frame[feature].dtype == object]
    return frame.astype(dict.fromkeys(texts, "category"))


if __name__ == "__main__":
    main()
