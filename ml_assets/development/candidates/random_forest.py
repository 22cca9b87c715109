"""Random forest, kept small enough to train in seconds and to serve as one ONNX graph."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from ml_assets.development.candidates.base import (
    Candidate,
    Fitted,
    Fitting,
    Rows,
    both_classes,
    centred,
    spread,
    suggest_log,
    target_of,
    told,
)
from ml_assets.development.model_files import said, yielding_threads

if TYPE_CHECKING:
    import optuna


TRIAL_TREES = 40
"""Trees of a trial: which hyperparameters are better shows before the last digits settle."""


@dataclass(frozen=True)
class RandomForest(Candidate):
    """Breiman's forest (2001) by scikit-learn, over numbers and category codes.

    Each tree is grown on `sample_share` of the rows, of at most `most_tree_rows`, to `leaves` leaves: on 218,000 flights a
    quarter of all rows takes twice as long for 0.003 more ROC-AUC. A split sees `column_share` of the columns; below
    `LEAST_SHARE` it is the usual: the root of their number for classes, a third for numbers (Hastie et al. 2009, 15.3).
    It never sees more than `MOST_COLUMNS`: a third of 1,000 columns took 30 s for 2,000 rows.
    """

    name: ClassVar[str] = "random_forest"
    complexity: ClassVar[int] = 3
    least_rows: ClassVar[int] = 20
    search_rows: ClassVar[int] = 10_000
    LEAST_SHARE: ClassVar[float] = 0.05
    MOST_COLUMNS: ClassVar[int] = 100

    trees: int = 100
    leaves: int = 512
    least_leaf_rows: int = 20
    column_share: float = 0.0
    sample_share: float = 1.0
    most_tree_rows: int = 20_000

    def space(self, trial: optuna.Trial, rows: Rows, how: Fitting) -> Candidate:
        return replace(
            self,
            log_target=suggest_log(trial, rows, how),
            trees=min(self.trees, TRIAL_TREES),
            leaves=trial.suggest_int("leaves", 16, 1_024, log=True),
            least_leaf_rows=trial.suggest_int("least_leaf_rows", 1, 50, log=True),
            column_share=trial.suggest_float("column_share", 0.0, 0.5),
            sample_share=trial.suggest_float("sample_share", 0.3, 1.0),
        )

    def fit(self, train: Rows, watched: Rows | None, how: Fitting) -> Fitted:
        both_classes(train, how)
        yielding_threads()
        y, links = target_of(train, how, log=self.log_target)
        forest = self._forest(train.filled.shape, how)
        with warnings.catch_warnings():
            # A row or two that every tree was grown on do not move a mean.
            warnings.filterwarnings("ignore", "Some inputs do not have OOB scores")
            forest.fit(train.filled, y)
        # One thread: several add up the trees in any order, and the last digit of a score differs from run to run.
        forest.set_params(n_jobs=1)
        return Fitted(
            format="onnx_trees",
            estimator=forest,
            raw=lambda matrix: said(forest, matrix),
            output=how.task.output,
            parameters=told(
                self.defaults,
                leaf_rows=forest.min_samples_leaf,
                split_columns=forest.max_features,
                tree_share=forest.max_samples,
            ),
            links=(*self._centred(links, forest, train, how), *spread(getattr(forest, "classes_", y), how)),
            threads=how.threads,
        )

    def _centred(self, links: tuple[Any, ...], forest: Any, train: Rows, how: Fitting) -> tuple[Any, ...]:
        """Return links by what trees say of the rows that they were not grown on, of which a forest has enough of its own."""
        return centred(links, forest.oob_prediction_, train.y, how.metric) if forest.oob_score else links

    def _columns(self, columns: int, *, numbers: bool) -> int:
        usual = columns / 3 if numbers else columns**0.5
        wanted = self.column_share * columns if self.column_share >= self.LEAST_SHARE else usual
        return max(1, min(int(wanted), self.MOST_COLUMNS))

    def _forest(self, shape: tuple[int, ...], how: Fitting) -> Any:
        from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

        rows, numbers = shape[0], how.task.output == "value"
        return (RandomForestRegressor if numbers else RandomForestClassifier)(
            n_estimators=self.trees,
            max_leaf_nodes=self.leaves,
            # A leaf is at most a 200th of the rows: with few rows the default would leave stumps.
            min_samples_leaf=min(self.least_leaf_rows, max(1, rows // 200)),
            max_features=self._columns(shape[1], numbers=numbers),
            max_samples=min(self.sample_share, self.most_tree_rows / rows),
            oob_score=bool(numbers and self.log_target),
            n_jobs=how.threads,
            random_state=how.seed,
        )
