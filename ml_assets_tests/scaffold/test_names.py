"""Names that suit SQL, the lake and Feast."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.scaffold.errors import ScaffoldError
from ml_assets.scaffold.names import PLATFORM_NAMES, SQL_WORDS, column_named, safe_name, safe_names


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("PassengerId", "passenger_id"),
        ("Größe (m²)", "grosse_m2"),
        ("sign-up.date", "sign_up_date"),
        ("1st floor", "column_1st_floor"),
        ("order", "order_"),
        ("label", "label_"),
        ("event_timestamp", "event_timestamp_"),
        ("HTTPCode", "http_code"),
        ("цена", "column_3"),
        ("__x__", "x"),
    ],
)
def test_names_become_lower_snake(name: str, safe: str) -> None:
    assert safe_name(name, 3) == safe


@given(st.text(min_size=1, max_size=30))
def test_any_name_becomes_one_that_is_its_own(name: str) -> None:
    safe = safe_name(name)
    assert safe.isidentifier() and safe.isascii() and safe == safe.lower()
    assert safe_name(safe) == safe
    assert safe not in SQL_WORDS | PLATFORM_NAMES


@pytest.mark.parametrize("word", sorted(SQL_WORDS | PLATFORM_NAMES))
def test_a_safe_name_can_be_selected(word: str) -> None:
    name = safe_name(word)
    frame = pl.LazyFrame({name: [1]})
    found = pl.SQLContext(frames={"clean_x": frame}).execute(
        f"SELECT {name}, CASE WHEN {name} = 1 THEN 1 END AS label FROM clean_x WHERE {name} IS NOT NULL"
    )
    assert found.collect().rows() == [(1, 1)]


def test_names_that_clash_are_refused() -> None:
    with pytest.raises(ScaffoldError, match=r"columns \['a b', 'A-B'\] are all 'a_b'"):
        safe_names(["a b", "c", "A-B"])


def test_a_person_may_use_either_name() -> None:
    safe = safe_names(["Sign-Up Date", "price"])
    for written in ("Sign-Up Date", "sign-up date", "sign_up_date"):
        assert column_named(written, safe, option="--time", where="x") == "Sign-Up Date"
    with pytest.raises(ScaffoldError, match="--target 'prise' is no column of x; did you mean 'price'"):
        column_named("prise", safe, option="--target", where="x")
