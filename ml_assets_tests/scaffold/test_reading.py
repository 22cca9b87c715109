"""Files of any dialect are read as they were meant; what is no table is refused with file, place and fix."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ml_assets.collection.values import from_text
from ml_assets.scaffold import reading
from ml_assets.scaffold.errors import ScaffoldError
from ml_assets.scaffold.reading import Table, read
from ml_assets_tests.scaffold.world import customers


def table(folder: Path, text: str | bytes, name: str = "table.csv") -> Table:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(str(path))


# -- dialects ----------------------------------------------------------------------------------------------------------

NUMBER = st.decimals(min_value=-(10**7), max_value=10**7, places=2, allow_nan=False)


def spelled(number: object, decimal: str, thousands: str) -> str:
    text = f"{number:,.2f}"
    return text.replace(",", "\0").replace(".", decimal).replace("\0", thousands)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    numbers=st.lists(NUMBER, min_size=3, max_size=30).filter(lambda found: any(abs(one) >= 1000 for one in found)),
    marks=st.sampled_from(
        [(".", ""), (".", ","), (".", "'"), (".", " "), (",", ""), (",", "."), (",", " "), (",", "'")]
    ),
    separator=st.sampled_from([",", ";", "\t", "|", "^", "~"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]),
    quote=st.sampled_from(['"', "'"]),
    packed=st.booleans(),
)
def test_any_dialect_reads_back(
    tmp_path: Path,
    numbers: list[object],
    marks: tuple[str, str],
    separator: str,
    encoding: str,
    quote: str,
    packed: bool,
) -> None:
    if quote in marks:
        quote = '"'
    rows = [(f"Größe {place}{separator} ü", spelled(number, *marks)) for place, number in enumerate(numbers)]
    lines = ["name", "größe"], *rows
    text = "\n".join(separator.join(f"{quote}{field}{quote}" for field in line) for line in lines) + "\n"
    data = text.encode(encoding)
    found = table(tmp_path, gzip.compress(data) if packed else data)
    assert found.frame["name"].to_list() == [name for name, _ in rows]
    assert (found.dialect.separator, found.dialect.quote) == (separator, quote)
    values = from_text(found.frame["größe"], "Float64", found.dialect)
    assert values.to_list() == pytest.approx([float(number) for number in numbers])  # type: ignore[arg-type]
    assert found.compression == ("gz" if packed else "")


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        ("a;b\n1,234;x\n2,345;y\n", (",", "")),  # with semicolons a lone comma is rather a decimal point
        ('a,b\n"1,234",x\n"12,345",y\n', (".", ",")),
        ('a,b\n"0,125",x\n"0,25",y\n', (",", "")),
        ("a;b\n1.234;x\n2.345;y\n", (".", "")),
        ("a;b;c\n1.234;x;1,5\n2.345;y;2,5\n", (",", ".")),  # another column tells
        ("a,b\n1.5,10.0.0.1\n2.5,10.0.0.2\n", (".", "")),
        ("a;b\n01.02.2024;1\n02.02.2024;2\n", (".", "")),
    ],
)
def test_decimal_and_thousands_are_told_by_all_columns(tmp_path: Path, text: str, marks: tuple[str, str]) -> None:
    dialect = table(tmp_path, text).dialect
    assert (dialect.decimal, dialect.thousands) == marks


def test_quotes_hold_separators_and_line_ends(tmp_path: Path) -> None:
    found = table(tmp_path, 'a;b\n"one; two";1\n"three\nfour";2\n')
    assert found.frame.rows() == [("one; two", "1"), ("three\nfour", "2")]


def test_null_spellings_are_those_that_are_there(tmp_path: Path) -> None:
    found = table(tmp_path, "a,b\nNA,1\n?,2\nx,\n")
    assert found.dialect.null_values == ("", "NA", "?")
    assert found.frame["a"].to_list() == [None, None, "x"]


def test_blanks_after_separators_are_no_values(tmp_path: Path) -> None:
    found = table(tmp_path, "age, work, pay\n39, ?, low\n50, Private, high\n")
    assert found.padded
    assert found.frame[" work"].to_list() == [None, " Private"]


def test_parquet_and_json_lines_keep_their_types(tmp_path: Path) -> None:
    frame = customers(20)
    frame.write_parquet(tmp_path / "a.parquet")
    assert_frame_equal(read(str(tmp_path / "a.parquet")).frame, frame)
    found = table(tmp_path, '{"a": 1, "b": "x"}\n{"b": "y", "a": 2.5}\n{"a": null}\n', "a.jsonl")
    assert found.frame.rows() == [(1.0, "x"), (2.5, "y"), (None, None)]


def test_the_bytes_tell_the_format_not_the_name(tmp_path: Path) -> None:
    frame = customers(20)
    frame.write_parquet(tmp_path / "data.bin")
    assert read(str(tmp_path / "data.bin")).format == "parquet"
    assert table(tmp_path, gzip.compress(b"a,b\n1,2\n"), "data.txt").ending == "csv.gz"


# -- places --------------------------------------------------------------------------------------------------------------


@contextmanager
def served(folder: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_url_is_fetched(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n"))
    with served(tmp_path) as url:
        found = read(f"{url}/a.csv.gz")
        assert (found.frame.rows(), found.files[0].name) == ([("1", "2")], "a.csv.gz")
        with pytest.raises(ScaffoldError, match=r"nothere\.csv' cannot be fetched"):
            read(f"{url}/nothere.csv")
    with pytest.raises(ScaffoldError, match="cannot be fetched"):
        read(f"{url}/a.csv.gz")


def test_other_file_systems_and_their_globs() -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    for number in (1, 2):
        memory.pipe(f"/scaffold/part{number}.csv", f"a,b\n{number},x\n".encode())
    assert read("memory://scaffold/part*.csv").frame["a"].to_list() == ["1", "2"]
    with pytest.raises(ScaffoldError, match="there is no such file"):
        read("memory://scaffold/other*.csv")
    with pytest.raises(ScaffoldError, match="cannot be fetched: Protocol not known"):
        read("nosuch://scaffold/a.csv")


def test_files_of_one_shape_are_one_table(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"{number}.csv").write_text(f'"a\nb";c\n{number};x\n')
    found = read(str(tmp_path / "*.csv"))
    assert found.frame.rows() == [("1", "x"), ("2", "x")]
    assert found.delivery() == b'"a\nb";c\n1;x\n2;x\n'
    assert (found.where(0), found.where(1)) == ("1.csv line 2", "2.csv line 2")
    (tmp_path / "3.csv").write_text("c;a\n1;2\n")
    with pytest.raises(ScaffoldError, match=r"3\.csv has other columns than 1\.csv: besides \['a'\]"):
        read(str(tmp_path / "*.csv"))


# -- what is no table ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"a,b\n", "a header but no rows"),
        (b"a,a\n1,2\n", "columns ['a'] appear more than once"),
        (b"a,b\n1,2\n1,2,3\n", "line 3 has 3 fields"),
        (b"a,b,c\n1,2,3\n1,2\n", "line 3 has 2 fields"),
        (b",b\n1,2\n", "column 1 has no name"),
        (b"1,2\n3,4\n", "values, not names; add a header line"),
        (b"alone\n1\n2\n", "no separator gives the header"),
        (b"<html><body>sign in</body></html>", "a web page"),
        (b"PK\x03\x04whatever", "an Excel workbook"),
        (b'[{"a": 1}]', "one JSON list"),
        (b'{"a": 1}\n{"a": }\n', "line 2 is not JSON"),
        (b'{"a": 1, "a": 2}\n', "['a'] more than once"),
        (b'{"a": {"b": 1}}\n', "columns ['a'] hold lists or objects"),
        (b"PAR1nonsensePAR1", "no readable Parquet file"),
        (gzip.compress(b"a,b\n1,2\n" * 99, mtime=0)[:20], "truncated"),
        (b"a, b\n1, 2,5\n3, 4,5\n", "no separator gives the header"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, text: bytes, told: str) -> None:
    with pytest.raises(ScaffoldError) as caught:
        table(tmp_path, text)
    assert "table.csv" in str(caught.value)
    assert told in str(caught.value)


def test_places_without_a_file(tmp_path: Path) -> None:
    with pytest.raises(ScaffoldError, match="there is no such file"):
        read(str(tmp_path / "nothere.csv"))
    with pytest.raises(ScaffoldError, match="is a folder; write the files"):
        read(str(tmp_path))


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST_BYTES", 1000)
    with pytest.raises(ScaffoldError, match="more than 1,000"):
        table(tmp_path, "a,b\n" + "1,2\n" * 400)
    with pytest.raises(ScaffoldError, match="larger than 1000 bytes decompressed"):
        table(tmp_path, gzip.compress(b"a,b\n" + b"1,2\n" * 400))
