"""Write the problem: every file or none, and nothing over what is there."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from uuid import uuid4

import yaml

from ml_assets.lake import Store
from ml_assets.lake.store import PreconditionFailed
from ml_assets.scaffold.declaration import declaration
from ml_assets.scaffold.draft import Draft
from ml_assets.scaffold.errors import ScaffoldError
from ml_assets.scaffold.python_text import feast_module, features_module

DEFS, FEATURE_REPO, LANDING = "ml_assets/defs", "feature_repo", "data/landing"


def plan(draft: Draft) -> dict[str, bytes]:
    """Return what is to be written: paths below the repository's root, and the bytes of each file."""
    name = draft.name
    head = f'"""The {name} problem."""\n'
    return {
        f"{LANDING}/{draft.landed}": draft.inferred.table.delivery(),
        f"{FEATURE_REPO}/{name}.py": feast_module(draft).encode(),
        f"{DEFS}/{name}/__init__.py": head.encode(),
        f"{DEFS}/{name}/features.py": features_module(draft).encode(),
        f"{DEFS}/{name}/defs.yaml": declaration(draft).encode(),
    }


def places(root: Path, *, landing: str = "", feature_repo: str = "") -> dict[str, str]:
    """Return where each part of a plan goes: `landing` is a folder or URL, `feature_repo` a folder; default: below `root`."""
    return {
        DEFS: str(root / DEFS),
        FEATURE_REPO: feature_repo or str(root / FEATURE_REPO),
        LANDING: landing or str(root / LANDING),
    }


def taken_names(root: Path) -> set[str]:
    """Return the names that declarations, folders and feature definitions of the repository have already."""
    defs = root / DEFS
    found = {path.stem for path in [*defs.glob("*"), *(root / FEATURE_REPO).glob("*.py")]}
    for path in defs.rglob("defs.yaml"):
        found |= _declared(path)
    return found


def _declared(path: Path) -> set[str]:
    """Return the names of a file's components and views; a file that does not parse has none, and `check` tells why."""
    try:
        documents = list(yaml.safe_load_all(path.read_text()))
    except (yaml.YAMLError, UnicodeDecodeError):
        return set()
    attributes = [
        one["attributes"] for one in documents if isinstance(one, dict) and isinstance(one.get("attributes"), dict)
    ]
    names = {one.get("name") for one in attributes}
    names |= {view.get("name") for one in attributes for view in one.get("views") or () if isinstance(view, dict)}
    return {name for name in names if isinstance(name, str)}


def write(planned: Mapping[str, bytes], where: Mapping[str, str]) -> list[str]:
    """Write what `plan` returned to `places`, and return the paths. Raises `ScaffoldError` when one is there already.

    Files are written beside their places first and renamed last, the declaration at the very end: whoever looks meanwhile
    sees no half of it. What fails midway is taken away again.
    """
    code = {path: data for path, data in planned.items() if not path.startswith(LANDING)}
    data = {path.removeprefix(f"{LANDING}/"): data for path, data in planned.items() if path.startswith(LANDING)}
    landing, targets = Store(where[LANDING]), {path: _target(path, where) for path in code}
    _refuse_existing(targets, landing, data, where)
    landed: list[str] = []
    try:
        for name, content in data.items():
            landing.write(name, content, expect="absent")
            landed.append(name)
        _write_code(code, targets)
    except (OSError, PreconditionFailed) as error:
        for name in landed:
            landing.remove(name)
        raise ScaffoldError(
            f"cannot write ({error}): nothing was written; make room or give the right to write"
        ) from error
    return [*(landing.path(name) for name in data), *map(str, targets.values())]


def _target(path: str, where: Mapping[str, str]) -> Path:
    part = next(part for part in (DEFS, FEATURE_REPO) if path.startswith(f"{part}/"))
    return Path(where[part]) / path.removeprefix(f"{part}/")


def _refuse_existing(
    targets: Mapping[str, Path], landing: Store, data: Mapping[str, bytes], where: Mapping[str, str]
) -> None:
    there = [str(target) for target in targets.values() if target.exists()]
    there += [str(target.parent) for target in targets.values() if _is_own_folder(target, where)]
    folders = {name.rpartition("/")[0] for name in data}
    there += [f"{landing.url}/{found}" for folder in folders for found in landing.names(folder)]
    if there:
        raise ScaffoldError(f"{there[0]} is there already, and is not overwritten; choose another name, or remove it")


def _is_own_folder(target: Path, where: Mapping[str, str]) -> bool:
    """Tell whether a folder of that name exists already where the problem's own would be made."""
    return str(target.parent) not in where.values() and target.parent.exists()


def _write_code(code: Mapping[str, bytes], targets: Mapping[str, Path]) -> None:
    mark, done = uuid4().hex[:8], []
    units = _units(targets.values())
    try:
        for path, content in code.items():
            draft = _draft(targets[path], mark, units)
            draft.parent.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(content)
        for unit in units:
            unit.parent.mkdir(parents=True, exist_ok=True)
            _beside(unit, mark).rename(unit)
            done.append(unit)
    except OSError:
        for unit in [*done, *(_beside(unit, mark) for unit in units)]:
            _remove(unit)
        raise


def _units(targets: Iterable[Path]) -> list[Path]:
    """Return what is renamed in one step: single files first, then the problem's folder."""
    found = list(targets)
    folders = {target.parent for target in found if sum(other.parent == target.parent for other in found) > 1}
    return [*(target for target in found if target.parent not in folders), *sorted(folders)]


def _draft(target: Path, mark: str, units: Sequence[Path]) -> Path:
    """Return where a file is written before its unit is renamed."""
    return _beside(target.parent, mark) / target.name if target.parent in units else _beside(target, mark)


def _beside(unit: Path, mark: str) -> Path:
    """Return a place on the same file system where neither Dagster nor Feast looks for definitions."""
    return unit.parent.parent / f".{unit.name}.{mark}"


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
