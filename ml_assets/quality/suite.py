"""A named list of expectations, in Great Expectations' JSON form on disk."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ml_assets.quality.errors import SuiteError
from ml_assets.quality.expectation import Expectation

if TYPE_CHECKING:
    from great_expectations import ExpectationSuite

__all__ = ["Suite"]


@dataclass(frozen=True)
class Suite:
    """Expectations under a name, checked when made: a `SuiteError` names suite, expectation, key and the fix.

    An empty suite can be made, but its verdict is always red.
    """

    name: str
    expectations: tuple[Expectation, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what can never be evaluated."""
        object.__setattr__(self, "expectations", tuple(self.expectations))
        if not isinstance(self.name, str) or not self.name:
            raise SuiteError(f"a suite needs a name: a non-empty string; it is {self.name!r}")
        for position, expectation in enumerate(self.expectations):
            if problem := expectation.problem():
                raise SuiteError(f"suite {self.name!r}, expectation {position} ({expectation.type}): {problem}")

    def __len__(self) -> int:
        """Return the number of expectations."""
        return len(self.expectations)

    def __iter__(self) -> Iterator[Expectation]:
        """Go through the expectations."""
        return iter(self.expectations)

    def to_dict(self) -> dict[str, Any]:
        """Return Great Expectations' JSON form as a dictionary."""
        expectations = [expectation.to_dict() for expectation in self.expectations]
        return {"name": self.name, "id": None, "expectations": expectations, "meta": {}, "notes": None}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Suite:
        """Read Great Expectations' JSON form (1.x); `SuiteError` names what is missing or wrong."""
        if not isinstance(raw, Mapping) or "name" not in raw or not isinstance(raw.get("expectations"), list):
            raise SuiteError("a suite must be an object with the keys 'name' and 'expectations' (a list), as in GX 1.x")
        return cls(raw["name"], tuple(Expectation.from_dict(item) for item in raw["expectations"]))

    def to_json(self) -> str:
        """Return Great Expectations' JSON form as text, two spaces deep."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Suite:
        """Read what `to_json`, or Great Expectations itself, wrote."""
        try:
            return cls.from_dict(json.loads(text))
        except json.JSONDecodeError as error:
            raise SuiteError(f"a suite must be JSON: {error}") from error

    def to_great_expectations(self) -> ExpectationSuite:
        """Return the same suite as a real `great_expectations.ExpectationSuite`, for pandas frames.

        Dtype names are translated to those of pandas. Importing Great Expectations takes seconds.
        """
        from great_expectations import ExpectationSuite

        expectations = [
            {**item.to_dict(), "kwargs": item.rule.great_expectations_kwargs()} for item in self.expectations
        ]
        return ExpectationSuite(**{**self.to_dict(), "expectations": expectations})
