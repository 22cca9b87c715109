"""Ten weeks of the year's replay: a unit that changes in June is named within a week, training follows the backtest, no storm.

The whole year is `python -m ml_assets_tests.e2e.year --to FOLDER`.
"""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from ml_assets_tests.e2e.year import copy, replay

UNTIL = "2013-07-07"
PLANTED = (date(2013, 6, 10), date(2013, 6, 23))
WEEK = timedelta(days=7)
MOST_ALERTS = 15
"""Ten weeks of a dozen checks; each that stays red is told in its 1st, 2nd, 4th and 8th week."""

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project that declares less."""
    return copy(tmp_path_factory.mktemp("year") / "project")


@pytest.fixture(scope="module")
def year(root: Path) -> dict[str, Any]:
    """The summary of the replay."""
    return replay(root, until=UNTIL, quick=True)


def test_every_week_is_reported(year: dict[str, Any]) -> None:
    assert year["absent"] == {}
    assert len(year["windows"]) >= 10 and year["weeks"] >= 10 and year["days"] >= 70


def test_the_change_of_unit_is_named_within_a_week_and_never_before(year: dict[str, Any]) -> None:
    named = [row for row in year["humid"] if "unit change" in row["signs"]]
    firsts = [date.fromisoformat(row["window_first"]) for row in named]
    assert firsts and PLANTED[0] - WEEK < min(firsts) <= PLANTED[0]
    assert max(firsts) <= PLANTED[1]


def test_people_are_told_of_it(year: dict[str, Any]) -> None:
    told = [one for one in year["alerts"] if "humid" in one["text"] and "drift_report" in one["title"]]
    days = [date.fromisoformat(one["at"][:10]) for one in told]
    assert any(PLANTED[0] <= day <= PLANTED[1] + WEEK for day in days)


def test_training_happens_when_the_backtest_says_so_and_not_otherwise(year: dict[str, Any]) -> None:
    for one in year["decisions"]:
        better = one["backtest"] is not None and one["backtest"]["low"] > 0 and one["backtest"]["gain"] > 0
        assert one["retrain"] == better, one["reason"]
        assert one["reason"]
    asked = [one for one in year["decisions"] if one["retrain"]]
    assert len(year["trained"]) == len(asked)
    assert len(year["promotions"]) <= 1 + len(asked)  # whoever trained must still pass the gates


def test_there_is_no_storm(year: dict[str, Any]) -> None:
    loud = [one for one in year["alerts"] if not one["resolved"] and one["severity"] != "note"]
    print(f"{len(year['alerts'])} messages in ten weeks, {len(loud)} of them alerts")
    assert 0 < len(loud) <= MOST_ALERTS
    subjects = [(one["kind"], one["key"], one["at"]) for one in year["alerts"]]
    assert len(set(subjects)) == len(subjects)


def test_the_story_is_one_page(root: Path, year: dict[str, Any]) -> None:
    page = (root / "data" / "reports" / "flight_delay" / "timeline.html").read_text()
    assert page.count("<figure") == 5 and "Not here" not in page
    assert "humid (unit change)" in page and "version 1 took office" in page
