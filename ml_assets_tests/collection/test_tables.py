"""Parquet and JSON lines: types as they are declared, nothing guessed, and reasons that name column and place."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from pyarrow import parquet

from ml_assets.collection import tables
from ml_assets.collection.contract import ContractError, SourceContract, parse
from ml_assets.quality.contract import ColumnContract
from ml_assets_tests.collection.test_formats import COLUMNS, SCHEMA, VALUES, zstd

NOON = datetime(2013, 1, 31, 12, tzinfo=UTC)


def source(kind: str, columns: list[ColumnContract] = COLUMNS, **changes: Any) -> SourceContract:
    return SourceContract("every", f"every/every.{kind}", columns, **changes)


def only(dtype: str, **changes: Any) -> list[ColumnContract]:
    return [ColumnContract(name="a", dtype=dtype, nullable=True, **changes)]


# -- Parquet ---------------------------------------------------------------------------------------------------------------


def stored(values: Any, **how: Any) -> bytes:
    """Return a Parquet file of one column `a`, or of an Arrow table."""
    target = io.BytesIO()
    parquet.write_table(values if isinstance(values, pa.Table) else pa.table({"a": values}), target, **how)
    return target.getvalue()


def from_parquet(values: Any, dtype: str) -> pl.Series:
    return parse(stored(values), source("parquet", only(dtype)), name="every.parquet")["a"]


@settings(max_examples=60)
@given(
    rows=st.lists(VALUES, min_size=1, max_size=5),
    compression=st.sampled_from(["zstd", "snappy", "gzip", "uncompressed"]),
    packed=st.booleans(),
)
def test_a_parquet_file_reads_back_equal(rows: list[dict[str, Any]], compression: Any, packed: bool) -> None:
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    target = io.BytesIO()
    frame.select(reversed(frame.columns)).write_parquet(target, compression=compression)
    data = zstd(target.getvalue()) if packed else target.getvalue()
    assert_frame_equal(parse(data, source("parquet"), name="x.parquet.zst" if packed else "x.parquet"), frame)


@pytest.mark.parametrize("kind", [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint32(), pa.uint64()])
def test_whole_numbers_of_any_width(kind: pa.DataType) -> None:
    assert from_parquet(pa.array([1, None, 100], kind), "Int64").to_list() == [1, None, 100]
    assert from_parquet(pa.array([1, None], kind), "Float64").to_list() == [1.0, None]


@pytest.mark.parametrize(
    ("values", "dtype", "read"),
    [
        (pa.array([1.0, None, -(2.0**53)]), "Int64", [1, None, -(2**53)]),  # pandas writes whole numbers with nulls so
        (pa.array([0.5, None], pa.float32()), "Float64", [0.5, None]),
        (pa.array([1, 2], pa.float16()), "Float64", [1.0, 2.0]),
        (pa.array([Decimal("1.25"), None]), "Float64", [1.25, None]),
        (pa.array([Decimal("7.00"), None]), "Int64", [7, None]),
        (pa.array([Decimal("7.00")], pa.decimal256(50, 2)), "Int64", [7]),
        (pa.array([2**60 + 1], pa.int64()).cast(pa.decimal128(38, 0)), "Int64", [2**60 + 1]),
        (pa.array(["x", None, "x"]).dictionary_encode(), "String", ["x", None, "x"]),
        (pa.array(["x", None], pa.large_string()), "String", ["x", None]),
        (pa.array([True, None]), "Boolean", [True, None]),
        (pa.array([None, None]), "Int64", [None, None]),
        (pa.array([None]), "Datetime", [None]),
        (pa.array([date(2013, 1, 31)]), "Date", [date(2013, 1, 31)]),
        (pa.array([date(2013, 1, 31)], pa.date64()), "Date", [date(2013, 1, 31)]),
        (pa.array([datetime(2013, 1, 31), None], pa.timestamp("ns")), "Date", [date(2013, 1, 31), None]),
        (pa.array([date(2013, 1, 31)]), "Datetime", [datetime(2013, 1, 31, tzinfo=UTC)]),
    ],
)
def test_what_is_exact_is_taken(values: pa.Array, dtype: str, read: list[Any]) -> None:
    assert from_parquet(values, dtype).to_list() == read


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Zurich", "+05:30"])
def test_times_of_any_unit_and_zone_become_utc(unit: str, zone: str | None) -> None:
    each = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    values = pa.array([int(NOON.timestamp()) * each, None, -1]).cast(pa.timestamp(unit, zone))
    found = from_parquet(values, "Datetime")
    assert found.dtype == pl.Datetime("us", "UTC")
    before = datetime(1970, 1, 1, tzinfo=UTC) - timedelta(microseconds=max(10**6 // each, 1))
    assert found.to_list() == [NOON, None, before]


def test_a_time_without_a_zone_is_utc_as_pandas_writes_it() -> None:
    frame = pd.DataFrame({"a": pd.to_datetime(["2013-01-31 12:00", None])})
    assert from_parquet(pa.Table.from_pandas(frame), "Datetime").to_list() == [NOON, None]


@pytest.mark.parametrize(
    ("values", "dtype", "reason"),
    [
        (
            pa.array([1, 2**64 - 1], pa.uint64()),
            "Int64",
            "1 values are not Int64, such as 18446744073709551615 in row 2",
        ),
        (pa.array([1.5, 1.0]), "Int64", "1 values are not Int64, such as 1.5 in row 1; correct them"),
        (pa.array([float("nan")]), "Int64", "are not Int64"),
        (pa.array([2.0**63]), "Int64", "are not Int64"),
        (pa.array([Decimal("1.25")]), "Int64", "are not Int64"),
        (pa.array([NOON]), "Date", "are not Date, such as .* in row 1"),
        (pa.array([2**62], pa.timestamp("ms")), "Datetime", "are not Datetime"),
        (pa.array([2**60], pa.timestamp("us")), "Datetime", "are not Datetime"),
        (pa.array([2**30], pa.date32()), "Date", "are not Date"),
        (
            pa.array(["1"]),
            "Int64",
            "column a: it holds text, and Int64 is declared; deliver it as Int64 or change the dec",
        ),
        (pa.array(["2013-01-31"]), "Date", "holds text, and Date is declared"),
        (pa.array([1]), "String", "holds whole numbers, and String"),
        (pa.array([1]), "Boolean", "holds whole numbers, and Boolean"),
        (pa.array([True]), "Int64", "holds booleans, and Int64"),
        (pa.array([1]), "Datetime", "holds whole numbers, and Datetime"),
        (pa.array([b"x"]), "String", "holds binary, and String"),
        (pa.array([1], pa.time64("us")), "Datetime", r"holds time64\[us\], and Datetime"),
        (pa.array([1]).dictionary_encode(), "String", "holds whole numbers, and String"),
        (pa.array([[1]]), "Int64", "column a: list<.*> holds nested values; flatten it"),
        (pa.array([{"x": 1}]), "String", "column a: struct<.*> holds nested values"),
    ],
)
def test_what_is_not_as_declared_is_refused(values: pa.Array, dtype: str, reason: str) -> None:
    with pytest.raises(ContractError, match=reason):
        from_parquet(values, dtype)


GOOD = stored(pa.array([1, 2]))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (GOOD[:-10], "not a readable Parquet file, truncated or damaged: .*; write and deliver it again"),
        (GOOD[: len(GOOD) // 2], "not a readable Parquet file"),
        (b"a\n1\n", "not a readable Parquet file"),
        (stored(pa.array([], pa.int64())), "no rows"),
        (stored(pa.table({"b": [1]})), "column missing: a"),
        (stored(pa.table({"a": [1], "b": [1]})), r"unknown columns \['b'\]; declare them"),
        (stored(pa.table([[1], [2]], names=["a", "a"])), r"columns \['a'\] appear more than once; rename"),
        (
            stored(pa.Table.from_pandas(pd.DataFrame({"a": [1]}, index=[5]))),
            r"unknown columns \['__index_level_0__'\].*write with index=False",
        ),
    ],
)
def test_a_broken_parquet_file_is_refused_with_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(ContractError, match=reason):
        parse(data, source("parquet", only("Int64")), name="every.parquet")


def test_a_parquet_file_that_would_fill_the_memory_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    data = stored(pa.array([1] * 10_000))
    monkeypatch.setattr(tables, "MOST_BYTES", 79_999)
    assert len(data) < 1000
    with pytest.raises(ContractError, match="larger than 79999 bytes decompressed; split it"):
        parse(data, source("parquet", only("Int64")), name="every.parquet")


# -- JSON lines ------------------------------------------------------------------------------------------------------------


def from_json(*lines: str, dtype: str = "Int64", **changes: Any) -> pl.Series:
    contract = source("jsonl", only(dtype), **changes)
    return parse("\n".join(lines).encode(contract.encoding), contract, name="every.jsonl")["a"]


@settings(max_examples=60)
@given(rows=st.lists(VALUES, min_size=1, max_size=5), absent=st.booleans(), ascii_only=st.booleans())
def test_json_lines_read_back_equal(rows: list[dict[str, Any]], absent: bool, ascii_only: bool) -> None:
    lines = [{key: value for key, value in row.items() if value is not None or not absent} for row in rows]
    text = "\n".join(
        json.dumps(line, default=lambda value: value.isoformat(), ensure_ascii=ascii_only) for line in lines
    )
    assert_frame_equal(
        parse(text.encode(), source("ndjson"), name="x.ndjson"), pl.DataFrame(rows, schema=SCHEMA, orient="row")
    )


@pytest.mark.parametrize(
    ("dtype", "line", "value"),
    [
        ("Float64", '{"a": 3}', 3.0),
        ("Int64", '{"a": 3.0}', 3),
        ("Int64", '{"a": 9223372036854775807}', 2**63 - 1),
        ("String", '{"a": ""}', ""),  # text is text: null is written as null
        ("String", '{"a": "NA"}', "NA"),
        ("Datetime", '{"a": "2013-01-31T13:00:00+01:00"}', NOON),
        ("Int64", "{}", None),
        ("Boolean", '{"a": null}', None),
    ],
)
def test_values_of_json(dtype: str, line: str, value: Any) -> None:
    assert from_json(line, dtype=dtype).to_list() == [value]


def test_json_in_another_encoding_and_in_many_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "LINES_AT_ONCE", 2)
    assert from_json('{"a": "é"}', "", '{"a": "x"}', "{}", dtype="String", encoding="utf-16").to_list() == [
        "é",
        "x",
        None,
    ]
    assert from_json('{"a": "31.1.2013"}', dtype="Date", forms={"a": "%d.%m.%Y"}).to_list() == [date(2013, 1, 31)]
    with pytest.raises(ContractError, match="2 values are not Int64, such as 'x' in line 4"):
        from_json('{"a": 1}', "", '{"a": 2}', '{"a": "x"}', '{"a": 3}', '{"a": true}')


@pytest.mark.parametrize(
    ("dtype", "value", "reason"),
    [
        ("Int64", '"1"', "column a: 1 values are not Int64, such as '1' in line 3; correct them$"),
        ("Float64", '"1.5"', "are not Float64, such as '1.5' in line 3"),
        ("Int64", "1.5", "are not Int64, such as 1.5 in line 3"),
        ("Int64", "9223372036854775808", "are not Int64"),
        ("Int64", "true", "are not Int64, such as True in line 3"),
        ("Float64", "1e999", "are not Float64, such as inf in line 3"),
        ("Float64", "1" + "0" * 400, "are not Float64"),
        ("String", "1", "are not String, such as 1 in line 3"),
        ("String", r'"\ud800"', "are not String"),
        ("Boolean", "1", "are not Boolean, such as 1 in line 3"),
        ("Boolean", '"true"', "are not Boolean"),
        ("Date", "20130131", "are not Date, such as 20130131 in line 3; correct them, or say in the column's `format`"),
        ("Date", '"x"', "are not Date, such as 'x' in line 3"),
        ("Int64", "[1]", "column a: line 3 holds nested values; flatten it, one plain value for each column"),
        ("Int64", '{"b": 1}', "column a: line 3 holds nested values"),
        ("Float64", "NaN", "line 3 is not JSON: NaN is no number of JSON, null stands for what is unknown; write one"),
    ],
)
def test_a_value_of_another_kind_is_named_with_its_line(dtype: str, value: str, reason: str) -> None:
    with pytest.raises(ContractError, match=reason):
        from_json("{}", "", f'{{"a": {value}}}', dtype=dtype)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "line 2 is not JSON: .*; write one object in each line"),
        ('{"a": 1} {"a": 2}', "line 2 is not JSON: Extra data"),
        ("[1]", "line 2 is JSON but no object; write one object in each line"),
        ("1", "line 2 is JSON but no object"),
        ("[" * 100_000, "line 2 is not JSON"),
        ('{"a": 1, "a": 2}', r"line 2 is not JSON: it has \['a'\] more than once"),
        ('{"a": 1, "b": 2}', r"unknown columns \['b'\]; declare them"),
        ('{"A": 1}', r"unknown columns \['A'\]"),
    ],
)
def test_a_broken_line_is_named_by_its_number(line: str, reason: str) -> None:
    with pytest.raises(ContractError, match=reason):
        from_json('{"a": 1}', line)


def test_a_renamed_key_is_told() -> None:
    with pytest.raises(ContractError, match=r"^column missing: moment \(renamed to momment\?\); deliver"):
        parse(b'{"momment": 1}', source("jsonl"), name="every.jsonl")


def test_a_column_that_no_line_has_is_null() -> None:
    assert from_json("{}", "{}").to_list() == [None, None]
    with pytest.raises(ContractError, match="the file is empty"):
        from_json("", "")


def test_personal_values_are_not_told() -> None:
    contract = source("jsonl", only("Int64", personal=True))
    with pytest.raises(ContractError, match="1 values are not Int64, such as one in line 1"):
        parse(b'{"a": "secret"}', contract, name="a.jsonl")


# -- whatever lands --------------------------------------------------------------------------------------------------------


def a_file(kind: str) -> bytes:
    row = {"whole": 3, "real": 2.5, "text": "Zürich", "yes": True, "day": date(2013, 1, 31), "moment": NOON}
    frame = pl.DataFrame([row, dict.fromkeys(row)], schema=SCHEMA, orient="row")
    target = io.BytesIO()
    write: Callable[[Any], Any] = frame.write_parquet if kind == "parquet" else frame.write_ndjson
    write(target)
    return target.getvalue()


@settings(max_examples=150)
@given(kind=st.sampled_from(["parquet", "jsonl"]), data=st.data())
def test_whatever_lands_is_read_or_refused(kind: str, data: st.DataObject) -> None:
    """Bytes of a good file, some of them changed: rows or a reason, and never another error."""
    text = bytearray(a_file(kind))
    for _ in range(data.draw(st.integers(0, 3))):
        at, width = data.draw(st.integers(0, len(text))), data.draw(st.integers(0, 3))
        text[at : at + width] = data.draw(
            st.binary(max_size=3) | st.sampled_from([b",", b'"', b"{", b"[", b"9", b"\\"])
        )
    try:
        frame = parse(bytes(text), source(kind), name=f"every.{kind}")
    except ContractError as error:
        assert str(error).encode()
    else:
        assert frame.schema == SCHEMA
        assert frame.rows()
