"""Types, key, time and task of a table; what is assumed is told."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ml_assets.scaffold.errors import ScaffoldError
from ml_assets.scaffold.inference import Inferred, infer
from ml_assets.scaffold.reading import read
from ml_assets_tests.scaffold.world import customers, shops

ROWS = 60


def found(folder: Path, frame: pl.DataFrame | str, name: str = "table.csv", **options: Any) -> Inferred:
    path = folder / name
    if isinstance(frame, str):
        path.write_text(frame)
    elif name.endswith("parquet"):
        frame.write_parquet(path)
    else:
        frame.write_csv(path)
    return infer(read(str(path)), **options)


def column(folder: Path, values: list[Any], name: str = "x") -> tuple[str, str, str, str]:
    """Return type, kind, clean type and format of a column of a CSV."""
    repeated = [values[row % len(values)] for row in range(ROWS)]
    got = found(folder, pl.DataFrame({name: repeated, "other": list(range(ROWS))})).columns[0]
    return got.type, got.kind, got.becomes, got.format


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (["1", "-2", "+3"], ("Int64", "number", "Int64", "")),
        (["1", "2.5", None], ("Float64", "number", "Float64", "")),
        (["1.0", "2.0"], ("Float64", "number", "Float64", "")),
        (["1e3", "2"], ("Float64", "number", "Float64", "")),
        (["1,234", "999", "1,000,000"], ("Int64", "number", "Int64", "")),
        (["01067", "99999"], ("String", "category", "String", "")),
        (["12345678901234567890", "2"], ("String", "category", "String", "")),
        (["yes", "No", "YES"], ("Boolean", "boolean", "Boolean", "")),
        (["true", "false"], ("Boolean", "boolean", "Boolean", "")),
        (["y", "n", "m"], ("String", "category", "String", "")),
        (["0", "1"], ("Int64", "number", "Int64", "")),
        (["2024-01-31", None], ("Date", "moment", "Date", "")),
        (["31.01.2024 10:00", "01.02.2024 11:30"], ("Datetime", "moment", "Datetime", "%d.%m.%Y %H:%M")),
        (["12%", "13%"], ("String", "category", "String", "")),
        ([None], ("String", "empty", "String", "")),
        ([f"{'many words ' * 5}{place}" for place in range(ROWS)], ("String", "text", "String", "")),
    ],
)
def test_types(tmp_path: Path, values: list[Any], wanted: tuple[str, ...]) -> None:
    assert column(tmp_path, values) == wanted


@pytest.mark.parametrize(("name", "kind"), [("zip_code", "category"), ("store_id", "category"), ("height", "number")])
def test_numbers_that_name_things_are_categories(tmp_path: Path, name: str, kind: str) -> None:
    assert column(tmp_path, ["1", "2", "3"], name)[1] == kind


def test_one_column_decides_on_day_or_month_first_for_all(tmp_path: Path) -> None:
    days = [f"0{1 + row % 9}/02/2024" for row in range(ROWS)]
    later = [f"{13 + row % 9}/02/2024" for row in range(ROWS)]
    got = found(tmp_path, pl.DataFrame({"born": days, "ended": later, "x": range(ROWS)}))
    assert [item.format for item in got.columns[:2]] == ["%d/%m/%Y", "%d/%m/%Y"]
    alone = found(tmp_path, pl.DataFrame({"born": days, "x": range(ROWS)}))
    assert alone.columns[0].format == "%m/%d/%Y"
    assert any("its values fit %d/%m/%Y as well" in told for told in alone.assumptions)


def test_parquet_types(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "small": pl.Series(range(ROWS), dtype=pl.UInt8),
            "real": pl.Series([1.5, float("nan")] * (ROWS // 2), dtype=pl.Float32),
            "when": pl.Series([datetime(2024, 1, 1, tzinfo=UTC)] * ROWS).dt.convert_time_zone("Asia/Tokyo"),
            "naive": pl.Series([datetime(2024, 1, 1)] * ROWS).cast(pl.Datetime("ns")),
            "text_day": ["31.12.2024"] * ROWS,
            "kind": pl.Series(["a", "b"] * (ROWS // 2), dtype=pl.Categorical),
        }
    )
    got = found(tmp_path, frame, "table.parquet")
    assert [item.type for item in got.columns] == ["Int64", "Float64", "Datetime", "Datetime", "String", "String"]
    assert [item.becomes for item in got.columns] == ["Int64", "Float64", "Datetime", "Datetime", "Date", "String"]
    assert got.frame["when_"][0] == got.frame["naive"][0] == datetime(2024, 1, 1, tzinfo=UTC)
    assert got.frame["text_day"][0] == date(2024, 12, 31)
    assert got.column("real").nulls == ROWS // 2


# -- key ---------------------------------------------------------------------------------------------------------------


def test_keys(tmp_path: Path) -> None:
    by_name = found(tmp_path, customers(), target="churned")
    assert (by_name.key, by_name.unique, by_name.generated_key) == ("customer_id", ("Customer ID",), False)
    none = found(tmp_path, customers().drop("Customer ID"), target="churned")
    assert (none.key, none.generated_key, none.frame["row_id"].to_list()[:2]) == ("row_id", True, ["1", "2"])
    twice = found(tmp_path, customers().with_columns(pl.col("Customer ID") // 2), target="churned")
    assert twice.generated_key
    made = found(tmp_path, shops(), target="sales", time="day", entity="shop")
    assert (made.key_of, made.unique, made.frame["row_id"][0]) == (("shop", "day"), ("shop", "day"), "1|2024-01-01")
    free = found(tmp_path, customers().drop("Customer ID").with_columns(row_id=pl.lit("x")), target="churned")
    assert free.key == "row_id_"


# -- time --------------------------------------------------------------------------------------------------------------


def test_the_only_plausible_time_is_taken_and_told(tmp_path: Path) -> None:
    frame = shops().drop("shop")
    got = found(tmp_path, frame, target="sales")
    assert got.time == "day"
    assert any("the only column that can say when a row happened" in told for told in got.assumptions)
    two = found(tmp_path, frame.with_columns(other=pl.col("day")), target="sales")
    assert two.time is None
    assert any("day, other could each be it" in told for told in two.assumptions)
    born = found(tmp_path, frame.rename({"day": "date_of_birth"}), target="sales")
    assert born.time is None
    grouped = found(tmp_path, shops(), target="sales", group="shop")
    assert (grouped.time, grouped.group) == (None, "shop")


@pytest.mark.parametrize(
    ("values", "first"),
    [
        (list(range(1700, 1700 + ROWS)), datetime(1700, 1, 1, tzinfo=UTC)),
        ([20240100 + 1 + row % 28 for row in range(ROWS)], datetime(2024, 1, 1, tzinfo=UTC)),
        ([1_700_000_000 + row for row in range(ROWS)], datetime.fromtimestamp(1_700_000_000, UTC)),
        ([1_700_000_000_000 + 1000 * row for row in range(ROWS)], datetime.fromtimestamp(1_700_000_000, UTC)),
        ([float(year) for year in range(1700, 1700 + ROWS)], datetime(1700, 1, 1, tzinfo=UTC)),
    ],
)
@pytest.mark.parametrize("name", ["table.csv", "table.parquet"])
def test_numbers_are_times_when_a_person_says_so(tmp_path: Path, values: list[Any], first: datetime, name: str) -> None:
    frame = pl.DataFrame({"t": values, "y": np.random.default_rng(0).normal(size=ROWS)})
    if name.endswith("parquet") and values[0] == 20240101:
        frame = frame.with_columns(pl.col("t").cast(pl.String))
    got = found(tmp_path, frame, name, target="y", time="t")
    assert got.frame["event_at"][0] == first


def test_rows_without_a_time(tmp_path: Path) -> None:
    few = shops().with_columns(pl.when(pl.int_range(pl.len()) > 3).then("day").alias("day"))
    told = found(tmp_path, few, target="sales", time="day").assumptions
    assert any("4 rows have no day" in line for line in told)
    many = shops().with_columns(pl.when(pl.int_range(pl.len()) > 30).then("day").alias("day"))
    with pytest.raises(ScaffoldError, match="'day' is empty in 31 of 200 rows"):
        found(tmp_path, many, target="sales", time="day")
    with pytest.raises(ScaffoldError, match="has 1 distinct times"):
        found(tmp_path, shops().with_columns(day=date(2024, 1, 1)), target="sales", time="day")


# -- task --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["yes", "no", "no"], "binary classification, positive is 'yes'"),
        (["no", "yes", "yes"], "binary classification, positive is 'yes'"),
        (["0", "1", "1"], "binary classification, positive is '1'"),
        (["a", "b", "b"], "binary classification, positive is 'a'"),
        (["b", "b", "a", "a"], "binary classification, positive is 'a'"),
        (["a", "b", "c"], "classification of 3 classes: a, b, c"),
        (["1", "2", "3"], "classification of 3 classes: 1, 2, 3"),
        (["1.0", "2.0", "3.0"], "classification of 3 classes: 1, 2, 3"),
        (["1.5", "2.5", "3.5"], "regression"),
        ([str(number) for number in range(20)], "regression"),
        (["True", "False"], "binary classification, positive is 'True'"),
    ],
)
def test_tasks_from_the_target(tmp_path: Path, values: list[str], words: str) -> None:
    repeated = [values[row % len(values)] for row in range(ROWS)]
    got = found(tmp_path, pl.DataFrame({"y": repeated, "x": range(ROWS)}), target="y")
    assert got.outcome.words == words


def test_a_task_that_is_asked_for_is_taken(tmp_path: Path) -> None:
    frame = pl.DataFrame({"y": [row % 5 for row in range(ROWS)], "x": range(ROWS)})
    assert found(tmp_path, frame, target="y").outcome.classes == ("0", "1", "2", "3", "4")
    assert found(tmp_path, frame, target="y", task="regression").outcome.kind == "regression"


def test_rare_classes_are_left_out_and_told(tmp_path: Path) -> None:
    values = ["a"] * 30 + ["b"] * 26 + ["c"] * 4
    got = found(tmp_path, pl.DataFrame({"y": values, "x": range(ROWS)}), target="y")
    assert (got.outcome.positive, got.outcome.left_out) == ("b", ("c",))
    assert got.outcomes is not None
    assert got.outcomes.null_count() == 4
    assert any("classes c have fewer than 5 rows" in told for told in got.assumptions)


def test_a_skewed_number_is_measured_as_mae(tmp_path: Path) -> None:
    values = np.random.default_rng(0).lognormal(0, 1.5, ROWS)
    got = found(tmp_path, pl.DataFrame({"y": values, "x": range(ROWS)}), target="y")
    assert got.outcome.skewed
    assert any(told.startswith("success: mae") for told in got.assumptions)


def test_datasets_that_come_with_the_dependencies(tmp_path: Path) -> None:
    from sklearn import datasets

    tasks = {
        "iris": "classification",
        "wine": "classification",
        "breast_cancer": "classification",
        "diabetes": "regression",
    }
    for name, kind in tasks.items():
        frame = pl.from_pandas(getattr(datasets, f"load_{name}")(as_frame=True).frame)
        text = frame.write_csv(separator=";").replace(".", ",") if name != "iris" else frame.write_csv(separator="\t")
        got = found(tmp_path, text, target="target")
        assert got.outcome.kind == kind
        assert all(item.kind == "number" for item in got.columns if item.safe != "target")
        np.testing.assert_allclose(
            got.frame.drop("target", "row_id").to_numpy(), frame.drop("target").to_numpy().astype(float)
        )


def test_a_yearly_series(tmp_path: Path) -> None:
    from statsmodels.datasets import sunspots

    frame = pl.from_pandas(sunspots.load_pandas().data)
    got = found(tmp_path, frame, target="SUNACTIVITY", time="YEAR")
    assert (got.outcome.kind, got.time, got.frame["event_at"].dt.year()[0]) == ("regression", "year", 1700)
