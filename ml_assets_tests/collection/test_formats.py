"""CSV of any dialect: what is written in one reads back equal, and what is no CSV is refused by its line."""

from __future__ import annotations

import csv
import gzip
import io
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ml_assets.collection.contract import SourceContract, parse
from ml_assets.collection.formats import (
    MOST_BYTES,
    ContractError,
    Dialect,
    beginning,
    csv_rows,
    decode,
    decompress,
    format_of,
)
from ml_assets.quality.contract import ColumnContract

SCHEMA = {
    "whole": pl.Int64(),
    "real": pl.Float64(),
    "text": pl.String(),
    "yes": pl.Boolean(),
    "day": pl.Date(),
    "moment": pl.Datetime("us", "UTC"),
}
COLUMNS = [
    ColumnContract(name=name, dtype=str(dtype).split("(")[0], nullable=True, sparse=True)
    for name, dtype in SCHEMA.items()
]


def contract(**changes: Any) -> SourceContract:
    return SourceContract("every", "every/every.csv", COLUMNS, **changes)


def zstd(data: bytes) -> bytes:
    return pa.Codec("zstd").compress(data, asbytes=True)


# -- names, compression, encoding ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a/a-{day}*.csv.gz", "csv"),
        ("a/a.CSV", "csv"),
        ("a/a.parquet", "parquet"),
        ("a/{day}.jsonl.zst", "jsonl"),
        ("a/a.ndjson.gz", "jsonl"),
        ("a/a.txt", "csv"),
        ("a/a*", "csv"),
    ],
)
def test_the_ending_tells_the_format(name: str, kind: str) -> None:
    assert format_of(name) == kind


ROWS = b"id,value\n1,0.5\n2,\n" * 500


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.csv", ROWS),
        ("a.csv.gz", gzip.compress(ROWS, mtime=0)),
        ("a.csv.GZ", gzip.compress(ROWS[:100], mtime=0) + gzip.compress(ROWS[100:], mtime=0)),
        ("a.csv.zst", zstd(ROWS)),
        ("a.csv.zst", zstd(ROWS[:100]) + zstd(ROWS[100:])),
    ],
)
def test_compression_goes_by_the_name(name: str, data: bytes) -> None:
    assert decompress(data, name) == ROWS


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (zstd(ROWS)[:-1], "the zstd stream is truncated; the upload was cut off, deliver it again"),
        (zstd(ROWS)[:5], "truncated"),
        (ROWS, "the zstd stream is damaged .*; deliver it again"),
        (gzip.compress(ROWS, mtime=0), "the zstd stream is damaged"),
    ],
)
def test_a_broken_zstd_stream_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ContractError, match=reason):
        decompress(data, "a.csv.zst")


def test_a_bomb_is_not_unpacked() -> None:
    for name, data in (("a.gz", gzip.compress(bytes(10**6))), ("a.zst", zstd(bytes(10**6)))):
        assert decompress(data, name, most=10**6) == bytes(10**6)
        with pytest.raises(ContractError, match="larger than 999999 bytes decompressed; split it"):
            decompress(data, name, most=10**6 - 1)


@pytest.mark.parametrize(
    "encoding", ["utf-8", "UTF8", "utf-8-sig", "latin-1", "cp1252", "utf-16", "utf-16-le", "utf-32"]
)
def test_text_of_any_encoding_becomes_utf8(encoding: str) -> None:
    assert decode("Zürich,é\n".encode(encoding), encoding=encoding) == "Zürich,é\n".encode()


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "cp1252"])
def test_a_mark_of_utf8_counts_more_than_the_declaration(encoding: str) -> None:
    assert decode("\ufeffZürich".encode(), encoding=encoding) == "Zürich".encode()
    assert decode("\ufeffZürich".encode("utf-16-be"), encoding="utf-16-be") == "Zürich".encode()


@pytest.mark.parametrize(
    ("data", "encoding", "reason"),
    [
        (
            "id\nZürich".encode("latin-1"),
            "utf-8",
            r"invalid utf-8 in line 2, byte 5 \(0xfc\); set the source's `encoding`",
        ),
        (b"id\n\n\x81", "cp1252", r"invalid cp1252 in line 3, byte 5 \(0x81\)"),
        ("id\né".encode(), "ascii", r"invalid ascii in line 2, byte 4 \(0xc3\)"),
        ("id\na".encode("utf-16-le")[:-1], "utf-16-le", r"invalid utf-16-le in line 2, byte 7 \(0x61\)"),
        ("id\n1".encode("utf-16"), "utf-8", "the file begins like utf-16; set the source's `encoding` to utf-16"),
        (b"\xef\xbb\xbf\xff", "latin-1", "invalid utf-8 in line 1"),
        (b"+2AA-", "utf-7", "not readable text: invalid utf-7"),
    ],
)
def test_what_is_not_in_the_encoding_is_named(data: bytes, encoding: str, reason: str) -> None:
    with pytest.raises(ContractError, match=reason):
        decode(data, encoding=encoding)


# -- every dialect ---------------------------------------------------------------------------------------------------------

FORMS = {"day": "%d.%m.%Y", "moment": "%d/%m/%Y %H:%M:%S.%f"}
WORDS = {"true_values": ["ja", "Wahr"], "false_values": ["nein"]}
SHOWN_WORDS = st.sampled_from([("JA", "Nein"), ("wahr", "NEIN")])


@st.composite
def dialects(draw: st.DrawFn) -> SourceContract:
    decimal = draw(st.sampled_from([".", ","]))
    return contract(
        separator=draw(st.sampled_from([",", ";", "\t", "|"])),
        quote=draw(st.sampled_from(['"', "'"])),
        encoding=draw(st.sampled_from(["utf-8", "utf-8-sig", "latin-1", "cp1252", "utf-16"])),
        decimal=decimal,
        thousands=draw(st.sampled_from([mark for mark in ("", ",", ".", " ", "'") if mark != decimal])),
        forms=draw(st.sampled_from([{}, FORMS])),
        **draw(st.sampled_from([{}, WORDS])),
    )


MARKS = st.sampled_from(" ,;|\t\"'\n.éÀ½aZ09")
TEXTS = st.text(MARKS, min_size=1, max_size=6).filter(lambda text: text != "NA" and "\r" not in text)
VALUES = st.fixed_dictionaries(
    {
        "whole": st.none() | st.integers(-(2**63), 2**63 - 1) | st.integers(-99_999, 99_999),
        "real": st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([1234.5, -1e6, 0.25]),
        "text": st.none() | TEXTS,
        "yes": st.none() | st.booleans(),
        "day": st.none() | st.dates(),
        "moment": st.none() | st.datetimes(timezones=st.just(UTC)),
    }
)


def number(value: float, source: SourceContract) -> str:
    """Write a number as people of the dialect do."""
    form = f"{value:,}" if source.thousands else f"{value}"
    return form.translate(str.maketrans({",": source.thousands, ".": source.decimal}))


def shown(name: str, value: Any, source: SourceContract) -> str:
    if value is None:
        return ""
    if name in ("whole", "real"):
        return number(value, source)
    if name == "yes":
        return (("JA", "Nein") if "ja" in source.true_values else ("T", "no"))[not value]
    if name in source.forms:
        year = f"{value.year:04}"  # Python writes years before 1000 without zeros
        return value.strftime(source.forms[name].replace("%Y", year))
    return value.isoformat() if name in ("day", "moment") else value


def written(rows: Sequence[dict[str, Any]], source: SourceContract) -> bytes:
    target = io.StringIO()
    writer = csv.writer(target, delimiter=source.separator, quotechar=source.quote, lineterminator="\n")
    writer.writerow(SCHEMA)
    writer.writerows([[shown(name, row[name], source) for name in SCHEMA] for row in rows])
    return target.getvalue().encode(source.encoding)


@settings(max_examples=250)
@given(source=dialects(), rows=st.lists(VALUES, min_size=1, max_size=5), packing=st.sampled_from(["", ".gz", ".zst"]))
def test_what_is_written_in_a_dialect_reads_back_equal(
    source: SourceContract, rows: list[dict[str, Any]], packing: str
) -> None:
    data = written(rows, source)
    packed = {"": data, ".gz": gzip.compress(data), ".zst": zstd(data)}[packing]
    found = parse(packed, source, name=f"every.csv{packing}")
    assert_frame_equal(found, pl.DataFrame(rows, schema=SCHEMA, orient="row"), check_exact=True)


def one(text: str, dtype: str, **changes: Any) -> Any:
    """Return the one value of a column, quoted, in a dialect."""
    source = SourceContract("one", "one/one.csv", [ColumnContract(name="a", dtype=dtype, nullable=True)], **changes)
    return parse(f'a\n"{text}"\n'.encode(), source, name="one.csv")["a"][0]


@pytest.mark.parametrize(
    ("text", "decimal", "thousands", "value"),
    [
        ("1,234.5", ".", ",", 1234.5),
        ("1.234,5", ",", ".", 1234.5),
        ("1.234", ",", ".", 1234.0),
        ("-1 234 567,25", ",", " ", -1234567.25),
        ("1\u00a0234", ",", " ", 1234.0),
        ("1\u202f234,5", ",", " ", 1234.5),
        ("1'234.5", ".", "'", 1234.5),
        ("1’234.5", ".", "'", 1234.5),
        ("1234,5", ",", ".", 1234.5),
        ("1,5e3", ",", "", 1500.0),
        (",5", ",", "", 0.5),
    ],
)
def test_numbers_of_a_dialect(text: str, decimal: str, thousands: str, value: float) -> None:
    assert one(text, "Float64", decimal=decimal, thousands=thousands) == value
    if value.is_integer() and "e" not in text:
        assert one(text, "Int64", decimal=decimal, thousands=thousands) == value


@pytest.mark.parametrize(
    ("text", "decimal", "thousands"),
    [
        ("1,5", ".", ","),  # 15 in no dialect
        ("1,23,456", ".", ","),
        ("1.5", ",", "."),
        ("1.5", ",", ""),
        ("1,5", ".", ""),
        ("1,234,5", ".", ","),
        (",234", ".", ","),
        ("1 234.5", ",", " "),
        ("1234.567,8", ",", "."),
    ],
)
def test_a_number_of_another_dialect_is_not_guessed(text: str, decimal: str, thousands: str) -> None:
    with pytest.raises(ContractError, match=r"are not Float64, .* or set the source's `decimal` and `thousands`"):
        one(text, "Float64", decimal=decimal, thousands=thousands)


@pytest.mark.parametrize("text", ["1.0", "1.000", "+1.0", "01.00"])
def test_a_whole_number_may_have_empty_decimals(text: str) -> None:
    assert one(text, "Int64") == 1
    assert one("9007199254740993.0", "Int64") == 9007199254740993  # no way over a float


@pytest.mark.parametrize("text", ["1.01", "1.", ".0", "1.0e0", "1.0.0", "9223372036854775808.0", "inf", "nan"])
def test_other_decimals_are_not_rounded(text: str) -> None:
    with pytest.raises(ContractError, match="are not Int64"):
        one(text, "Int64")


@pytest.mark.parametrize("text", ["true", "T", "1", "Yes", "y", "TRUE"])
def test_words_for_true(text: str) -> None:
    assert one(text, "Boolean") is True
    assert one("X", "Boolean", true_values=["x"], false_values=["-"]) is True
    with pytest.raises(ContractError, match="are not Boolean"):
        one(text, "Boolean", true_values=["x"], false_values=["-"])


@pytest.mark.parametrize("text", ["false", "F", "0", "No", "n"])
def test_words_for_false(text: str) -> None:
    assert one(text, "Boolean") is False


def test_days_and_times_in_their_own_form() -> None:
    assert one("1/2/13", "Date", forms={"a": "%m/%d/%y"}) == date(2013, 1, 2)
    noon = datetime(2013, 1, 31, 12, tzinfo=UTC)
    assert one("31.01.2013 12:00", "Datetime", forms={"a": "%d.%m.%Y %H:%M"}) == noon
    assert one("31 Jan 2013 01:00:00 PM +0100", "Datetime", forms={"a": "%d %b %Y %I:%M:%S %p %z"}) == noon
    assert one("31.01.2013", "Datetime", forms={"a": "%d.%m.%Y"}) == noon - timedelta(hours=12)
    with pytest.raises(ContractError, match="are not Date, such as '2013-01-31' in line 2; correct them, or say in"):
        one("2013-01-31", "Date", forms={"a": "%d.%m.%Y"})


@pytest.mark.parametrize("text", ["01/02/2013 10:00", "31.01.2013 10:00", "x"])
def test_a_time_that_does_not_begin_with_its_year_is_not_guessed(text: str) -> None:
    with pytest.raises(ContractError, match=r"are not Datetime, .* say in the column's `format` how they are written"):
        one(text, "Datetime")


@pytest.mark.parametrize(("text", "dtype"), [("+12013-01-01", "Date"), ("-2013-01-01", "Date")])
def test_years_beyond_the_calendar_are_refused(text: str, dtype: str) -> None:
    with pytest.raises(ContractError, match="are not Date"):
        one(text, dtype)


def test_times_of_one_column_may_be_written_in_several_ways() -> None:
    texts = ["2013-01-31T10:00:00", "2013-01-31 10:00:00.5", "2013-01-31T10:00:00Z", "2013-01-31T11:00:00.250+01:00"]
    source = SourceContract("a", "a/a.csv", [ColumnContract(name="a", dtype="Datetime", nullable=True)])
    found = parse("\n".join(["a", *texts]).encode(), source, name="a.csv")["a"].to_list()
    assert found == [datetime(2013, 1, 31, 10, microsecond=us, tzinfo=UTC) for us in (0, 500_000, 0, 250_000)]
    with pytest.raises(ContractError, match="2 values are not Datetime, such as 'x' in line 2"):
        parse("\n".join(["a", "x", *texts, "y"]).encode(), source, name="a.csv")


# -- the shape of the table ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("a,b\n1,2\n\n3,4\n\n\n", [("1", "2"), ("3", "4")]),
        ("\n\na,b\n1,2\n", [("1", "2")]),
        ("a,b\r\n1,2\r\n\r\n,\r\n", [("1", "2"), (None, None)]),
        ("a,b\r1,2\r3,4\r", [("1", "2"), ("3", "4")]),
        ("a\n1\n\n2\n", [("1",), (None,), ("2",)]),
        ('a,b\n"x,y","line\nbreak"\n\n1,\n', [("x,y", "line\nbreak"), ("1", None)]),
        ('"a","b"\n"say ""hi""",NA\n', [('say "hi"', None)]),
        ('a,b\n,""\n', [(None, None)]),
        (f"a,b\n{'x' * 200_000},\n\n1,2\n", [("x" * 200_000, None), ("1", "2")]),
    ],
)
def test_rows_of_text(text: str, rows: list[tuple[str | None, ...]]) -> None:
    assert csv_rows(text.encode(), Dialect()).rows() == rows


@pytest.mark.parametrize("null", [".", "-", "?", " ", "\\N", "-999"])
def test_any_text_may_stand_for_null(null: str) -> None:
    text = f"a,b\n{null},1\n.x,{null}\n".encode()
    assert csv_rows(text, Dialect(null_values=[null])).rows() == [(None, "1"), (".x", None)]


@pytest.mark.parametrize("separator", [";", "\t", "|", " ", ":", "\x01", "\x1f"])
def test_any_character_may_separate(separator: str) -> None:
    text = "a,b\n1,\n\n'2,3',4\n".replace(",", separator)
    rows = csv_rows(text.encode(), Dialect(separator=separator, quote="'")).rows()
    assert rows == [("1", None), (f"2{separator}3", "4")]


def test_names_are_as_they_are_written() -> None:
    assert csv_rows(b'"a ""1""", b,c;d\n1,2,3\n', Dialect()).columns == ['a "1"', " b", "c;d"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a,b,c\n1,2,3\n4,5\n", "line 3 has 2 fields where the header has 3; repair and deliver it again"),
        ("a,b,c\n1,2,3\n4\n7,8,\n", "line 3 has 1 field where"),
        ('a,b\n"x\ny",2\n\n1\n', "line 5 has 1 field where"),
        ('a,b\n"x,y"\n', "line 2 has 1 field where"),
        ("a,b\n   \n1,2\n", "line 2 has 1 field where"),
        ("a,b\n1,2\n3,4,5\n", "line 3 has 3 fields where the header has 2"),
        ("a,b\n1,2,\n", "line 2 has 3 fields"),
        ('a,b\n1,2\n3,"4\n', "after line 2: unexpected end of data"),
        ("a,b,a,b\n1,2,3,4\n", r"columns \['a', 'b'\] appear more than once in the header; rename or drop"),
        (",a,\n1,2,3\n", r"columns \[''\] appear more than once"),
        ('a,"b\n1,2\n', "not a readable CSV"),
    ],
)
def test_a_row_that_breaks_the_table_is_named_by_its_line(text: str, reason: str) -> None:
    with pytest.raises(ContractError, match=reason):
        csv_rows(text.encode(), Dialect())


FIELDS = st.text(st.sampled_from(' ,\n"ax'), max_size=3)


@settings(max_examples=300)
@given(width=st.integers(2, 4), rows=st.lists(st.lists(FIELDS, max_size=4), max_size=5))
def test_no_row_changes_its_shape_in_silence(width: int, rows: list[list[str]]) -> None:
    """Python's own reader is the oracle: the same rows, or the line of the first that is too short or too long."""
    target = io.StringIO()
    csv.writer(target, lineterminator="\n").writerows([[f"c{at}" for at in range(width)], *rows])
    reader = csv.reader(io.StringIO(target.getvalue()))
    before, ragged = 0, None
    for fields in reader:
        ragged = ragged or (before + 1 if fields and len(fields) != width else None)
        before = reader.line_num
    if ragged:
        with pytest.raises(ContractError, match=f"line {ragged} has"):
            csv_rows(target.getvalue().encode(), Dialect())
    else:
        found = csv_rows(target.getvalue().encode(), Dialect())
        assert found.rows() == [tuple(text or None for text in row) for row in rows if row]


@settings(max_examples=60)
@given(quote=st.sampled_from(['"', ""]), cells=st.lists(st.text(st.sampled_from("'ab\"0"), min_size=1), min_size=1))
def test_without_quotes_every_mark_is_a_mark(quote: str, cells: list[str]) -> None:
    assume(not quote or not any('"' in cell for cell in cells))
    text = "\n".join(["a;b", *[f"{cell};1" for cell in cells]])
    found = csv_rows(text.encode(), Dialect(separator=";", quote=quote))
    assert found["a"].to_list() == cells


def test_the_line_of_a_wrong_value_counts_line_breaks_and_empty_lines() -> None:
    columns = [
        ColumnContract(name=name, dtype=dtype, nullable=True) for name, dtype in (("a", "String"), ("b", "Int64"))
    ]
    source = SourceContract("a", "a/a.csv", columns)
    with pytest.raises(ContractError, match="1 values are not Int64, such as 'y' in line 6; correct them"):
        parse(b'a,b\n"x\n\nx",1\n\nx,y\n', source, name="a.csv")
    hidden = replace(source, columns=[columns[0], replace(columns[1], personal=True)])
    with pytest.raises(ContractError, match="such as one in line 2"):
        parse(b"a,b\nx,secret\n", hidden, name="a.csv")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("whole;real;text\n1;2;3\n", "set the source's `separator` to ';': the header is 'whole;real;text'"),
        (
            ",whole,real,text,yes,day,moment\n0,1,2,3,1,,\n",
            r"unknown columns \[''\]; .*index of pandas: write with index=F",
        ),
        ("whole,rael\n1,2\n", r"columns missing: real \(renamed to rael\?\), text, yes, day, moment; deliver"),
    ],
)
def test_a_header_that_does_not_fit_comes_with_a_hint(text: str, reason: str) -> None:
    with pytest.raises(ContractError, match=reason):
        parse(text.encode(), contract(), name="every.csv")


# -- size ------------------------------------------------------------------------------------------------------------------


def test_a_wide_file_and_a_long_one_are_read_and_refused_fast() -> None:
    wide = [ColumnContract(name=f"column_{at}", dtype="Float64", nullable=True) for at in range(1000)]
    names = ",".join(column.name for column in wide)
    body = ",".join(["0.5"] * 1000) + "\n"
    source = replace(contract(), columns=wide)
    start = time.perf_counter()
    assert parse(f"{names}\n{body * 1000}".encode(), source, name="a.csv").shape == (1000, 1000)
    with pytest.raises(ContractError, match="and 990 more; deliver all declared columns"):
        parse(f"{names.replace('column', 'other')}\n{body}".encode(), source, name="a.csv")
    long = "whole,real,text,yes,day,moment\n" + "1,1.5,x,y,2013-01-31,2013-01-31T10:00:00Z\n" * 100_000
    assert parse(long.encode(), contract(), name="a.csv").height == 100_000
    assert time.perf_counter() - start < 20  # a second on a quiet machine
    assert MOST_BYTES == 2**31


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
@pytest.mark.parametrize("cut", [False, True])
def test_a_files_beginning_is_read_without_unpacking_the_rest(ending: str, cut: bool) -> None:
    text = b"id,value\n" + b"1,2\n" * 100_000
    packed = {"": text, ".gz": gzip.compress(text, mtime=0)}
    data = packed[ending] if ending in packed else pa.compress(text, "zstd", asbytes=True)
    found = beginning(data[: len(data) // 2] if cut else data, f"a.csv{ending}", most=12)
    assert found == text[:12] or (cut and ending == ".zst")


def test_what_is_not_compressed_as_its_name_says_is_shown_as_it_is() -> None:
    assert beginning(b"plain text", "a.csv.gz", most=5) == b"plain"
