"""A source that contradicts itself is refused before anything runs: the message names the field, the value and the fix."""

from __future__ import annotations

import inspect
from typing import Any

import dagster as dg
import polars as pl
import pytest
import yaml

from ml_assets.collection.contract import parse
from ml_assets.source import Source
from ml_assets_tests.collection.outside import DECLARED, declared

EXAMPLE = yaml.safe_load((inspect.getdoc(Source) or "").split("```yaml")[1].split("```")[0])


def source(**changes: Any) -> Source:
    return Source.resolve_from_dict(EXAMPLE["attributes"] | changes)


def test_the_example_in_the_docstring_loads() -> None:
    assert EXAMPLE["type"] == "ml_assets.Source"
    source().check()
    assert source().contract().folder == "weather"


def test_every_declared_source_is_sound() -> None:
    for document in yaml.safe_load_all(DECLARED.read_text()):
        found = declared(document["attributes"]["name"])
        found.check()
        assert found.contract().columns


COLUMN = {"name": "origin", "type": "String"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"columns": [COLUMN, COLUMN]}, r"columns \['origin'\] are declared twice; keep one of each"),
        (
            {"key": ["origin", "hour"]},
            r"key names \['hour'\], which are not among columns \['origin', 'time_hour', 'temp'\]",
        ),
        ({"day_columns": ["year", "month", "day"]}, r"day_columns names \['year', 'month', 'day'\]"),
        ({"day_columns": ["origin"]}, r"day_columns \['origin'\]: name three Int64 columns, year, month and day"),
        ({"clean": {"plausible": {"wind": [0, 1]}}}, r"clean.plausible names \['wind'\]"),
        ({"clean": {"key": ["hour"]}}, r"clean.key names \['hour'\]"),
        ({"clean": {"plausible": {"temp": [1, 0]}}}, r"clean.plausible temp: \[1.*, 0.*\] is no range; write \[lowest"),
        ({"clean": {"plausible": {"temp": [1]}}}, "clean.plausible temp: .* is no range"),
        ({"days": None}, r"days None: \{day\} needs days, and days need \{day\}"),
        ({"pattern": "weather/weather.csv"}, r"pattern 'weather/weather.csv', days '2013.*needs days"),
        ({"pattern": "{day}.csv"}, "pattern '{day}.csv': write a folder that no other source uses"),
        ({"pattern": "weather/{day}/{day}.csv"}, r"\{day\} at most once"),
        (
            {
                "columns": [
                    *EXAMPLE["attributes"]["columns"],
                    {"name": "x", "type": "Int64", "minimum": 2, "maximum": 1},
                ]
            },
            "column x: minimum 2 is above maximum 1; swap them",
        ),
    ],
)
def test_a_contradiction_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^source weather: .*{message}"):
        source(**changes).check()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"columms": []}, "columms"),
        ({"columns": [{"name": "a", "type": "Integer"}]}, "Int64"),
        ({"clean": {"plausibel": {}}}, "plausibel"),
        ({"name": None}, "name"),
    ],
)
def test_an_unknown_key_or_a_wrong_type_is_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(Exception, match=words):
        source(**changes)


def test_a_contradiction_stops_the_loading() -> None:
    with pytest.raises(ValueError, match="key names"):
        source(key=["hour"]).build_defs(dg.ComponentTree.for_test().load_context)


def made(component: Source) -> list[str]:
    found = component.build_defs(dg.ComponentTree.for_test().load_context).assets or ()
    return [item.key.to_user_string() for item in found if isinstance(item, dg.AssetsDefinition)]


def test_the_component_gives_raw_and_clean() -> None:
    assert made(source()) == ["raw/weather", "clean/weather"]
    assert made(source(clean=None)) == ["raw/weather"]


def test_the_contract_reads_what_the_declaration_says() -> None:
    frame = parse(b"origin,time_hour,temp\nEWR,2013-01-01T06:00:00Z,NA\n", source().contract(), name="a.csv")
    assert frame.schema == {"origin": pl.String, "time_hour": pl.Datetime("us", "UTC"), "temp": pl.Float64}
    columns = {column.name: column for column in source().contract().columns}
    assert (columns["origin"].nullable, columns["temp"].nullable, columns["temp"].sparse) == (False, True, True)
    assert columns["origin"].categories == ("EWR", "JFK", "LGA")
