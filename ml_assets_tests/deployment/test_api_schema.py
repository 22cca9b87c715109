"""Whatever fits the API's own description, and whatever does not, gets an answer that the description has; by schemathesis."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import checks

from ml_assets.deployment.api import create_app
from ml_assets_tests.deployment.api_samples import SmallEngine, hashed, in_office, online_features

SENDING = ("/predict", "/predict/entities", "/explain", "/explain/entity")
TELLING = ("/model", "/ready", "/health", "/metrics")
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.positive_data_acceptance,
]
KEY = "a key"
RIGHT, WRONG = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
CASES = [*((path, RIGHT) for path in (*SENDING, *TELLING)), *((path, WRONG) for path in SENDING)]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return create_app(
        SmallEngine(in_office()), features=online_features(tmp_path_factory.mktemp("online")), api_keys=[hashed(KEY)]
    )  # type: ignore[arg-type]


@pytest.mark.parametrize(("path", "mode"), CASES, ids=lambda value: getattr(value, "value", value))
def test_every_request_gets_an_answer_that_is_described(app: Any, path: str, mode: Any) -> None:
    schema = schemathesis.openapi.from_dict(app.openapi())
    schema.app = app
    operation = schema[path]["post" if path in SENDING else "get"]

    @settings(
        max_examples=25,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def asked(case: Any) -> None:
        found = case.call_and_validate(checks=CHECKS, headers={"x-api-key": KEY})
        statuses.add(found.status_code)

    statuses: set[int] = set()
    asked()
    assert (200 in statuses) is (mode == RIGHT), statuses
