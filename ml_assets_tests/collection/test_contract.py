"""What a delivered file may look like, and what a person reads when it does not."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.collection import contract as room
from ml_assets.collection.contract import ContractError, SourceContract, check_day, check_expected, parse
from ml_assets.quality.contract import ColumnContract
from ml_assets_tests.collection.outside import THINGS

TYPES = {
    "whole": ("Int64", "3", 3),
    "real": ("Float64", "2.5", 2.5),
    "text": ("String", "Zürich", "Zürich"),
    "yes": ("Boolean", "TRUE", True),
    "day": ("Date", "2013-01-31", date(2013, 1, 31)),
    "moment": ("Datetime", "2013-01-31T10:00:00Z", datetime(2013, 1, 31, 10, tzinfo=UTC)),
}
EVERY = SourceContract(
    "every", "every/{day}.csv", [ColumnContract(name=n, dtype=t, nullable=True) for n, (t, _, _) in TYPES.items()]
)
GOOD = b"id,value\n1,0.5\n2,\n"


def read(text: str | bytes, contract: SourceContract = THINGS, name: str = "a.csv") -> pl.DataFrame:
    return parse(text if isinstance(text, bytes) else text.encode(), contract, name=name)


def header(*rows: Sequence[str]) -> str:
    return "\n".join([",".join(TYPES), *(",".join(row) for row in rows)])


# -- names -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["things/things-2013-01-31.csv", "things/things-2013-01-31.again.csv"])
def test_the_name_tells_the_day(name: str) -> None:
    assert THINGS.day_of(name) == "2013-01-31"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("things/other-2013-01-31.csv", "does not fit 'things/things-{day}"),
        ("things/deeper/things-2013-01-31.csv", "rename the file and deliver it again"),
        ("things/things-2013-01-31.csv.bak", "does not fit"),
        ("things/things-2013-02-30.csv", "'2013-02-30' in the name is not a day like 2013-01-31; rename"),
        ("things/things-2013-W05-4.csv", "'2013-W05-4' in the name is not a day"),
        ("things/things-31.01.2013.csv", "is not a day"),
    ],
)
def test_a_name_that_does_not_fit_is_refused(name: str, reason: str) -> None:
    with pytest.raises(ContractError, match=reason):
        THINGS.day_of(name)


def test_a_source_without_days_has_none() -> None:
    plain = replace(THINGS, pattern="ref/ref*.csv")
    assert (plain.partitioned, plain.folder, plain.day_of("ref/ref-new.csv")) == (False, "ref", None)
    assert THINGS.partitioned


NOON = datetime(2013, 6, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("day", [None, "2013-01-01", "2013-06-01"])
def test_expected_days(day: str | None) -> None:
    check_expected(day, THINGS, now=NOON)


@pytest.mark.parametrize(
    ("day", "days", "reason"),
    [
        ("2013-06-02", "2013-01-01/2013-12-31", r"2013-06-02 is in the future \(now is 2013-06-01\); correct the day"),
        ("2012-12-31", "2013-01-01/2013-12-31", "outside the declared days 2013-01-01/2013-12-31; widen them"),
        ("2013-05-01", "2013-01-01/2013-04-30", "outside the declared days"),
        ("2012-12-31", "2013-01-01/", "outside the declared days"),
    ],
)
def test_unexpected_days(day: str, days: str, reason: str) -> None:
    with pytest.raises(ContractError, match=reason):
        check_expected(day, replace(THINGS, days=days), now=NOON)


# -- contents --------------------------------------------------------------------------------------------------------------


def test_every_type_is_read() -> None:
    frame = read(header([text for _, text, _ in TYPES.values()], ["NA"] * len(TYPES)), EVERY)
    assert frame.rows() == [tuple(value for _, _, value in TYPES.values()), (None,) * len(TYPES)]
    assert [str(dtype) for dtype in frame.dtypes[:5]] == ["Int64", "Float64", "String", "Boolean", "Date"]
    assert frame.schema["moment"] == pl.Datetime("us", "UTC")


@pytest.mark.parametrize(
    "written", ["2013-01-31T10:00:00Z", "2013-01-31 10:00:00", "2013-01-31T11:00:00+01:00", "2013-01-31T10:00:00.000Z"]
)
def test_times_are_utc_unless_they_say_otherwise(written: str) -> None:
    row = [written if name == "moment" else "" for name in TYPES]
    assert read(header(row, row), EVERY)["moment"].to_list() == [datetime(2013, 1, 31, 10, tzinfo=UTC)] * 2


@pytest.mark.parametrize("name", [name for name in TYPES if name != "text"])
def test_a_value_of_another_type_is_named_with_its_line(name: str) -> None:
    good, bad = ([wrong if column == name else text for column, (_, text, _) in TYPES.items()] for wrong in ("", "x1"))
    with pytest.raises(
        ContractError, match=f"column {name}: 1 values are not {TYPES[name][0]}, such as 'x1' in line 3"
    ):
        read(header(good, bad), EVERY)


@pytest.mark.parametrize("number", ["1.5", " 1", "1e3", "99999999999999999999", "1,000"])
def test_what_is_no_whole_number_is_not_rounded(number: str) -> None:
    with pytest.raises(ContractError, match="are not Int64"):
        read(f'id,value\n"{number}",1\n')


def test_columns_come_in_the_contracts_order() -> None:
    assert read("value,id\n0.5,1\n").rows() == [(1, 0.5)]


def test_compression_goes_by_the_name() -> None:
    assert read(gzip.compress(GOOD, mtime=0), name="a.csv.gz").equals(read(GOOD))
    assert read(b"\xef\xbb\xbf" + GOOD).equals(read(GOOD))  # a byte order mark
    assert read(GOOD.replace(b"\n", b"\r\n")).equals(read(GOOD))


PACKED = gzip.compress(GOOD * 50, mtime=0)


@pytest.mark.parametrize(
    ("data", "name", "reason"),
    [
        (b"", "a.csv", "the file is empty; deliver it again with its rows"),
        (b"", "a.csv.gz", "the file is empty"),
        (b" \n\n", "a.csv", "the file is empty"),
        (gzip.compress(b"", mtime=0), "a.csv.gz", "the file is empty"),
        (b"id,value\n", "a.csv", "header but no rows"),
        (PACKED[: len(PACKED) // 2], "a.csv.gz", "truncated; the upload was cut off, deliver it again"),
        (PACKED[:-4], "a.csv.gz", "truncated"),
        (PACKED[:20] + b"\x00\x01" + PACKED[22:], "a.csv.gz", "gzip stream is (damaged|truncated)"),
        (GOOD, "a.csv.gz", "damaged .*; deliver it again"),
        (b"id,value\n1,\xff\xfe\n", "a.csv", r"invalid utf-8 in line 2, byte 12 .*repair and deliver it again"),
        (b"id,value\n1,2,3\n", "a.csv", "not a readable CSV"),
        (b"id\n1\n", "a.csv", "column missing: value; deliver all declared columns"),
        (b"other\n1\n", "a.csv", "columns missing: id, value"),
        (b"id,vaule\n1,2\n", "a.csv", r"value \(renamed to vaule\?\)"),
        (b"id,value,more\n1,2,3\n", "a.csv", r"unknown columns \['more'\]; declare them"),
        (b"id,value,id\n1,2,3\n", "a.csv", r"columns \['id'\] appear more than once"),
    ],
)
def test_a_broken_file_is_refused_with_a_reason(data: bytes, name: str, reason: str) -> None:
    with pytest.raises(ContractError, match=reason):
        read(data, name=name)


def test_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MOST_BYTES", 10)
    with pytest.raises(ContractError, match="larger than 10 bytes decompressed; split it"):
        read(gzip.compress(GOOD, mtime=0), name="a.csv.gz")


@settings(max_examples=60)
@given(data=st.data())
def test_whatever_lands_is_read_or_refused(data: st.DataObject) -> None:
    """Bytes of a good file, some of them changed: rows or a reason, and never another error."""
    text = bytearray(header([text for _, text, _ in TYPES.values()], ["NA"] * len(TYPES)).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at, width = data.draw(st.integers(0, len(text))), data.draw(st.integers(0, 3))
        text[at : at + width] = data.draw(
            st.binary(max_size=3) | st.sampled_from([b",", b'"', b"\n", b"\r", b"-", b"9"])
        )
    try:
        frame = read(bytes(text), EVERY)
    except ContractError as error:
        assert str(error)
    else:
        assert frame.columns == list(TYPES)


# -- the day of the rows ---------------------------------------------------------------------------------------------------

DATED = replace(
    THINGS,
    columns=[ColumnContract(name=name, dtype="Int64", nullable=True) for name in ("id", "year", "month", "day")],
    day_columns=["year", "month", "day"],
)


def dated(*rows: tuple[int | None, ...]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["year", "month", "day"], orient="row").with_row_index("id")


def test_rows_of_the_files_day_pass() -> None:
    check_day(dated((2013, 1, 31), (2013, 1, 31)), DATED, "2013-01-31")
    check_day(dated((2013, 1, 30)), DATED, None)
    check_day(dated((2013, 1, 30)), THINGS, "2013-01-31")  # no day columns are declared


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ((2013, 1, 30), "2013-01-30"),
        ((2013, 13, 1), "2013-13-01"),
        ((2013, 2, 31), "2013-02-31"),
        ((2013, None, 31), "2013-.-31"),
    ],
)
def test_rows_of_another_day_are_refused(row: tuple[int | None, ...], told: str) -> None:
    with pytest.raises(ContractError, match=f"1 rows are of another day than 2013-01-31, such as {told}; split"):
        check_day(dated((2013, 1, 31), row), DATED, "2013-01-31")
