"""A copy of the project with data of its own, so that a bench runs the real thing and touches nobody's lake."""

from __future__ import annotations

import compileall
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

from ml_assets import keys
from ml_assets.lake import Store
from ml_assets.replay.world import FIRST_DAY, LAST_DAY, World, delivered_at
from ml_assets.resources.clock import Clock

ROOT = Path(__file__).parents[1]
COPIED = ("ml_assets", "feature_repo", "benchmarks", "pyproject.toml", "dagster.yaml", "workspace.yaml")
DECLARATION = "ml_assets/defs/flights/delay/defs.yaml"
OTHER_PROBLEMS = ("arrival_delay", "airport_segments")  # the plain script does one
SPLIT = "split: {train: 8mo, validation: 1mo, test: 1mo}"
LABELS_KNOWN = timedelta(days=2)  # the last flight has arrived, and its outcome has been known for a day


@dataclass(frozen=True)
class Extent:
    """Days that are delivered, from the year's first to `last`, and the split that is declared for them."""

    last: date
    split: str = SPLIT

    @property
    def days(self) -> list[str]:
        """Return the days, in order."""
        return keys.days(FIRST_DAY, self.last)

    @property
    def now(self) -> datetime:
        """Return the replay's now: the last day's outcomes are known."""
        return datetime.combine(self.last + timedelta(days=1), time(), UTC) + LABELS_KNOWN


YEAR = Extent(LAST_DAY)
TEN_MONTHS = Extent(date(2013, 10, 31))
NINE_WEEKS = Extent(date(2013, 3, 4), "split: {train: 5w, validation: 7d, test: 7d}")


def kept(folder: Path, make: Callable[[Path], object], *, state: str) -> Path:
    """Return `folder` as `make` filled it, now or in an earlier call with the same `state`; never a half-filled one."""
    stamp = folder.with_name(f"{folder.name}.made")
    if not stamp.is_file() or stamp.read_text() != state:
        stamp.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        make(folder)
        stamp.write_text(state)
    return folder


def code_of(*rooms: str) -> str:
    """Return a version of rooms of the code, as the state of what is kept between calls."""
    from ml_assets.resources.code import rooms_version

    return rooms_version(*rooms)


def delivered(folder: Path, extent: Extent) -> Path:
    """Return a landing zone below `folder` with the files of the days, dated as delivered; kept between calls."""

    def deliver(landing: Path) -> None:
        world = World(Store(str(landing)))
        world.deliver_reference(at=delivered_at(FIRST_DAY - timedelta(days=1)))
        world.deliver_days([date.fromisoformat(day) for day in extent.days])

    return kept(folder / f"landing-{extent.last}", deliver, state=code_of("replay", "lake"))


def copied(folder: Path) -> Path:
    """Make a copy of the project in `folder`, without any data, in place of what was there; return the folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in COPIED:
        copy: Callable[..., object] = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    compileall.compile_dir(folder / "ml_assets", quiet=1)
    return folder


def fresh(folder: Path, extent: Extent, *, landing: Path) -> Path:
    """Make a copy of the project in `folder` that has nothing but delivered files and the time; return the folder."""
    copied(folder)
    for name in OTHER_PROBLEMS:
        shutil.rmtree(folder / "ml_assets" / "defs" / "flights" / name)
    declare(folder / DECLARATION, extent.split)
    shutil.copytree(landing, folder / "data" / "landing")
    Clock(folder / "data" / "replay_clock").set(extent.now)
    return folder


def declare(declaration: Path, split: str) -> None:
    """Declare another split, as a user would: one line of YAML. `ValueError` when the line is not there."""
    text = declaration.read_text()
    if SPLIT not in text:
        raise ValueError(f"{declaration}: does not declare {SPLIT!r}; adapt benchmarks/project.py to the declaration")
    declaration.write_text(text.replace(SPLIT, split))
