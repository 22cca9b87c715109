"""Is what the project makes by itself any good: the default budget against what a person would do otherwise.

Ours is `develop` with nothing tuned. The peers are XGBoost's defaults, a tuned random forest, and AutoGluon with as much
time as we took, at two of its presets. AutoGluon lives in an environment of its own: `make autogluon`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks.datasets import DATASETS, Dataset, dataset
from benchmarks.quality_contest import ROOT, Contest, Contestant, Found
from benchmarks.quality_scores import GREATER_IS_BETTER, Difference
from benchmarks.runner import LOSSES, Arm, Bench, Comparison, Limit, Measured, Options

AUTOGLUON, AUTOGLUON_DEFAULT = "AUTOGLUON_PYTHON", ".venv-autogluon/bin/python"
SPLITS = "QUALITY_SPLITS"  # train/test splits of each data set, at most three
PRESETS = ("medium", "best")
SMALL = ("iris", "vote", "diabetes")
NOT_ABOVE = 0.49  # the share of data sets on which a forest may be as good: ours is above on most
NOTES = """Each arm is a process of its own with the same files: development rows (train and validation are marked) and test rows.
Every metric is computed here. Intervals are of a paired bootstrap over the test rows, 1,000 resamples: they hold for these
fitted models, and leave out what another fit would change. Better and worse: the 95 % interval leaves zero out.
With several splits the value is their mean; no test row is in two. Seconds are those of fitting, without imports. Losses
are data sets where ours is worse than XGBoost's defaults. AutoGluon's time limit is our time on that split, rounded up.
A fit is kept in the bench's folder until code or data change: remove the folder to measure the seconds anew."""

Table = Sequence[Sequence[str]]


@contextmanager
def bench(options: Options) -> Iterator[Bench]:
    """Yield the bench; nothing is fitted before it runs."""
    problems = [dataset(name) for name in SMALL] if options.small else list(DATASETS)
    folder = options.folder / ("quality-small" if options.small else "quality")
    contest = Contest(
        folder,
        OURS,
        [XGBOOST, FOREST, *autogluon(os.environ)],
        small=options.small,
        splits=int(os.environ.get(SPLITS, "1")),
        tell=_say,
    )
    played = Played(contest, problems)
    yield Bench(
        name="quality",
        title=f"What the default budget makes of {len(problems)} data sets, against three that a person would use",
        target=0,
        judged="losses",
        limits=limits(contest),
        ours=Arm(OURS.name, played.measured),
        theirs=Arm(played.pace.name, played.peer_measured),
        compare=lambda said, _: Comparison(None, f"not comparable: models differ; {said}, the same rows for each arm"),
        rounds=1,
        warm_up=False,
        notes=NOTES,
    )


OURS = Contestant(
    "ml_assets", "benchmarks.arms.quality_ml_assets", rooms=("tasks", "preparation", "features", "development")
)
XGBOOST = Contestant("default XGBoost", "benchmarks.arms.quality_xgboost")
FOREST = Contestant("tuned random forest", "benchmarks.arms.quality_forest")


def autogluon(environment: Mapping[str, str]) -> list[Contestant]:
    """Return AutoGluon at two presets; the Python of its environment is AUTOGLUON_PYTHON, by default .venv-autogluon's."""
    executable = ROOT / (environment.get(AUTOGLUON) or AUTOGLUON_DEFAULT)
    missing = "" if os.access(executable, os.X_OK) else "not installed"
    module = "benchmarks.arms.quality_autogluon"
    return [
        Contestant(f"AutoGluon {word}", module, str(executable), f"{word}_quality", missing=missing) for word in PRESETS
    ]


def limits(contest: Contest) -> list[Limit]:
    """Return what is aimed at beside no loss to XGBoost: above the forest on most, AutoGluon matched where it is there."""
    matched = [peer for peer in contest.peers if peer.preset and not peer.missing]
    return [
        Limit(f"share_not_above_{FOREST.detail}", NOT_ABOVE, "value"),
        *(Limit(f"worse_less_better_{peer.detail}", 0, "value") for peer in matched),
    ]


@dataclass
class Played:
    """A contest on its data sets, which is played when our arm runs; the peer's arm then only tells its seconds."""

    contest: Contest
    problems: Sequence[Dataset]
    found: list[Found] = field(default_factory=list)

    @property
    def pace(self) -> Contestant:
        """Return the peer whose seconds are told beside ours: the first with a time limit, or the last there is."""
        there = [peer for peer in self.contest.peers if not peer.missing]
        return next((peer for peer in there if peer.preset), there[-1])

    def measured(self) -> Measured:
        """Play, and return our seconds, the counts as details, the tables as remarks."""
        self.found = [self.contest.found(problem) for problem in self.problems]
        splits = sum(len(one.tried[self.contest.ours.name]) for one in self.found)
        said = f"{len(self.found)} data sets, {splits} splits"
        return Measured(said, self._seconds(self.contest.ours), counts(self.contest, self.found), self._remarks())

    def peer_measured(self) -> Measured:
        """Return the peer's seconds."""
        return Measured("", self._seconds(self.pace))

    def _seconds(self, who: Contestant) -> float:
        return sum(one.seconds(who.name) for one in self.found)

    def _remarks(self) -> list[str]:
        tables = [values_table(self.contest, self.found), differences_table(self.contest, self.found)]
        return [*("\n" + aligned(table) for table in tables), "", *summary(self.contest, self.found)]


def differences(contest: Contest, found: Sequence[Found], peer: Contestant) -> list[Difference]:
    """Return how ours differs from a peer on each data set that the peer has an answer to."""
    return [one.against(peer.name, ours=contest.ours.name) for one in found if peer.name in one.tried]


def counts(contest: Contest, found: Sequence[Found]) -> dict[str, float]:
    """Return, for each peer, on how many data sets ours is better, worse (or neither, within noise), and above or not."""
    told: dict[str, float] = {}
    for peer in contest.peers:
        if not (compared := differences(contest, found, peer)):
            continue
        verdicts = Counter(one.verdict for one in compared)
        not_above = sum(one.value <= 0 for one in compared) / len(compared)
        told |= {f"{word}_{peer.detail}": float(verdicts[word]) for word in ("better", "worse")}
        told[f"worse_less_better_{peer.detail}"] = float(verdicts["worse"] - verdicts["better"])
        told[f"share_not_above_{peer.detail}"] = not_above
    return told | {LOSSES: told[f"worse_{contest.peers[0].detail}"]}


def values_table(contest: Contest, found: Sequence[Found]) -> Table:
    """Return every arm's metric on each data set, and its seconds."""
    arms = [contest.ours, *contest.peers]
    seconds = [f"{arm.name}, s" for arm in arms]
    rows = [["data set", "rows", "metric", *(arm.name for arm in arms), *seconds]]
    for one in found:
        arrow = "↑" if GREATER_IS_BETTER[one.dataset.metric] else "↓"
        values = [f"{one.value(arm.name):.4g}" if arm.name in one.tried else one.failed[arm.name] for arm in arms]
        took = [f"{one.seconds(arm.name):.1f}" if arm.name in one.tried else "" for arm in arms]
        rows.append([one.dataset.name, f"{one.rows:,}", f"{one.dataset.metric} {arrow}", *values, *took])
    return rows


def differences_table(contest: Contest, found: Sequence[Found]) -> Table:
    """Return by how much ours is better than each peer on each data set, with the interval and the verdict."""
    rows = [["ours is better by", *(f"than {peer.name}" for peer in contest.peers)]]
    for one in found:
        cells = [
            cell(one.against(peer.name, ours=contest.ours.name)) if peer.name in one.tried else one.failed[peer.name]
            for peer in contest.peers
        ]
        rows.append([one.dataset.name, *cells])
    return rows


def cell(one: Difference) -> str:
    """Return a difference in words.

    >>> cell(Difference(0.0123, 0.004, 0.02))
    '+0.0123 [+0.004, +0.02] better'
    """
    said = "" if one.verdict == "within noise" else f" {one.verdict}"
    return f"{one.value:+.3g} [{one.low:+.3g}, {one.high:+.3g}]{said}"


def summary(contest: Contest, found: Sequence[Found]) -> list[str]:
    """Return a line for each peer: better, within noise, worse."""
    lines = []
    for peer in contest.peers:
        compared = differences(contest, found, peer)
        verdicts = Counter(one.verdict for one in compared)
        said = ", ".join(f"{verdicts[word]} {word}" for word in ("better", "within noise", "worse"))
        above = sum(one.value > 0 for one in compared)
        lines.append(f"against {peer.name}: {said}; above on {above} of {len(compared)}" if compared else _absent(peer))
    return lines


def aligned(table: Table) -> str:
    """Return a table as lines of text."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in table)


def _absent(peer: Contestant) -> str:
    return f"against {peer.name}: {peer.missing or 'failed on every data set'}"


def _say(text: str) -> None:
    print(f"quality: {text}", flush=True)
