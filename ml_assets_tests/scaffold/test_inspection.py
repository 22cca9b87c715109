"""What a person should look at: each finding fires on its case, and an ordinary table has none of the loud ones."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.scaffold.inference import infer
from ml_assets.scaffold.inspection import Finding, inspect
from ml_assets.scaffold.reading import read
from ml_assets.tasks.alone import auc
from ml_assets_tests.scaffold.world import customers, shops


def findings(folder: Path, frame: pl.DataFrame, *, now: datetime | None = None, **options: Any) -> list[Finding]:
    path = folder / "table.csv"
    frame.write_csv(path)
    return inspect(infer(read(str(path)), **options), now=now)


def number() -> pl.Expr:
    return pl.int_range(pl.len())


YES = pl.col("churned") == "yes"
# Each row: what is changed, the finding's code and column, what becomes of the column.
CASES: dict[str, tuple[Callable[[pl.DataFrame], pl.DataFrame], str, str, str]] = {
    "the target again": (lambda f: f.with_columns(x=pl.col("churned")), "leak", "x", "ignored"),
    "a number that orders it": (
        lambda f: f.with_columns(x=pl.when(YES).then(100 + number()).otherwise(number() % 90)),
        "leak",
        "x",
        "ignored",
    ),
    "a number on both sides": (
        lambda f: f.with_columns(x=pl.when(YES).then((number() % 2) * 200 - 100).otherwise(number() % 50)),
        "leak",
        "x",
        "",
    ),
    "almost the target": (
        lambda f: f.with_columns(x=pl.when(number() % 50 == 0).then(~YES).otherwise(YES).cast(pl.Int64)),
        "leak",
        "x",
        "",
    ),
    "a reason for some of the leavers": (
        lambda f: f.with_columns(x=pl.when(YES & (number() % 3 > 0)).then(pl.lit("price") + (number() % 7).cast(str))),
        "filled_after",
        "x",
        "ignored",
    ),
    "filled where the target is known": (
        lambda f: f.with_columns(
            pl.when(number() % 4 > 0).then("churned").alias("churned"), x=pl.when(number() % 4 > 0).then(number() % 5)
        ),
        "filled_after",
        "x",
        "ignored",
    ),
    "an identifier": (lambda f: f.with_columns(x=pl.format("T{}", number() * 7)), "identifier", "x", "ignored"),
    "a running number": (lambda f: f.with_columns(x=number() + 7), "identifier", "x", "ignored"),
    "a constant": (lambda f: f.with_columns(x=pl.lit("same")), "constant", "x", "dropped"),
    "an empty column": (lambda f: f.with_columns(x=pl.lit("")), "empty", "x", "dropped"),
    "a column twice": (lambda f: f.with_columns(x=pl.col("plan")), "duplicate", "x", "dropped"),
    "words to read": (
        lambda f: f.with_columns(x=pl.format("{} {}", pl.lit("word " * 12), number())),
        "text",
        "x",
        "dropped",
    ),
    "e-mail": (lambda f: f.with_columns(x=pl.format("a{}@b.org", number())), "personal", "x", "dropped"),
    "phones": (lambda f: f.with_columns(x=pl.format("+49 30 {}", 100000 + number())), "personal", "x", "dropped"),
    "IBANs": (
        lambda f: f.with_columns(x=pl.format("DE8937040044053201{}", 3000 + number())),
        "personal",
        "x",
        "dropped",
    ),
    "addresses of machines": (
        lambda f: f.with_columns(x=pl.format("10.1.{}.{}", number() // 100, number() % 100)),
        "personal",
        "x",
        "dropped",
    ),
    "names": (
        lambda f: f.with_columns(full_name=pl.format("Ann{} Smith", pl.col("plan") + pl.col("vip"))),
        "personal",
        "full_name",
        "dropped",
    ),
    "birthdays": (lambda f: f, "personal", "born", ""),
    "rows twice": (lambda f: pl.concat([f, f.head(3)]).drop("Customer ID"), "duplicate_rows", "", ""),
    "one class is rare": (
        lambda f: f.with_columns(churned=pl.when(number() % 33 == 0).then(pl.lit("yes")).otherwise(pl.lit("no"))),
        "imbalance",
        "churned",
        "",
    ),
    "numbers with words": (
        lambda f: f.with_columns(
            x=pl.when(number() % 20 == 0).then(pl.lit("unknown")).otherwise((number() * 7 % 101).cast(str))
        ),
        "mixed",
        "x",
        "",
    ),
    "numbers with a unit": (lambda f: f.with_columns(x=pl.format("{} kg", number() * 7 % 101)), "mixed", "x", ""),
    "many categories": (lambda f: f.with_columns(x=pl.format("c{}", number() % 70)), "categories", "x", ""),
    "mostly empty": (lambda f: f.with_columns(x=pl.when(number() % 3 == 0).then(number() % 7)), "nulls", "x", ""),
    "few rows": (lambda f: f, "small", "", ""),
}


@pytest.mark.parametrize("case", CASES)
def test_findings(tmp_path: Path, case: str) -> None:
    change, code, column, left_out = CASES[case]
    found = findings(tmp_path, change(customers()), target="churned")
    about = [(item.code, item.left_out) for item in found if item.column == column]
    assert (code, left_out) in about
    assert not [item for item in found if item.severity == "alarm" and item.column != column]
    assert all(item.seen and item.advice for item in found)


def test_an_ordinary_table_has_no_loud_finding(tmp_path: Path) -> None:
    found = findings(tmp_path, customers(800).drop("born"), target="churned")
    assert [item for item in found if item.severity != "note"] == []
    assert not [item for item in found if item.left_out]


def test_a_number_that_is_made_of_the_target(tmp_path: Path) -> None:
    skewed = customers(400).with_columns(pl.col("Umsatz €").pow(5).round(0), plan=pl.lit("x"))
    leaking = skewed.with_columns(gross=pl.col("Umsatz €").mul(1.19).log().round(6), noise=number() * 37 % 101)
    found = findings(tmp_path, leaking, target="Umsatz €")
    assert [(item.column, item.left_out) for item in found if item.severity == "alarm"] == [("gross", "ignored")]
    assert "R²" in next(item.seen for item in found if item.column == "gross")


def test_several_classes_are_known_by_a_column_that_knows_each(tmp_path: Path) -> None:
    frame = customers(400).with_columns(
        knows=pl.col("plan").replace_strict({"basic": 1, "plus": 2, "pro": 3}),
        knows_one=pl.when(pl.col("plan") == "pro").then(1).otherwise(0),
    )
    found = findings(tmp_path, frame, target="plan")
    assert [(item.column, item.code) for item in found if item.severity == "alarm"] == [("knows", "leak")]


# -- time --------------------------------------------------------------------------------------------------------------


def test_what_lies_after_the_event(tmp_path: Path) -> None:
    frame = shops().with_columns(
        paid=pl.col("day") + pl.duration(days=number() % 30), ordered=pl.col("day") - timedelta(3)
    )
    found = findings(tmp_path, frame, target="sales", time="day")
    assert [(item.code, item.column) for item in found if item.severity == "alarm"] == [("after_event", "paid")]


def test_gaps_and_the_future(tmp_path: Path) -> None:
    whole = findings(tmp_path, shops(), target="sales", time="day", now=datetime(2025, 1, 1, tzinfo=UTC))
    assert not {"gap", "future"} & {item.code for item in whole}
    torn = shops().filter((pl.col("day") < date(2024, 1, 8)) | (pl.col("day") > date(2024, 1, 20)))
    found = findings(tmp_path, torn, target="sales", time="day", now=datetime(2024, 2, 1, tzinfo=UTC))
    told = {item.code: item.seen for item in found}
    assert told["gap"] == "nothing from 2024-01-07 to 2024-01-21"
    assert told["future"] == "40 rows are later than now (2024-02-01)"


# -- scores --------------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=30))
def test_the_area_is_the_share_of_pairs_in_order(rows: list[tuple[bool, int]]) -> None:
    positive, negative = ([score for label, score in rows if label == wanted] for wanted in (True, False))
    y, score = np.array([float(label) for label, _ in rows]), np.array([float(score) for _, score in rows])
    pairs = [(one > other) + (one == other) / 2 for one in positive for other in negative]
    assert auc(y, score) == pytest.approx(np.mean(pairs) if pairs else 0.5)


def test_noise_is_no_leak_in_wide_tables(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    frame = pl.DataFrame({f"f{place}": rng.normal(size=150).round(3) for place in range(300)})
    frame = frame.with_columns(y=pl.Series(rng.choice(["a", "b"], 150)))
    found = findings(tmp_path, frame, target="y")
    assert [item.code for item in found if item.severity != "note"] == ["wide"]


def test_a_large_table_takes_seconds(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({f"f{place}": rng.normal(size=100_000) for place in range(29)})
    frame = frame.with_columns(y=pl.Series(rng.choice(["a", "b"], 100_000)))
    frame.write_parquet(tmp_path / "table.parquet")
    table = read(str(tmp_path / "table.parquet"))
    start = time.perf_counter()
    inspect(infer(table, target="y"))
    assert time.perf_counter() - start < 20  # about 2 on an idle machine
