"""New columns, missing columns, wider types: refused, quarantined or accepted, as each source declares; never with a loss."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ml_assets.collection.assets import FILES, raw_asset
from ml_assets.collection.collect import Landing, collect, new_files
from ml_assets.collection.contract import Policy, RefusedError, SchemaChanges, SourceContract
from ml_assets.collection.ledger import Entry
from ml_assets.quality.contract import ColumnContract
from ml_assets.source import Source
from ml_assets_tests.collection.outside import NOW, open_places, put

POLICIES: list[Policy] = ["refuse", "quarantine", "accept"]
DAY = "2013-01-31"
COLUMNS = [
    ColumnContract(name="id", dtype="Int64"),
    ColumnContract(name="value", dtype="Float64", nullable=True, sparse=True),
    ColumnContract(name="at", dtype="Datetime", nullable=True, sparse=True),
]
THINGS = SourceContract("things", "things/things-{day}*", COLUMNS, key=["id"], days="2013-01-01/2013-12-31")
GOOD = '{"id": 1, "value": 0.5, "at": "2013-01-31T10:00:00Z"}\n'
CHANGED = {
    "new_column": ("csv", b"id,value,at,extra\n1,0.5,2013-01-31T10:00:00Z,x\n"),
    "missing_column": ("csv", b"id,at\n1,2013-01-31T10:00:00Z\n"),
    "widened_type": ("jsonl", b'{"id": "1", "value": 0.5, "at": "2013-01-31T10:00:00Z"}\n'),
}
NOTES = {
    "new_column": "unknown columns ['extra'] are left out",
    "missing_column": "without value, which is null",
    "widened_type": "column id: text is taken as Int64",
}


@pytest.fixture
def places(tmp_path: Path) -> Landing:
    return open_places(tmp_path)


def deliver(places: Landing, ending: str, data: bytes) -> str:
    return put(places, f"things/things-{DAY}.{ending}", data)


def taken(places: Landing, contract: SourceContract) -> Entry:
    (entry,) = collect(contract, places, now=NOW).entries
    return entry


def policy(change: str, of_it: Policy) -> SourceContract:
    """Return the contract with a policy for one change; the others are as they are by default."""
    return replace(THINGS, schema_changes=SchemaChanges(**{change: of_it}))


@pytest.mark.parametrize("change", CHANGED)
def test_by_default_a_changed_file_goes_to_quarantine_whole(places: Landing, change: str) -> None:
    deliver(places, *CHANGED[change])
    entry = taken(places, THINGS)
    assert entry.status == "quarantined"
    assert places.lake.partitions("raw/things") == []


@pytest.mark.parametrize("change", CHANGED)
def test_an_accepted_change_is_in_and_told(places: Landing, change: str) -> None:
    deliver(places, *CHANGED[change])
    entry = taken(places, policy(change, "accept"))
    assert (entry.status, entry.note) == ("ingested", NOTES[change])
    row = places.lake.read("raw/things").row(0, named=True)
    assert (row["id"], row["value"]) == (1, None if change == "missing_column" else 0.5)
    assert list(row) == ["id", "value", "at", "landed_at"]


@pytest.mark.parametrize("change", CHANGED)
def test_a_refused_change_stops_the_run_and_the_file_waits(places: Landing, change: str) -> None:
    name = deliver(places, *CHANGED[change])
    other = put(places, "things/things-2013-01-30.jsonl", GOOD)
    contract = policy(change, "refuse")
    with pytest.raises(RefusedError, match=f"{name}: .*; ?.*schema_changes refuse this|{name}.*schema_changes"):
        collect(contract, places, now=NOW)
    assert [(entry.name, entry.status) for entry in places.ledger.entries()] == [(other, "ingested")]
    assert [item.name for item in new_files(contract, places)] == [name]
    assert taken(places, policy(change, "accept")).status == "ingested"


@pytest.mark.parametrize("change", CHANGED)
@pytest.mark.parametrize("of_it", POLICIES)
def test_a_file_as_declared_is_taken_by_every_policy(places: Landing, change: str, of_it: Policy) -> None:
    deliver(places, "jsonl", GOOD.encode())
    entry = taken(places, policy(change, of_it))
    assert (entry.status, entry.note) == ("ingested", "")


@pytest.mark.parametrize("change", CHANGED)
def test_a_policy_for_one_change_says_nothing_of_the_others(places: Landing, change: str) -> None:
    contract = policy(change, "accept")
    for number, (other, (ending, data)) in enumerate(CHANGED.items(), start=1):
        if other != change:
            put(places, f"things/things-2013-02-0{number}.{ending}", data)
    assert {entry.status for entry in collect(contract, places, now=NOW).entries} == {"quarantined"}


# -- what would be lost goes to quarantine, though it is accepted ------------------------------------------------------------

ALL = replace(THINGS, schema_changes=SchemaChanges("accept", "accept", "accept"))
LOSSES = {
    "a renamed column": ("csv", b"id,values,at\n1,0.5,2013-01-31T10:00:00Z\n", r"value \(renamed to values\?\)"),
    "a column that may not be null": ("csv", b"value,at\n0.5,2013-01-31T10:00:00Z\n", "column missing: id"),
    "decimals in whole numbers": ("csv", b"id,value,at\n1.5,0.5,2013-01-31T10:00:00Z\n", "1 values are not Int64"),
    "decimals of JSON": ("jsonl", b'{"id": 1.5, "value": 0.5}\n', "1 values are not Int64"),
    "one word among numbers": ("jsonl", b'{"id": "1"}\n{"id": "x"}\n', "2 values are not Int64"),
    "text and numbers": ("jsonl", b'{"id": "1"}\n{"id": 2}\n', "1 values are not Int64"),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_what_would_lose_something_is_not_accepted(places: Landing, loss: str) -> None:
    ending, data, reason = LOSSES[loss]
    deliver(places, ending, data)
    entry = taken(places, ALL)
    assert entry.status == "quarantined"
    assert pl.Series([entry.reason]).str.contains(reason)[0], entry.reason


def test_a_wrong_value_is_no_change_of_the_schema(places: Landing) -> None:
    """Refusing wider types does not stop at one bad cell: that file goes to quarantine, as ever."""
    deliver(places, "csv", b"id,value,at\nx,0.5,2013-01-31T10:00:00Z\n2,1,2013-01-31T10:00:00Z\n")
    assert taken(places, policy("widened_type", "refuse")).status == "quarantined"


def test_decimals_in_whole_numbers_can_be_refused(places: Landing) -> None:
    deliver(places, "csv", b"id,value,at\n1.5,0.5,2013-01-31T10:00:00Z\n")
    with pytest.raises(RefusedError, match="the whole column is Float64"):
        collect(policy("widened_type", "refuse"), places, now=NOW)


def test_text_in_parquet_is_taken_where_each_value_fits(places: Landing) -> None:
    frame = pl.DataFrame({"id": ["1", "2"], "value": ["0.5", None], "at": ["2013-01-31T10:00:00Z", None]})
    data = io.BytesIO()
    frame.write_parquet(data)
    deliver(places, "parquet", data.getvalue())
    entry = taken(places, ALL)
    assert entry.status == "ingested"
    assert entry.note.count("text is taken as") == 3
    assert places.lake.read("raw/things").select("id", "value").rows() == [(1, 0.5), (2, None)]


# -- the declaration -----------------------------------------------------------------------------------------------------


def declared(**changes: Any) -> Source:
    columns = [{"name": "id", "type": "Int64", "nullable": False}]
    return Source.resolve_from_dict({"name": "things", "pattern": "things/things*.csv", "columns": columns} | changes)


def test_policies_are_declared_with_the_source() -> None:
    assert declared().contract().schema_changes == SchemaChanges()
    found = declared(schema_changes={"new_column": "accept", "widened_type": "refuse"}).contract().schema_changes
    assert found == SchemaChanges(new_column="accept", missing_column="quarantine", widened_type="refuse")


def test_the_check_in_the_web_interface_warns_of_what_was_accepted() -> None:
    (spec,) = [spec for spec in raw_asset(declared()).check_specs if spec.name == FILES]
    assert "accepted with another schema" in (spec.description or "")
