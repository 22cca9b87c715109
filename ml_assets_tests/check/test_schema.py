"""The JSON schema for editors knows every key, and takes every declaration that is clean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import ml_assets
from ml_assets.check import schema, schema_of_files
from ml_assets_tests.check.test_check import BROKEN, HERE

DEFS = Path(ml_assets.__file__).parent / "defs"
CLEAN = [*(HERE / "clean").glob("*.yaml"), *DEFS.rglob("defs.yaml")]


def documents(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text()))


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    found = schema_of_files()
    jsonschema.Draft202012Validator.check_schema(found)
    return jsonschema.Draft202012Validator(found)


@pytest.mark.parametrize("path", CLEAN, ids=lambda path: path.parent.name + "/" + path.name)
def test_clean_declarations_fit(path: Path, validator: jsonschema.Draft202012Validator) -> None:
    for document in documents(path):
        assert [error.message for error in validator.iter_errors(document)] == []


@pytest.mark.parametrize("name", ["problem_typo_two_levels_down", "problem_missing_keys", "sources_column_types"])
def test_a_typo_does_not_fit(name: str, validator: jsonschema.Draft202012Validator) -> None:
    (path,) = (path for path in BROKEN if path.stem == name)
    assert any(list(validator.iter_errors(document)) for document in documents(path))


def test_a_component_is_named_in_full_or_in_short() -> None:
    assert schema("Source") == schema("ml_assets.Source")
    found = schema("MlProblem")
    assert found["properties"]["days"]["description"].startswith("first and last day")
    with pytest.raises(ValueError, match=r"no component type 'ml_assets\.Sauce'; did you mean 'ml_assets.Source'"):
        schema("Sauce")


def test_every_key_is_described() -> None:
    models = schema_of_files()["$defs"]
    keys = {f"{name}.{key}": about for name, model in models.items() for key, about in model["properties"].items()}
    assert [name for name, about in keys.items() if not about.get("description") and "$ref" not in about] == []
