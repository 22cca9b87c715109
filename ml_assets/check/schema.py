"""JSON schemas of the declarations, so that an editor completes keys and marks what does not exist."""

from __future__ import annotations

from typing import Any

import ml_assets
from ml_assets.check.dagster_side import PACKAGE, attributes_of, component_type

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def schema(type: str) -> dict[str, Any]:
    """Return the JSON schema of one component's `attributes`: `schema("ml_assets.Source")`, or short, `schema("Source")`.

    Raises `ValueError` for a type that does not exist or is not declared in YAML.
    """
    component = component_type(type if "." in type else f"{PACKAGE}.{type}")
    if isinstance(component, str):
        raise ValueError(component)
    model = attributes_of(component)
    if model is None:
        raise ValueError(f"component type {type!r} has no attributes; use one of: {', '.join(ml_assets.__all__)}")
    return model.model_json_schema()


def schema_of_files() -> dict[str, Any]:
    """Return the JSON schema of a document of defs.yaml: the schema of `attributes` is that of the component in `type`."""
    names = [f"{PACKAGE}.{name}" for name in ml_assets.__all__]
    parts = {name: _embedded(schema(name), name) for name in names}
    return {
        "$schema": DRAFT,
        "title": "Declaration of an ml_assets component",
        "type": "object",
        "required": ["type"],
        "properties": {
            "type": {"type": "string", "examples": names, "description": "the component that is declared"},
            "attributes": {"type": "object"},
            "template_vars_module": {"type": "string"},
            "requirements": {"type": "object"},
            "post_processing": {"type": "object"},
        },
        "additionalProperties": False,
        "allOf": [
            {
                "if": {"required": ["type"], "properties": {"type": {"const": name}}},
                "then": {"required": ["attributes"], "properties": {"attributes": {"$ref": f"#/$defs/{name}"}}},
            }
            for name in names
        ],
        "$defs": {key: value for part in parts.values() for key, value in part.items()},
    }


def _embedded(found: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a component's schema and those that it refers to, under names of its own."""
    renamed = _renamed(found, f"{name}.")
    return {name: renamed, **{f"{name}.{key}": value for key, value in renamed.pop("$defs", {}).items()}}


def _renamed(value: Any, prefix: str) -> Any:
    if isinstance(value, dict):
        return {key: _reference(key, item, prefix) for key, item in value.items()}
    return [_renamed(item, prefix) for item in value] if isinstance(value, list) else value


def _reference(key: str, value: Any, prefix: str) -> Any:
    if key == "$ref" and isinstance(value, str):
        return value.replace("#/$defs/", f"#/$defs/{prefix}")
    return _renamed(value, prefix)
