"""Observations say what is asked as of when, and never more than was known then."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.lake import Lake, MissingPartitionError, RedPartitionError
from ml_assets.preparation.observations import (
    Label,
    ObservationsError,
    as_known_at,
    check_schema,
    model_features,
    observe,
    query,
    suite,
    unlabelled,
    without_outcome,
)
from ml_assets.preparation.writing import PARTITION
from ml_assets.quality import evaluate

NOW = datetime(2013, 2, 1, tzinfo=UTC)
UTC_US = pl.Datetime("us", "UTC")
SQL = """
    SELECT id, shop, planned - INTERVAL '2 hours' AS event_timestamp,
    CASE WHEN late IS NULL THEN NULL WHEN late > 15 THEN 1 ELSE 0 END AS label,
    done + INTERVAL '1 day' AS label_timestamp
    FROM clean_orders
"""
SELECTED = "SELECT * FROM clean_orders WHERE planned IS NOT NULL"


def orders(day: int, *late: int | None) -> pl.DataFrame:
    """Orders planned at noon, done so many minutes late, or never."""
    noon = datetime(2013, 1, day, 12, tzinfo=UTC)
    rows = [
        (f"{day}-{number}", "ab"[number % 2], noon, None if m is None else noon + timedelta(minutes=m), m)
        for number, m in enumerate(late)
    ]
    schema: dict[str, Any] = {"id": pl.String, "shop": pl.String, "planned": UTC_US, "done": UTC_US, "late": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    made = Lake(str(tmp_path))
    for day, late in ((1, (0, 20)), (2, (None, 15, 16))):
        made.write("clean/orders", orders(day, *late), partition=f"2013-01-0{day}", written_at=NOW)
    return made


def observed(lake: Lake, sql: str = SQL, tables: tuple[str, ...] = ("clean/orders",), **how: Any) -> pl.DataFrame:
    return observe(lake, sql, tables, ["2013-01-01", "2013-01-02"], **how)


# -- the query ---------------------------------------------------------------------------------------------------------------


def test_rows_carry_their_day_their_moment_and_their_outcome(lake: Lake) -> None:
    frame = observed(lake)
    assert frame.columns == [PARTITION, "id", "shop", "event_timestamp", "label", "label_timestamp"]
    assert frame["id"].to_list() == ["1-0", "1-1", "2-0", "2-1", "2-2"]
    assert frame["label"].to_list() == [0, 1, None, 0, 1]
    assert frame[PARTITION].to_list() == ["2013-01-01"] * 2 + ["2013-01-02"] * 3
    assert frame["event_timestamp"][0] == datetime(2013, 1, 1, 10, tzinfo=UTC)
    assert frame["label_timestamp"][1] == datetime(2013, 1, 2, 12, 20, tzinfo=UTC)
    assert frame["label_timestamp"][2] is None


@pytest.mark.parametrize("sql", [SQL.replace("SELECT", "select"), SQL.replace("SELECT ", "SELECT\n"), SQL.strip()])
def test_the_select_may_be_written_as_people_do(lake: Lake, sql: str) -> None:
    assert observed(lake, sql).equals(observed(lake))


def test_a_table_without_days_can_be_joined(lake: Lake) -> None:
    lake.write("clean/shops", pl.DataFrame({"shop": ["a", "b"], "size": [1, 2]}), written_at=NOW)
    sql = SQL.replace("id, shop,", "id, size,") + " JOIN clean_shops ON clean_orders.shop = clean_shops.shop"
    frame = observed(lake, sql, ("clean/orders", "clean/shops"))
    assert frame["size"].to_list() == [1, 2, 1, 2, 1]


def test_of_a_table_with_days_only_those_days_are_joined(lake: Lake) -> None:
    for day in ("2013-01-01", "2013-01-03"):
        lake.write("clean/shops", pl.DataFrame({"shop": ["a"], "size": [int(day[-1])]}), partition=day, written_at=NOW)
    sql = SQL.replace("id, shop,", "id, size,") + " JOIN clean_shops ON clean_orders.shop = clean_shops.shop"
    assert observed(lake, sql, ("clean/orders", "clean/shops"))["size"].unique().to_list() == [1]


def test_a_red_day_is_refused(lake: Lake) -> None:
    red = {"suite": "clean/orders", "success": False, "reason": "late: out of range"}
    lake.write("clean/orders", orders(2, 3), partition="2013-01-02", written_at=NOW, verdicts=[red])
    with pytest.raises(RedPartitionError, match="late: out of range"):
        observed(lake)


def test_days_that_are_not_there_are_named(lake: Lake) -> None:
    with pytest.raises(MissingPartitionError, match="2013-03-01"):
        observe(lake, SQL, ["clean/orders"], ["2013-03-01"])


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("", "must begin with SELECT, not ''"),
        ("WITH x AS (SELECT 1) SELECT * FROM x", "must begin with SELECT, not 'WITH x"),
        ("SELECTED id FROM clean_orders", "must begin with SELECT"),
        ("DROP TABLE clean_orders", "must begin with SELECT"),
        (SQL.replace("clean_orders", "clean_order"), r"clean_order.*tables are \['clean_orders'\]"),
        (SQL.replace("late > 15", "lateness > 15"), "lateness"),
        (SQL.replace("FROM", "FRM"), "has no FROM; write FROM clean_<source>"),
        (SQL.replace("SELECT id", "SELECT 'id"), "observations.query: .*close what is open there"),
        (
            SQL.replace("FROM clean_orders", "FROM (SELECT id, shop, planned, done, late FROM clean_orders)"),
            "select `_partition` in subqueries too",
        ),
        ("SELECT MAX(planned) AS event_timestamp, 1 AS label FROM clean_orders", "a total needs GROUP BY"),
        (SQL.replace("AS label,", "AS outcome,"), "no column 'label'; select the outcome AS label"),
        (SQL.replace("AS event_timestamp", "AS at"), "no column 'event_timestamp'; select it as a UTC time"),
        (SQL.replace("done + INTERVAL '1 day'", "late"), "'label_timestamp' is Int64, not Datetime.*cast it"),
        (SQL.replace("planned - INTERVAL '2 hours'", "late"), "'event_timestamp' is Int64, not Datetime.*cast it"),
    ],
)
def test_a_query_that_gives_no_observations_is_refused(lake: Lake, sql: str, reason: str) -> None:
    with pytest.raises(ObservationsError, match=reason):
        observed(lake, sql)


def test_a_time_without_a_zone_is_refused() -> None:
    naive = {"label": pl.Int64(), "event_timestamp": pl.Datetime("us"), "label_timestamp": UTC_US}
    with pytest.raises(ObservationsError, match=r"'event_timestamp' is Datetime.*cast it to UTC"):
        check_schema(naive)
    check_schema(naive | {"event_timestamp": UTC_US})


def test_the_query_is_checked_before_it_runs() -> None:
    exploding = pl.LazyFrame({"id": ["x"]}).map_batches(lambda _: 1 / 0)  # type: ignore[arg-type,return-value]
    with pytest.raises(ObservationsError):
        query("SELECT id FROM clean_orders", {"clean_orders": exploding})


GROUPED = "SELECT shop, MAX(planned) AS event_timestamp, SUM(late) AS label FROM clean_orders"


def days_apart(lake: Lake, sql: str, **how: Any) -> pl.DataFrame:
    """The same query, asked for each day alone."""
    alone = [observe(lake, sql, ["clean/orders"], [day], **how) for day in ("2013-01-01", "2013-01-02")]
    return pl.concat(alone).sort("event_timestamp", PARTITION, maintain_order=True)


@pytest.mark.parametrize(
    "sql",
    [
        f"{GROUPED} GROUP BY shop",
        f"{GROUPED} group  by shop;",
        f"{GROUPED} GROUP BY 1",
        f"{GROUPED} GROUP BY ALL",
        f"{GROUPED} -- FROM the orders, GROUP BY day\n GROUP BY shop -- and no more",
        f"{GROUPED} WHERE shop <> 'GROUP BY x' GROUP BY shop HAVING COUNT(*) > 0 ORDER BY shop",
        f"SELECT shop, MAX(planned) AS event_timestamp, (1 + SUM(late) - 1)\nAS label FROM ({SELECTED}) GROUP BY (shop)",
    ],
)
def test_groups_are_of_one_day(lake: Lake, sql: str) -> None:
    frame = observed(lake, sql)
    assert frame.columns == [PARTITION, "shop", "event_timestamp", "label"]
    assert frame.rows() == days_apart(lake, sql).rows()
    assert frame.select(PARTITION, "shop", "label").rows() == [
        ("2013-01-01", "a", 0),
        ("2013-01-01", "b", 20),
        ("2013-01-02", "a", 16),
        ("2013-01-02", "b", 15),
    ]


@pytest.mark.parametrize("start", ["SELECT DISTINCT shop", "SELECT shop", "SELECT *"])
def test_the_day_comes_through_distinct_and_star(lake: Lake, start: str) -> None:
    sql = f"{start}, planned AS event_timestamp, 1 AS label FROM clean_orders"
    frame = observed(lake, sql)
    assert frame.rows() == days_apart(lake, sql).rows()
    assert frame.columns.count(PARTITION) == 1
    assert frame.height == (4 if "DISTINCT" in start else 5)


@pytest.mark.parametrize(
    ("sql", "word"),
    [
        (f"{SQL} LIMIT 3", "LIMIT"),
        (f"{SQL} UNION ALL {SQL}", "UNION"),
        (SQL.replace("SELECT", "SELECT DISTINCT ON (shop)"), "DISTINCT ON"),
    ],
)
def test_what_does_not_go_by_days_is_refused_where_there_are_days(lake: Lake, sql: str, word: str) -> None:
    with pytest.raises(ObservationsError, match=f"{word} does not go by days; write one SELECT with WHERE"):
        observed(lake, sql)
    assert observe(lake, sql, ["clean/orders"], None).height > 0


def test_a_column_may_be_called_limit(lake: Lake) -> None:
    assert "limit" in observed(lake, SQL.replace("SELECT id", 'SELECT late AS "limit", id')).columns


def test_without_days_all_of_each_table_is_asked(lake: Lake) -> None:
    frame = observe(lake, SQL, ["clean/orders"], None)
    assert frame.equals(observed(lake).drop(PARTITION))
    total = observe(lake, f"{GROUPED} GROUP BY shop", ["clean/orders"], None)
    assert total.select("shop", "label").rows() == [("a", 16), ("b", 35)]


def test_rows_without_texts_have_an_order_too(lake: Lake) -> None:
    numbers = "SELECT late % 7 AS k, COUNT(*) AS n, MIN(planned) AS event_timestamp FROM clean_orders GROUP BY late % 7"
    first, *others = (observe(lake, numbers, ["clean/orders"], None, supervised=False).rows() for _ in range(8))
    assert all(other == first for other in others)


# -- labels ------------------------------------------------------------------------------------------------------------


def labelled(values: list[Any], kind: Label, dtype: Any = None) -> pl.Series:
    frame = pl.LazyFrame({"event_timestamp": [NOW] * len(values), "label": pl.Series(values, dtype=dtype)})
    times = frame.with_columns(pl.col("event_timestamp").cast(UTC_US))
    return query("SELECT * FROM clean_x", {"clean_x": times}, label=kind).collect()["label"]


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([True, None, False], "binary", [1, None, 0]),
        ([1.0, float("nan"), 0.0], "binary", [1.0, None, 0.0]),
        ([3, None], "number", [3.0, None]),
        ([Decimal("3.5"), None], "number", [3.5, None]),
        ([2.5, float("nan"), None], "number", [2.5, None, None]),
        (["a", None], "classes", ["a", None]),
    ],
)
def test_labels_of_a_kind_come_in_one_type(values: list[Any], kind: Label, expected: list[Any]) -> None:
    assert labelled(values, kind).to_list() == expected


def test_categories_are_told_by_their_text() -> None:
    assert labelled(["b", "a"], "classes", pl.Categorical).dtype == pl.String
    assert labelled(["b", "a"], "classes", pl.Enum(["a", "b"])).to_list() == ["b", "a"]


@pytest.mark.parametrize(
    ("values", "kind", "reason"),
    [
        (["yes"], "binary", r"'label' is String, not 0 or 1; write CASE WHEN"),
        ([None], "binary", r"'label' is Null, not 0 or 1"),
        (["12"], "number", r"'label' is String, not a number; cast it"),
        ([True], "number", r"'label' is Boolean, not a number"),
        ([1], "classes", r"'label' is Int64, not text; write CAST\(… AS VARCHAR\)"),
        ([1], "none", r"'label' is there, but the task learns from no label; take it out"),
    ],
)
def test_a_label_of_another_kind_is_refused(values: list[Any], kind: Label, reason: str) -> None:
    with pytest.raises(ObservationsError, match=reason):
        labelled(values, kind)


def test_an_infinite_label_is_refused_and_counted(lake: Lake) -> None:
    sql = "SELECT id, planned AS event_timestamp, CAST(1 AS DOUBLE) / (late - 15) AS label FROM clean_orders"
    with pytest.raises(ObservationsError, match="infinite in 1 of 5 rows; divide by NULLIF"):
        observed(lake, sql, label="number")
    assert observed(lake, sql.replace("(late - 15)", "NULLIF(late - 15, 0)"), label="number")["label"].null_count() == 2


def test_without_labels_nothing_is_asked_of_them(lake: Lake) -> None:
    sql = "SELECT shop, MIN(planned) AS event_timestamp FROM clean_orders GROUP BY shop"
    frame = observed(lake, sql, supervised=False)
    assert frame.columns == [PARTITION, "shop", "event_timestamp"]
    assert as_known_at(frame.lazy(), NOW, supervised=False).collect().equals(frame)
    assert unlabelled(frame, NOW, supervised=False) == {}
    assert evaluate(frame, suite("p/observations", key=["shop"], supervised=False))[""].success
    with pytest.raises(ObservationsError, match="no column 'label'"):
        observed(lake, sql)


# -- what was known ----------------------------------------------------------------------------------------------------------


def outcomes(*rows: tuple[int | None, int | None]) -> pl.DataFrame:
    """Label, and the day of January on which it became known."""
    frame = pl.DataFrame(rows, schema={"label": pl.Int64, "day": pl.Int64}, orient="row")
    return frame.select("label", label_timestamp=(pl.lit(NOW) + pl.duration(days=pl.col("day") - 32)).cast(UTC_US))


def test_later_labels_are_hidden() -> None:
    known = as_known_at(outcomes((1, 30), (1, 32), (0, 33), (None, None), (1, None)).lazy(), NOW).collect()
    assert known["label"].to_list() == [1, 1, None, None, None]


def test_what_has_no_label_is_counted_by_reason() -> None:
    rows = outcomes((1, 30), (0, 33), (1, 34), (None, None), (1, None), (None, 30))
    assert unlabelled(rows, NOW) == {"never": 3, "not yet": 2}


day_or_none = st.none() | st.integers(28, 36)


@settings(max_examples=50)
@given(rows=st.lists(st.tuples(st.sampled_from([0, 1, None]), day_or_none), max_size=12), earlier=st.integers(0, 4))
def test_no_row_is_left_out_in_silence(rows: list[tuple[int | None, int | None]], earlier: int) -> None:
    frame, moment = outcomes(*rows), NOW - timedelta(days=earlier)
    known = as_known_at(frame.lazy(), moment).collect()
    assert known.height == frame.height
    assert known["label"].count() + sum(unlabelled(frame, moment).values()) == frame.height
    later = as_known_at(frame.lazy(), NOW).collect()["label"]
    assert all(then in (None, now) for then, now in zip(known["label"], later, strict=True))  # nothing is unlearned


def test_without_its_time_a_label_is_known_at_once() -> None:
    rows = outcomes((1, 30), (1, 32), (0, 33), (None, 30)).rename({"label_timestamp": "event_timestamp"})
    assert as_known_at(rows.lazy(), NOW).collect()["label"].to_list() == [1, 1, None, None]
    assert unlabelled(rows, NOW) == {"never": 1, "not yet": 1}


def test_the_outcome_is_no_feature() -> None:
    assert without_outcome(["id", "label", "event_timestamp", "label_timestamp"]) == ["id", "event_timestamp"]


# -- the gate ----------------------------------------------------------------------------------------------------------------


def judged(frame: pl.DataFrame) -> bool:
    return evaluate(frame, suite("p/observations", key=["id"]))[""].success


def test_good_observations_are_green(lake: Lake) -> None:
    assert judged(observed(lake))


@pytest.mark.parametrize(
    "broken",
    [
        {"event_timestamp": pl.lit(None, UTC_US)},
        {"label_timestamp": pl.col("event_timestamp")},
        {"label_timestamp": pl.col("event_timestamp") - pl.duration(minutes=1)},
        {"id": pl.lit("1-0")},
    ],
)
def test_bad_observations_are_red(lake: Lake, broken: dict[str, pl.Expr]) -> None:
    assert not judged(observed(lake).with_columns(**broken))


@pytest.mark.parametrize(
    ("label", "kind", "classes", "green"),
    [
        ([0, 1, None], "binary", (), True),
        ([0, 2, None], "binary", (), False),
        ([None, None, None], "binary", (), True),
        (["a", "b", None], "classes", ("a", "b", "c"), True),
        (["a", "d", None], "classes", ("a", "b", "c"), False),
        (["a", "d", None], "classes", (), True),
        ([1.5, -7.0, None], "number", (), True),
    ],
)
@pytest.mark.parametrize("timed", [True, False])
def test_labels_that_the_task_does_not_have_are_red(
    label: list[Any], kind: Label, classes: tuple[str, ...], green: bool, timed: bool
) -> None:
    frame = pl.DataFrame({"id": ["x", "y", "z"], "label": label}).with_columns(
        event_timestamp=pl.lit(NOW), label_timestamp=pl.lit(NOW + timedelta(hours=1))
    )
    rows = frame if timed else frame.drop("label_timestamp")
    guard = suite("p/observations", key=["id"], label=kind, classes=classes, timed=timed)
    assert evaluate(rows, guard)[""].success is green


def test_a_day_of_which_nothing_is_known_yet_is_green(lake: Lake) -> None:
    unknown = observed(lake).with_columns(label=pl.lit(None, pl.Int64), label_timestamp=pl.lit(None, UTC_US))
    assert judged(unknown)


def test_a_model_sees_neither_times_nor_the_outcome() -> None:
    columns = ["id", "event_timestamp", "delay", "label", "label_timestamp", "split", "seats"]
    assert model_features(columns, not_features=["id"]) == ["delay", "seats"]
