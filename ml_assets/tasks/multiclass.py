"""Classification into three classes or more: labels are codes into `classes`, scores a row of probabilities each.

The most probable class is the answer; of equally probable ones, the one that is declared first. Averages over classes
are those of scikit-learn: `macro` is the plain mean, `weighted` weighs by the labels' rows, `micro` counts all rows
together. What is counted from answers takes every class that occurs as label or answer, and a share of nothing is 0.
Areas under curves take every class that has rows, where others have some too; absent ones are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ml_assets.tasks import multiclass_plots
from ml_assets.tasks.base import Metric, MetricFunction, Output, Task, TaskError, known_rows
from ml_assets.tasks.classification import pr_area, roc_area
from ml_assets.tasks.counting import CALIBRATION_BINS, Tally, calibration_bins, ratio, tally

if TYPE_CHECKING:
    import polars as pl

SUM_TOLERANCE = 1e-4
TAKEN = ("label", "prediction")


def _counts(y: np.ndarray, score: np.ndarray) -> Tally:
    return tally(y, score.argmax(axis=1), score.shape[1])


def _accuracy(y: np.ndarray, score: np.ndarray, _: float) -> float | str:
    return float(np.mean(score.argmax(axis=1) == y))


def _balanced_accuracy(y: np.ndarray, score: np.ndarray, _: float) -> float | str:
    counts = _counts(y, score)
    there = counts.actual > 0
    return float(np.mean(counts.found[there] / counts.actual[there]))


def _precision(counts: Tally) -> np.ndarray:
    return ratio(counts.found, counts.predicted)


def _recall(counts: Tally) -> np.ndarray:
    return ratio(counts.found, counts.actual)


def _f1(counts: Tally) -> np.ndarray:
    return ratio(2 * counts.found, counts.predicted + counts.actual)


def _macro(share: Callable[[Tally], np.ndarray]) -> MetricFunction:
    def mean_over_classes(y: np.ndarray, score: np.ndarray, _: float) -> float | str:
        counts = _counts(y, score)
        return float(np.mean(share(counts)[counts.predicted + counts.actual > 0]))

    return mean_over_classes


def _weighted(share: Callable[[Tally], np.ndarray]) -> MetricFunction:
    def mean_over_labels(y: np.ndarray, score: np.ndarray, _: float) -> float | str:
        counts = _counts(y, score)
        return float(np.average(share(counts), weights=counts.actual))

    return mean_over_labels


def _one_vs_rest(
    area: Callable[[np.ndarray, np.ndarray], float], *, weighted: bool = False
) -> Callable[[np.ndarray, np.ndarray, float], float | str]:
    def mean_area(y: np.ndarray, score: np.ndarray, _: float) -> float | str:
        rows = np.bincount(y, minlength=score.shape[1])
        there = np.flatnonzero((rows > 0) & (rows < len(y)))
        if not len(there):
            return "every label is of one class"
        areas = [area((y == code).astype(float), score[:, code]) for code in there]
        return float(np.average(areas, weights=rows[there] if weighted else None))

    return mean_area


def _log_loss(y: np.ndarray, score: np.ndarray, _: float) -> float | str:
    tiny = np.finfo(np.float64).eps
    return float(-np.mean(np.log(np.clip(score[np.arange(len(y)), y], tiny, 1 - tiny))))


def _brier(y: np.ndarray, score: np.ndarray, _: float) -> float | str:
    gaps = score.astype(np.float64)
    gaps[np.arange(len(y)), y] -= 1
    return float(np.sum(gaps**2) / len(y))


def _expected_calibration_error(y: np.ndarray, score: np.ndarray, _: float) -> float | str:
    bins = calibration_bins(*top_label(y, score))
    return float(np.sum(np.abs(bins.mean_score - bins.positive_share) * bins.rows) / len(y))


def top_label(y: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether the answer is right (n,) as 0 or 1, and the probability that the model gave it (n,)."""
    answer = score.argmax(axis=1)
    return (answer == y).astype(float), score[np.arange(len(y)), answer]


SHARES = {
    "precision": (_precision, "rows that are said to be of a class and are", "TP / (TP + FP)"),
    "recall": (_recall, "rows of a class that are found", "TP / (TP + FN)"),
    "f1": (_f1, "precision and recall of a class (harmonic mean)", "2 TP / (2 TP + FP + FN)"),
}
AVERAGES = "; macro, micro and weighted averages: Sokolova & Lapalme, Inf. Process. Manag. 45, 2009"


def _averages(name: str) -> list[Metric]:
    share, what, formula = SHARES[name]
    source = f"{formula} of each class{AVERAGES}"
    every = "Over all rows at once; with one answer a row, precision, recall and F1 are then all the accuracy."
    return [
        Metric(f"{name}_macro", True, _macro(share), f"Of {what}: mean over classes.", source),
        Metric(f"{name}_micro", True, _accuracy, every, source),
        Metric(f"{name}_weighted", True, _weighted(share), f"Of {what}: mean weighted by the labels' rows.", source),
    ]


METRICS: tuple[Metric, ...] = (
    Metric("accuracy", True, _accuracy, "Share of rows whose most probable class is the true one.", "right / rows"),
    Metric(
        "balanced_accuracy",
        True,
        _balanced_accuracy,
        "Mean recall of the classes that have rows.",
        "mean over classes of TP / (TP + FN); Brodersen et al., ICPR 2010",
    ),
    *(metric for name in SHARES for metric in _averages(name)),
    Metric(
        "roc_auc_macro",
        True,
        _one_vs_rest(roc_area),
        "Mean over classes of the probability that a row of the class scores above a row of another one for it.",
        "Mean of the areas under one-against-rest ROC curves; Provost & Domingos, 2000",
        needs_both_classes=True,
        cheap=False,
    ),
    Metric(
        "roc_auc_weighted",
        True,
        _one_vs_rest(roc_area, weighted=True),
        "As roc_auc_macro, weighted by the classes' rows.",
        "Areas under one-against-rest ROC curves weighted by prevalence; Provost & Domingos, 2000",
        needs_both_classes=True,
        cheap=False,
    ),
    Metric(
        "pr_auc_macro",
        True,
        _one_vs_rest(pr_area),
        "Mean over classes of the average precision of the class against the rest.",
        "mean over classes of sum (R_n - R_(n-1)) P_n, as scikit-learn's average_precision_score",
        needs_both_classes=True,
        cheap=False,
    ),
    Metric(
        "log_loss",
        False,
        _log_loss,
        "Mean negative log-likelihood of the labels, in nats; probabilities are clipped to [2.2e-16, 1 - 2.2e-16].",
        "-mean(ln p_y); Good, J. R. Stat. Soc. B 14, 1952",
    ),
    Metric(
        "brier",
        False,
        _brier,
        "Squared difference between probabilities and label, summed over classes: 0 to 2.",
        "mean over rows of sum over classes (p_k - [y = k])^2; Brier, Monthly Weather Review 78, 1950",
    ),
    Metric(
        "expected_calibration_error",
        False,
        _expected_calibration_error,
        f"Mean gap between the answer's probability and the share of right answers, over {CALIBRATION_BINS} bins of equal mass.",
        "sum of rows_b / rows |mean max p - share right| (top label); Guo et al., ICML 2017, with the equal-mass bins of "
        "Nguyen & O'Connor, EMNLP 2015",
    ),
)


@dataclass(frozen=True)
class Multiclass(Task):
    """One of several classes, of which the most probable is the answer."""

    output: ClassVar[Output] = "probabilities"

    def check(self, y: np.ndarray, score: np.ndarray) -> None:
        if y.ndim != 1 or score.shape != (len(y), len(self.classes)):
            raise TaskError(
                f"y has shape {y.shape}, score has shape {score.shape}: give n labels and n rows of {len(self.classes)} probabilities"
            )
        self._check(y, score)

    def _check(self, y: np.ndarray, score: np.ndarray) -> None:
        if y.dtype.kind not in "iu":
            raise TaskError(f"y is {y.dtype}: give codes of classes as integers, as `labels` returns them")
        wrong = ~((y >= 0) & (y < len(self.classes)))
        if wrong.any():
            raise TaskError(f"label code {y[wrong][0]} is none of the {len(self.classes)} classes ({wrong.sum()} rows)")
        outside = ~((score >= 0) & (score <= 1)).all(axis=1) | (abs(score.sum(axis=1) - 1) > SUM_TOLERANCE)
        if outside.any():
            raise TaskError(
                f"scores {score[outside][0]} are not probabilities that sum to 1 ({outside.sum()} rows): normalise them"
            )

    def labels(self, column: pl.Series) -> np.ndarray:
        import polars as pl

        plain = column.cast(pl.String) if column.dtype in (pl.Categorical, pl.Enum) else column
        codes = {value: self._code(value) for value in plain.unique()}
        strange = sorted(str(value) for value, code in codes.items() if code is None)
        if strange:
            raise TaskError(
                f"label column {column.name!r} holds {strange[:5]}: declared classes are {list(self.classes)}"
            )
        if not codes:
            return np.empty(0, dtype=np.int64)
        old, new = pl.Series(list(codes), dtype=plain.dtype), pl.Series(list(codes.values()), dtype=pl.Int64)
        return plain.replace_strict(old, new, return_dtype=pl.Int64).to_numpy()

    def _code(self, value: Any) -> int | None:
        """The place among the classes of a value of a label column, as it or as its text is spelled in YAML."""
        whole = isinstance(value, float) and value.is_integer()
        for spelling in (str(value), str(int(value)) if whole else str(value).lower()):
            if value is not None and spelling in self.classes:
                return self.classes.index(spelling)
        return None

    def losses(self, y: np.ndarray, score: np.ndarray) -> np.ndarray:
        return 1 - score[np.arange(len(y)), y]

    def answers(self, score: np.ndarray, threshold: float) -> dict[str, Any]:
        names = np.array(self.classes, dtype=object)
        return {"score": score.max(axis=1), "prediction": names[score.argmax(axis=1)], "scores": score}

    def stored(self, frame: pl.DataFrame) -> np.ndarray:
        return frame["scores"].explode().cast(float).to_numpy().reshape(-1, len(self.classes))

    def expectations(self) -> list[tuple[str, dict[str, Any]]]:
        return [
            ("expect_column_values_to_be_between", {"column": "score", "min_value": 0, "max_value": 1}),
            ("expect_column_values_to_be_in_set", {"column": "prediction", "value_set": list(self.classes)}),
        ]

    def describe(self, y: np.ndarray) -> str:
        if not len(y):
            return "no rows"
        shares = np.bincount(y, minlength=len(self.classes)) / len(y)
        order = sorted(range(len(self.classes)), key=lambda code: (-shares[code], code))
        told = [f"{shares[code]:.1%} {self.classes[code]}" for code in order[:5]]
        rest = len(order) - len(told)
        return ", ".join([*told, f"and {rest} more classes"] if rest else told)

    def plots(self, y: np.ndarray, score: np.ndarray, threshold: float) -> dict[str, bytes]:
        return {
            "confusion": multiclass_plots.confusion_plot(y, score, classes=self.classes),
            "ROC": multiclass_plots.roc_plot(y, score, classes=self.classes),
            "calibration": multiclass_plots.calibration_plot(*top_label(y, score)),
            "recall by class": multiclass_plots.recall_plot(y, score, classes=self.classes),
        }

    def evidently_frame(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Label and prediction as texts and a column of probabilities per class, which has the class's name."""
        import polars as pl

        known = known_rows(frame, (*TAKEN, "scores"))
        codes = pl.Series(self.labels(known["label"]), dtype=pl.Int64)
        names = codes.replace_strict(range(len(self.classes)), list(self.classes), return_dtype=pl.String)
        scores = dict(zip(self.classes, self.stored(known).T, strict=True))
        return pl.DataFrame(
            {self._free("label"): names, self._free("prediction"): known["prediction"].cast(pl.String), **scores}
        )

    def evidently(self, threshold: float, frames: Sequence[pl.DataFrame] = ()) -> tuple[Any, Sequence[Any]]:
        """Of frames that lack a class, Evidently 0.7 can show less: no probabilities, or only what the columns hold.

        It fails on probabilities of a class that no label has, on a class that only the reference lacks, and takes two
        classes for yes and no.
        """
        from evidently import DataDefinition, MulticlassClassification
        from evidently.presets import ClassificationPreset, ClassificationQuality, DataSummaryPreset

        label, prediction = (self._free(name) for name in TAKEN)
        labels = [set(frame[label]) for frame in frames]
        whole = all(len(found) == len(self.classes) for found in labels)
        scores = list(self.classes) if whole else None
        columns = MulticlassClassification(target=label, prediction_labels=prediction, prediction_probas=scores)
        definition = DataDefinition(
            classification=[columns], categorical_columns=[label, prediction], numerical_columns=scores or []
        )
        if any(len(found.union(frame[prediction])) < 3 for found, frame in zip(labels, frames, strict=True)):
            return definition, [DataSummaryPreset(columns=[label, prediction])]
        compares = all(labels[0] <= found for found in labels)
        return definition, [ClassificationPreset() if compares else ClassificationQuality(conf_matrix=True)]

    def _free(self, name: str) -> str:
        """The name of a column that is not the name of a class: Evidently wants the classes' columns named after them."""
        while name in self.classes:
            name += "_"
        return name


def task(classes: Sequence[str]) -> Multiclass:
    """The task of telling `classes` apart; a TaskError when they are fewer than three or not distinct."""
    names = tuple(str(name) for name in classes)
    if len(names) < 3 or len(set(names)) < len(names):
        raise TaskError(
            f"task.classes {list(names)}: name three distinct classes or more; for two, declare positive instead"
        )
    return Multiclass(kind="classification", metrics=METRICS, default_metric="log_loss", classes=names)
