"""The ledger of labels: nothing is lost, a day is mature when it says so, and labels that come otherwise than declared are told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.monitoring.labels import Delay, delay_that_counts, lateness, ledger
from ml_assets.monitoring.performance import Matched, match
from ml_assets.tasks import task

START = datetime(2013, 11, 1, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
TASK = task("classification")
MOMENT = pl.Datetime("us", "UTC")


def rows(asked: list[int], told: Sequence[tuple[int, int | None, int | None]], now: datetime) -> pl.DataFrame:
    """Match questions (their hour each) with labels: the question's number, the label, and hours until it is known (or None)."""
    predictions = pl.DataFrame(
        {
            "who": list(range(len(asked))),
            "event_timestamp": [START + hour * HOUR for hour in asked],
            "score": [0.5] * len(asked),
            "in_sample": [False] * len(asked),
        },
        schema_overrides={"event_timestamp": MOMENT},
    )
    labels = pl.DataFrame(
        {
            "who": pl.Series([who for who, _, _ in told], dtype=pl.Int64),
            "label": pl.Series([label for _, label, _ in told], dtype=pl.Int64),
            "label_timestamp": pl.Series(
                [None if hours is None else START + (asked[who] + hours) * HOUR for who, _, hours in told], dtype=MOMENT
            ),
        }
    )
    found: Matched = match(
        predictions, labels, now=now, task=TASK, key="who", window_start=START, window_end=START + 99 * DAY
    )
    return found.rows


def regular(days: int, delay: int, *, missing: int = 0, now: datetime, first: int = 0) -> pl.DataFrame:
    """Ask a hundred times a day; labels come `delay` hours later, but for `missing` of each day."""
    asked = [24 * day + hour % 24 for day in range(first, days) for hour in range(100)]
    return rows(asked, [(who, 1, delay) for who in range(len(asked)) if who % 100 >= missing], now)


LABELS = st.tuples(st.sampled_from([0, 1, None]), st.one_of(st.none(), st.integers(-3, 200)))


@settings(max_examples=50)
@given(data=st.data(), count=st.integers(1, 12))
def test_each_prediction_is_counted_once_whatever_its_labels_do(data: st.DataObject, count: int) -> None:
    asked = data.draw(st.lists(st.integers(0, 71), min_size=count, max_size=count))
    told = [
        (who, *data.draw(LABELS)) for who in range(count) for _ in range(data.draw(st.integers(0, 3), label="labels"))
    ]
    waiting = None
    for hours in (0, 24, 100, 300):
        days = ledger(rows(asked, told, START + hours * HOUR), now=START + hours * HOUR, declared=DAY)
        assert dict(zip(days["day"], days["expected"], strict=True)) == Counter(
            f"{START + hour * HOUR:%Y-%m-%d}" for hour in asked
        )
        parts = days.select("arrived", "never", "contradictory", "pending")
        assert parts.sum_horizontal().to_list() == days["expected"].to_list()
        assert all((days["overdue"] <= days["pending"]).to_list())
        pending = dict(zip(days["day"], days["pending"], strict=True))
        assert waiting is None or all(pending[day] <= waiting[day] for day in pending)  # what is known stays known
        waiting = pending


@settings(max_examples=25)
@given(delays=st.lists(st.one_of(st.none(), st.integers(0, 200)), min_size=1, max_size=30))
def test_labels_that_come_once_only_ever_add_up(delays: list[int | None]) -> None:
    told = [(who, 1, hours) for who, hours in enumerate(delays) if hours is not None]
    arrived = []
    for hours in (0, 5, 50, 120, 201):
        now = START + hours * HOUR
        days = ledger(rows([0] * len(delays), told, now), now=now)
        arrived.append(days["arrived"].sum())
        assert arrived[-1] == sum(delay is not None and delay <= hours for delay in delays)
    assert arrived == sorted(arrived)


def test_a_day_is_mature_when_nearly_all_its_labels_are_in() -> None:
    now = START + 3 * DAY
    for missing, mature in ((2, True), (3, False)):
        days = ledger(regular(2, 24, missing=missing, now=now), now=now)
        assert days["mature"].to_list() == [mature, mature]
        assert days["rule"].to_list() == ["all in" if mature else ""] * 2
    whole = ledger(regular(1, 24, now=now), now=now).row(0, named=True)
    assert whole["mature_at"] == START + 47 * HOUR  # the label of the last question


def test_without_labels_to_come_a_day_is_mature() -> None:
    now = START + DAY
    days = ledger(rows([1, 2], [(0, None, None), (1, None, 3)], now), now=now)
    assert days.row(0, named=True)["never"] == 2
    assert days["mature"].to_list() == [True]


def test_after_the_declared_delay_and_a_day_half_of_the_labels_are_enough() -> None:
    for missing, mature in ((40, True), (60, False)):
        for hours, due in ((71, False), (72, True)):  # the day's end, the delay, and a day of slack
            now = START + hours * HOUR
            day = ledger(regular(1, 2, missing=missing, now=now), now=now, declared=DAY).row(0, named=True)
            assert (day["mature"], day["rule"]) == ((True, "declared delay") if mature and due else (False, ""))
            assert day["overdue"] == (missing if due else 0)
            assert day["mature_at"] == START + 3 * DAY


def test_without_a_declared_delay_it_is_learnt_from_days_that_have_all_in() -> None:
    now = START + 10 * DAY
    known = regular(8, 30, now=now)
    late = rows([24 * 8 + hour % 24 for hour in range(100)], [(who, 1, 5) for who in range(60)], now)
    together = pl.concat([known, late])
    assert delay_that_counts(together, declared=None) == Delay(30 * HOUR, "learnt delay")
    last = ledger(together, now=now).row(-1, named=True)
    assert (last["mature"], last["mature_at"]) == (False, START + 9 * DAY + 54 * HOUR)
    later = START + 12 * DAY
    assert ledger(together, now=later).row(-1, named=True)["rule"] == "learnt delay"
    assert delay_that_counts(known.head(99), declared=None) == Delay(None, "")


def test_nobody_knows_when_a_day_without_any_label_is_mature() -> None:
    now = START + 50 * DAY
    day = ledger(rows([0, 1], [], now), now=now).row(0, named=True)
    assert (day["pending"], day["mature"], day["mature_at"], day["overdue"]) == (2, False, None, 0)


def test_rows_in_sample_are_not_waited_for() -> None:
    now = START + DAY
    found = rows([0, 1], [], now).with_columns(state=pl.lit("in sample"))
    assert ledger(found, now=now).height == 0


LATE: dict[str, tuple[dict[str, Any], timedelta | None, bool | None, str]] = {
    "on time": (
        {"delay": 24},
        DAY,
        True,
        "98% of 200 labels came within 24 hours; declared 24 hours: 0 later, 0 overdue",
    ),
    "later": ({"delay": 50}, DAY, False, "came within 2.08 days; declared 24 hours: 200 later, 0 overdue"),
    "never": ({"delay": 1, "missing": 100}, DAY, False, "no label came; declared 24 hours: 0 later, 200 overdue"),
    "some never": ({"delay": 1, "missing": 10}, DAY, False, "0 later, 20 overdue"),
    "one in fifty": ({"delay": 1, "missing": 2}, DAY, True, "0 later, 4 overdue"),
    "not declared": (
        {"delay": 24},
        None,
        None,
        "availability.label_delay is not declared; 98% of 200 labels came within 24",
    ),
    "early": ({"delay": -1}, DAY, False, "200 labels were known before their prediction was made"),
}


@pytest.mark.parametrize("case", LATE)
def test_whether_labels_come_as_declared(case: str) -> None:
    how, declared, passed, reason = LATE[case]
    now = START + 20 * DAY
    found = regular(2, now=now, **how)
    said = lateness(found, ledger(found, now=now, declared=declared), declared=declared)
    assert said.passed is passed
    assert reason in said.reason


def test_labels_that_are_not_due_say_nothing() -> None:
    now = START + DAY
    found = regular(1, 24, missing=100, now=now)
    assert lateness(found, ledger(found, now=now, declared=DAY), declared=DAY).passed is None
