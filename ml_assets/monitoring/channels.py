"""Ways to people: the log, files beside the lake, a web hook, e-mail. Addresses and secrets come from the environment alone.

| variable | what it says |
|---|---|
| `ML_ASSETS_ALERTS` | names of the channels, such as `log file webhook email` (default `log file`; `none` for no channel) |
| `ML_ASSETS_ALERTS_WEBHOOK` | URL to which alerts are posted as JSON; its field `text` is what Slack and Mattermost show |
| `ML_ASSETS_ALERTS_SMTP` | `smtps://user@host:465`, `smtp+starttls://user@host:587` or, without a password, `smtp://host:25` |
| `ML_ASSETS_ALERTS_SMTP_PASSWORD` | the user's password |
| `ML_ASSETS_ALERTS_FROM`, `ML_ASSETS_ALERTS_TO` | addresses; several receivers are separated by commas |
"""

from __future__ import annotations

import json
import logging
import smtplib
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import EmailMessage
from http.client import HTTPException
from urllib.parse import unquote, urlsplit

from ml_assets.lake import PreconditionFailed, Store
from ml_assets.monitoring.alerts import FOLDER, MOST_TRIES, Alert, AlertError, Channel, Severity

SENT = f"{FOLDER}/sent"
DEFAULT, NONE = "log file", "none"
WEBHOOK, SMTP, PASSWORD = "ML_ASSETS_ALERTS_WEBHOOK", "ML_ASSETS_ALERTS_SMTP", "ML_ASSETS_ALERTS_SMTP_PASSWORD"
FROM, TO = "ML_ASSETS_ALERTS_FROM", "ML_ASSETS_ALERTS_TO"
TIMEOUT = 5.0
"""Seconds. A sensor is cut off at 60 s: all tries of all channels must fit."""
TRIES = 3
PORTS = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Log:
    """The log of the run, or of the process."""

    tell: Callable[[str], None] = _log.warning
    name: str = "log"
    least: Severity = "note"

    def send(self, alert: Alert) -> None:
        """Write one line."""
        self.tell(f"{_heading(alert)}: {alert.text} {alert.link}".strip())


@dataclass(frozen=True)
class Files:
    """One JSON object per alert, numbered, beside the lake: `_alerts/sent/<problem>/000007.json`, with its plot in it."""

    store: Store
    name: str = "file"
    least: Severity = "note"

    def send(self, alert: Alert) -> None:
        """Write the next object; of two who write the same number one takes the next."""
        folder, data = f"{SENT}/{alert.problem}", json.dumps(alert.to_dict(), sort_keys=True).encode()
        begin = len(self.store.names(folder)) + 1
        for number in range(begin, begin + MOST_TRIES):
            try:
                self.store.write(f"{folder}/{number:06}.json", data, expect="absent")
            except PreconditionFailed:
                continue
            return self.store.settle(folder)
        raise AlertError(f"{folder}: others write all the time; try again")


def sent(store: Store, problem: str) -> list[Alert]:
    """Return what `Files` wrote for a problem, the first alert first."""
    return [Alert.from_dict(json.loads(store.read(name))) for name in store.names(f"{SENT}/{problem}")]


@dataclass(frozen=True)
class Webhook:
    """HTTP POST of JSON to a URL. Network errors, 429 and 5xx are tried again, after 1 and 2 seconds."""

    url: str = field(repr=False)  # it often holds a secret
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)
    timeout: float = TIMEOUT
    name: str = "webhook"
    least: Severity = "warning"

    def __post_init__(self) -> None:
        if urlsplit(self.url).scheme not in ("http", "https"):
            raise AlertError(f"{WEBHOOK} is not an address of the web; write https://host/path")

    def send(self, alert: Alert) -> None:
        """Post the alert; `AlertError` when the server refuses it."""
        told = {**alert.to_dict(), "text": f"{_heading(alert)}\n{_body(alert)}"}
        request = urllib.request.Request(self.url, json.dumps(told).encode(), {"content-type": "application/json"})
        for attempt in range(TRIES):
            if attempt:
                self.sleep(2.0 ** (attempt - 1))
            if self._posted(request, last=attempt == TRIES - 1):
                return

    def _posted(self, request: urllib.request.Request, *, last: bool) -> bool:
        """Tell whether the server took it; raise when it will not, or when this was the last attempt."""
        try:
            with urllib.request.urlopen(request, timeout=self.timeout):
                return True
        except urllib.error.HTTPError as error:
            with error:
                if last or not (error.code == 429 or error.code >= 500):
                    raise AlertError(f"{urlsplit(self.url).hostname} answered {error.code} {error.reason}") from error
        except (OSError, HTTPException):
            if last:
                raise
        return False


@dataclass(frozen=True)
class Email:
    """A mail with the plot attached. `server` is a URL as in `ML_ASSETS_ALERTS_SMTP`."""

    server: str
    sender: str
    receivers: tuple[str, ...]
    password: str = field(default="", repr=False)
    timeout: float = TIMEOUT
    name: str = "email"
    least: Severity = "warning"

    def __post_init__(self) -> None:
        parts = urlsplit(self.server)
        if parts.scheme not in PORTS or not parts.hostname:
            raise AlertError(
                f"{SMTP}={self.server!r}: write smtps://user@host, smtp+starttls://user@host or smtp://host"
            )
        if self.password and parts.scheme == "smtp":
            raise AlertError(f"{SMTP}: a password is not sent in the clear; write smtps:// or smtp+starttls://")
        if not self.sender or not self.receivers:
            raise AlertError(f"channel email needs {FROM} and {TO}: set both to addresses")

    def send(self, alert: Alert) -> None:
        """Send one mail to all receivers; `OSError` (that of smtplib is one) when the server cannot be reached or refuses."""
        parts = urlsplit(self.server)
        host, port = str(parts.hostname), parts.port or PORTS[parts.scheme]
        if parts.scheme == "smtps":
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                host, port, timeout=self.timeout, context=ssl.create_default_context()
            )
        else:
            server = smtplib.SMTP(host, port, timeout=self.timeout)
        with server:
            if parts.scheme == "smtp+starttls":
                server.starttls(context=ssl.create_default_context())
            if self.password:
                server.login(unquote(parts.username or self.sender), self.password)
            server.send_message(self.message(alert))

    def message(self, alert: Alert) -> EmailMessage:
        """Return the mail."""
        made = EmailMessage()
        made["Subject"] = " ".join(_heading(alert).split())  # no line of a header comes from data
        made["From"], made["To"] = self.sender, ", ".join(self.receivers)
        made.set_content(_body(alert))
        if alert.plot:
            made.add_attachment(alert.plot, maintype="image", subtype="png", filename="plot.png")
        return made


def channels(environ: Mapping[str, str], store: Store, *, tell: Callable[[str], None] = _log.warning) -> list[Channel]:
    """Return the channels that the environment names; `AlertError` for an unknown one, and for one that lacks its address."""
    names = (environ.get("ML_ASSETS_ALERTS") or DEFAULT).replace(",", " ").split()
    makers: dict[str, Callable[[], Channel]] = {
        "log": lambda: Log(tell),
        "file": lambda: Files(store),
        "webhook": lambda: Webhook(environ.get(WEBHOOK, "")),
        "email": lambda: _email(environ),
    }
    unknown = sorted(set(names) - {*makers, NONE})
    if unknown:
        raise AlertError(
            f"ML_ASSETS_ALERTS: no channel {', '.join(unknown)}; name any of {', '.join(makers)}, or {NONE}"
        )
    return [makers[name]() for name in dict.fromkeys(names) if name != NONE]


def _email(environ: Mapping[str, str]) -> Email:
    receivers = tuple(one.strip() for one in environ.get(TO, "").split(",") if one.strip())
    return Email(environ.get(SMTP, ""), environ.get(FROM, ""), receivers, password=environ.get(PASSWORD, ""))


def _heading(alert: Alert) -> str:
    return alert.title if alert.resolved else f"{alert.severity}: {alert.title}"


def _body(alert: Alert) -> str:
    numbers = "\n".join(
        f"{name}: {value:g}" if isinstance(value, float) else f"{name}: {value}"
        for name, value in alert.numbers.items()
    )
    return "\n\n".join(part for part in (alert.text, numbers, alert.link) if part)
