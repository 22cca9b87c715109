"""What a source is pulled from, as declared: contradictions are told, and secrets come from the environment only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ml_assets.check import check
from ml_assets.collection.apis import Api
from ml_assets.collection.databases import Database
from ml_assets.resources.outside import ROOT
from ml_assets.source import Source

COLUMNS = [
    {"name": "id", "type": "Int64"},
    {"name": "at", "type": "Datetime"},
    {"name": "word", "type": "String"},
]
DATABASE = {"url": "sqlite:///data/shop.db", "table": "orders"}
API = {"base_url": "http://127.0.0.1:1", "path": "orders"}


def source(**changes: Any) -> Source:
    attributes = {"name": "orders", "pattern": "orders/orders*", "columns": COLUMNS, "key": ["id"]}
    return Source.resolve_from_dict(attributes | changes)


def problems(**changes: Any) -> list[str]:
    return list(source(**changes).problems())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"database": DATABASE, "api": API}, "api: there is a database as well; declare one of them"),
        ({"database": {"table": "x"}}, "database.url: write the address, or name the environment variable"),
        (
            {"database": DATABASE | {"url": "postgresql://me:hush@host/db"}},
            "database.url has a password; put the address",
        ),
        ({"database": DATABASE | {"cursor": "changed"}}, "database.cursor 'changed' is not among columns"),
        ({"database": DATABASE | {"day": "changed"}}, "database.day 'changed' is not among columns"),
        ({"database": DATABASE | {"every_hours": 0}}, "database.every_hours 0: write a number above 0"),
        ({"database": DATABASE | {"lag": 5}}, "database.lag 5: write a number above 0, with a cursor"),
        (
            {"database": DATABASE | {"cursor": "at"}, "key": []},
            "database.cursor needs a key, by which new rows replace",
        ),
        ({"api": {"path": "x"}}, "api.base_url: write the address, or name the environment variable"),
        ({"api": API | {"params": {"API_Key": "hush"}}}, "api.params has 'API_Key'; name the environment variable"),
        ({"api": API | {"start_param": "since"}}, "api.start_param needs a cursor, whose last value it takes"),
        ({"api": API | {"paginator": {"type": "links"}}}, "api.paginator has type 'links'; use one of: json_link, "),
        (
            {"api": API, "pattern": "orders/orders*.csv"},
            r"pattern 'orders/orders*.csv': end it in *, such as orders/orders*",
        ),
        (
            {"api": API, "format": "csv"},
            "pattern 'orders/orders*': end it in *, such as orders/orders*, and declare no format",
        ),
        (
            {"api": API | {"cursor": "word"}, "pattern": "orders/orders-{day}*", "days": "2024-01-01/"},
            "api.day 'word' tells no day of a row; name a Date or Datetime column, or declare day_columns",
        ),
    ],
)
def test_a_contradiction_is_told(changes: dict[str, Any], message: str) -> None:
    (found,) = problems(**changes)
    assert found.startswith(message)
    assert "hush" not in found


def test_the_checker_places_it(tmp_path: Path) -> None:
    folder = tmp_path / "ml_assets" / "defs"
    folder.mkdir(parents=True)
    (folder / "defs.yaml").write_text(
        "type: ml_assets.Source\n"
        "attributes:\n"
        "  name: orders\n"
        "  pattern: orders/orders*\n"
        "  columns: [{name: id, type: Int64}]\n"
        "  database:\n"
        "    url: postgresql://me:hush@host/db\n"
        "    table: orders\n"
        "    cursr: id\n"
    )
    told = check(tmp_path).text()
    assert "defs.yaml:6" in told
    assert "attributes.database.cursor  database.cursor needs a key" in told
    assert "defs.yaml:7" in told
    assert "database.url has a password" in told
    assert "defs.yaml:9" in told
    assert "unknown key 'cursr'" in told


def test_files_of_sqlite_are_below_the_repository() -> None:
    found = source(database=DATABASE).pulled
    assert found is not None
    assert found.opened() == Database(f"sqlite:///{ROOT}/data/shop.db", "orders")
    absolute = source(database=DATABASE | {"url": "sqlite:////data/shop.db"}).pulled
    assert absolute is not None
    assert absolute.opened().url == "sqlite:////data/shop.db"


def test_the_environment_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = source(api=API | {"url_env": "SHOP_API", "auth": {"type": "api_key", "key_env": "SHOP_KEY"}})
    found = declared.pulled
    assert found is not None
    with pytest.raises(ValueError, match="environment variable SHOP_KEY is not set; set it to the API's key"):
        found.opened()
    monkeypatch.setenv("SHOP_KEY", "hush")
    monkeypatch.setenv("SHOP_API", "http://elsewhere")
    opened = found.opened()
    assert isinstance(opened, Api)
    assert (opened.base_url, opened.auth) == (
        "http://elsewhere",
        {"type": "api_key", "api_key": "hush", "name": "X-API-Key", "location": "header"},
    )
    assert "hush" not in repr(opened)
    monkeypatch.setenv("SHOP_API", "none")
    assert declared.pulled is None


def test_an_address_that_is_nowhere_is_missed() -> None:
    found = source(database={"table": "orders", "url_env": "SHOP_DB"}).pulled
    assert found is not None
    with pytest.raises(ValueError, match="environment variable SHOP_DB is not set; set it to the address, or to none"):
        found.opened()
