"""Functions by dotted path, and versions that change when the code does and at no other time."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ml_assets.resources.code import code_version, load, rooms_version, tables_version

HERE = "ml_assets.resources.code.load"


def test_a_dotted_path_is_a_function() -> None:
    assert load(HERE) is load


@pytest.mark.parametrize(
    "path", ["", "load", "ml_assets.nothing.load", "ml_assets.resources.code.nothing", "no.such.package", ".load"]
)
def test_a_path_to_nothing_is_named(path: str) -> None:
    with pytest.raises(ValueError, match=f"no function at {path!r}.*write it as package.module.function"):
        load(path)


def test_a_path_to_something_else_is_named() -> None:
    with pytest.raises(ValueError, match=r"'ml_assets.keys.RAW' is no function"):
        load("ml_assets.keys.RAW")


@pytest.mark.parametrize("path", ["ml_assets.nothing.load", "no.such.package.load", "load"])
def test_a_version_of_nothing_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=f"no module behind {path!r}"):
        code_version(path)


def test_a_version_follows_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    module = tmp_path / "a_module_to_version.py"
    module.write_text("def compute(): return 1\n")
    first = code_version("a_module_to_version.compute")
    assert len(first) == 12
    assert "a_module_to_version" not in sys.modules  # it was not imported
    code_version.cache_clear()
    assert code_version("a_module_to_version.compute") == first
    module.write_text("def compute(): return 2\n")
    code_version.cache_clear()
    assert code_version("a_module_to_version.compute") != first


def test_a_version_is_of_all_its_paths() -> None:
    assert code_version(HERE) != code_version(HERE, "ml_assets.keys.raw") != code_version("ml_assets.keys.raw")


def test_the_version_of_rooms() -> None:
    assert len(rooms_version("lake")) == 12
    assert rooms_version("lake") != rooms_version("lake", "quality")


def test_a_version_follows_what_the_file_imports_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    files = {
        "versioned/__init__.py": "",
        "versioned/features.py": "from versioned import limits\nimport polars\ndef compute():\n    from .deep.inner import a\n",
        "versioned/limits.py": "from versioned.deep import NAME\n",
        "versioned/deep/__init__.py": "NAME = 1\n",
        "versioned/deep/inner.py": "a = 1\n",
        "versioned/other.py": "",
    }
    (tmp_path / "versioned" / "deep").mkdir(parents=True)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    first, followed = code_version("versioned.features.compute"), []
    for name, text in files.items():
        (tmp_path / name).write_text(f"{text}# changed\n")
        code_version.cache_clear()
        followed += [name] if code_version("versioned.features.compute") != first else []
        (tmp_path / name).write_text(text)
    assert followed == [name for name in files if name not in ("versioned/__init__.py", "versioned/other.py")]


def test_the_version_of_a_table_is_of_function_and_rooms() -> None:
    first = tables_version(HERE, rooms=("lake",))
    assert len({first, tables_version(HERE, rooms=("quality",)), tables_version(rooms=("lake",))}) == 3
