"""The encoder: fitted on training rows only, a value, never a NaN in dense, clear about what it cannot read."""

from __future__ import annotations

import math
import time

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.development import encoding
from ml_assets.development.encoding import Encoder, EncodingError

NUMBERS = st.lists(st.none() | st.floats(), min_size=1, max_size=30)
TEXTS = st.lists(st.none() | st.text(max_size=5), min_size=1, max_size=30)


@pytest.fixture
def frame() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "a": [1.0, None, 3.0, 5.0],
            "place": ["x", "y", None, "x"],
            "yes": [True, None, False, True],
            "n": [1, 2, 3, 4],
        }
    )


def test_codes_are_numbers_category_codes_and_nan(frame: pl.DataFrame) -> None:
    encoder = Encoder.fit(frame)
    codes = encoder.codes(pl.DataFrame({"a": [None, 2.5], "place": ["unseen", "y"], "yes": [None, False], "n": [7, 8]}))
    np.testing.assert_array_equal(codes, np.array([[np.nan, np.nan, np.nan, 7], [2.5, 1, 0, 8]], dtype=np.float32))
    assert codes.dtype == np.float32 and codes.flags.c_contiguous
    assert encoder.feature_types == ["q", "c", "q", "q"]


def test_codes_can_spell_the_missing_as_a_number(frame: pl.DataFrame) -> None:
    assert Encoder.fit(frame).codes(frame, missing=-1.0)[1].tolist() == [-1, 1, -1, 2]


def test_dense_columns_and_their_names(frame: pl.DataFrame) -> None:
    encoder = Encoder.fit(frame.select("a", "place"))
    dense = encoder.dense(pl.DataFrame({"a": [None, 3.0], "place": ["unseen", None]}))
    assert encoder.dense_names == ("a", "a is null", "place=x", "place=y", "place=other", "place is null")
    np.testing.assert_array_equal(dense, [[0, 1, 0, 0, 1, 0], [0, 0, 0, 0, 0, 1]])


def test_statistics_are_those_of_the_training_rows(frame: pl.DataFrame) -> None:
    encoder = Encoder.fit(frame)
    first = encoder.dense(frame.head(1))
    with_others = encoder.dense(pl.concat([frame.head(1), frame.head(1).with_columns(a=pl.lit(1e6))]))
    np.testing.assert_array_equal(first[0], with_others[0])
    assert with_others[1, 0] == encoding.MOST_DEVIATIONS, "an absurd value is clipped"


def test_no_null_indicator_for_a_column_that_had_no_nulls(frame: pl.DataFrame) -> None:
    encoder = Encoder.fit(frame.select("n"))
    assert encoder.dense_names == ("n",)
    assert encoder.dense(pl.DataFrame({"n": [None]}, schema={"n": pl.Int64}))[0, 0] == 0, (
        "the median, which is the mean here"
    )


def test_rare_categories_share_other_and_the_code_space_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "MOST_CATEGORIES", 3)
    values = ["often"] * 30 + ["seldom"] * 5 + ["rare"] * 4 + ["once"]
    encoder = Encoder.fit(pl.DataFrame({"place": values}))
    assert encoder.columns[0].categories == ("often", "seldom", "rare")
    assert encoder.dense_names == ("place=often", "place=other")
    assert math.isnan(encoder.codes(pl.DataFrame({"place": ["once"]}))[0, 0])


def test_ties_of_frequency_are_ordered_by_name() -> None:
    one, other = (Encoder.fit(pl.DataFrame({"place": values})) for values in (["b", "a"], ["a", "b"]))
    assert one.columns[0].categories == other.columns[0].categories == ("a", "b")


def test_slices_do_not_show(training_set: pl.DataFrame, features: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder.fit(training_set, features)
    whole = encoder.codes(training_set), encoder.dense(training_set)
    monkeypatch.setattr(encoding, "SLICE_ROWS", 7)
    for before, after in zip(whole, (encoder.codes(training_set), encoder.dense(training_set)), strict=True):
        np.testing.assert_array_equal(before, after)


def test_slices_of_wide_tables_do_not_show(
    training_set: pl.DataFrame, features: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder.fit(training_set, features)
    whole = encoder.dense(training_set)
    monkeypatch.setattr(encoding, "SLICE_CELLS", 17)
    np.testing.assert_array_equal(encoder.dense(training_set), whole)


def test_dense_is_what_its_names_say(training_set: pl.DataFrame, features: list[str]) -> None:
    """Cell by cell, in plain Python."""
    encoder = Encoder.fit(training_set, features)
    odd = training_set.head(1).with_columns(place=pl.lit("never seen"), delay=pl.lit(float("inf")), weekend=None)
    frame = pl.concat([training_set.head(30), odd])
    expected = [[_cell(encoder, name, row) for name in encoder.dense_names] for row in frame.iter_rows(named=True)]
    np.testing.assert_allclose(encoder.dense(frame), expected, rtol=1e-6, atol=1e-6)


def _cell(encoder: Encoder, name: str, row: dict) -> float:
    column = next(one for one in encoder.columns if name in one.dense_names)
    value = row[column.name]
    if column.kind == "category":
        own = value if value in column.categories[: column.frequent] else "other"
        return float(name == f"{column.name}={own}")
    missing = value is None or not math.isfinite(value)
    if name.endswith(" is null"):
        return float(missing)
    return float(np.clip(((column.median if missing else value) - column.mean) / column.std, -10, 10))


def test_many_columns_of_text_have_few_dense_columns_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "MOST_FREQUENT", 12)
    texts = ["a"] * 40 + ["b"] * 30 + ["c"] * 25 + ["d"] * 20 + ["e"] * 20
    wide = Encoder.fit(pl.DataFrame({f"text{place}": texts for place in range(4)}))
    assert wide.dense_names[:4] == ("text0=a", "text0=b", "text0=c", "text0=other")
    assert wide.columns[0].categories == ("a", "b", "c", "d", "e"), "the codes keep them all"
    assert len(Encoder.fit(pl.DataFrame({"text": texts})).dense_names) == 6


def test_a_thousand_columns_cost_time_by_their_number() -> None:
    """Asking a frame for its schema once a column took 5 s for one row of 1,000 columns."""
    random = np.random.default_rng(0)
    numbers = {f"x{place}": random.normal(size=200) for place in range(700)}
    texts = {f"c{place}": random.choice(["a", "b", "c"], 200) for place in range(300)}
    frame = pl.DataFrame(numbers | texts)
    encoder = Encoder.fit(frame)
    start = time.process_time()
    encoder.dense(frame.head(1))
    assert time.process_time() - start < 2
    assert encoder.dense(frame).shape == (200, 700 + 4 * 300) and encoder.codes(frame).shape == (200, 1_000)


def test_no_rows_to_score_give_an_empty_matrix(frame: pl.DataFrame) -> None:
    encoder = Encoder.fit(frame)
    assert encoder.codes(frame.head(0)).shape == (0, 4)
    assert encoder.dense(frame.head(0)).shape == (0, len(encoder.dense_names))


def test_categories_may_come_as_categorical_or_enum(frame: pl.DataFrame) -> None:
    encoder = Encoder.fit(frame.select("place"))
    for dtype in (pl.Categorical(), pl.Enum(["y", "x"])):
        np.testing.assert_array_equal(
            encoder.codes(frame.with_columns(pl.col("place").cast(dtype))), encoder.codes(frame)
        )


def test_records_become_a_frame_of_the_declared_types(frame: pl.DataFrame) -> None:
    encoder = Encoder.fit(frame)
    read = encoder.frame(
        [{"a": 1, "place": None, "yes": True, "n": 2}, {"a": None, "place": "x", "yes": None, "n": None}]
    )
    assert dict(read.schema) == {"a": pl.Float64, "place": pl.String, "yes": pl.Boolean, "n": pl.Float64}
    with pytest.raises(EncodingError, match="rows do not have the types"):
        encoder.frame([{"a": "one", "place": None, "yes": True, "n": 2}])


@given(numbers=NUMBERS, others=NUMBERS, texts=TEXTS, unseen=TEXTS)
def test_any_numbers_and_texts(
    numbers: list[float | None], others: list[float | None], texts: list[str | None], unseen: list[str | None]
) -> None:
    rows, more = min(len(numbers), len(texts)), min(len(others), len(unseen))
    schema = {"a": pl.Float64, "place": pl.String}
    encoder = Encoder.fit(pl.DataFrame({"a": numbers[:rows], "place": texts[:rows]}, schema=schema))
    frame = pl.DataFrame({"a": others[:more], "place": unseen[:more]}, schema=schema)
    again = Encoder.from_json(encoder.to_json())
    assert again == encoder and again.sha256 == encoder.sha256
    codes, dense = encoder.codes(frame), encoder.dense(frame)
    assert np.isfinite(dense).all() and not np.isinf(codes).any()
    np.testing.assert_array_equal(codes, again.codes(frame))
    known = set(encoder.columns[1].categories)
    assert [math.isnan(code) for code in codes[:, 1]] == [text not in known for text in unseen[:more]]
    hot = dense[:, [i for i, name in enumerate(encoder.dense_names) if name.startswith("place")]]
    assert (hot.sum(axis=1) == 1).all(), "a row is one category, other, or null"


def test_missing_column_is_named(frame: pl.DataFrame) -> None:
    with pytest.raises(EncodingError, match=r"column 'place' is missing: add it"):
        Encoder.fit(frame).codes(frame.drop("place"))
    with pytest.raises(EncodingError, match="column 'nowhere' is missing"):
        Encoder.fit(frame, ["nowhere"])


@pytest.mark.parametrize(
    ("name", "dtype", "fix"),
    [
        ("a", pl.String, "cast it to Float64"),
        ("place", pl.Int64, "cast it to String"),
        ("yes", pl.Int64, "cast it to Boolean"),
    ],
)
def test_wrong_type_is_named_with_the_fix(frame: pl.DataFrame, name: str, dtype: pl.DataType, fix: str) -> None:
    encoder = Encoder.fit(frame)
    with pytest.raises(EncodingError, match=rf"column '{name}' is {dtype}.*{fix}"):
        encoder.dense(frame.with_columns(pl.lit(None).cast(dtype).alias(name)))


def test_given_kinds_are_held_to(frame: pl.DataFrame) -> None:
    assert Encoder.fit(frame, {"place": "category"}).feature_types == ["c"]
    with pytest.raises(EncodingError, match="'n' is Int64, but was declared as category"):
        Encoder.fit(frame, {"n": "category"})


def test_a_column_of_unknown_type_is_a_number_of_nulls() -> None:
    frame = pl.DataFrame({"nothing": [None, None]})
    encoder = Encoder.fit(frame)
    assert encoder.dense(frame).tolist() == [[0, 1], [0, 1]]


@pytest.mark.parametrize(
    ("frame", "columns", "message"),
    [
        (pl.DataFrame({"a": [1.0]}), ["a", "a"], "named twice"),
        (pl.DataFrame({"a": [1.0]}), [], "no columns"),
        (pl.DataFrame({"a": []}, schema={"a": pl.Float64}), ["a"], "no training rows"),
        (pl.DataFrame({"a": [None]}, schema={"a": pl.Date}), ["a"], "'a' is Date, which no encoding fits"),
    ],
)
def test_unfit_input_is_refused(frame: pl.DataFrame, columns: list[str], message: str) -> None:
    with pytest.raises(EncodingError, match=message):
        Encoder.fit(frame, columns)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 9, "columns": []}', '{"format": 1, "columns": [{}]}', b"\xff"]
)
def test_what_is_not_an_encoder_is_refused(text: str) -> None:
    with pytest.raises(EncodingError, match=r"not an encoder|encoder format"):
        Encoder.from_json(text)
