"""The replay's clock: set, read by others, never back; and the system's when there is no replay."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from ml_assets.resources.clock import Clock
from ml_assets.resources.places import ClockResource

NOON = datetime(2013, 11, 3, 12, tzinfo=UTC)


def test_what_was_set_is_the_time_for_everybody(tmp_path: Path) -> None:
    file = tmp_path / "deeper" / "clock"
    Clock(file).set(NOON)
    assert Clock(str(file)).now() == NOON
    assert [path.name for path in file.parent.iterdir()] == ["clock"]


def test_time_is_told_in_utc(tmp_path: Path) -> None:
    Clock(tmp_path / "clock").set(NOON.astimezone(timezone(timedelta(hours=-5))))
    assert (tmp_path / "clock").read_text() == "2013-11-03T12:00:00+00:00"
    (tmp_path / "clock").write_text("2013-11-03T07:00:00-05:00\n")
    assert Clock(tmp_path / "clock").now().tzinfo == UTC


def test_time_does_not_go_back(tmp_path: Path) -> None:
    clock = Clock(tmp_path / "clock")
    clock.set(NOON)
    clock.set(NOON)
    with pytest.raises(ValueError, match=r"before the replay's now 2013-11-03T12.*make clean"):
        clock.set(NOON - timedelta(seconds=1))
    assert clock.now() == NOON


@pytest.mark.parametrize("text", ["", "soon", "2013-11-03T12:00:00", "1383480000"])
def test_a_text_that_is_no_moment_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "clock").write_text(text)
    with pytest.raises(ValueError, match="is not a time like 2013-11-03"):
        Clock(tmp_path / "clock").now()


@pytest.mark.parametrize("file", ["", "missing"])
def test_without_a_replay_it_is_the_systems_time(tmp_path: Path, file: str) -> None:
    before = datetime.now(UTC)
    assert before <= Clock(tmp_path / file if file else "").now() <= datetime.now(UTC)


def test_the_systems_time_cannot_be_set() -> None:
    with pytest.raises(ValueError, match="give the clock a replay file"):
        Clock().set(NOON)


def test_a_declaration_chooses_the_replays_or_the_systems_time(tmp_path: Path) -> None:
    resource = ClockResource(replay_file=str(tmp_path / "clock"))
    Clock(tmp_path / "clock").set(NOON)
    assert resource.open().now() == resource.open("replay").now() == NOON
    before = datetime.now(UTC)
    assert before <= resource.open("system").now() <= datetime.now(UTC)


def test_who_declares_the_systems_time_can_set_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give the clock a replay file"):
        ClockResource(replay_file=str(tmp_path / "clock")).open("system").set(NOON)
    assert not (tmp_path / "clock").exists()
