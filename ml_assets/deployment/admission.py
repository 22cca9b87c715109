"""From a name in the registry to a model that answers: a bundle is judged before it takes office, and measured.

What the bundle is refused for is a sentence; whoever was in office before goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ml_assets.deployment.attempt import Attempt
from ml_assets.development.tracking import CHALLENGER, CHAMPION
from ml_assets.packaging.bundle import Bundle, load_bundle
from ml_assets.packaging.history import BUNDLE_DIGEST, HistoryError, settle

if TYPE_CHECKING:
    from ml_assets.development.tracking import ChampionRef, Tracking
    from ml_assets.lake import Store

SIZES = (1, 10, 100, 1_000, 10_000)
MEASURED_FOR = 0.4  # seconds at most, about, for both ways together
REPEATS = 3
BESIDE = 1e-3
"""Seconds that a server's other requests may wait for one answer; longer ones go to a thread, which costs 0.1 ms itself."""
Rows = Sequence[Mapping[str, Any]]


class RefusedBundleError(ValueError):
    """A bundle that must not answer."""


@dataclass(frozen=True)
class Appointed:
    """A model by name: its version in the registry, the folder of its bundle, and the digest that the registry keeps."""

    version: str
    folder: Path
    digest: str


@dataclass(frozen=True)
class Offices:
    """Who is to answer, and who is on trial."""

    champion: Appointed | None = None
    challenger: Appointed | None = None


@dataclass(frozen=True)
class BreakEven:
    """From how many `rows` on the native model is the quicker way; None: at no measured size.

    `seconds` are those of the small and of the native way, by the number of rows.
    """

    rows: int | None
    seconds: Mapping[int, tuple[float, float]] = field(default_factory=dict)

    @cached_property
    def beside(self) -> int:
        """Return how many rows are answered within `BESIDE` seconds, by what was measured; between two sizes on a straight line."""
        found, before = 0, (0, 0.0)
        for size, ways in sorted(self.seconds.items()):
            taken = min(ways)
            if taken > BESIDE:
                share = (BESIDE - before[1]) / (taken - before[1])
                return int(before[0] + share * (size - before[0]))
            found, before = size, (size, taken)
        return found


@dataclass(frozen=True)
class Served:
    """A model in service: `version` is the registry's, `since` when this process took it up."""

    version: str
    bundle: Bundle
    since: datetime
    break_even: BreakEven

    def answers(self, rows: Rows) -> list[dict[str, Any]]:
        """Return an answer for each row, the quicker way for so many.

        The ways agree to 1e-6, which the bundle's own parity check saw to: how many rows a request has never changes an answer
        by more.
        """
        native = self.break_even.rows is not None and len(rows) >= self.break_even.rows
        found = native_answers(self.bundle, rows) if native else small_answers(self.bundle, rows)
        for answer in found:
            answer["model_version"] = self.version
        return found


def native_answers(bundle: Bundle, rows: Rows) -> list[dict[str, Any]]:
    """Return an answer for each row by the bundle's own model over one frame: the quicker way for many rows."""
    columns = bundle.answers(bundle.predict(bundle.frame(rows)))
    values = [np.asarray(column).tolist() for column in columns.values()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]


def small_answers(bundle: Bundle, rows: Rows) -> list[dict[str, Any]]:
    """Return an answer for each row by the bundle's `small` predictor, the quicker way for few rows."""
    return list(bundle.small.answers(rows))


def admit(
    appointed: Appointed,
    *,
    problem: str,
    now: datetime,
    threads: int = 1,
) -> Served:
    """Return the model in service, after its bytes matched the digest and it answered its own example.

    Raises `BundleError` or `RefusedBundleError` for a bundle that is altered, answers otherwise, or is another problem's; and whatever
    its libraries raise. Its features may be others than its predecessor's: what the API asks for follows the model.
    """
    bundle = load_bundle(appointed.folder, digest=appointed.digest, threads=threads)
    if bundle.problem != problem:
        raise RefusedBundleError(
            f"the bundle is one of problem {bundle.problem!r}, served is {problem!r}: promote one of its own"
        )
    rows = _example_rows(bundle)
    _refuse_useless(small_answers(bundle, rows), len(rows))
    return Served(appointed.version, bundle, now, break_even(bundle, rows))


def break_even(bundle: Bundle, rows: Rows, *, seconds: float = MEASURED_FOR) -> BreakEven:
    """Measure both ways on batches of growing size, within about so many `seconds`, and return where they cross.

    Sizes that would take too long are left out: then the way that was quicker in the largest batch goes on.
    """
    ways = (partial(small_answers, bundle), partial(native_answers, bundle))
    for way in ways:
        way(rows[:1])  # what is made on first use is not measured
    left, found = seconds, dict[int, tuple[float, float]]()
    for size in SIZES:
        if found and left < 10 * sum(list(found.values())[-1]):
            break
        batch = [rows[place % len(rows)] for place in range(size)]
        began = time.perf_counter()
        found[size] = (_quickest(ways[0], batch, left / 4), _quickest(ways[1], batch, left / 4))
        left -= time.perf_counter() - began
    return BreakEven(crossing(found), found)


def crossing(seconds: Mapping[int, tuple[float, float]]) -> int | None:
    """Return the number of rows from which the second way stays the quicker one; None when it is not in the largest batch.

    Between two measured sizes both are taken as straight lines.
    """
    sizes = sorted(seconds)
    lost = [size for size in sizes if seconds[size][0] <= seconds[size][1]]
    if not lost:
        return sizes[0] if sizes else None
    later = [size for size in sizes if size > lost[-1]]
    if not later:
        return None
    before, after = lost[-1], later[0]
    ahead = seconds[before][1] - seconds[before][0]
    behind = seconds[after][0] - seconds[after][1]
    return before + max(1, round((after - before) * ahead / (ahead + behind)))


def registered(tracking: Tracking, problem: str, *, cache: Path, store: Store | None = None) -> Callable[[], Offices]:
    """Return what looks at the registry's aliases; a bundle that lies elsewhere is copied to `cache`.

    With the lake's `store` the log of promotions counts: aliases that a dying process left behind are put right first. While the lake
    is away the aliases count as they are.

    It raises whatever MLflow raises when the registry is down, and `RefusedBundleError` for a champion without a digest. A challenger
    whose bundle cannot be had counts as none.
    """

    def appointed(found: ChampionRef | None) -> Appointed | None:
        if found is None:
            return None
        if BUNDLE_DIGEST not in found.tags:
            raise RefusedBundleError(
                f"version {found.version} of {problem!r} has no tag {BUNDLE_DIGEST!r}: promote it by job train"
            )
        return Appointed(found.version, tracking.bundle_folder(found, cache), found.tags[BUNDLE_DIGEST])

    def look() -> Offices:
        if store is not None:
            with Attempt() as settling:
                settle(tracking, store, problem)
            if isinstance(settling.error, HistoryError):
                raise settling.error
        champion, challenger = (tracking.champion(problem, alias=alias) for alias in (CHAMPION, CHALLENGER))
        if champion and challenger and champion.version == challenger.version:
            challenger = None
        with Attempt() as attempt:  # one that cannot be fetched must not keep a new champion away
            second = appointed(challenger)
        return Offices(appointed(champion), None if attempt.error else second)

    return look


def _quickest(way: Callable[[Rows], object], batch: Rows, seconds: float) -> float:
    """Return the least of some times; others were disturbed."""
    best, left = float("inf"), seconds
    for _ in range(REPEATS):
        began = time.perf_counter()
        way(batch)
        taken = time.perf_counter() - began
        best, left = min(best, taken), left - taken
        if left < taken:
            break
    return best


def _example_rows(bundle: Bundle) -> Rows:
    """Return the rows of the bundle's example."""
    rows: Rows = bundle.small.example["request"]["rows"]
    return rows


def _refuse_useless(answers: Sequence[Mapping[str, Any]], rows: int) -> None:
    whole = len(answers) == rows and all(useful(answer) for answer in answers)
    if not whole:
        raise RefusedBundleError(
            f"it answers its example of {rows} rows with {list(answers)[:2]}: build the bundle again"
        )


def useful(answer: Mapping[str, Any]) -> bool:
    """Tell whether an answer has a prediction, and a finite score if the task has one."""
    score = answer.get("score", 0.0)
    return answer.get("prediction") is not None and score is not None and bool(np.isfinite(score))
