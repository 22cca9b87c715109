"""The files of declarations, read so that every key knows its line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ml_assets.check.dagster_side import Loader
from ml_assets.check.fault import Fault, shown

Keys = tuple[str | int, ...]
"""The way to a value: ("attributes", "columns", 3, "type")."""

NAMES = ("defs.yaml", "defs.yml")  # what Dagster looks for
HINTS = {
    "\\t": "indent with spaces",
    "mapping values are not allowed here": "put text that contains a colon and a blank in quotes, or indent the line",
    "could not find expected ':'": "write a colon and a blank after the key, or indent the line",
    "expected <block end>": "indent the line as those beside it",
    "expected ',' or": "close the bracket or brace that is open here, or write a comma",
    "unknown escape character": "put the text in single quotes",
}


@dataclass(frozen=True)
class Spot:
    """Where a value stands, in lines and columns from 1: its key (or, in a list, itself), and its first and last character."""

    at: tuple[int, int]
    start: tuple[int, int]
    end: tuple[int, int]
    children: Mapping[str | int, Spot] = field(default_factory=dict)


@dataclass(frozen=True)
class Document:
    """One document of a file: its plain value, and the place of every key in it."""

    file: str
    value: Any
    spot: Spot
    lines: Sequence[str]

    def get(self, path: Keys) -> Any:
        """Return the value at a path, None when there is none."""
        value = self.value
        for part in path:
            value = inside(value, part)
        return value

    def fault(self, path: Keys, problem: str, fix: str = "", *, about: str = "") -> Fault:
        """Return the fault at a path, or at the nearest key above it that is written.

        `about` is a word in the value, such as a column in a query: where it is found, the fault points at it.
        """
        line, column = self.place(path, about=about)
        name = ".".join(str(part) for part in path)
        return Fault(self.file, line, column, name, problem, fix, shown(about or self.get(path)))

    def place(self, path: Keys, *, about: str = "") -> tuple[int, int]:
        """Return line and column of the key at a path, or of a word in its value."""
        spot = self._spot(path)
        return (about and self._find(spot, about)) or spot.at

    def _spot(self, path: Keys) -> Spot:
        spot = self.spot
        for part in path:
            if part not in spot.children:
                break
            spot = spot.children[part]
        return spot

    def _find(self, spot: Spot, word: str) -> tuple[int, int] | None:
        """Return where a word first stands within a value."""
        pattern = re.compile(rf"(?<![\w]){re.escape(word)}(?![\w])")
        for number in range(spot.start[0], min(spot.end[0], len(self.lines)) + 1):
            after = spot.start[1] - 1 if number == spot.start[0] else 0
            if found := pattern.search(self.lines[number - 1], after):
                return number, found.start() + 1
        return None


def inside(value: Any, part: str | int) -> Any:
    """Return a member of a mapping or a list, None when it has no such member."""
    if isinstance(value, dict):
        return value.get(part)
    if isinstance(value, list) and isinstance(part, int) and part < len(value):
        return value[part]
    return None


def files(defs: Path) -> list[Path]:
    """Return the declarations below a folder, in order; hidden folders do not count."""
    found = (path for name in NAMES for path in defs.rglob(name))
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(defs).parts))


def read(path: Path, *, root: Path) -> tuple[list[Document], list[Fault]]:
    """Return the documents of a file up to the first that is no YAML, and what is wrong with them as YAML."""
    name, found, faults = path.relative_to(root).as_posix(), [], []
    try:
        text = path.read_text(encoding="utf-8")
        for document, twice in _documents(name, text):
            found.append(document)
            faults += twice
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        faults.append(Fault(name, line, 1, "", f"byte {error.object[error.start]:#x} is no UTF-8", "save it as UTF-8"))
    except yaml.YAMLError as error:
        faults.append(_broken(name, error))
    if not found and not faults:
        faults.append(Fault(name, 1, 1, "", "the file is empty", "declare a component in it, or delete it"))
    return found, faults


def _documents(name: str, text: str) -> Iterator[tuple[Document, list[Fault]]]:
    lines = text.splitlines()
    loader = Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            twice = list(_twice(name, node, ()))
            value = loader.construct_document(node)
            yield Document(name, value, _spot(node, _mark(node.start_mark)), lines), twice
    finally:
        loader.dispose()


def _spot(node: yaml.Node, at: tuple[int, int]) -> Spot:
    children: dict[str | int, Spot] = {}
    if isinstance(node, yaml.MappingNode):
        children = {str(key.value): _spot(value, _mark(key.start_mark)) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        children = {number: _spot(item, _mark(item.start_mark)) for number, item in enumerate(node.value)}
    return Spot(at, _mark(node.start_mark), _mark(node.end_mark), children)


def _mark(mark: Any) -> tuple[int, int]:
    return mark.line + 1, mark.column + 1


def _twice(name: str, node: yaml.Node, path: Keys) -> Iterator[Fault]:
    """Yield the keys that are written twice in one mapping: YAML forbids it, and the loader keeps the last in silence."""
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield from _twice(name, item, (*path, number))
    if not isinstance(node, yaml.MappingNode):
        return
    first: dict[str, int] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue  # no key that a declaration knows; the loader refuses it
        line, column = _mark(key.start_mark)
        if key.value in first and key.value != "<<":
            where = ".".join(map(str, (*path, key.value)))
            problem = f"key {key.value!r} is written twice, first in line {first[key.value]}"
            yield Fault(name, line, column, where, problem, "keep one of the two")
        first.setdefault(key.value, line)
        yield from _twice(name, value, (*path, key.value))


def _broken(name: str, error: yaml.YAMLError) -> Fault:
    """Return where the parser stopped, in its words."""
    mark = getattr(error, "problem_mark", None)
    line, column = _mark(mark) if mark else (1, 1)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    context = getattr(error, "context", None)
    fix = next((hint for sign, hint in HINTS.items() if sign in problem), "correct the YAML here")
    return Fault(name, line, column, "", f"no YAML: {f'{context}, ' if context else ''}{problem}", fix)
