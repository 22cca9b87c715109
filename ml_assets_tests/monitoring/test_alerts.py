"""Alerts: each subject is told once, again when it is worse, long open or was resolved; never lost, whoever dies or races."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.lake import Store
from ml_assets.monitoring.alerts import (
    LEASE,
    QUIET,
    SEVERITIES,
    Alert,
    AlertError,
    Severity,
    Subject,
    notify,
    standing,
    table,
)

NOW = datetime(2013, 6, 1, 7, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def alert(key: str = "drift_report:no_drift", *, problem: str = "late", severity: Severity = "warning") -> Alert:
    return Alert(problem, "check", key, f"{key} failed", "It drifted. Look at it.", NOW, severity, {"psi": 0.4})


@dataclass
class Told:
    """A channel that keeps what it is sent; `broken` refuses, `deadly` dies after it has sent, `doomed` before."""

    name: str = "told"
    least: Severity = "note"
    broken: bool = False
    deadly: bool = False
    doomed: bool = False
    alerts: list[Alert] = field(default_factory=list)

    def send(self, alert: Alert) -> None:
        if self.broken:
            raise AlertError("no way")
        if self.doomed:
            raise KeyboardInterrupt
        self.alerts.append(alert)
        if self.deadly:
            raise KeyboardInterrupt


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def test_an_alert_is_sent_once_until_quiet_is_over(store: Store) -> None:
    channel = Told()
    moments = [NOW, NOW + HOUR, NOW + QUIET - HOUR, NOW + QUIET, NOW + QUIET + HOUR]
    sent = [bool(notify(store, [alert()], [channel], now=moment)) for moment in moments]
    assert sent == [True, False, False, True, False]
    assert [one.at for one in channel.alerts] == [NOW, NOW + QUIET]


def test_of_what_stays_people_are_reminded_less_and_less_often(store: Store) -> None:
    channel = Told()
    for day in range(120):
        notify(store, [alert()], [channel], now=NOW + day * DAY)
    assert [(one.at - NOW).days for one in channel.alerts] == [0, 7, 21, 49, 105]


def test_an_alert_that_got_worse_is_sent_at_once_and_one_that_got_better_is_not(store: Store) -> None:
    channel = Told()
    for hour, severity in enumerate(("warning", "error", "warning", "error", "note")):
        notify(store, [alert(severity=severity)], [channel], now=NOW + hour * HOUR)
    assert [one.severity for one in channel.alerts] == ["warning", "error"]


def test_what_is_in_order_again_is_told_once_and_what_comes_back_is_new(store: Store) -> None:
    channel, subject = Told(), alert().subject
    assert notify(store, [], [channel], now=NOW, well=[subject]) == []  # nobody said that it was not
    notify(store, [alert()], [channel], now=NOW)
    notify(store, [], [channel], now=NOW + HOUR)  # not looked at: it stays open
    assert [one.open for one in standing(store)] == [True]
    for hour in (2, 3):
        notify(store, [], [channel], now=NOW + hour * HOUR, well=[subject])
    notify(store, [alert()], [channel], now=NOW + 4 * HOUR)
    assert [one.resolved for one in channel.alerts] == [False, True, False]
    assert channel.alerts[1].title == "Resolved: drift_report:no_drift failed"


def test_subjects_do_not_quiet_each_other(store: Store) -> None:
    channel = Told()
    others = [alert(), alert("b"), alert(problem="other"), replace(alert(), kind="run")]
    assert len(notify(store, others, [channel], now=NOW)) == 4 == len(channel.alerts)


def test_a_channel_that_fails_is_tried_again_and_the_others_get_the_alert(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = Told("good"), Told("bad", broken=True)
    assert notify(store, [alert(), alert("b")], [bad, good], now=NOW)
    assert (len(good.alerts), len(bad.alerts)) == (2, 0)
    assert caplog.text.count("did not reach channel bad") == 1  # then it is left alone
    assert standing(store)[0].missing == ("bad",)
    bad.broken = False
    notify(store, [alert(), alert("b")], [bad, good], now=NOW + LEASE / 2)
    assert bad.alerts == []
    notify(store, [alert(), alert("b")], [bad, good], now=NOW + LEASE)
    notify(store, [alert(), alert("b")], [bad, good], now=NOW + 3 * LEASE)
    assert (len(good.alerts), len(bad.alerts)) == (2, 2)
    assert standing(store)[0].missing == ()


def test_several_calls_wait_once_for_a_channel_that_fails(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    failed: set[str] = set()
    for problem in ("late", "other"):
        notify(store, [alert(problem=problem)], [Told("bad", broken=True), Told()], now=NOW, failed=failed)
    assert failed == {"bad"} and caplog.text.count("did not reach") == 1


def test_a_channel_that_stays_broken_does_not_hold_up_the_others(store: Store) -> None:
    good, bad = Told("good"), Told("bad", broken=True)
    for day in range(15):
        notify(store, [alert()], [bad, good], now=NOW + day * DAY)
    assert [one.at for one in good.alerts] == [NOW, NOW + QUIET]


def test_a_note_goes_where_notes_are_wanted(store: Store) -> None:
    every, urgent = Told("every"), Told("urgent", least="warning")
    notify(store, [alert(severity="note")], [every, urgent], now=NOW)
    assert (len(every.alerts), len(urgent.alerts)) == (1, 0)
    notify(store, [alert()], [every, urgent], now=NOW + HOUR)  # judged now, and bad
    assert (len(every.alerts), len(urgent.alerts)) == (2, 1)


@pytest.mark.parametrize("died", ["before", "after"])
def test_a_sender_that_dies_leaves_an_alert_that_is_sent_once_more(store: Store, died: str) -> None:
    channel = Told(deadly=died == "after", doomed=died == "before")
    with pytest.raises(KeyboardInterrupt):
        notify(store, [alert()], [channel], now=NOW)
    channel.deadly = channel.doomed = False
    for minutes in (1, 11, 22, 33):
        notify(store, [alert()], [channel], now=NOW + timedelta(minutes=minutes))
    assert len(channel.alerts) == (2 if died == "after" else 1)


def test_of_many_who_send_at_once_one_does(store: Store) -> None:
    channel, ready = Told(), threading.Barrier(8)

    def send() -> None:
        ready.wait()
        notify(store, [alert(str(key)) for key in range(5)], [channel], now=NOW)

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.key for one in channel.alerts) == ["0", "1", "2", "3", "4"]


# -- any story -------------------------------------------------------------------------------------------------------

KEYS = ("a", "b")
seen = st.fixed_dictionaries({}, optional={key: st.sampled_from([*SEVERITIES, "well"]) for key in KEYS})
steps = st.lists(
    st.tuples(st.sampled_from([timedelta(minutes=1), LEASE, HOUR, DAY, 3 * DAY, QUIET]), seen), max_size=12
)


@settings(max_examples=30)
@given(steps, st.sampled_from([DAY, QUIET]))
def test_never_twice_inside_quiet_and_everything_new_is_sent(
    tmp_path_factory: pytest.TempPathFactory, story: Sequence[tuple[timedelta, dict[str, str]]], quiet: timedelta
) -> None:
    store, channel, now = Store(str(tmp_path_factory.mktemp("alerts"))), Told(), NOW
    last: dict[str, Alert] = {}
    for waited, found in story:
        now += waited
        red = [alert(key, severity=how) for key, how in found.items() if how != "well"]
        well = [Subject("late", "check", key) for key, how in found.items() if how == "well"]
        before = len(channel.alerts)
        told = notify(store, red, [channel], now=now, quiet=quiet, well=well)
        assert channel.alerts[before:] == told
        for one in told:
            known = last.get(one.key)
            if one.resolved:
                assert known and not known.resolved and found[one.key] == "well"
            else:
                new = known is None or known.resolved
                worse = known and SEVERITIES.index(one.severity) > SEVERITIES.index(known.severity)
                assert new or worse or (known and now - known.at >= quiet)
            last[one.key] = one
        for key, how in found.items():  # whoever looks is up to date
            assert (how == "well") == (key not in last or last[key].resolved)
    assert {one.alert.key: one.alert for one in standing(store)} == last


@settings(max_examples=20)
@given(st.lists(st.sampled_from(["fine", "deadly", "doomed", "broken"]), max_size=6))
def test_whatever_dies_the_alert_comes_and_at_most_once_more_for_each_death(
    tmp_path_factory: pytest.TempPathFactory, fates: list[str]
) -> None:
    store, now = Store(str(tmp_path_factory.mktemp("alerts"))), NOW
    channel, deaths = Told(), 0
    for fate in [*fates, "fine"]:
        channel.broken, channel.deadly, channel.doomed = (fate == one for one in ("broken", "deadly", "doomed"))
        before = len(channel.alerts)
        try:
            notify(store, [alert()], [channel], now=now)
        except KeyboardInterrupt:
            deaths += len(channel.alerts) > before
        now += 2 * LEASE
    assert 1 <= len(channel.alerts) <= 1 + deaths


# -- as values -------------------------------------------------------------------------------------------------------


def test_an_alert_is_read_as_it_was_written() -> None:
    made = replace(alert(), plot=b"\x89PNG", numbers={"psi": 0.5, "rows": 3, "which": "x"})
    assert Alert.from_dict(made.to_dict()) == made


def test_a_number_that_json_lacks_is_text(store: Store) -> None:
    assert notify(store, [replace(alert(), numbers={"psi": float("nan")})], [Told()], now=NOW)
    assert standing(store)[0].alert.numbers == {"psi": "nan"}


def test_the_table_has_one_line_for_each_subject(store: Store) -> None:
    notify(store, [replace(alert(), text="a | b\nc"), alert("b")], [Told("t", broken=True)], now=NOW)
    notify(store, [], [Told()], now=NOW + HOUR, well=[alert("b").subject])
    lines = table(standing(store)).splitlines()
    assert len(lines) == 4 and "| resolved | Resolved: b failed |" in lines[2]
    assert lines[3].startswith("| 2013-06-01T07:00+00:00 | late | warning |") and lines[3].endswith("| a / b c | t |")
