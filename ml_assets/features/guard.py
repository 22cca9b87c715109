"""Who may ask a server, and how much: API keys, or this machine only; and a limit to the size of a body.

Plain ASGI around an application. Starlette is imported at the top; only servers import this module.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import ipaddress
from collections.abc import Collection

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ml_assets.features.point_in_time import FeatureError

KEY_HEADER = "x-api-key"
HASHES_VARIABLE = "ML_ASSETS_API_KEY_HASHES"
OPEN_PATHS = ("/health", "/ready")  # for the probes of whoever runs the server; they tell no values
LOCAL_NAMES = ("127.0.0.1", "localhost", "::1")
MOST_BYTES = 8 * 2**20


class Guard:
    """Lets in whoever knows an API key; without keys, only callers from this machine.

    Answers 401 to a wrong or missing key, 403 to a caller from elsewhere, 413 to a body above the limit, however long it says it is.
    """

    def __init__(self, app: ASGIApp, *, key_hashes: Collection[str] = (), most_bytes: int = MOST_BYTES) -> None:
        """`key_hashes` are SHA-256 of the keys, as 64 hex digits."""
        self._app, self._hashes, self._most = app, require_hashes(key_hashes), most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it to the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        refusal = self._refused(request) or self._too_large(request)
        await (refusal or self._app)(scope, self._counted(receive), send)

    def _refused(self, request: Request) -> JSONResponse | None:
        if request.url.path in OPEN_PATHS:
            return None
        if self._hashes:
            given = hashlib.sha256(request.headers.get(KEY_HEADER, "").encode()).hexdigest()
            if sum(hmac.compare_digest(given, known) for known in self._hashes):  # all of them, in constant time
                return None
            return JSONResponse({"detail": f"give a valid API key in the header {KEY_HEADER}"}, 401)
        if is_local(request.client.host if request.client else "") and request.url.hostname in LOCAL_NAMES:
            return None  # the name too: a browser can be made to believe that this machine is somebody's site
        return JSONResponse({"detail": f"without API keys only this machine is served; set {HASHES_VARIABLE}"}, 403)

    def _too_large(self, request: Request) -> JSONResponse | None:
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) > self._most:
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


def require_hashes(values: Collection[str]) -> tuple[str, ...]:
    """Return the hashes; `FeatureError` for what is none: a key written down in the clear, for example."""
    for value in values:
        if len(value) != 64 or set(value) - set("0123456789abcdef"):
            raise FeatureError(
                f"{HASHES_VARIABLE}: a hash is 64 lower-case hex digits, of SHA-256; make one with `printf %s KEY | sha256sum`"
            )
    return tuple(values)


def is_local(host: str) -> bool:
    """Tell whether an address is this machine's own; of names only localhost is."""
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False
