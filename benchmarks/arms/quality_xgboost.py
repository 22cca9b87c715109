"""XGBoost as it comes: `python -m benchmarks.arms.quality_xgboost ASKED.json INTO`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xgboost

from benchmarks.arms.quality_asked import Asked, answer, pandas_rows


def fit(asked: Asked) -> tuple[Callable[[], np.ndarray], str]:
    """Fit the defaults of XGBoost's scikit-learn interface on all development rows, with its native categories."""
    known, test = pandas_rows(asked)
    kind = xgboost.XGBRegressor if asked.kind == "regression" else xgboost.XGBClassifier
    model = kind(enable_categorical=True, n_jobs=asked.threads, random_state=asked.seed)
    model.fit(known, asked.y(asked.rows()[0]))
    if asked.kind == "regression":
        return lambda: model.predict(test), "100 rounds"
    return lambda: model.predict_proba(test)[:, slice(None) if asked.classes else 1], "100 rounds"


if __name__ == "__main__":
    answer(fit)
