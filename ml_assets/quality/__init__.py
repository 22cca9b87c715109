"""Data quality: Great Expectations is the language, Polars evaluates it in one lazy pass.

    far = Expectation("expect_column_values_to_be_between", {"column": "distance", "min_value": 1})
    suite = Suite("raw_flights", (far,))
    verdict = evaluate(frame, suite)[""]
    verdict.success, verdict.reason(), verdict.markdown()

Stricter than Great Expectations on purpose: an empty suite, zero rows and an all-null column are red, each with a note.
"""

from ml_assets.quality.contract import ColumnContract, suite_for
from ml_assets.quality.errors import ContractError, EvaluationError, QualityError, SuiteError
from ml_assets.quality.evaluate import evaluate
from ml_assets.quality.expectation import ALL_NULL_ALLOWED, PERSONAL, Expectation, Severity
from ml_assets.quality.rules import RULES
from ml_assets.quality.suite import Suite
from ml_assets.quality.verdict import Result, Verdict, merge

__all__ = [
    "ALL_NULL_ALLOWED",
    "PERSONAL",
    "RULES",
    "ColumnContract",
    "ContractError",
    "EvaluationError",
    "Expectation",
    "QualityError",
    "Result",
    "Severity",
    "Suite",
    "SuiteError",
    "Verdict",
    "evaluate",
    "merge",
    "suite_for",
]
