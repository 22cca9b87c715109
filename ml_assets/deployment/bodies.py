"""The bodies of requests: types made of what the current model reads, and every fault named by row and field.

A body is parsed and checked in one pass, strictly: "3" is no number, NaN and 1e999 are none either, and a column that nobody asked for is a
fault. Pydantic is imported at the top; only servers import this module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

from pydantic import AwareDatetime, Base64Bytes, BaseModel, ConfigDict, FailFast, Field, ValidationError, create_model

from ml_assets.features.push import Fault
from ml_assets.packaging.inference import row_type, strict_dict

MOST_ROWS = 10_000
MOST_FAULTS = 100
"""Faults that are told one by one: a body of nothing but faults would become a hundred times its size."""
SHOWN = 80
WHOLE = {"Int32": 31, "Int64": 63}
TYPES: Mapping[str, Any] = {
    "String": str,
    "Bool": bool,
    "UnixTimestamp": AwareDatetime,
    "Bytes": Base64Bytes,
    **dict.fromkeys(("Float32", "Float64"), Annotated[float, Field(allow_inf_nan=False)]),
    **{name: Annotated[int, Field(ge=-(2**bits), lt=2**bits)] for name, bits in WHOLE.items()},
}
EXAMPLES: Mapping[str, Any] = {
    "String": "A1",
    "Bool": True,
    "UnixTimestamp": "2026-11-03T12:00:00Z",
    "Bytes": "QTE=",
    **dict.fromkeys(("Float32", "Float64"), 3.5),
    **dict.fromkeys(WHOLE, 3),
}


class RefusedBody(ValueError):
    """A request that is not answered; `faults` says why."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(f"{one.field}: {one.problem}" for one in faults[:3]))
        self.faults = tuple(faults)


@dataclass(frozen=True)
class Bodies:
    """What may be sent while one model is in office.

    `features` are the model's, by name with Float64, Boolean or String; `row` is an example of them. `keys` and `columns`, with Feast's
    types, are what the online store is asked with: entity keys, which are never null, and request columns. `online` are the columns that
    it answers with. Without `keys` and `columns` there are no entities.
    """

    features: Mapping[str, str]
    row: Mapping[str, Any]
    keys: Mapping[str, str]
    columns: Mapping[str, str]
    online: frozenset[str] = frozenset()

    def read(self, what: str, body: bytes) -> Any:
        """Return what was sent: rows or entities as a list of dicts, one row or entity as a dict; `RefusedBody` for anything else."""
        try:
            found = self.types[what].model_validate_json(body)
        except ValidationError as error:
            raise RefusedBody(faults_of(error)) from error
        return getattr(found, what)

    @cached_property
    def types(self) -> dict[str, type[BaseModel]]:
        """Return the types of the bodies: `rows`, `row`, and `entities`, `entity` where there are any."""
        rows: Any = row_type(self.features, self.row)
        found = _bodies("rows", "row", rows)
        if self.keys or self.columns:
            found |= _bodies("entities", "entity", _entity_type(self))
        return found

    @property
    def needed(self) -> list[str]:
        """Return the model's features that a caller has to send beside keys and request columns."""
        known = self.online | set(self.keys) | set(self.columns)
        return [name for name in self.features if name not in known]


def _bodies(many: str, one: str, row: Any) -> dict[str, type[BaseModel]]:
    strict = ConfigDict(strict=True, extra="forbid")
    several: Any = (Annotated[list[row], FailFast()], Field(min_length=1, max_length=MOST_ROWS))
    single: Any = (row, ...)
    return {
        many: create_model(many.capitalize(), __config__=strict, **{many: several}),
        one: create_model(f"One{one.capitalize()}", __config__=strict, **{one: single}),
    }


def _entity_type(bodies: Bodies) -> Any:
    """Return the type of one entity: keys, request columns, and the features that no view has."""
    given: dict[str, tuple[Any, Any]] = {name: (_type(kind), _example(kind)) for name, kind in bodies.keys.items()}
    given |= {name: (_type(kind) | None, _example(kind)) for name, kind in bodies.columns.items()}
    kinds = {"Float64": "Float64", "Boolean": "Bool", "String": "String"}
    given |= {name: (_type(kinds[bodies.features[name]]) | None, bodies.row.get(name)) for name in bodies.needed}
    fields = {name: kind for name, (kind, _) in given.items()}
    return strict_dict("Entity", fields, {name: bodies.row.get(name, shown) for name, (_, shown) in given.items()})


def _type(declared: str) -> Any:
    """Return pydantic's type for one that Feast names; a list is `Array(String)` there."""
    inner = declared.removeprefix("Array(").removesuffix(")")
    found: Any = TYPES[inner]
    return found if inner == declared else list[found | None]


def _example(declared: str) -> Any:
    inner = declared.removeprefix("Array(").removesuffix(")")
    return EXAMPLES[declared] if inner == declared else [EXAMPLES[inner]]


def faults_of(error: ValidationError) -> list[Fault]:
    """Return what is wrong, without a value that JSON cannot have."""
    count = error.error_count()
    if count > MOST_FAULTS:
        return [Fault(None, "body", "", f"{count} things are wrong with it; send one row to see them one by one")]
    return [_fault(item) for item in error.errors(include_url=False, include_context=False)]


def _fault(item: Mapping[str, Any]) -> Fault:
    loc, value = item["loc"], item.get("input")
    row = loc[1] if len(loc) > 1 and isinstance(loc[1], int) else None
    where = loc[2:] if row is not None else loc[1:] if loc and loc[0] in ("row", "entity") else loc
    whole = isinstance(value, (dict, list)) or item["type"] in ("json_invalid", "missing")
    shown = "" if whole else repr(value)[:SHOWN]
    return Fault(row, ".".join(map(str, where)) or ".".join(map(str, loc)) or "body", shown, item["msg"])
