"""Whatever lands in whichever order, and whenever it is collected: the newest good delivery of each day holds in the end.

Deliveries are good, equal to earlier ones, corrected, late (older than what is in) or broken, under new names or over old ones;
collecting takes everything, or some days, or is killed before the ledger is written.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ml_assets.collection.collect import collect, new_files, waiting
from ml_assets.collection.ledger import Entry, Ledger
from ml_assets_tests.collection.outside import NOW, THINGS, open_places, put

DAYS = ("2013-01-30", "2013-01-31")
GOOD = ("id,value\n1,0.5\n", "id,value\n1,0.5\n2,1\n", "id,value\n3,\n")
BROKEN = ("", "id\n1\n", "id,value\nx,1\n", "id,value\n1,-1\n")


@dataclass(frozen=True)
class Delivery:
    """What the outside world knows of one file: its name, its text, and when it landed."""

    name: str
    text: str
    after: int

    @property
    def day(self) -> str:
        return self.name[len("things/things-") :][:10]


class Deliveries(RuleBasedStateMachine):
    """The model: every delivery that was there when somebody looked."""

    base: Path

    @initialize()
    def begin(self) -> None:
        self.root = Path(tempfile.mkdtemp(dir=self.base))
        self.lying: dict[str, Delivery] = {}  # in the landing zone
        self.known: dict[tuple[str, str], Delivery] = {}  # by name and generation, once it was taken
        self.killed = False

    @rule(day=st.sampled_from(DAYS), text=st.sampled_from(GOOD + BROKEN), after=st.integers(0, 9))
    def deliver(self, day: str, text: str, after: int) -> None:
        """A new name; `after` is any moment, so that late files come about."""
        self._put(Delivery(f"things/things-{day}.{len(self.lying)}.csv", text, after))

    @precondition(lambda self: self.lying and not self.killed)
    @rule(which=st.randoms(use_true_random=False), text=st.sampled_from(GOOD + BROKEN), after=st.integers(10, 19))
    def overwrite(self, which: object, text: str, after: int) -> None:
        """An old name with new bytes. (Bytes that a killed run wrote, and nobody sees again, are beyond repair.)"""
        name = which.choice(sorted(self.lying))  # type: ignore[attr-defined]
        if self.lying[name].after < after:
            self._put(Delivery(name, text, after))

    @rule(days=st.none() | st.sampled_from([{DAYS[0]}, {DAYS[1]}]))
    def collect(self, days: set[str] | None) -> None:
        places = open_places(self.root)
        taken = {item.name: item.generation for item in new_files(THINGS, places)}
        collect(THINGS, places, now=NOW, partitions=days)
        for name, generation in taken.items():
            if days is None or self.lying[name].day in days:
                self.known[name, generation] = self.lying[name]
        self.killed = self.killed and days is not None

    @rule()
    def collect_and_be_killed(self) -> None:
        def stop(self: Ledger, entries: object, **_: object) -> None:
            raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Ledger, "append", stop)
            if new_files(THINGS, places := open_places(self.root)):
                self.killed = True
                with pytest.raises(KeyboardInterrupt):
                    collect(THINGS, places, now=NOW)

    @invariant()
    def every_known_delivery_has_one_status(self) -> None:
        if hasattr(self, "root"):
            entries = self._entries()
            assert Counter(entry.identity for entry in entries) == Counter(self.known.keys())
            for entry in entries:
                assert (entry.status == "quarantined") is (self.known[entry.identity].text in BROKEN)

    def teardown(self) -> None:
        """Come to rest: one last look, and nothing is left."""
        if hasattr(self, "root"):
            self.collect(None)
            self.every_known_delivery_has_one_status()
            for day in DAYS:
                self._newest_good_delivery_holds(day)
            self._nothing_is_lost()

    def _put(self, delivery: Delivery) -> None:
        put(open_places(self.root), delivery.name, delivery.text, after=delivery.after)
        self.lying[delivery.name] = delivery

    def _entries(self) -> list[Entry]:
        return open_places(self.root).ledger.entries()

    def _newest_good_delivery_holds(self, day: str) -> None:
        good = [item for item in self.known.values() if item.day == day and item.text in GOOD]
        places = open_places(self.root)
        assert len(
            [entry for entry in self._entries() if (entry.partition, entry.status) == (day, "ingested")]
        ) == bool(good)
        if good:
            newest = max(good, key=lambda item: (item.after, item.name))
            assert places.ledger.live("things")[day].sha256 == hashlib.sha256(newest.text.encode()).hexdigest()
            rows = places.lake.read("raw/things", [day])
            assert rows.height == newest.text.count("\n") - 1
            assert str(rows["id"][0]) == newest.text.split("\n")[1][0]
        held = {entry.identity for entry in waiting(THINGS, places) if entry.partition == day}
        bad = {key: item for key, item in self.known.items() if item.day == day and item.text in BROKEN}
        last = max(((item.after, item.name) for item in good), default=(-1, ""))
        assert held == {key for key, item in bad.items() if (item.after, item.name) > last}

    def _nothing_is_lost(self) -> None:
        places = open_places(self.root)
        kept = {places.quarantine.read(name).decode() for name in places.quarantine.names() if "reason" not in name}
        assert {item.text for item in self.known.values() if item.text in BROKEN} <= kept
        assert new_files(THINGS, places) == []


def test_the_newest_good_delivery_holds_in_the_end(tmp_path: Path) -> None:
    Deliveries.base = tmp_path
    run_state_machine_as_test(Deliveries, settings=settings(max_examples=40, stateful_step_count=15))  # type: ignore[no-untyped-call]
