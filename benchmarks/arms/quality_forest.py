"""A tuned random forest: `python -m benchmarks.arms.quality_forest ASKED.json INTO`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.model_selection import KFold, RandomizedSearchCV, StratifiedKFold, TimeSeriesSplit
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder

from benchmarks.arms.quality_asked import Asked, answer, pandas_rows

TREES, TRIES, FOLDS = 200, 20, 5
SCORING = {"roc_auc": "roc_auc", "log_loss": "neg_log_loss", "rmse": "neg_root_mean_squared_error"}
SPACE = {
    "max_features": ["sqrt", 0.2, 0.33, 0.5, 0.75, 1.0],
    "min_samples_leaf": [1, 2, 3, 5, 10, 20, 50],
    "max_depth": [None, 5, 10, 20],
    "max_samples": [None, 0.5, 0.8],
}


def fit(asked: Asked) -> tuple[Callable[[], np.ndarray], str]:
    """Search 20 settings by 5 folds of the development rows (in order of time where there is one), refit the best."""
    known, test = pandas_rows(asked)
    search = RandomizedSearchCV(
        forest(asked),
        {f"forest__{name}": values for name, values in SPACE.items()},
        n_iter=3 if asked.small else TRIES,
        cv=folds(asked),
        scoring=SCORING[asked.metric],
        n_jobs=asked.threads,
        random_state=asked.seed,
    )
    search.fit(known, asked.y(asked.rows()[0]))
    chosen = ", ".join(
        f"{name.removeprefix('forest__')} {value}" for name, value in sorted(search.best_params_.items())
    )
    if asked.kind == "regression":
        return lambda: search.predict(test), chosen
    return lambda: search.predict_proba(test)[:, slice(None) if asked.classes else 1], chosen


def forest(asked: Asked) -> Pipeline:
    """Return the forest behind an encoder: a category is the number of its place in the alphabet, nulls stay nulls."""
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    encoder = make_column_transformer(
        (codes, make_column_selector(dtype_include="category")),
        remainder="passthrough",
        verbose_feature_names_out=False,
    )
    kind = RandomForestRegressor if asked.kind == "regression" else RandomForestClassifier
    return Pipeline([("encoder", encoder), ("forest", kind(n_estimators=TREES, random_state=asked.seed))])


def folds(asked: Asked) -> Any:
    """Return how the development rows are folded."""
    if asked.by_time:
        return TimeSeriesSplit(FOLDS)
    return (KFold if asked.kind == "regression" else StratifiedKFold)(FOLDS, shuffle=True, random_state=asked.seed)


if __name__ == "__main__":
    answer(fit)
