"""The OpenAPI description of the serving API, made of the model in office: its features, types, and an example that it answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ml_assets.deployment.engine import NoModelError
from ml_assets.features.guard import KEY_HEADER

if TYPE_CHECKING:
    from fastapi import FastAPI
    from pydantic import BaseModel

    from ml_assets.deployment.api import Api

REFERENCE = "#/components/schemas/{model}"
BODIES = {"/predict": "rows", "/predict/entities": "entities", "/explain": "row", "/explain/entity": "entity"}
REFUSALS = {
    "401": "No valid API key",
    "403": "Not from this machine",
    "413": "Body too large",
    "415": "Not plain JSON",
    "429": "Too many requests; Retry-After says when",
    "500": "The answer failed",
    "503": "No model, or the online store cannot be reached; try again",
}
TEXT = {"type": "string"}
NUMBER = {"type": "number"}
DETAIL = {"type": "object", "required": ["detail"], "properties": {"detail": TEXT}}
FAULTS = {
    "type": "object",
    "required": ["detail"],
    "properties": {
        "detail": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["row", "field", "value", "problem"],
                "properties": {
                    "row": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
                    "field": TEXT,
                    "value": TEXT,
                    "problem": TEXT,
                },
                "example": {
                    "row": 3,
                    "field": "distance",
                    "value": "'far'",
                    "problem": "Input should be a valid number",
                },
            },
        }
    },
}
ROWS = {
    "type": "object",
    "required": ["request", "version", "rows"],
    "properties": {
        "request": {**TEXT, "description": "by which the prediction log has it"},
        "version": {**TEXT, "description": "of the model in the registry"},
        "rows": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["prediction", "model_version"],
                "properties": {
                    "complete": {"type": "boolean", "description": "false when a view had nothing for the entity"},
                    "views": {
                        "type": "object",
                        "additionalProperties": {"enum": ["present", "missing", "outside_ttl"]},
                    },
                },
            },
        },
    },
}
EXPLAINED = {
    "type": "object",
    "required": ["version", "explained", "answer", "reference", "contributions", "method"],
    "properties": {
        "answer": NUMBER,
        "reference": {**NUMBER, "description": "mean answer to the bundle's example rows"},
        "contributions": {
            "type": "object",
            "additionalProperties": NUMBER,
            "description": "by feature, largest effect first; with the reference they sum to the answer",
        },
    },
}
ANSWERS = {"rows": ROWS, "entities": ROWS, "row": EXPLAINED, "entity": EXPLAINED}
READY = {
    "type": "object",
    "required": ["ready", "reason", "warnings"],
    "properties": {"ready": {"type": "boolean"}, "reason": TEXT, "warnings": {"type": "object"}},
}
STATES = {"/health": {"type": "object", "required": ["status"]}, "/ready": READY, "/model": {"type": "object"}}


def described(app: FastAPI, api: Api) -> dict[str, Any]:
    """Return the description while the present model is in office; without one, bodies are objects of whatever."""
    from fastapi.openapi.utils import get_openapi

    made = get_openapi(title=app.title, version=_version(api), description=app.description, routes=app.routes)
    schemas = made.setdefault("components", {}).setdefault("schemas", {})
    made["components"]["securitySchemes"] = {"ApiKey": {"type": "apiKey", "in": "header", "name": KEY_HEADER}}
    made["security"] = [{"ApiKey": []}, {}]
    schemas.update({"Refused": DETAIL, "Faults": FAULTS, "Answers": ROWS, "Explained": EXPLAINED})
    types = _types(api)
    made["paths"] |= _answering(app)
    for path, operations in made["paths"].items():
        for operation in operations.values():
            operation["responses"] = _responses(path)
            if path in BODIES:
                operation["requestBody"] = {"required": True, "content": _body(types.get(BODIES[path]), schemas)}
    return made


def _answering(app: FastAPI) -> dict[str, Any]:
    """Return the operations of the routes that answer: they are Starlette's, of which FastAPI tells nothing."""
    from starlette.routing import Route

    endpoints = {
        route.path: route.endpoint for route in app.routes if isinstance(route, Route) and route.path in BODIES
    }
    return {
        path: {"post": {"summary": (endpoint.__doc__ or "").strip(), "operationId": endpoint.__name__}}
        for path, endpoint in endpoints.items()
    }


def _version(api: Api) -> str:
    return api.engine.current.version if api.engine.current else "0"


def _types(api: Api) -> dict[str, type[BaseModel]]:
    try:
        served = api.current()
    except NoModelError:
        return {}
    return api.bodies(served).types | (api.bodies(served, api.asked()).types if api.features else {})


def _body(type_: type[BaseModel] | None, schemas: dict[str, Any]) -> dict[str, Any]:
    if type_ is None:
        return {"application/json": {"schema": {"type": "object"}}}
    schema = type_.model_json_schema(by_alias=True, ref_template=REFERENCE)
    schemas.update(schema.pop("$defs", {}))
    schemas[type_.__name__] = schema
    return {"application/json": {"schema": {"$ref": REFERENCE.format(model=type_.__name__)}}}


def _responses(path: str) -> dict[str, Any]:
    found = {status: _response(told, "Refused") for status, told in REFUSALS.items()}
    if path in BODIES:
        name = "Answers" if ANSWERS[BODIES[path]] is ROWS else "Explained"
        return {
            "200": _response("In the order of what was sent", name),
            **found,
            "422": _response("Nothing was answered; what is wrong", "Faults"),
        }
    if path == "/metrics":
        return {"200": {"description": "Prometheus' text format", "content": {"text/plain": {"schema": TEXT}}}, **found}
    content: Mapping[str, Any] = {"application/json": {"schema": STATES[path]}}
    told = {"200": {"description": "As it is", "content": content}, **found}
    return told | ({"503": {"description": "No model is in office", "content": content}} if path == "/ready" else {})


def _response(told: str, schema: str) -> dict[str, Any]:
    return {"description": told, "content": {"application/json": {"schema": {"$ref": REFERENCE.format(model=schema)}}}}
