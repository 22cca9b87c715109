"""The ledger as a state machine: whatever lands, changes or goes, whoever looks, runs or is killed, and when.

Files are good, equal to others, corrected, late (older than what is in), broken, or of no day; they lie under new names or over old
ones. At any read or write of a run it is killed, another run takes all there is, or a file changes or goes. At rest, each
generation that lies there was entered exactly once, and each day's rows are those of its newest good delivery. One that went
before it could be read may be entered as gone.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from ml_assets.collection import collect as room
from ml_assets.collection.collect import Landing, collect, new_files, waiting
from ml_assets.collection.ledger import Entry, Ledger
from ml_assets.collection.watch import look
from ml_assets.lake import Lake, Store
from ml_assets_tests.collection.outside import NOW, THINGS, put

DAYS = ("2013-01-30", "2013-01-31")
STRAY = "notes"  # a file with no day in its name
GOOD = ("id,value\n1,0.5\n", "id,value\n1,0.5\n2,1\n", "id,value\n3,\n")
BROKEN = ("", "id\n1\n", "id,value\nx,1\n", "id,value\n1,-1\n")
MOST_PUTS = 1000  # so that no two files have the same time


class Killed(BaseException):
    """The process is gone: nobody catches this."""


@dataclass(frozen=True)
class Delivery:
    """What the outside world knows of one generation: the day in its name, its bytes, when it landed."""

    name: str
    text: str
    at: datetime

    @property
    def day(self) -> str | None:
        return None if self.name.startswith(f"things/{STRAY}") else self.name[len("things/things-") :][:10]

    @property
    def good(self) -> bool:
        return self.day is not None and self.text in GOOD

    @property
    def arrival(self) -> tuple[datetime, str]:
        return self.at, self.name


class Deliveries(RuleBasedStateMachine):
    """The model: every generation that was ever there, and what lies there now."""

    base: Path

    @initialize()
    def begin(self) -> None:
        self.root = self.new_root()
        self.generations: dict[tuple[str, str], Delivery] = {}
        self.lying: dict[str, Delivery] = {}
        self.puts = 0

    # -- the outside world ---------------------------------------------------------------------------------------------

    @rule(day=st.sampled_from((*DAYS, STRAY)), text=st.sampled_from(GOOD + BROKEN), after=st.integers(0, 9))
    def deliver(self, day: str, text: str, after: int) -> None:
        """A new name; `after` is any moment, so that late files come about."""
        stem = day if day == STRAY else f"things-{day}"
        self._put(f"things/{stem}.{self.puts}.csv", text, after)

    @precondition(lambda self: self.lying)
    @rule(
        which=st.randoms(use_true_random=False),
        text=st.none() | st.sampled_from(GOOD + BROKEN),
        after=st.integers(0, 9),
    )
    def overwrite(self, which: Any, text: str | None, after: int) -> None:
        """An old name with new bytes, or uploaded again as it is (None)."""
        name = which.choice(sorted(self.lying))
        self._put(name, self.lying[name].text if text is None else text, after)

    @precondition(lambda self: self.lying)
    @rule(which=st.randoms(use_true_random=False))
    def delete(self, which: Any) -> None:
        self._remove(which.choice(sorted(self.lying)))

    # -- ours ----------------------------------------------------------------------------------------------------------

    @rule(days=st.none() | st.sampled_from([{DAYS[0]}, {DAYS[1]}]))
    def run(self, days: set[str] | None) -> None:
        """A person's run of all days or of some."""
        collect(THINGS, self._open(), now=NOW, partitions=days)

    @rule()
    def look_and_run(self) -> None:
        """What the sensor asks for is run; it asks exactly when there is something new."""
        asked = look(self._open(), [THINGS], now=NOW)
        assert isinstance(asked, str) == (not new_files(THINGS, self._open())), asked
        for request in asked if isinstance(asked, list) else []:
            assert request.first is not None
            assert request.last is not None
            days = [day for day in DAYS if request.first <= day <= request.last]
            collect(THINGS, self._open(), now=NOW, partitions=days)

    @rule(step=st.integers(0, 30), done=st.booleans())
    def run_and_be_killed(self, step: int, done: bool) -> None:
        """A run that is killed at one of its reads and writes, before or after it is `done`."""

        def kill() -> None:
            raise Killed

        self._disturbed(step, kill, done=done)

    @rule(step=st.integers(0, 30))
    def run_beside_another(self, step: int) -> None:
        """A run, and at one of its reads and writes a second one from beginning to end."""
        self._disturbed(step, lambda: self.run(None))

    @precondition(lambda self: self.lying)
    @rule(
        step=st.integers(0, 30),
        which=st.randoms(use_true_random=False),
        text=st.none() | st.sampled_from(GOOD + BROKEN),
    )
    def run_while_a_file_changes(self, step: int, which: Any, text: str | None) -> None:
        """A run, and at one of its reads and writes a file is overwritten, or removed (None)."""
        name = which.choice(sorted(self.lying))
        self._disturbed(step, lambda: self._remove(name) if text is None else self._put(name, text, 9))

    def _disturbed(self, step: int, disturb: Callable[[], None], *, done: bool = False) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(room, "AT_ONCE", 1)  # so that the same step is the same read or write
            disturb_at(patch, step, disturb, done=done)
            with contextlib.suppress(Killed):
                collect(THINGS, self._open(), now=NOW)

    # -- at rest -------------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """Come to rest: look and run until there is nothing new, which the first time must do."""
        if hasattr(self, "root"):
            self.look_and_run()
            assert look(self._open(), [THINGS], now=NOW) == "no new files"
            entries = {entry.identity: entry for entry in self._open().ledger.entries()}
            self._all_that_lies_there_is_entered(entries)
            self._each_entry_is_of_a_delivery(entries)
            read = {identity: entry for identity, entry in entries.items() if entry.status != "gone"}
            for day in DAYS:
                self._the_newest_good_delivery_holds(day, read)
            self._the_quarantine_holds_what_was_broken(entries)

    def _all_that_lies_there_is_entered(self, entries: dict[tuple[str, str], Entry]) -> None:
        listed = self._open().landing.objects("things")
        assert {item.name for item in listed} == set(self.lying)
        assert {(item.name, item.generation) for item in listed} <= set(entries)

    def _each_entry_is_of_a_delivery(self, entries: dict[tuple[str, str], Entry]) -> None:
        for identity, entry in entries.items():
            delivery = self.generations[identity]
            assert entry.reason
            if entry.status == "gone":
                assert self.lying.get(delivery.name) != delivery
                continue
            assert entry.sha256 == hashlib.sha256(delivery.text.encode()).hexdigest()
            assert (entry.partition, entry.landed_at) == (delivery.day, delivery.at)
            assert (entry.status == "quarantined") is not delivery.good

    def _the_newest_good_delivery_holds(self, day: str, entries: dict[tuple[str, str], Entry]) -> None:
        known = {identity: self.generations[identity] for identity in entries if self.generations[identity].day == day}
        good = [delivery for delivery in known.values() if delivery.good]
        ends = Counter(entries[identity].status for identity in known)
        assert ends["ingested"] == bool(good), ends
        manifest = self._open().lake.manifest("raw/things", day)
        assert (manifest is not None) == bool(good)
        last = None
        if manifest and good:
            newest = max(good, key=lambda delivery: delivery.arrival)
            last = newest.arrival
            (holds,) = (entry for entry in entries.values() if (entry.partition, entry.status) == (day, "ingested"))
            assert self.generations[holds.identity].text == newest.text
            rows = self._open().lake.read("raw/things", [day])
            assert rows.select("id", "value").rows() == expected_rows(newest.text)
            assert rows["landed_at"].unique().to_list() == [holds.landed_at]
        held = {entry.identity for entry in waiting(THINGS, self._open()) if entry.partition == day}
        bad = {identity for identity, delivery in known.items() if not delivery.good}
        assert held == {identity for identity in bad if last is None or known[identity].arrival > last}

    def _the_quarantine_holds_what_was_broken(self, entries: dict[tuple[str, str], Entry]) -> None:
        kept = self._open().quarantine
        texts = {kept.read(name).decode() for name in kept.names() if not name.endswith(".json")}
        assert {
            self.generations[identity].text for identity, entry in entries.items() if entry.status == "quarantined"
        } <= texts

    # -- means ---------------------------------------------------------------------------------------------------------

    def new_root(self) -> str:
        """Return an empty place for one run of the machine."""
        return tempfile.mkdtemp(dir=self.base)

    def _open(self) -> Landing:
        """Return the places as a new process has them."""
        lake = f"{self.root}/lake"
        return Landing(Store(f"{self.root}/landing"), Lake(lake), Ledger(lake), Store(f"{self.root}/quarantine"))

    def _remove(self, name: str) -> None:
        self._open().landing.remove(name)
        del self.lying[name]

    def _put(self, name: str, text: str, after: int) -> None:
        landing = self._open().landing
        put(self._open(), name, text, after=after * MOST_PUTS + self.puts)
        self.puts += 1
        lies = landing.stat(name)
        assert lies is not None
        self.lying[name] = self.generations[name, lies.generation] = Delivery(name, text, lies.modified_at)


def expected_rows(text: str) -> list[tuple[int, float | None]]:
    """Return the rows of one of the `GOOD` files."""
    lines = [line.split(",") for line in text.splitlines()[1:]]
    return [(int(number), float(value) if value else None) for number, value in lines]


def disturb_at(patch: pytest.MonkeyPatch, step: int, disturb: Callable[[], None], *, done: bool) -> None:
    """Have `disturb` called once, at the given read or write (from 0) of any store: before it, or after it is `done`."""
    left = step

    def disturbed(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Store, *args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            now = left == -1
            if now and not done:
                disturb()
            found = method(self, *args, **kwargs)
            if now and done:
                disturb()
            return found

        return call

    for name in ("read", "write", "objects"):
        patch.setattr(Store, name, disturbed(getattr(Store, name)))


def test_at_rest_every_generation_was_entered_once_and_the_newest_good_delivery_holds(tmp_path: Path) -> None:
    Deliveries.base = tmp_path
    run_state_machine_as_test(Deliveries, settings=settings(max_examples=150, stateful_step_count=15))  # type: ignore[no-untyped-call]
