"""What is wrong with a declared source, beyond its form."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from ml_assets import keys
from ml_assets.check import common
from ml_assets.check.documents import Keys
from ml_assets.check.fault import Fault
from ml_assets.check.shape import Declared
from ml_assets.check.tables import Tables, attempt


def source_faults(found: Declared, tables: Tables) -> Iterator[Fault]:
    """Yield the faults of one source."""
    source = found.component
    yield from common.owners(found, source.owners)
    yield from common.days(found, source.days)
    told = [(_place(source, message), message) for message in source.problems()]
    for path, message in told:
        yield from found.refused(path, message)
    yield from _contract(found, source, {path for path, _ in told})
    if source.clean:
        yield from _cleaning(found, source, tables)


def _contract(found: Declared, source: Any, told: Collection[Keys]) -> Iterator[Fault]:
    """Yield what the reader's contract refuses, column by column, but for what is told already."""
    wrong = bool(told)
    for number, column in enumerate(source.columns):
        if ("columns", number) in told:
            continue
        problem = attempt(source.model_copy(update={"columns": [column]}).contract)
        if isinstance(problem, str):
            wrong = True
            yield from found.refused(("columns", number), problem)
    problem = None if wrong else attempt(source.contract)
    if isinstance(problem, str):
        yield from found.refused((), problem)


def _cleaning(found: Declared, source: Any, tables: Tables) -> Iterator[Fault]:
    cleaning, table = source.clean, keys.clean(source.name)
    for number, used in enumerate(cleaning.uses):
        yield from common.table(found, ("clean", "uses", number), used, tables, days=False)
    outcome = tables.outcome(table)
    if outcome.message:
        yield from found.refused(("clean", "derive"), outcome.message)
    types = {column.name: column.type for column in source.columns}
    for name in cleaning.plausible:
        if types.get(name, "Int64") not in ("Int64", "Float64"):
            fix = "give limits to numbers only"
            yield from found.fault(("clean", "plausible", name), f"column {name!r} is {types[name]}, no number", fix)
    yield from common.expectations(found, ("clean", "expectations"), cleaning.expectations, outcome.schema, of=table)


def _place(source: Any, message: str) -> Keys:
    """Return the field that a message of `Source.problems` is about: it is its first word."""
    words = message.replace(":", " ").replace(",", " ").split()
    field = tuple(words[0].split("."))
    names = [column.name for column in source.columns]
    if field == ("column",):
        return ("columns", names.index(words[1]))
    if field == ("columns",):
        return ("columns", next(number for number, name in enumerate(names) if name in names[:number]))
    if field == ("clean", "plausible") and words[1] in source.clean.plausible:
        return (*field, words[1])
    return (*field, *_member(source, field, message))


def _member(source: Any, field: Keys, message: str) -> Keys:
    """Return the first member of a field that a message calls unknown."""
    value = source
    for part in field:
        value = getattr(value, str(part), None)
    unknown = message.partition(", which are not")[0] if ", which are not" in message else ""
    members = list(value.items()) if isinstance(value, dict) else list(enumerate(value or ()))
    names = {place: place if isinstance(value, dict) else item for place, item in members}
    return next(((place,) for place, name in names.items() if f"'{name}'" in unknown), ())


def shared_folders(declarations: Sequence[Declared]) -> Iterator[Fault]:
    """Yield each source whose landing folder belongs to another source already."""
    first: dict[str, Declared] = {}
    for found in declarations:
        folder = found.component.pattern.rpartition("/")[0]
        if folder and folder in first:
            owner = first[folder]
            problem = f"landing folder {folder!r} belongs to source {owner.name!r} ({owner.document.file})"
            yield from found.fault(("pattern",), problem, "give every source a folder of its own")
        first.setdefault(folder, found)
