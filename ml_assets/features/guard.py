"""Who may ask a server, how often and how much: API keys, or this machine only; a rate; bodies of plain JSON up to a size.

Plain ASGI around an application. Starlette is imported at the top; only servers import this module.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ml_assets.features.point_in_time import FeatureError

KEY_HEADER = "x-api-key"
HASHES_VARIABLE = "ML_ASSETS_API_KEY_HASHES"
OPEN_PATHS = ("/health", "/ready")  # for the probes of whoever runs the server; they tell no values
LOCAL_NAMES = ("127.0.0.1", "localhost", "::1")
MOST_BYTES = 8 * 2**20
MOST_CLIENTS = 10_000
"""Clients whose rate is remembered; the one that asked longest ago is forgotten first."""


class RateLimit:
    """Lets each client ask `per_second` times on average, and `burst` times at once: a bucket of tokens for each.

    Memory is bounded by `MOST_CLIENTS`. For one event loop: it is not locked.
    """

    def __init__(
        self, per_second: float, *, burst: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`burst` is what is let in at once, two seconds' worth by default. `ValueError` for a rate that is not above 0."""
        if not per_second > 0:
            raise ValueError(f"rate {per_second}: give the requests per second that a client may make, above 0")
        self._rate, self._clock = per_second, clock
        self._burst = max(1.0, 2 * per_second if burst is None else burst)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, client: str) -> float:
        """Take a token, and return 0; or the seconds after which there will be one."""
        now = self._clock()
        left, seen = self._buckets.pop(client, (self._burst, now))
        left = min(self._burst, left + (now - seen) * self._rate)
        self._buckets[client] = (left - 1 if left >= 1 else left, now)
        if len(self._buckets) > MOST_CLIENTS:
            self._buckets.popitem(last=False)
        return 0.0 if left >= 1 else (1 - left) / self._rate


class Guard:
    """Lets in whoever knows an API key; without keys, only callers from this machine.

    Answers 401 to a wrong or missing key, 403 to a caller from elsewhere, 429 to one who asks too often, 415 to a body that is not
    plain JSON (what is compressed may be huge when it is not), 413 to one above the limit, however long it says it is.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        key_hashes: Collection[str] = (),
        most_bytes: int = MOST_BYTES,
        rate: RateLimit | None = None,
    ) -> None:
        """`key_hashes` are SHA-256 of the keys, as 64 hex digits. `rate` is of each key, or of each address without a valid one."""
        self._app, self._hashes, self._most, self._rate = app, require_hashes(key_hashes), most_bytes, rate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it to the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = (None if scope["path"] in OPEN_PATHS else self._unknown(scope, headers)) or self._unfit(
            scope["method"], headers
        )
        await (refusal or self._app)(scope, self._counted(receive), send)

    def _unknown(self, scope: Scope, headers: Headers) -> JSONResponse | None:
        """Return why this caller is not served; guessing keys has its rate too."""
        host = (scope.get("client") or ("",))[0]
        known = self._known(headers) if self._hashes else ""
        wait = self._rate.wait(known or host) if self._rate else 0.0
        if wait:
            told = {"detail": "too many requests; ask again later"}
            return JSONResponse(told, 429, headers={"retry-after": str(math.ceil(wait))})
        if known:
            return None
        if self._hashes:
            return JSONResponse(
                {"detail": f"give a valid API key in the header {KEY_HEADER}, or as a bearer token"}, 401
            )
        if is_local(host) and names_this_machine(headers.get("host", "")):
            return None  # the name too: a browser can be made to believe that this machine is somebody's site
        return JSONResponse({"detail": f"without API keys only this machine is served; set {HASHES_VARIABLE}"}, 403)

    def _known(self, headers: Headers) -> str:
        """Return the hash of the caller's key, or nothing when it is none of those let in."""
        given = hashlib.sha256(_key(headers).encode()).hexdigest()
        found = sum(hmac.compare_digest(given, known) for known in self._hashes)  # all of them, in constant time
        return given if found else ""

    def _unfit(self, method: str, headers: Headers) -> JSONResponse | None:
        """Return why the body is not read."""
        if method not in ("POST", "PUT", "PATCH"):
            return None
        encoding = headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            return JSONResponse({"detail": f"content-encoding {encoding[:40]!r} is not read: send plain JSON"}, 415)
        kind = headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if kind != "application/json":
            return JSONResponse({"detail": f"content-type {kind[:40]!r} is not read: send application/json"}, 415)
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > self._most:
            return JSONResponse({"detail": self._limit()}, 413)
        return None

    def _counted(self, receive: Receive) -> Receive:
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._most:
                raise HTTPException(413, self._limit())
            return message

        return counted

    def _limit(self) -> str:
        return f"the body is larger than {self._most} bytes; send it in several requests"


def _key(headers: Headers) -> str:
    """Return the key that was sent: in its own header, or as a bearer's token, which is how Prometheus can send one."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    return headers.get(KEY_HEADER) or (token if kind.lower() == "bearer" else "")


def require_hashes(values: Collection[str]) -> tuple[str, ...]:
    """Return the hashes; `FeatureError` for what is none: a key written down in the clear, for example."""
    for value in values:
        if len(value) != 64 or set(value) - set("0123456789abcdef"):
            raise FeatureError(
                f"{HASHES_VARIABLE}: a hash is 64 lower-case hex digits, of SHA-256; make one with `printf %s KEY | sha256sum`"
            )
    return tuple(values)


def refuse_open(host: str, api_keys: Collection[str]) -> None:
    """Raise `FeatureError` for an address that others reach, without API keys."""
    if not api_keys and not is_local(host):
        raise FeatureError(
            f"host {host!r} can be reached by others; set {HASHES_VARIABLE} to SHA-256 hashes of API keys, or serve 127.0.0.1"
        )


@lru_cache(1_024)  # asked for each request
def names_this_machine(header: str) -> bool:
    """Tell whether a Host header names this machine; none at all does, because every browser sends one."""
    with contextlib.suppress(ValueError):
        return not header or urlsplit(f"//{header}").hostname in LOCAL_NAMES
    return False


@lru_cache(1_024)  # asked for each request
def is_local(host: str) -> bool:
    """Tell whether an address is this machine's own; of names only localhost is."""
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False
