"""A challenger on trial: which entities it answers, always the same ones, and when it is stopped by itself."""

from __future__ import annotations

import hashlib
import json
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LOOK_EVERY = 20  # requests of the challenger between looks at its latency
NOTICEABLE = 0.001  # seconds; between models that are both quicker, the machine's noise is larger than they are


@dataclass(frozen=True)
class StopRule:
    """When a trial ends by itself, judged over the last `window` requests of each model.

    `errors` is the share of the window that may fail: one failure more ends the trial at once. `latency` is how many times the
    champion's 95th percentile the challenger's may be, from a quarter of the window on; less than a millisecond more is never too slow.
    """

    errors: float = 0.01
    latency: float = 2.0
    window: int = 200


@dataclass(frozen=True)
class ServingPolicy:
    """What happens with an answer beside giving it; each share is from 0 to 1.

    `log` and `shadow` are shares of requests, `canary` is one of entities. `durable`: an answer is given only after it was logged on disk.
    """

    log: float = 1.0
    durable: bool = False
    shadow: float = 0.0
    canary: float = 0.0
    stop: StopRule = StopRule()


class Trial:
    """What is known of one challenger beside the champion; safe to share between threads, and never waits."""

    def __init__(self, version: str, *, canary: float, rule: StopRule, stopped: str = "") -> None:
        """`canary` is the share of entities that it answers; `stopped` is why an earlier trial of it ended."""
        self.version, self.canary, self._rule = version, canary, rule
        self.stopped = stopped
        self._salt = hashlib.sha256(version.encode()).digest()
        self._failed: deque[bool] = deque(maxlen=rule.window)
        self._own: deque[float] = deque(maxlen=rule.window)
        self._champion: deque[float] = deque(maxlen=rule.window)
        self.requests = self.failures = 0

    def takes(self, entity: Sequence[Any]) -> bool:
        """Tell whether the challenger answers for this entity: of one version always the same, of each version other ones."""
        key = json.dumps(entity, default=str, ensure_ascii=False).encode()
        drawn = int.from_bytes(hashlib.blake2b(key, key=self._salt, digest_size=8).digest())
        return not self.stopped and drawn < self.canary * 2**64

    def taken(self, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[int]:
        """Return the places of the rows that the challenger answers; `columns` name an entity, none means all of them."""
        if self.stopped or not self.canary:
            return []
        return [place for place, row in enumerate(rows) if self.takes(entity_of(row, columns))]

    def champion_answered(self, seconds: float) -> None:
        """Count a request that the champion answered alone."""
        self._champion.append(seconds)

    def answered(self, seconds: float | None) -> None:
        """Count an answer of the challenger; None when its time compares with nothing, as in a request that both answered."""
        self.requests += 1
        self._failed.append(False)
        if seconds is not None:
            self._own.append(seconds)
            if self.requests % LOOK_EVERY == 0:
                self.stopped = self.stopped or self._too_slow()

    def failed(self, reason: str) -> None:
        """Count a failure of the challenger; the trial ends when there are more than its rule allows."""
        self.requests += 1
        self.failures += 1
        self._failed.append(True)
        failures, allowed = sum(list(self._failed)), self._rule.errors * self._rule.window
        if failures > allowed and not self.stopped:
            self.stopped = (
                f"{failures} of the last {len(self._failed)} requests failed, {allowed:g} of {self._rule.window} are allowed; "
                f"the last one: {reason}"
            )

    def state(self) -> dict[str, Any]:
        """Return how it goes; `milliseconds` are 95th percentiles of requests that one model answered alone."""
        both = {"challenger": p95(self._own), "champion": p95(self._champion)}
        return {
            "version": self.version,
            "stopped": self.stopped or None,
            "requests": self.requests,
            "failures": self.failures,
            "milliseconds": {name: None if value is None else round(1000 * value, 4) for name, value in both.items()},
        }

    def _too_slow(self) -> str:
        enough = max(1, self._rule.window // 4)
        if min(len(self._own), len(self._champion)) < enough:
            return ""
        own, champion = p95(self._own) or 0.0, p95(self._champion) or 0.0
        if own <= max(self._rule.latency * champion, champion + NOTICEABLE):
            return ""
        return f"95th percentile {1000 * own:.3g} ms, more than {self._rule.latency:g} times the champion's {1000 * champion:.3g} ms"


def entity_of(row: Mapping[str, Any], columns: Sequence[str]) -> list[Any]:
    """Return what names the entity of a row: the values of `columns`, or all its values by name."""
    return [row.get(name) for name in columns] if columns else sorted(row.items())


def p95(seconds: Sequence[float]) -> float | None:
    """Return the 95th percentile as the smallest value that 95% do not exceed; None without values."""
    ordered = sorted(seconds)
    return ordered[math.ceil(0.95 * len(ordered)) - 1] if ordered else None
