"""What the check asks of Dagster: its YAML, its component types, its templates, and which owners and schedules it takes.

No other module of this room imports Dagster.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import dagster as dg
from dagster.components.core.defs_module import ComponentFileModel
from dagster.components.resolved.errors import ResolutionException
from dagster_shared.yaml_utils import DagsterYamlLoader
from pydantic import BaseModel

import ml_assets
from ml_assets.quality.errors import nearest

PACKAGE = "ml_assets"
Loader = DagsterYamlLoader
"""Reads YAML as Dagster does: a day stays text."""
Envelope = ComponentFileModel
"""The keys of a document: `type`, `attributes`, and those beside them."""


def component_type(name: str) -> type | str:
    """Return the component type at a dotted name, or what is wrong with it and the fix."""
    known = [f"{PACKAGE}.{item}" for item in ml_assets.__all__]
    module, _, member = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), member)
    except (ImportError, AttributeError, ValueError):
        return f"no component type {name!r}{nearest(name, known) or '; use one of: ' + ', '.join(known)}"
    if not isinstance(found, type) or not issubclass(found, dg.Component):
        return f"{name!r} is no component type; use one of: {', '.join(known)}"
    return found


def attributes_of(component: type) -> type[BaseModel] | None:
    """Return the model of a component type's attributes, None when it takes none that are declared.

    A component that is a model is its own: the one that Dagster derives takes a text for everything, because it might be a
    template, and loses descriptions.
    """
    if issubclass(component, BaseModel):
        return component
    return component.get_model_cls() if issubclass(component, dg.Component) else None


def templates() -> Callable[[str], Any]:
    """Return what fills in a text with templates, such as {{ env.NAME }}; that raises `ValueError` for what cannot be."""
    context = dg.ResolutionContext.default()

    def fill(text: str) -> Any:
        try:
            return context.resolve_value(text)
        except ResolutionException as error:
            raise ValueError(str(error).strip().splitlines()[-1]) from error

    return fill


def is_owner(name: str) -> bool:
    """Tell whether Dagster takes a name as that of an owner."""
    try:
        dg.AssetSpec("owned", owners=[name])
    except dg.DagsterInvalidDefinitionError:
        return False
    return True


def is_cron(schedule: str) -> bool:
    """Tell whether Dagster can read a schedule."""
    try:
        dg.ScheduleDefinition(name="checked", job_name="checked", cron_schedule=schedule)
    except dg.DagsterInvalidDefinitionError:
        return False
    return True
