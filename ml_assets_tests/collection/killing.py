"""Schedules with real `kill -9`, for `test_kill`: a small outside world and a small daemon, killed at one step after the other.

    python -m ml_assets_tests.collection.killing FOLDER SEED

A seed is a world: two waves of uploads, and after each the daemon looks, notes the runs that are asked for, and collects. It
is done once undisturbed, which counts its steps; then once for each step, at which the process is killed for good, some of them
with a second kill while it recovers. After that new processes go on until nothing is left. What is in then is compared.

A process starts in a millisecond, because it is forked from this one, which has imported all and has used nothing of Polars.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pyarrow.csv  # noqa: F401 — before the first fork, not after each

from ml_assets.collection import collect as room
from ml_assets.collection.collect import Landing, collect
from ml_assets.collection.watch import Request, look
from ml_assets.lake import Store
from ml_assets_tests.collection.outside import NOW, START, THINGS, open_places

NAMES = replace(THINGS, name="names", pattern="names/names*.csv", days=None)
CONTRACTS = (THINGS, NAMES)
DAYS = ("2013-01-30", "2013-01-31")
GOOD = ("id,value\n1,0.5\n", "id,value\n1,0.5\n2,1\n", "id,value\n3,\n")
BROKEN = ("", "id\n1\n", "id,value\n1,-1\n")
MOST_TICKS = 8  # a sound daemon needs three: one for each wave, and one that finds nothing
SECOND_KILL = 0.4  # share of schedules with one

# -- the outside world ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Upload:
    """One file that lands: its name and bytes, and when, in minutes."""

    name: str
    text: str
    after: int


def world(seed: int) -> list[list[Upload]]:
    """Return two waves of uploads: new days, then corrections, late and broken files, and files over old ones."""
    draw = Random(seed)
    first = [Upload(f"things/things-{day}.csv", draw.choice(GOOD), 10 + number) for number, day in enumerate(DAYS)]
    first += [
        Upload(f"things/things-{DAYS[0]}.bad.csv", draw.choice(BROKEN), 15),
        Upload("names/names.csv", GOOD[1], 16),
    ]
    second = [
        Upload(f"things/things-{DAYS[0]}.fixed.csv", draw.choice(GOOD + BROKEN), draw.choice((5, 30))),
        Upload(f"things/things-{DAYS[1]}.csv", draw.choice(GOOD + BROKEN), 31),
        Upload(draw.choice(("names/names.csv", "names/notes.txt", "things/notes.txt")), draw.choice(GOOD), 32),
    ]
    return [first, second]


def deliver(root: Path, wave: list[Upload]) -> None:
    """Upload what does not lie there yet; another uploader takes over from a killed one."""
    for upload in wave:
        sent, target = root / "sent" / str(upload.after), root / "landing" / upload.name
        moment = (START + timedelta(minutes=upload.after)).timestamp()
        if not sent.exists() and not (target.exists() and target.stat().st_mtime == moment):
            _upload(upload.text.encode(), target, moment)
        sent.parent.mkdir(parents=True, exist_ok=True)
        sent.touch()


def _upload(data: bytes, target: Path, moment: float) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(".part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.utime(part, (moment, moment))
    os.replace(part, target)


# -- the daemon ----------------------------------------------------------------------------------------------------------------


class Runs:
    """What a Dagster instance knows of runs: a key is never taken twice, and a killed run is a failure when it is found."""

    def __init__(self, root: Path) -> None:
        self._store = Store(str(root / "runs"))
        self._names = set(self._store.names())

    def failures(self) -> Counter[str]:
        """Find those that a killed process left, and return the number of failures by batch."""
        for key in self._keys() - self._ended():
            self._note(f"{key}.failed", "")
        failed = [name for name in self._names if name.endswith(".failed")]
        return Counter(name.split("-")[0] for name in failed)

    def begin(self, request: Request) -> bool:
        """Note a run that is asked for; False when its key was taken before."""
        if request.key in self._keys():
            return False
        self._note(f"{request.key}.run", request.batch)
        return True

    def end(self, request: Request) -> None:
        self._note(f"{request.key}.done", "")

    def _keys(self) -> set[str]:
        return {name.removesuffix(".run") for name in self._names if name.endswith(".run")}

    def _ended(self) -> set[str]:
        return {name.rpartition(".")[0] for name in self._names if not name.endswith(".run")}

    def _note(self, name: str, text: str) -> None:
        self._store.write(name, text.encode())
        self._names.add(name)


def tick(root: Path) -> bool:
    """Look once, and run what is asked for; False when there is nothing new."""
    runs = Runs(root)
    asked = look(open_places(root), CONTRACTS, now=NOW, failures=runs.failures())
    if isinstance(asked, str):
        return False
    for request in [request for request in asked if runs.begin(request)]:
        run(open_places(root), request)
        runs.end(request)
    return True


def run(places: Landing, request: Request) -> None:
    """Collect as the raw assets of a run do, each its own days."""
    days = [day for day in DAYS if request.first and request.last and request.first <= day <= request.last]
    for contract in CONTRACTS:
        if contract.name in request.sources:
            collect(contract, places, now=NOW, partitions=days if contract.partitioned else None)


def everything(root: Path, seed: int) -> None:
    """Both waves, each uploaded and collected; a new process goes on where a killed one was."""
    for number, wave in enumerate(world(seed)):
        deliver(root, wave)
        for _ in range(MOST_TICKS):
            if not tick(root):
                break
        else:
            raise AssertionError(f"after {MOST_TICKS} looks there is still something new")
        (root / f"wave-{number}").touch()


# -- what is in ----------------------------------------------------------------------------------------------------------------


def state(root: Path) -> dict[str, Any]:
    """Return what must be the same whatever happened on the way, and what must not be there at all."""
    places = open_places(root)
    entries = places.ledger.entries()
    lying = {(item.name, item.generation) for item in places.landing.objects()}
    live = Counter((entry.source, entry.partition) for entry in entries if entry.status == "ingested")
    kept = {
        name: sha256(places.quarantine.read(name)) for name in places.quarantine.names() if not name.endswith(".json")
    }
    return {
        "rows": {f"raw/{contract.name}": rows(places, f"raw/{contract.name}") for contract in CONTRACTS},
        "live": sorted(
            [entry.source, entry.partition or "", entry.sha256] for entry in entries if entry.status == "ingested"
        ),
        "entered": sorted([entry.name, entry.sha256, entry.status == "quarantined"] for entry in entries),
        "quarantine": dict(sorted(kept.items())),
        "lost": len(lying - {entry.identity for entry in entries}),
        "doubled": sum(count - 1 for count in live.values()),
    }


def rows(places: Landing, table: str) -> list[list[str]]:
    """Return the rows of a table with the partition of each, all as text."""
    frame = places.lake.read(table, partition_column="_partition")
    return sorted([str(value) for value in row] for row in frame.rows())


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# -- killing -------------------------------------------------------------------------------------------------------------------


class Steps:
    """Counts what a process does to files, and kills it at step `last` (from 0), if there is one."""

    def __init__(self, last: int | None) -> None:
        self.last = last
        self.names: list[str] = []

    def step(self, name: str, *, harm: Callable[[], None] | None = None) -> None:
        self.names.append(name)
        if len(self.names) - 1 == self.last:
            if harm:
                harm()
            os.kill(os.getpid(), signal.SIGKILL)

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Step after each listing, in the middle of each file, before and after it gets its name."""
        before = {name: getattr(os, name) for name in ("fsync", "replace", "link")}
        listed = Store.objects

        def objects(store: Store, *args: Any, **kwargs: Any) -> Any:
            found = listed(store, *args, **kwargs)
            name = f"after listing {Path(store.url).name}"
            if name not in self.names[-2:]:  # between two writes it is all the same
                self.step(name)
            return found

        def fsync(descriptor: int) -> None:
            def cut() -> None:
                os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)

            self.step("half a file written", harm=cut)  # nothing else: a kill is no power failure

        def named(how: str) -> Callable[..., None]:
            def name(temporary: Any, target: Any) -> None:
                self.step(f"before naming {kind(Path(target))}")
                before[how](temporary, target)
                self.step(f"after naming {kind(Path(target))}")

            return name

        os.fsync, os.replace, os.link = fsync, named("replace"), named("link")  # type: ignore[assignment]
        Store.objects = objects  # type: ignore[method-assign]
        try:
            yield
        finally:
            os.fsync, os.replace, os.link = before["fsync"], before["replace"], before["link"]
            Store.objects = listed  # type: ignore[method-assign]


def kind(path: Path) -> str:
    """Return in words what a file is."""
    by_folder = {
        "landing": "an upload",
        "quarantine": "a quarantine copy",
        "_ledger": "a batch of the ledger",
        "runs": "a run",
    }
    found = next((words for folder, words in by_folder.items() if folder in path.parts), "")
    return found or {".parquet": "data", ".json": "a manifest"}.get(path.suffix, "another file")


def in_a_process(work: Callable[[], object]) -> tuple[bool, Any]:
    """Do the work in a new process; return whether it was killed, and what it returned."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        os.close(read_end)
        with os.fdopen(write_end, "w") as out:
            json.dump(work(), out)
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as answer:
        told = answer.read()
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    if not killed and status:
        raise AssertionError(f"a process failed with status {status}")
    return killed, None if killed else json.loads(told)


def disturbed(root: Path, seed: int, last: int | None) -> list[str]:
    """Do everything, killed at the given step; return the names of the steps when nobody was."""
    steps = Steps(last)
    with steps.counted():
        everything(root, seed)
    return steps.names


def at_rest(root: Path, seed: int) -> dict[str, Any]:
    """Do what is left, and return what is in."""
    everything(root, seed)
    return state(root)


def schedules(folder: Path, seed: int) -> Iterator[dict[str, Any]]:
    """Yield for each step of a world at which it was killed, and how what is in then differs from what should be."""
    calm = folder / f"calm-{seed}"
    _, names = in_a_process(partial(disturbed, calm, seed, None))
    _, wanted = in_a_process(partial(at_rest, calm, seed))
    draw = Random(seed)
    for number, name in enumerate(names):
        root = folder / f"{seed}-{number}"
        killed, _ = in_a_process(partial(disturbed, root, seed, number))
        kills = int(killed)
        if draw.random() < SECOND_KILL:
            second = draw.randrange(len(names) // 2)
            kills += in_a_process(partial(disturbed, root, seed, second))[0]
        _, found = in_a_process(partial(at_rest, root, seed))
        differs = sorted(key for key in wanted if found[key] != wanted[key])
        yield {"seed": seed, "step": name, "kills": kills, "differs": differs} | {
            key: found[key] for key in ("lost", "doubled")
        }
        shutil.rmtree(root)


def main(folder: str, seed: str) -> None:
    """Print one line of JSON for each schedule of a world."""
    room.AT_ONCE = 1  # so that the same step is the same each time
    gc.disable()
    gc.freeze()  # or each process would copy what it only looks through
    for schedule in schedules(Path(folder), int(seed)):
        print(json.dumps(schedule), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
