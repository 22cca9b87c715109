"""A gallery of bad files, each collected between two good neighbours: what becomes of it, and what a person reads."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import unicodedata
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from ml_assets.collection.collect import Landing, collect, waiting
from ml_assets.collection.contract import SourceContract
from ml_assets.collection.ledger import Entry
from ml_assets.quality.contract import ColumnContract
from ml_assets_tests.collection.outside import NOW, open_places, put

BEFORE, DAY, AFTER = "2013-01-30", "2013-01-31", "2013-02-01"
GALLERY = SourceContract(
    "gallery",
    "gallery/gallery-{day}*.csv",
    [
        ColumnContract(name="id", dtype="Int64"),
        ColumnContract(name="must", dtype="Float64", minimum=0),
        ColumnContract(name="may", dtype="Float64", nullable=True, sparse=True, minimum=-1000, maximum=1000),
        ColumnContract(name="free", dtype="Float64", nullable=True, sparse=True),
        ColumnContract(name="at", dtype="Datetime", nullable=True, sparse=True),
        ColumnContract(name="word", dtype="String", nullable=True, sparse=True),
    ],
    key=["id"],
    days="2013-01-01/2013-12-31",
    past=["at"],
)
NAMES = ("id", "must", "may", "free", "at", "word")
HEADER = ",".join(NAMES) + "\n"
FIRST = "1,0.5,1,1,2013-01-31T10:00:00Z,a\n"
GOOD = HEADER + FIRST
MOMENT = datetime(2013, 1, 31, 10, tzinfo=UTC)


def row(**values: str) -> str:
    """Return the second line of data with some values changed."""
    plain = {"id": "2", "must": "1", "may": "", "free": "", "at": "", "word": ""}
    return ",".join((plain | values).values()) + "\n"


def as_parquet(**columns: pa.Array) -> bytes:
    """Return the good row as Parquet, with some columns changed."""
    plain = {"id": pa.array([1]), "must": pa.array([0.5]), "may": pa.array([1.0]), "free": pa.array([1.0])}
    plain |= {"at": pa.array([MOMENT], pa.timestamp("us", "UTC")), "word": pa.array(["a"])}
    target = io.BytesIO()
    parquet.write_table(pa.table(plain | columns), target)
    return target.getvalue()


STORED = as_parquet()


@dataclass(frozen=True)
class Bad:
    """One file that goes to quarantine, and what its reason says of line, column, value and repair."""

    title: str
    data: str | bytes
    says: tuple[str, ...]
    kind: str = "csv"

    @property
    def bytes(self) -> bytes:
        return self.data.encode() if isinstance(self.data, str) else self.data

    @property
    def contract(self) -> SourceContract:
        return replace(GALLERY, pattern=f"gallery/gallery-{{day}}*.{self.kind}")


BAD = (
    Bad("zero bytes", b"", ("the file is empty", "deliver it again with its rows")),
    Bad("header only", HEADER, ("a header but no rows", "deliver it again with its rows")),
    Bad("mark of utf-8 only", b"\xef\xbb\xbf", ("the file is empty",)),
    Bad(
        "mixed encodings",
        (HEADER + row(word="Zürich")).encode() + row(id="3", word="Zürich").encode("latin-1"),
        ("invalid utf-8 in line 3", "0xfc", "repair and deliver it again"),
    ),
    Bad("undeclared utf-16", GOOD.encode("utf-16"), ("begins like utf-16", "set the source's `encoding`")),
    Bad("ragged, short", GOOD + "2,1\n", ("line 3 has 2 fields where the header has 6", "repair and deliver it again")),
    Bad("ragged, long", GOOD + row(word="a,b"), ("line 3 has 7 fields where the header has 6",)),
    Bad("open quote", GOOD + row(word='"a'), ("not a readable CSV", "repair")),
    Bad("duplicate header", GOOD.replace("may,", "must,", 1), ("['must'] appear more than once", "drop all but one")),
    Bad("int turned string", GOOD + row(id="two"), ("column id", "not Int64", "'two' in line 3", "correct them")),
    Bad("huge int", GOOD + row(id="9" * 30), ("column id", "not Int64", "99999' in line 3", "correct them")),
    Bad("infinity under a limit", GOOD + row(must="inf"), ("column must", "not Float64", "'inf' in line 3")),
    Bad("infinity without a limit", GOOD + row(free="-Infinity"), ("column free", "'-Infinity' in line 3", "correct")),
    Bad("overflow to infinity", GOOD + row(free="1e999"), ("column free", "'1e999' in line 3", "correct them")),
    Bad("NaN where it must be known", GOOD + row(must="NaN"), ("`must` must not be null", "1 of 2 not so")),
    Bad("all null where it must be known", HEADER + row(must="") + row(id="3", must=""), ("`must` must not be null", "2 of 2")),
    Bad("below its limit", GOOD + row(must="-0.5"), ("`must` must be at least 0", "1 of 2 not so", "-0.5")),
    Bad("constant key", HEADER + FIRST * 3, ("`id`", "3 of 3 not so")),
    Bad(
        "future time",
        GOOD + row(at="2032-01-31T10:00:00Z"),
        ("column at: 1 values are in the future (now is 2013-03-01 00:00), such as 2032-01-31 10:00", "row 2", "correct"),
    ),
    Bad("time beyond the calendar", GOOD + row(at="12013-01-31T10:00:00Z"), ("column at", "not Datetime", "in line 3")),
    Bad("Parquet, cut off", STORED[:-20], ("not a readable Parquet file, truncated or damaged", "deliver it again"), "parquet"),
    Bad("Parquet, first half", STORED[: len(STORED) // 2], ("truncated or damaged",), "parquet"),
    Bad("Parquet that is CSV", GOOD, ("not a readable Parquet file",), "parquet"),
    Bad("Parquet, infinity", as_parquet(free=pa.array([float("inf")])), ("column free", "inf in row 1", "correct"), "parquet"),
    Bad("Parquet, int turned string", as_parquet(id=pa.array(["1"])), ("column id: it holds text, and Int64",), "parquet"),
    Bad("Parquet, untyped nulls", as_parquet(must=pa.nulls(1)), ("`must` must not be null",), "parquet"),
    Bad("gzip, cut off", gzip.compress(GOOD.encode(), mtime=0)[:-9], ("truncated", "deliver it again"), "csv.gz"),
    Bad("gzip, garbage", b"\x1f\x8b garbage", ("gzip stream is damaged", "deliver it again"), "csv.gz"),
)  # fmt: skip


def good(kind: str) -> bytes:
    packed = {"csv": GOOD.encode(), "parquet": STORED, "csv.gz": gzip.compress(GOOD.encode(), mtime=0)}
    return packed[kind]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.title)
def test_it_goes_to_quarantine_whole_with_a_reason_and_its_neighbours_go_in(tmp_path: Path, bad: Bad) -> None:
    places = open_places(tmp_path)
    put(places, f"gallery/gallery-{BEFORE}.{bad.kind}", good(bad.kind))
    name = put(places, f"gallery/gallery-{DAY}.{bad.kind}", bad.bytes)
    put(places, f"gallery/gallery-{AFTER}.{bad.kind}", good(bad.kind))
    done = collect(bad.contract, places, now=NOW)

    (entry,) = done.with_status("quarantined")
    assert (entry.name, entry.size, entry.partition) == (name, len(bad.bytes), DAY)
    assert [part for part in bad.says if part not in entry.reason] == [], entry.reason
    assert waiting(bad.contract, places) == [entry]
    (kept,) = [item for item in places.quarantine.names() if not item.endswith(".reason.json")]
    assert places.quarantine.read(kept) == bad.bytes
    assert [item.partition for item in done.with_status("ingested")] == [BEFORE, AFTER]
    assert {day: manifest.rows for day, manifest in places.lake.manifests("raw/gallery").items()} == {
        BEFORE: 1,
        AFTER: 1,
    }
    assert collect(bad.contract, places, now=NOW).entries == []


# -- what looks odd and is good ------------------------------------------------------------------------------------------------

NOT_BAD: dict[str, tuple[str | bytes, list[tuple[object, ...]]]] = {
    "mark of utf-8": (b"\xef\xbb\xbf" + GOOD.encode(), [(1, 0.5, 1.0, 1.0, MOMENT, "a")]),
    "lines end as on Windows": (GOOD.replace("\n", "\r\n"), [(1, 0.5, 1.0, 1.0, MOMENT, "a")]),
    "no line end at the end": (GOOD.rstrip(), [(1, 0.5, 1.0, 1.0, MOMENT, "a")]),
    "all null where it may be": (HEADER + row(), [(2, 1.0, None, None, None, None)]),
    "NaN is no value": (HEADER + row(free="NaN", may="nan"), [(2, 1.0, None, None, None, None)]),
    "constant columns": (GOOD + FIRST.replace("1,", "2,", 1), [(1, 0.5, 1.0, 1.0, MOMENT, "a"), (2, 0.5, 1.0, 1.0, MOMENT, "a")]),
    "negative zero": (HEADER + row(must="-0.0"), [(2, 0.0, None, None, None, None)]),
    "the largest whole number": (HEADER + row(id=str(2**63 - 1)), [(2**63 - 1, 1.0, None, None, None, None)]),
    "a line break in quotes": (HEADER + row(word='"a\nb"'), [(2, 1.0, None, None, None, "a\nb")]),
    "a time of this moment": (HEADER + row(at=NOW.isoformat()), [(2, 1.0, None, None, NOW, None)]),
    "text is not normalized": (HEADER + row(word="e\u0301"), [(2, 1.0, None, None, None, "e\u0301")]),
}  # fmt: skip


@pytest.mark.parametrize("title", NOT_BAD)
def test_what_looks_odd_and_is_good_goes_in_as_it_is(tmp_path: Path, title: str) -> None:
    data, rows = NOT_BAD[title]
    places = open_places(tmp_path)
    put(places, f"gallery/gallery-{DAY}.csv", data)
    assert [entry.status for entry in collect(GALLERY, places, now=NOW).entries] == ["ingested"]
    assert places.lake.read("raw/gallery").select(NAMES).rows() == rows


def test_a_time_in_the_future_is_a_value_where_the_contract_allows_it(tmp_path: Path) -> None:
    places = open_places(tmp_path)
    put(places, f"gallery/gallery-{DAY}.csv", HEADER + row(at="2032-01-31T10:00:00Z"))
    (entry,) = collect(replace(GALLERY, past=()), places, now=NOW).entries
    assert entry.status == "ingested"


# -- names ---------------------------------------------------------------------------------------------------------------------

COMPOSED = unicodedata.normalize("NFC", "é")
DECOMPOSED = unicodedata.normalize("NFD", "é")


def collected(places: Landing, *names: str) -> dict[str, Entry]:
    for name in names:
        put(places, name, GOOD.replace("1,", f"{len(name)},", 1))
    return {entry.name: entry for entry in collect(GALLERY, places, now=NOW).entries}


def test_names_that_only_look_alike_are_two_files(tmp_path: Path) -> None:
    names = [f"gallery/gallery-{DAY}.{letter}.csv" for letter in (COMPOSED, DECOMPOSED)]
    found = collected(open_places(tmp_path), *names)
    assert sorted(found[name].status for name in names) == ["ingested", "superseded"]


@pytest.mark.parametrize(
    "name",
    ["gallery/gallery-..csv", "gallery/été 東京 🛫.csv", "gallery/'; rm -rf $HOME;.csv", "gallery/a\nb.csv",
     "gallery/deeper/gallery-2013-01-31.csv", "gallery/gallery-２０１３-01-31.csv", "gallery/" + "n" * 250],
    ids=ascii,
)  # fmt: skip
def test_a_name_of_no_day_goes_to_quarantine_under_a_name_that_stays_inside(tmp_path: Path, name: str) -> None:
    places = open_places(tmp_path)
    found = collected(places, name, f"gallery/gallery-{DAY}.csv")
    assert (found[name].status, found[name].partition) == ("quarantined", None)
    assert "rename the file" in found[name].reason
    assert found[f"gallery/gallery-{DAY}.csv"].status == "ingested"
    (kept,) = [item for item in places.quarantine.names() if not item.endswith(".reason.json")]
    assert places.quarantine.read(kept) == places.landing.read(name)
    assert {path.name for path in tmp_path.iterdir()} == {"landing", "lake", "quarantine"}


# -- bombs ---------------------------------------------------------------------------------------------------------------------

BOUND, BOMBS = 2**28, 4
BOMB = """
import resource, sys, time
from pathlib import Path
from ml_assets.collection import contract, formats, tables
from ml_assets_tests.collection.outside import NOW, open_places
from ml_assets_tests.collection.test_bad_files import Bad, collect
for room in (contract, formats, tables):
    room.MOST_BYTES = {bound}
contract_ = Bad("", "", (), {kind!r}).contract
begin, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
entries = collect(contract_, open_places(Path({root!r})), now=NOW).entries
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(*sorted(f"{{entry.status}}: {{entry.reason}}" for entry in entries), sep="\\n")
print(grown // 1024, time.monotonic() - begin)
"""


def zstd(data: bytes, times: int) -> bytes:
    target = pa.BufferOutputStream()
    with pa.CompressedOutputStream(target, "zstd") as file:
        for _ in range(times):
            file.write(data)
    return target.getvalue().to_pybytes()


def repeated(text: str, rows: int) -> bytes:
    """Return Parquet in which one long text stands in every row: stored once."""
    words = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([text]))
    ones = {"must": pa.array([1.0] * rows), "may": pa.nulls(rows, pa.float64()), "free": pa.nulls(rows, pa.float64())}
    times = pa.nulls(rows, pa.timestamp("us"))
    target = io.BytesIO()
    parquet.write_table(
        pa.table({"id": pa.array(range(rows))} | ones | {"at": times, "word": words}), target, compression="zstd"
    )
    return target.getvalue()


def bomb(kind: str) -> bytes:
    """Return a small file that would be 10 GB."""
    if kind == "csv.gz":
        return gzip.compress(bytes(2**24), mtime=0) * 640  # members one after the other are one stream
    return zstd(bytes(2**24), 640) if kind == "csv.zst" else repeated("x" * 10**6, 10_000)


@pytest.mark.parametrize("kind", ["csv.gz", "csv.zst", "parquet"])
def test_bombs_are_refused_in_bounded_memory_and_time_and_their_neighbour_goes_in(tmp_path: Path, kind: str) -> None:
    places = open_places(tmp_path)
    data = bomb(kind)
    assert len(data) < 11 * 10**6
    for number in range(BOMBS):
        put(places, f"gallery/gallery-{DAY}.{number}.{kind}", data)
    small = {"csv.gz": gzip.compress(GOOD.encode()), "csv.zst": zstd(GOOD.encode(), 1), "parquet": STORED}[kind]
    put(places, f"gallery/gallery-{AFTER}.{kind}", small)
    code = BOMB.format(bound=BOUND, kind=kind, root=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"POLARS_MAX_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    ingested, *quarantined, numbers = done.stdout.splitlines()
    assert ingested == "ingested: 1 rows"
    assert quarantined == [f"quarantined: the file is larger than {BOUND} bytes decompressed; split it"] * BOMBS
    megabytes, seconds = map(float, numbers.split())
    assert megabytes < 2 * BOUND / 2**20
    assert seconds < 20


def test_text_that_repeats_within_the_bound_is_read(tmp_path: Path) -> None:
    places = open_places(tmp_path)
    put(places, f"gallery/gallery-{DAY}.parquet", repeated("x" * 10**6, 100))
    (entry,) = collect(Bad("", "", (), "parquet").contract, places, now=NOW).entries
    assert entry.status == "ingested"
    assert places.lake.read("raw/gallery")["word"].str.len_bytes().sum() == 10**8


def test_a_line_that_never_ends_is_not_searched_for_fields(tmp_path: Path) -> None:
    places = open_places(tmp_path)
    put(places, f"gallery/gallery-{DAY}.csv.gz", gzip.compress(bytes(2**25)))
    (entry,) = collect(Bad("", "", (), "csv.gz").contract, places, now=NOW).entries
    assert entry.reason == (
        "not a readable CSV: the first line is longer than 16777216 bytes; repair and deliver it again"
    )
