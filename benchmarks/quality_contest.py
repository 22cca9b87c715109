"""Contestants on data sets: each gets the same rows in a process of its own, and what it answers is kept."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import polars as pl

from benchmarks.arms.quality_asked import Asked
from benchmarks.datasets import SEED, Cut, Dataset, cut
from benchmarks.processes import BenchError, python
from benchmarks.project import code_of, kept
from benchmarks.quality_scores import Answer, Difference, difference, value

ROOT = Path(__file__).parents[1]
THREADS = 2
LEAST_SECONDS, STEP = 10.0, 1.5
"""The time of an arm with a limit is ours, rounded up to the next of the steps 10 s × 1.5ⁿ: never less than we took."""
GRACE, GRACE_SECONDS = 4, 300
"""Such an arm is cut off after GRACE times its limit, and so many seconds for imports and the rest."""


@dataclass(frozen=True)
class Contestant:
    """One way to a model: a module of the benches that is run with ASKED.json and a folder for its answer.

    With a `preset` it is given that, and the seconds that it may take. `rooms` are those of our code that it runs.
    `missing` says why it cannot be run here.
    """

    name: str
    module: str
    executable: str = sys.executable
    preset: str = ""
    rooms: tuple[str, ...] = ()
    missing: str = ""

    @property
    def detail(self) -> str:
        """Return the name as part of a number's name."""
        return self.name.replace(" ", "_").lower()


@dataclass(frozen=True)
class Tried:
    """What one contestant made of one split: its answer to the test rows, the seconds of fitting, the model in words."""

    answer: Answer
    seconds: float
    model: str = ""


@dataclass(frozen=True)
class Found:
    """What became of one data set: of each contestant one `Tried` a split, or a word why there is none."""

    dataset: Dataset
    rows: int
    tried: Mapping[str, Sequence[Tried]]
    failed: Mapping[str, str] = field(default_factory=dict)

    def value(self, name: str) -> float:
        """Return a contestant's metric, the mean over the splits."""
        return value(self.dataset.metric, [one.answer for one in self.tried[name]])

    def seconds(self, name: str) -> float:
        """Return a contestant's seconds on all splits; none where it failed."""
        return sum(one.seconds for one in self.tried.get(name, ()))

    def against(self, name: str, *, ours: str) -> Difference:
        """Return by how much ours is better than a contestant."""
        mine, theirs = ([one.answer for one in self.tried[who]] for who in (ours, name))
        return difference(self.dataset.metric, mine, theirs)


@dataclass(frozen=True)
class Contest:
    """Our contestant against peers, on data sets; `folder` keeps what each answered. `tell` hears of each fit."""

    folder: Path
    ours: Contestant
    peers: Sequence[Contestant]
    small: bool = False
    splits: int = 1
    tell: Callable[[str], None] = lambda _: None

    def found(self, problem: Dataset) -> Found:
        """Run every contestant on every split of a data set, ours first: the others' time may depend on ours.

        Raises `BenchError` when ours fails; a peer that fails has no answer to this data set.
        """
        frame = problem.load()
        tried: dict[str, list[Tried]] = {}
        failed = {peer.name: peer.missing for peer in self.peers if peer.missing}
        for fold in range(min(problem.folds, self.splits)):
            place = self.folder / f"{problem.name}-{fold}"
            asked = ask(place, problem, cut(problem, fold=fold, frame=frame), seed=SEED + fold, small=self.small)
            mine = self._attempt(place, asked, self.ours)
            tried.setdefault(self.ours.name, []).append(mine)
            for peer in [peer for peer in self.peers if peer.name not in failed]:
                try:
                    theirs = self._attempt(place, asked, peer, allowed(mine.seconds))
                    tried.setdefault(peer.name, []).append(theirs)
                except BenchError as error:
                    self.tell(f"{problem.name} {fold}: {peer.name} failed: {error}")
                    failed[peer.name] = "failed"
        whole = {name: answers for name, answers in tried.items() if name not in failed}
        return Found(problem, frame.height, whole, failed)

    def _attempt(self, place: Path, asked: Asked, who: Contestant, seconds: float = 0.0) -> Tried:
        found = attempt(place, asked, who, seconds)
        number = value(asked.metric, [found.answer])
        self.tell(f"{place.name}: {who.name} {asked.metric} {number:.4f}, {found.seconds:.1f} s, {found.model}")
        return found


def ask(place: Path, problem: Dataset, part: Cut, *, seed: int, small: bool = False) -> Asked:
    """Write a split's rows and what is asked about them to the folder `place`."""
    place.mkdir(parents=True, exist_ok=True)
    files = {"development": part.development, "test": part.test}
    for name, frame in files.items():
        frame.write_parquet(place / f"{name}.parquet")
    asked = Asked(
        kind=problem.kind,
        metric=problem.metric,
        classes=part.classes,
        features=part.features,
        by_time=problem.by_time,
        seed=seed,
        threads=THREADS,
        small=small,
        **{name: str(place / f"{name}.parquet") for name in files},
    )
    (place / "asked.json").write_text(json.dumps(asdict(asked), indent=1))
    return asked


def attempt(place: Path, asked: Asked, who: Contestant, seconds: float = 0.0) -> Tried:
    """Run a contestant, unless its answer to the same question by the same code is kept; `BenchError` when it fails.

    `seconds` are the limit of a contestant with a preset; the others do not hear of it.
    """
    limit = [who.preset, f"{seconds:.1f}"] if who.preset else []
    at_most = GRACE * seconds + GRACE_SECONDS if who.preset else None

    def run(into: Path) -> None:
        into.mkdir(parents=True)
        arguments = ["-m", who.module, str(place / "asked.json"), str(into), *limit]
        python(arguments, root=ROOT, log=place / f"{who.detail}.log", at_most=at_most, executable=who.executable)

    return answered(kept(place / who.detail, run, state=state(asked, who, limit)), asked, who)


def answered(folder: Path, asked: Asked, who: Contestant) -> Tried:
    """Read an answer; `BenchError` when it is not one finite number (or one a class) for each test row."""
    test, scores = pl.read_parquet(asked.test), pl.read_parquet(folder / "scores.parquet")
    wanted = list(asked.classes) or ["score"]
    finite = scores.select(pl.all().cast(pl.Float64).is_finite().fill_null(False).all()).row(0)
    if scores.columns != wanted or scores.height != test.height or not all(finite):
        raise BenchError(f"{who.name} answered {scores.shape} scores, some perhaps not finite, to {test.height} rows")
    told = json.loads((folder / "told.json").read_text())
    score = scores.to_numpy() if asked.classes else scores["score"].to_numpy()
    return Tried(Answer(asked.y(test), score), told["seconds"], told["model"])


def state(asked: Asked, who: Contestant, limit: Sequence[str]) -> str:
    """Return what an answer depends on: the rows, the question, the arm's code, and ours where it runs it."""
    from benchmarks.results import versions

    digest = hashlib.sha256(json.dumps([asdict(asked), versions(), who.executable, *limit]).encode())
    module = ROOT.joinpath(*who.module.split(".")).with_suffix(".py")
    for path in (Path(asked.development), Path(asked.test), module, ROOT / "benchmarks" / "arms" / "quality_asked.py"):
        digest.update(path.read_bytes())
    return f"{digest.hexdigest()} {code_of(*who.rooms) if who.rooms else ''}"


def allowed(seconds: float) -> float:
    """Return the time limit of a peer, in seconds, when ours took so many."""
    limit = LEAST_SECONDS
    while limit < seconds:
        limit *= STEP
    return limit
