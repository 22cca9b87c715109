"""Alerts: what a person should know now, sent once. What was sent is remembered beside the lake, so that any process knows it.

Each subject (problem, kind, key) has one object, `_alerts/standing/<problem>/<kind>-<digest>.json`. A sender claims it in the
generation that it has read, sends, and then writes down which channels it did not reach. Of two senders one gets the claim. A
claim whose sender died is taken over after `LEASE`: what was claimed and not confirmed is sent again, so it is sent once more at
most, and never lost.
"""

from __future__ import annotations

import base64
import json
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256
from http.client import HTTPException
from typing import Any, Literal, Protocol, get_args
from uuid import uuid4

from ml_assets.lake import PreconditionFailed, Store

FOLDER = "_alerts"
STANDING = f"{FOLDER}/standing"
QUIET = timedelta(days=7)
LEASE = timedelta(minutes=10)
"""A sender that has not confirmed within this time is dead. Longer than all channels may take."""
MOST_TRIES = 100
Severity = Literal["note", "warning", "error"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)

_log = logging.getLogger(__name__)


class AlertError(ValueError):
    """A channel is not set up as it must be, or refused an alert. The message names the setting or the answer."""


@dataclass(frozen=True, order=True)
class Subject:
    """What an alert is about: of one subject nothing is said twice. `kind` is such as "check" or "run"."""

    problem: str
    kind: str
    key: str


@dataclass(frozen=True)
class Alert:
    """What a person should know: two sentences, the numbers behind them, a plot (PNG), and where to look.

    `key` names what it is about within problem and kind. "note" is what cannot be judged yet: it is kept, and nobody is called.
    `resolved` is the good end of an alert that was sent before.
    """

    problem: str
    kind: str
    key: str
    title: str
    text: str
    at: datetime
    severity: Severity = "warning"
    numbers: dict[str, float | str] = field(default_factory=dict)
    link: str = ""
    plot: bytes | None = None
    resolved: bool = False

    @property
    def subject(self) -> Subject:
        """Return what it is about."""
        return Subject(self.problem, self.kind, self.key)

    def to_dict(self) -> dict[str, Any]:
        """Return it as values that JSON has; the plot is base64 text, or absent."""
        plot = {"plot": base64.b64encode(self.plot).decode()} if self.plot else {}
        told = {
            "at": self.at.isoformat(),
            "plot": None,
            "numbers": {name: _json(one) for name, one in self.numbers.items()},
        }
        return asdict(self) | told | plot

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Alert:
        """Read what `to_dict` made."""
        plot = base64.b64decode(raw["plot"]) if raw.get("plot") else None
        return cls(**raw | {"at": datetime.fromisoformat(raw["at"]), "plot": plot})


class Channel(Protocol):
    """A way to people."""

    @property
    def name(self) -> str:
        """Return what it is called in the settings."""

    @property
    def least(self) -> Severity:
        """Return the severity from which it is used."""

    def send(self, alert: Alert) -> None:
        """Send one alert; `OSError`, `HTTPException` or `AlertError` when that fails."""


@dataclass(frozen=True)
class Standing:
    """How a subject stands: the alert that was last sent for it, the channels that it has not reached, and when that was last tried.

    `times` counts how often it was told since it was new or got worse. `sender` is of the claim: to a bucket two equal claims
    would be one.
    """

    alert: Alert
    missing: tuple[str, ...]
    tried: datetime
    times: int = 1
    sender: str = ""

    @property
    def open(self) -> bool:
        """Tell whether it is not resolved."""
        return not self.alert.resolved

    def to_json(self) -> bytes:
        """Return it as JSON text."""
        told = asdict(self) | {"alert": self.alert.to_dict() | {"plot": None}, "tried": self.tried.isoformat()}
        return json.dumps(told, sort_keys=True, indent=1, allow_nan=False).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Standing:
        """Read what `to_json` wrote."""
        raw = json.loads(data)
        alert, tried = Alert.from_dict(raw["alert"]), datetime.fromisoformat(raw["tried"])
        return cls(**raw | {"alert": alert, "tried": tried, "missing": tuple(raw["missing"])})


def notify(
    store: Store,
    alerts: Sequence[Alert],
    channels: Sequence[Channel],
    *,
    now: datetime,
    quiet: timedelta = QUIET,
    well: Iterable[Subject] = (),
    failed: set[str] | None = None,
) -> list[Alert]:
    """Send what nobody knows yet, and return it; `store` is the lake's.

    An alert is sent when its subject is new, was resolved since, or got worse; and again after `quiet`, twice that, four times
    that, and so on: of what stays as it is, people are reminded less and less often. `well` are subjects
    that were looked at and found in order: of those that are open, "resolved" is sent once. A channel that fails is logged and
    tried again by the next call after `LEASE`; the others still get the alert. `failed`, the names of such channels, is added to, and
    those in it are left alone: give several calls the same one, and a channel that hangs is waited for once.
    """
    sender, fine = _Sender(store, channels, now, quiet, set() if failed is None else failed), set(well)
    known = [one for one in standing(store) if one.alert.subject in fine] if fine else []
    told = [*(replace(alert, at=now) for alert in alerts), *(_good_end(one, now) for one in known)]
    return [alert for alert in told if sender.send(alert)]


def standing(store: Store, problem: str = "") -> list[Standing]:
    """Return how all subjects stand, of one problem or of all; the newest first."""
    names = store.names(f"{STANDING}/{problem}" if problem else STANDING)
    return sorted((Standing.from_json(store.read(name)) for name in names), key=_newest_first)


def table(known: Sequence[Standing]) -> str:
    """Return the subjects as a markdown table."""
    heads = ("at", "problem", "severity", "what", "why", "not reached yet")
    rows = [
        (
            one.alert.at.isoformat(timespec="minutes"),
            one.alert.problem,
            one.alert.severity if one.open else "resolved",
            one.alert.title,
            one.alert.text,
            ", ".join(one.missing) or "-",
        )
        for one in known
    ]
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


@dataclass
class _Sender:
    """One call of `notify`. A channel that `failed` is left alone for the rest of it."""

    store: Store
    channels: Sequence[Channel]
    now: datetime
    quiet: timedelta
    failed: set[str]
    name: str = field(default_factory=lambda: uuid4().hex)

    def send(self, alert: Alert) -> bool:
        """Claim the subject, send to the channels that have not got it, and confirm; tell whether one was reached."""
        wanted = [one for one in self.channels if SEVERITIES.index(alert.severity) >= SEVERITIES.index(one.least)]
        claimed = self._claim(alert, wanted)
        if claimed is None:
            return False
        claim, generation = claimed
        missing = tuple(one.name for one in wanted if one.name in claim.missing and not self._reach(one, claim.alert))
        self._confirm(replace(claim, missing=missing), generation)
        return len(missing) < len(claim.missing)

    def _claim(self, alert: Alert, wanted: Sequence[Channel]) -> tuple[Standing, str] | None:
        """Return what is to be sent, and the generation of the claim; None when nothing is, or somebody else sends it."""
        name = _name(alert.subject)
        for _ in range(MOST_TRIES):
            found = self.store.stat(name)
            try:
                before = Standing.from_json(self.store.read(name, generation=found.generation)) if found else None
                claim = self._due(before, alert, tuple(one.name for one in wanted))
                if claim is None:
                    return None
                claim = replace(claim, sender=self.name)
                return claim, _replace(self.store, name, claim, found.generation if found else None)
            except PreconditionFailed:
                continue  # somebody else was first: look again
        raise AlertError(f"{name}: others write all the time; try again")

    def _due(self, before: Standing | None, alert: Alert, names: tuple[str, ...]) -> Standing | None:
        """Return the claim for what is to be sent now; None for nothing."""
        if before is None or before.open == alert.resolved or _worse(before, alert):
            return Standing(alert, names, self.now)
        if before.open and self.now - before.alert.at >= self.quiet * 2 ** (before.times - 1):
            return Standing(alert, names, self.now, before.times + 1)
        left = tuple(name for name in before.missing if name in names)
        if left and self.now - before.tried >= LEASE:
            return replace(before, alert=replace(before.alert, plot=alert.plot), missing=left, tried=self.now)
        return None

    def _reach(self, channel: Channel, alert: Alert) -> bool:
        if channel.name in self.failed:
            return False
        try:
            channel.send(alert)
        except (OSError, HTTPException, AlertError) as error:
            _log.error("alert %r did not reach channel %s, and is tried again: %s", alert.title, channel.name, error)
            self.failed.add(channel.name)
            return False
        return True

    def _confirm(self, claim: Standing, generation: str) -> None:
        name = _name(claim.alert.subject)
        try:
            _replace(self.store, name, claim, generation)
        except PreconditionFailed:
            _log.warning("%s: another sender took over, because this one took longer than %s", name, LEASE)


def _replace(store: Store, name: str, claim: Standing, generation: str | None) -> str:
    if generation is None:
        return store.write(name, claim.to_json(), expect="absent")
    return store.write(name, claim.to_json(), generation=generation)


def _name(subject: Subject) -> str:
    digest = sha256(subject.key.encode()).hexdigest()[:16]
    return f"{STANDING}/{subject.problem}/{subject.kind}-{digest}.json"


def _worse(before: Standing, alert: Alert) -> bool:
    return before.open and SEVERITIES.index(alert.severity) > SEVERITIES.index(before.alert.severity)


def _good_end(known: Standing, now: datetime) -> Alert:
    alert = known.alert
    text = f"What was reported on {alert.at:%Y-%m-%d} is in order again. It was: {alert.text}"
    if alert.resolved:  # the message itself did not reach everybody
        return replace(alert, at=now)
    return replace(alert, title=f"Resolved: {alert.title}", text=text, at=now, resolved=True)


def _newest_first(known: Standing) -> tuple[float, Subject]:
    return -known.alert.at.timestamp(), known.alert.subject


def _json(value: float | str) -> float | str:
    return value if isinstance(value, str) or math.isfinite(value) else str(value)


def _cell(cell: object) -> str:
    return " ".join(str(cell).replace("|", "/").split())
