"""A source that contradicts itself is refused before anything runs: the message names the field, the value and the fix."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime
from pathlib import Path
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


def test_the_example_in_the_guide_loads() -> None:
    guide = Path(__file__).parents[1] / "docs" / "sources.md"
    example = yaml.safe_load(guide.read_text().split("```yaml")[1].split("```")[0])
    found = Source.resolve_from_dict(example["attributes"])
    found.check()
    text = "order;line;ordered_at;price;channel;email\n1;1;31.01.2024 09:30;1.234,50;web;ü@x\n"
    frame = parse(text.encode("cp1252"), found.contract(), name="orders-2024-01-31.csv")
    assert frame.row(0)[2:4] == (datetime(2024, 1, 31, 9, 30, tzinfo=UTC), 1234.5)


def test_every_declared_source_is_sound() -> None:
    for document in yaml.safe_load_all(DECLARED.read_text()):
        found = declared(document["attributes"]["name"])
        found.check()
        assert found.contract().columns


COLUMN = {"name": "origin", "type": "String"}


def formed(form: str, kind: str = "Date") -> dict[str, str]:
    return {"name": "x", "type": kind, "format": form}


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
        (
            {"columns": [*EXAMPLE["attributes"]["columns"], {"name": "x", "type": "Int64", "future": False}]},
            "column x: future is for Date and Datetime; remove it",
        ),
        ({"separator": ""}, "separator '', quote '\"': write one character that is not the quote"),
        ({"separator": '"'}, "write one character that is not the quote"),
        ({"separator": "||"}, r"separator '\|\|': write one plain character"),
        ({"quote": "«"}, "quote '«': write one plain character"),
        ({"decimal": ",", "thousands": ","}, "decimal and thousands are both ','; choose two marks"),
        ({"true_values": ["ja", "X"], "false_values": ["x"]}, r"share \['x'\]; keep each word in one of them"),
        ({"encoding": "utf8000"}, "encoding 'utf8000' is not known; write one of Python's, such as utf-8, cp1252 or"),
        ({"encoding": "base64"}, "encoding 'base64' is not known"),
        (
            {"columns": [formed("%d.%m.%Y", "String")], "key": [], "clean": {}},
            "column x: format '%d.%m.%Y' is for Date and Datetime; remove it",
        ),
        ({"columns": [formed("DD.MM.YYYY")], "key": [], "clean": {}}, "format 'DD.MM.YYYY': .*write it like %d.%m.%Y"),
        ({"columns": [formed("%d.%m")], "key": [], "clean": {}}, "format '%d.%m': .*write it like %d.%m.%Y"),
        (
            {"columns": [formed("%d.%m.%Y %H", "Datetime")], "key": [], "clean": {}},
            "format '%d.%m.%Y %H': .*write it like",
        ),
        (
            {"columns": [formed("%d.%m.%Y %H:%M %Z", "Datetime")], "key": [], "clean": {}},
            "%Z names a zone, .*; write the offset, %z",
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
        ({"format": "excel"}, "parquet"),
        ({"decimal": "·"}, "decimal"),
        ({"thousands": "_"}, "thousands"),
        ({"clock": "wall"}, "replay"),
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
    assert made(source()) == ["raw/weather", "profiles/raw/weather", "clean/weather"]
    assert made(source(clean=None)) == ["raw/weather", "profiles/raw/weather"]


def test_the_contract_reads_what_the_declaration_says() -> None:
    frame = parse(b"origin,time_hour,temp\nEWR,2013-01-01T06:00:00Z,NA\n", source().contract(), name="a.csv")
    assert frame.schema == {"origin": pl.String, "time_hour": pl.Datetime("us", "UTC"), "temp": pl.Float64}
    columns = {column.name: column for column in source().contract().columns}
    assert (columns["origin"].nullable, columns["temp"].nullable, columns["temp"].sparse) == (False, True, True)
    assert columns["origin"].categories == ("EWR", "JFK", "LGA")


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%d/%m/%y", "%b %d, %Y", "%Y%m%d", "%d.%m.%Y %H:%M:%S.%f", "%A %d %B %Y"])
def test_forms_of_days_and_times(form: str) -> None:
    column = {**formed(form, "Datetime" if "%H" in form else "Date"), "name": "origin"}
    source(columns=[column], key=["origin"], clean={}).check()


def test_a_form_is_read_without_a_warning_of_polars() -> None:
    component = source(columns=[formed("%H:%M:%S,%f %d.%m.%Y", "Datetime")], key=[], clean={})
    component.check()
    frame = parse(b'x\n"10:00:00,250000 31.01.2013"\n', component.contract(), name="a.csv")
    assert frame["x"][0].microsecond == 250_000


def test_a_source_of_another_dialect() -> None:
    component = source(
        pattern="weather/weather-{day}.txt.gz",
        separator=";",
        decimal=",",
        thousands=".",
        encoding="cp1252",
        quote="",
        null_values=["-"],
        columns=[
            {"name": "origin", "type": "String"},
            {"name": "time_hour", "type": "Datetime", "format": "%d.%m.%Y %H:%M"},
            {"name": "temp", "type": "Float64"},
        ],
    )
    component.check()
    text = 'origin;time_hour;temp\nZürich "K";31.01.2013 06:00;-1.234,5\n-;;\n'
    frame = parse(text.encode("cp1252"), component.contract(), name="a.txt")
    assert frame.rows() == [('Zürich "K"', datetime(2013, 1, 31, 6, tzinfo=UTC), -1234.5), (None, None, None)]


def test_the_format_goes_by_the_pattern_unless_it_is_declared() -> None:
    line = b'{"origin": "EWR", "time_hour": "2013-01-01T06:00:00Z"}'
    for changes in ({"pattern": "weather/{day}.jsonl.gz"}, {"format": "jsonl"}):
        assert parse(line, source(**changes).contract(), name="a").rows()[0][0] == "EWR"


def test_words_stay_as_they_are_written() -> None:
    """Dagster's templates make numbers and None of texts; here they must not."""
    words = ["", "-999", "99.00", "1e3", "None", "007", "{}"]
    assert source(null_values=words).null_values == words
    assert source(null_values=[-999, 0.5, "-"]).null_values == ["-999", "0.5", "-"]
    assert source(true_values=["1", "True"], separator="\t").contract().dialect.true_values == ["1", "True"]
    with pytest.raises(Exception, match="YAML reads a word as True; put words such as 'yes' and 'true' in quotes"):
        source(true_values=[True])


@pytest.mark.parametrize(
    ("kind", "given", "held"),
    [("String", ["1", 2, "x"], ("1", "2", "x")), ("Int64", [1, 2], (1, 2)), ("String", None, ())],
)
def test_categories_are_of_the_columns_type(kind: str, given: Any, held: tuple[Any, ...]) -> None:
    found = source(columns=[{"name": "x", "type": kind, "categories": given}], key=[], clean={}).contract()
    assert found.columns[0].categories == held


@pytest.mark.parametrize("written", ["1", "None", "'a'", "{{ no template }}", "%d.%m.%Y"])
@pytest.mark.parametrize("field", ["name", "unit", "description", "format"])
def test_what_is_said_of_a_column_stays_as_it_is_written(field: str, written: str) -> None:
    (column,) = source(columns=[{"name": "a", "type": "Date"} | {field: written}]).columns
    assert getattr(column, field) == written
    assert column.model_fields_set == {"name", "type", field}


def test_a_column_that_yaml_took_for_a_truth_is_refused() -> None:
    with pytest.raises(Exception, match="put words such as 'yes' and 'true' in quotes"):
        source(columns=[{"name": True, "type": "Int64"}])
    (number,) = source(columns=[{"name": 2013, "type": "Int64"}]).columns
    assert number.name == "2013"


def test_whose_time_counts() -> None:
    assert (source().clock, source(clock="system").clock) == ("replay", "system")
