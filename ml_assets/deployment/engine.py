"""The engine behind the serving API: who answers, who is on trial, and what is kept of it.

The champion is found in the registry by a thread that looks every few seconds. A new one is loaded, judged and measured beside the old
one, and takes over by one assignment: a request is answered by the model that it began with, and none waits. A bundle that is refused,
or a registry that is down, leaves the old one in office, and `state` says so.

A challenger may answer a share of entities (canary) or score what the champion answered (shadow). Where it fails the champion
answers, and it is stopped by itself; see `trial`.
"""

from __future__ import annotations

import contextlib
import json
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self
from uuid import UUID, uuid4

from ml_assets.deployment.admission import Appointed, Offices, RefusedBundleError, Rows, Served, admit, useful
from ml_assets.deployment.attempt import Attempt, within
from ml_assets.deployment.prediction_log import Entry, PredictionLog
from ml_assets.deployment.trial import ServingPolicy, Trial
from ml_assets.lake import PreconditionFailed, Store

CHAMPION, CANARY, SHADOW = "champion", "canary", "shadow"
REFRESH_SECONDS, LOAD_SECONDS, AGAIN_SECONDS = 5.0, 60.0, 300.0
MOST_SHADOWED = 256  # requests that wait for the challenger
STOPPED = "_serving/{problem}/stopped/{version}-{digest}.json"
ONLY_CHAMPION = ServingPolicy()
RANDOM_BITS = 60  # the lowest of a UUID, of which 62 are random


class NoModelError(RuntimeError):
    """No model is in office: none was promoted, or none could be loaded yet."""


@dataclass(frozen=True)
class Answered:
    """Answers in the order of the rows, each with its `model_version`.

    `version` and `arm` are of the model that answered all rows; of a request that both answered, those of the champion. `seconds` is
    how long it took.
    """

    rows: list[dict[str, Any]]
    version: str
    arm: str
    seconds: float
    request: str


@dataclass(frozen=True)
class Arms:
    """Who answers now; replaced as a whole."""

    champion: Served | None = None
    challenger: Served | None = None
    trial: Trial | None = None


@dataclass(frozen=True)
class Request:
    """What was asked."""

    id: UUID
    moment: datetime
    rows: Rows
    entities: Sequence[Mapping[str, Any]] = ()
    statuses: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def drawn(self, share: float) -> bool:
        """Tell whether the request is one of a share of all."""
        return (self.id.int & (2**RANDOM_BITS - 1)) < share * 2**RANDOM_BITS


class Engine:
    """Answers of one problem's models; safe to share between threads. Answering takes no lock of the engine's."""

    def __init__(
        self,
        offices: Callable[[], Offices],
        *,
        problem: str,
        lake_url: str,
        clock: Callable[[], datetime],
        policy: ServingPolicy = ONLY_CHAMPION,
        log: PredictionLog | None = None,
        entity: Sequence[str] = (),
        refresh_seconds: float = REFRESH_SECONDS,
        load_seconds: float = LOAD_SECONDS,
        threads: int = 1,
    ) -> None:
        """`offices` looks at the registry, see `admission.registered`; nothing is read before `refresh` or `start`.

        `entity` names the columns by which a canary knows an entity again (default: all that was asked). `threads` are those of one
        answer.
        """
        self._offices, self._problem, self._store, self._clock = offices, problem, Store(lake_url), clock
        self._policy, self._log, self._entity = policy, log, tuple(entity)
        self._refresh_seconds, self._load_seconds, self._threads = refresh_seconds, load_seconds, threads
        self._arms = Arms()
        self._appointed = Offices()
        self._refused: dict[Appointed, tuple[float, str]] = {}
        self._registry: dict[str, str] | None = None
        self._unkept = ""
        self._refreshing, self._ended = threading.Lock(), threading.Event()
        self._shadowed: queue.Queue[tuple[Arms, Request] | None] = queue.Queue(MOST_SHADOWED)
        self._threads_of: list[threading.Thread] = []
        self.shadow_dropped = 0

    # -- answering -------------------------------------------------------------------------------------------------

    @property
    def current(self) -> Served | None:
        """Return the model in office; None when there is none."""
        return self._arms.champion

    def answer(
        self,
        rows: Rows,
        *,
        entities: Sequence[Mapping[str, Any]] | None = None,
        statuses: Mapping[str, Sequence[str]] | None = None,
    ) -> Answered:
        """Answer rows that are typed and checked, and log it.

        `entities` and, by view, `statuses` are logged; each has an item for each row. The log holds what is given and returned here
        until it is written: leave it unaltered. Raises `NoModelError`, and what the champion
        raises.
        """
        began, arms = time.perf_counter(), self._arms
        if arms.champion is None:
            raise NoModelError(f"{self._problem!r} has no model in office: run job train, or look at what was refused")
        asked = Request(uuid4(), self._clock(), rows, entities or (), statuses or {})
        taken = arms.trial.taken(asked.entities or rows, self._entity) if arms.trial else []
        answers = self._canary(arms, asked, taken) if taken else None
        if answers is None:
            return self._by_champion(arms, arms.champion, asked, began)
        if len(taken) == len(rows):
            return self._told(answers, CANARY, asked, began, str(answers[0]["model_version"]))
        return self._by_both(arms, arms.champion, asked, began, dict(zip(taken, answers, strict=True)))

    def _by_champion(self, arms: Arms, champion: Served, asked: Request, began: float) -> Answered:
        answers = champion.answers(asked.rows)
        found = self._told(answers, CHAMPION, asked, began, champion.version)
        self._keep(champion, asked, CHAMPION, found.seconds, answers, range(len(answers)))
        if arms.trial:
            arms.trial.champion_answered(found.seconds)
            if self._policy.shadow and not arms.trial.stopped and asked.drawn(self._policy.shadow):
                self._shadow(arms, asked)
        return found

    def _canary(self, arms: Arms, asked: Request, taken: Sequence[int]) -> list[dict[str, Any]] | None:
        """Return the challenger's answers to the rows that it takes; None when it failed, which the champion makes up for."""
        assert arms.challenger and arms.trial
        return self._on_trial(arms.challenger, arms.trial, asked, taken, CANARY)

    def _on_trial(
        self, challenger: Served, trial: Trial, asked: Request, taken: Sequence[int], arm: str
    ) -> list[dict[str, Any]] | None:
        began = time.perf_counter()
        with Attempt() as attempt:
            answers = challenger.answers([asked.rows[place] for place in taken])
            if not all(map(useful, answers)):
                raise RefusedBundleError("an answer without a prediction, or with a score that is no number")
        seconds = time.perf_counter() - began
        if attempt.error:
            trial.failed(attempt.reason)
            return None
        trial.answered(seconds if len(taken) == len(asked.rows) else None)
        self._keep(challenger, asked, arm, seconds, answers, taken)
        return answers

    def _by_both(
        self, arms: Arms, champion: Served, asked: Request, began: float, canary: Mapping[int, dict[str, Any]]
    ) -> Answered:
        others = [place for place in range(len(asked.rows)) if place not in canary]
        answers = champion.answers([asked.rows[place] for place in others])
        both = {**canary, **dict(zip(others, answers, strict=True))}
        found = self._told([both[place] for place in range(len(asked.rows))], CHAMPION, asked, began, champion.version)
        self._keep(champion, asked, CHAMPION, found.seconds, answers, others)
        return found

    @staticmethod
    def _told(answers: list[dict[str, Any]], arm: str, asked: Request, began: float, version: str) -> Answered:
        return Answered(answers, version, arm, time.perf_counter() - began, asked.id.hex)

    def _keep(
        self,
        served: Served,
        asked: Request,
        arm: str,
        seconds: float,
        answers: Sequence[Mapping[str, Any]],
        numbers: Sequence[int],
    ) -> None:
        if self._log is None or not asked.drawn(self._policy.log):
            return
        about = (asked.id.hex, asked.moment, arm, served.version, seconds, served.bundle.small.features)
        self._log.add(Entry(*about, numbers, asked.rows, answers, asked.entities, asked.statuses))

    # -- beside the answer -----------------------------------------------------------------------------------------

    def _shadow(self, arms: Arms, asked: Request) -> None:
        try:
            self._shadowed.put_nowait((arms, asked))
        except queue.Full:
            self.shadow_dropped += 1

    def shadow_once(self) -> bool:
        """Let the challenger score one request that waits for it; False when none did within a second, or at the end."""
        try:
            found = self._shadowed.get(timeout=1)
        except queue.Empty:
            return False
        if found is None:
            return False
        arms, asked = found
        assert arms.challenger and arms.trial
        if not arms.trial.stopped:
            self._on_trial(arms.challenger, arms.trial, asked, range(len(asked.rows)), SHADOW)
        return True

    # -- who is in office ------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Look at the registry, and take up whoever is new there. What fails leaves everything as it is; see `state`."""
        with self._refreshing:
            self._keep_stop()
            with Attempt() as attempt:
                found = within(self._load_seconds, self._offices)
            if attempt.error:
                since = self._registry["since"] if self._registry else self._clock().isoformat()
                self._registry = {"since": since, "reason": attempt.reason}
                return
            self._registry, self._appointed = None, found
            self._take_up(found)

    def _take_up(self, found: Offices) -> None:
        arms = self._arms
        champion = self._served(found.champion, arms.champion, arms.challenger) or arms.champion
        wanted = self._policy.shadow > 0 or self._policy.canary > 0
        second = champion is not None and found.challenger is not None and found.challenger.version != champion.version
        tried: tuple[Served | None, Trial | None] = (None, None)
        if wanted and second and champion and found.challenger:
            tried = self._tried(found.challenger, champion, arms)
        self._arms = Arms(champion, *tried)
        self._refused = {one: why for one, why in self._refused.items() if one in (found.champion, found.challenger)}

    def _tried(self, appointed: Appointed, champion: Served, arms: Arms) -> tuple[Served | None, Trial | None]:
        """Return the challenger with its trial: the one that goes on, or a new one; twice None when there can be none.

        It goes on beside the champion that it began with: another one has other latencies, and may be asked for other features.
        """
        if arms.challenger and arms.trial and arms.champion is champion and _is(arms.challenger, appointed):
            self._hear_of_stop(arms.trial, appointed)
            return arms.challenger, arms.trial
        trial = self._trial(appointed)
        challenger = self._served(appointed, arms.champion, arms.challenger) if trial else None
        if trial is None or challenger is None:
            return None, None
        trial.stopped = trial.stopped or _unfit(challenger, champion)
        return challenger, trial

    def _served(self, appointed: Appointed | None, *there: Served | None) -> Served | None:
        """Return who was appointed: one who is there already, or loaded now; None when there is nobody, or the bundle is refused."""
        if appointed is None:
            return None
        for one in there:
            if one and _is(one, appointed):
                return one
        if appointed in self._refused and time.monotonic() - self._refused[appointed][0] < AGAIN_SECONDS:
            return None
        with Attempt() as attempt:
            served = within(self._load_seconds, lambda: self._admitted(appointed))
        if attempt.error:
            self._refused[appointed] = (time.monotonic(), attempt.reason)
            return None
        self._refused.pop(appointed, None)
        return served

    def _admitted(self, appointed: Appointed) -> Served:
        return admit(appointed, problem=self._problem, now=self._clock(), threads=self._threads)

    # -- a trial that ended is not begun again ---------------------------------------------------------------------

    def _trial(self, appointed: Appointed) -> Trial | None:
        """Return a new trial, stopped if an earlier one was; None while the lake does not say."""
        with Attempt() as attempt:
            stopped = self._stop_of(appointed)
        if attempt.error:
            self._unkept = attempt.reason
            return None
        return Trial(appointed.version, canary=self._policy.canary, rule=self._policy.stop, stopped=stopped)

    def _stop_of(self, appointed: Appointed) -> str:
        try:
            return str(json.loads(self._store.read(self._stop_name(appointed)))["reason"])
        except FileNotFoundError:
            return ""

    def _hear_of_stop(self, trial: Trial, appointed: Appointed) -> None:
        """Stop a trial that another server has stopped."""
        if not trial.stopped:
            with Attempt():
                trial.stopped = trial.stopped or self._stop_of(appointed)

    def _keep_stop(self) -> None:
        """Write down why a trial was stopped, once; tried again until it is there."""
        trial, appointed = self._arms.trial, self._appointed.challenger
        if trial is None or appointed is None or appointed.version != trial.version:
            return
        if (
            not trial.stopped or not trial.requests
        ):  # one that never began, for its features, may begin beside another champion
            return
        told = {
            "problem": self._problem,
            "version": trial.version,
            "reason": trial.stopped,
            "at": self._clock().isoformat(),
        }
        with Attempt() as attempt:
            if not self._store.exists(self._stop_name(appointed)):
                self._store.write(self._stop_name(appointed), json.dumps(told).encode(), expect="absent")
        self._unkept = "" if isinstance(attempt.error, PreconditionFailed) else attempt.reason

    def _stop_name(self, appointed: Appointed) -> str:
        return STOPPED.format(problem=self._problem, version=appointed.version, digest=appointed.digest[:12])

    # -- by itself -------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Take up who is in office, and look again every few seconds from now on; `close` ends it."""
        self.refresh()
        if self._log:
            self._log.start()
        for name, work in {"refresh": self._refresh_on, "shadow": self._shadow_on}.items():
            thread = threading.Thread(target=work, name=f"engine-{name}", daemon=True)
            thread.start()
            self._threads_of.append(thread)
        return self

    def close(self) -> None:
        """End, with the log written."""
        self._ended.set()
        with contextlib.suppress(queue.Full):  # then it is not waiting
            self._shadowed.put_nowait(None)
        for thread in self._threads_of:
            thread.join()
        self._keep_stop()
        if self._log:
            self._log.close()

    def _refresh_on(self) -> None:
        while not self._ended.wait(self._refresh_seconds):
            self.refresh()

    def _shadow_on(self) -> None:
        while not self._ended.is_set():
            self.shadow_once()

    def state(self) -> dict[str, Any]:
        """Return what there is to know, as JSON has it: the model in office and its age, what was refused, trial, registry, log."""
        arms, trial = self._arms, self._arms.trial
        return {
            "problem": self._problem,
            "model": self._model(arms.champion) if arms.champion else None,
            "challenger": self._model(arms.challenger) if arms.challenger else None,
            "trial": trial.state() | {"canary": trial.canary, "shadow": self._policy.shadow} if trial else None,
            "shadow": {"waiting": self._shadowed.qsize(), "dropped": self.shadow_dropped},
            "refused": {one.version: reason for one, (_, reason) in list(self._refused.items())},
            "registry": self._registry or {},
            "trial_not_kept": self._unkept or None,
            "log": self._log.state() if self._log else None,
        }

    def _model(self, served: Served) -> dict[str, Any]:
        return {
            "version": served.version,
            "digest": served.bundle.digest,
            "model_version": served.bundle.model_version,
            "data_hash": served.bundle.data_hash,
            "since": served.since.isoformat(),
            "seconds_in_service": (self._clock() - served.since).total_seconds(),
            "break_even_rows": served.break_even.rows,
            "break_even_seconds": {str(size): list(pair) for size, pair in served.break_even.seconds.items()},
        }


def _is(served: Served, appointed: Appointed) -> bool:
    return (served.version, served.bundle.digest) == (appointed.version, appointed.digest)


def _unfit(challenger: Served, champion: Served) -> str:
    """Return why a challenger cannot answer what the champion is asked; "" when it can."""
    missing = sorted(set(challenger.bundle.features) - set(champion.bundle.features))
    return f"requests are those of version {champion.version}, which lack the features {missing}" if missing else ""
