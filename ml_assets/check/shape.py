"""Whether a declaration has the form of its component: known keys, right types, and what the component itself refuses."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ml_assets.check.dagster_side import Envelope, attributes_of, component_type, templates
from ml_assets.check.documents import Document, Keys, inside
from ml_assets.check.fault import Fault, shown, told
from ml_assets.quality.errors import nearest

ATTRIBUTES = "attributes"

# What a value must be, and how to write it, by the beginning of pydantic's name of the error.
EXPECTED = {
    "string": ("text", "write one text, in quotes if it looks like a number"),
    "int": ("a whole number", "write a whole number"),
    "float": ("a number", "write a number"),
    "bool": ("true or false", "write true or false"),
    "sequence_str": ("a list", "put it in brackets: [{value}]"),
    "is_instance_of": ("a list", "write a list: [a, b]"),
    "list": ("a list", "write a list: [a, b]"),
    "dict": ("a mapping", "write keys and values: {{key: value}}"),
    "mapping": ("a mapping", "write keys and values: {{key: value}}"),
    "model": ("a mapping", "write its keys: {keys}"),
}


@dataclass(frozen=True)
class Declared:
    """A document and the component that it declares.

    `component` is None when it cannot be made; when it was made without what is wrong in the document, `without` holds
    the paths that were left out, and rules say nothing about them.
    """

    document: Document
    type: str = ""
    component: Any = None
    without: Sequence[Keys] = field(default=())

    @property
    def name(self) -> str:
        """Return the name that the declaration gives itself, "" when it has none."""
        found = self.document.get((ATTRIBUTES, "name"))
        return found if isinstance(found, str) else ""

    def fault(self, path: Keys, problem: str, fix: str = "", *, about: str = "") -> Iterator[Fault]:
        """Yield the fault at a path below `attributes`; nothing when the path is known to be wrong anyway."""
        if not any(path[: len(left)] == left for left in self.without):
            yield self.document.fault((ATTRIBUTES, *path), problem, fix, about=about)

    def refused(self, path: Keys, message: str, *, about: str = "") -> Iterator[Fault]:
        """Yield a message of the house, "what is wrong; what to do", as a fault."""
        yield from self.fault(path, *told(message), about=about)


def declared(document: Document) -> tuple[Declared, list[Fault]]:
    """Return what a document declares, and what is wrong with its form."""
    faults = list(_envelope(document))
    kind = document.get(("type",))
    if not isinstance(kind, str):
        return Declared(document), faults
    component = component_type(kind)
    if isinstance(component, str):
        return Declared(document, kind), [*faults, document.fault(("type",), *told(component))]
    model = attributes_of(component)
    if model is None:
        return Declared(document, kind), faults
    found, without, wrong = _made(document, model)
    return Declared(document, component.__name__, found, without), faults + wrong


def _envelope(document: Document) -> Iterator[Fault]:
    """Yield what is wrong above `attributes`."""
    if not isinstance(document.value, dict):
        yield document.fault((), "this is no mapping", "write `type:` and `attributes:`")
        return
    try:
        Envelope.model_validate(document.value)
    except ValidationError as error:
        yield from (fault for _, fault in _faults(document, (), Envelope, document.value, error))


def _made(document: Document, model: type[BaseModel]) -> tuple[Any, list[Keys], list[Fault]]:
    """Return the component, made without what is wrong if need be, what was left out, and the faults."""
    wanted, undefined = _rendered(document)
    given, without = copy.deepcopy(wanted), list(undefined)
    faults = [document.fault((ATTRIBUTES, *path), *told(message)) for path, message in undefined.items()]
    for path in undefined:
        _take_out(given, path)
    while True:
        try:
            return model.model_validate(given), without, faults
        except ValidationError as error:
            wrong = dict(_faults(document, (ATTRIBUTES,), model, given, error))
            fresh = [path for path in wrong if path not in without]
            faults += [wrong[path] for path in fresh]
            if len(fresh) < len(wrong) or not all(_correct(model, given, path) for path in fresh):
                return None, without, faults
            without += fresh


def _correct(model: type[BaseModel], given: Any, path: Keys) -> bool:
    """Give a misspelled key its name, or else take the value out; tell whether that could be done."""
    right = _right_key(model, given, path)
    if not right:
        return _take_out(given, path)
    for part in path[:-1]:
        given = inside(given, part)
    given[right] = given.pop(path[-1])
    return True


def _right_key(model: type[BaseModel], given: Any, path: Keys) -> str:
    """Return the key that a misspelled one stands for: the nearest that is not written; "" when there is none."""
    known, above = keys(model, path[:-1]), given
    for part in path[:-1]:
        above = inside(above, part)
    if not path or not isinstance(above, dict) or path[-1] in known or path[-1] not in above:
        return ""
    free = [name for name in known if name not in above]
    return next(iter(difflib.get_close_matches(str(path[-1]), free, n=1, cutoff=0.6)), "")


def _take_out(given: Any, path: Keys) -> bool:
    """Remove a member of nested mappings; tell whether that could be done."""
    for part in path[:-1]:
        given = inside(given, part)
    if path and isinstance(given, dict):
        given.pop(path[-1], None)
        return True
    return False


def _rendered(document: Document) -> tuple[Any, dict[Keys, str]]:
    """Return the attributes with their templates, such as {{ env.NAME }}, filled in, and what cannot be."""
    wrong: dict[Keys, str] = {}
    filled = templates()

    def fill(value: Any, path: Keys) -> Any:
        if isinstance(value, dict):
            return {key: fill(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [fill(item, (*path, number)) for number, item in enumerate(value)]
        if not isinstance(value, str) or "{{" not in value:
            return value
        try:
            return filled(value)
        except ValueError as error:
            wrong[path] = f"template {value!r}: {error}; correct it or set what it names"
            return value

    attributes = document.get((ATTRIBUTES,))
    return fill({} if attributes is None else attributes, ()), wrong


# -- from pydantic's errors to faults ----------------------------------------------------------------------------------


def _faults(
    document: Document, above: Keys, model: type[BaseModel], given: Any, error: ValidationError
) -> Iterator[tuple[Keys, Fault]]:
    """Yield path and fault of each thing that is wrong."""
    places: dict[Keys, list[ErrorDetails]] = {}
    for item in error.errors(include_url=False):
        places.setdefault(_path(given, item["loc"]), []).append(item)
    meant = {(*path[:-1], _right_key(model, given, path)) for path in places}
    for path, items in places.items():
        if path in meant and items[0]["type"] == "missing":
            continue  # it is there, misspelled, which is told
        problem, fix = _words(model, given, path, items)
        yield path, document.fault((*above, *_named(given, path, problem)), problem, fix)


def _path(given: Any, loc: Sequence[str | int]) -> Keys:
    """Return the way to a value in the document: pydantic also names members of unions, which are not written there."""
    path: list[str | int] = []
    for part in loc:
        if _holds(given, part):
            path.append(part)
            given = inside(given, part)
    return (*path, loc[-1]) if loc and _may_hold(given, loc[-1]) and path[-1:] != [loc[-1]] else tuple(path)


def _holds(value: Any, part: str | int) -> bool:
    if isinstance(value, dict):
        return part in value
    return isinstance(value, list) and isinstance(part, int) and part < len(value)


def _may_hold(value: Any, part: str | int) -> bool:
    """Tell whether the last part may name a key that is missing."""
    return isinstance(value, dict) and isinstance(part, str) and part.isidentifier() and part.islower()


def _words(model: type[BaseModel], given: Any, path: Keys, items: Sequence[ErrorDetails]) -> tuple[str, str]:
    """Return what is wrong, and the fix."""
    value: Any = given
    for part in path:
        value = inside(value, part)
    kinds = [item["type"] for item in items]
    if "extra_forbidden" in kinds:
        right = _right_key(model, given, path)
        known = ", ".join(keys(model, path[:-1]))
        return f"unknown key {path[-1]!r}", f"write {right!r}" if right else f"use one of: {known}"
    if "missing" in kinds:
        return f"key {path[-1]!r} is missing", _add(model, path)
    if "literal_error" in kinds:
        choices = [choice for item in items for choice in _choices(item)]
        fix = _close(str(value), choices)
        return f"{shown(value)!r} is not one of {', '.join(choices)}", fix or f"use one of: {', '.join(choices)}"
    if "value_error" in kinds or "assertion_error" in kinds:
        item = next(item for item in items if item["type"] in ("value_error", "assertion_error"))
        return told(str(item.get("ctx", {}).get("error") or item["msg"]))
    return _wrong_type(value, kinds, items, keys(model, path))


def _add(model: type[BaseModel], path: Keys) -> str:
    about = keys(model, path[:-1]).get(str(path[-1]), "")
    return f"add `{path[-1]}:`" + (f": {about}" if about else "")


def _choices(item: ErrorDetails) -> list[str]:
    expected = str(item.get("ctx", {}).get("expected", ""))
    return [choice.strip().strip("'") for choice in expected.replace(" or ", ", ").split(", ")]


def _wrong_type(
    value: Any, kinds: Sequence[str], items: Sequence[ErrorDetails], known: Mapping[str, str]
) -> tuple[str, str]:
    found = [EXPECTED[name] for kind in kinds for name in [_expected(kind)] if name]
    if not found:
        return items[0]["msg"], ""
    what = " or ".join(dict.fromkeys(wanted for wanted, _ in found))
    fix = " or ".join(dict.fromkeys(way for _, way in found))
    said = "has no value" if value is None else f"is {_kind(value)}"
    return f"{said}, and must be {what}", fix.format(value=shown(value), keys=", ".join(known) or "key: value")


def _expected(kind: str) -> str:
    return next((name for name in sorted(EXPECTED, key=len, reverse=True) if kind.startswith(name)), "")


def _kind(value: Any) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "a mapping"}
    return names.get(type(value), type(value).__name__) + (f" ({shown(value)!r})" if shown(value) else "")


def _named(given: Any, path: Keys, problem: str) -> Keys:
    """Return the way to the very value that a message names, when that is a member of what it is about."""
    value: Any = given
    for part in path:
        value = inside(value, part)
    words = [word.strip("':,[]{}()") for word in problem.split()]
    for word in words[:4] if isinstance(value, dict) else ():
        if field := next((part for part in word.split(".") if _holds(value, part)), ""):
            return _named(given, (*path, field), problem.partition(word)[2])
    for number, item in enumerate(value) if isinstance(value, list) else ():
        if isinstance(item, str) and f"'{item}'" in problem:
            return (*path, number) if len(value) > 1 and problem.count("'") == 2 else path
    return path


def _close(word: str, choices: Sequence[str]) -> str:
    """Return the fix that names the choice nearest to a word, "" when none is near."""
    return nearest(word, choices).removeprefix("; ")


# -- what a component's model knows ------------------------------------------------------------------------------------


def keys(model: type[BaseModel], path: Keys) -> dict[str, str]:
    """Return the keys that a mapping at a path may have, each with its description."""
    models = [model]
    for part in path:
        if isinstance(part, str):
            models = [inner for item in models for inner in _members(item, part)]
    return {name: info.description or "" for item in models for name, info in item.model_fields.items()}


def _members(model: type[BaseModel], part: str) -> list[type[BaseModel]]:
    info = model.model_fields.get(part)
    return [] if info is None else list(_models(info.annotation))


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models within an annotation such as `Sequence[Column] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and get_origin(annotation) is None:
        yield annotation
    if get_origin(annotation) is not Literal:
        for inner in get_args(annotation):
            yield from _models(inner)
