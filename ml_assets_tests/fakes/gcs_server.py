"""A small strict server on loopback that speaks the JSON API of Google Cloud Storage, and fails as told.

    with GcsServer("a-bucket") as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        server.faults.append(Fault("lost", operation="insert", name="lake/*"))

Only what google-cloud-storage and gcsfs ask for is there; all else is 501, and a parameter that an operation does not have is 400.
Every request is in `server.log`.
"""

from __future__ import annotations

import gzip
import json
import re
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from email.utils import format_datetime
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit
from uuid import uuid4

from ml_assets_tests.fakes.gcs_objects import PRECONDITIONS, Blob, Buckets, Refused, check, invalid

CHUNK = 256 * 1024  # what all chunks of a resumable upload but the last must be a multiple of
COMMON = frozenset({"alt", "fields", "prettyPrint", "userProject", "quotaUser", "projection", "key"})
LISTING = frozenset({"prefix", "delimiter", "startOffset", "endOffset", "maxResults", "pageToken"})
UPLOAD = frozenset({"uploadType", "upload_id", "name", "contentEncoding", "ifGenerationMatch", "ifMetagenerationMatch"})

INJECTED = {"429": "rateLimitExceeded", "503": "backendError"}

Kind = Literal["429", "503", "refused", "lost", "short", "truncated", "flipped", "slow"]


@dataclass
class Fault:
    """What goes wrong with the next `times` requests of an operation on matching names, after `after` that go well.

    "429", "503": nothing is done, and said so. "refused": the connection is cut, nothing is done. "lost": it is done, and the connection
    is cut before the answer. "short": the answer ends early. "truncated", "flipped": the answer's body lacks its second half, or
    has one byte changed, and nothing else tells. "slow": the answer waits for `seconds`.
    """

    kind: Kind
    operation: str = "*"
    name: str = "*"
    times: int = 1
    after: int = 0
    seconds: float = 0.0

    def strikes(self, operation: str, name: str) -> bool:
        """Tell whether this request is hit, and count it."""
        if not self.times or not (fnmatchcase(operation, self.operation) and fnmatchcase(name, self.name)):
            return False
        if self.after:
            self.after -= 1
            return False
        self.times -= 1
        return True


@dataclass(frozen=True)
class Logged:
    """One request: what it asked for, of which object (or prefix), with which parameters, and what it was told (0: nothing)."""

    operation: str
    name: str
    query: Mapping[str, str]
    status: int
    fault: str = ""


@dataclass(frozen=True)
class _Request:
    base: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    bucket: str = ""
    name: str = ""
    to_bucket: str = ""
    to_name: str = ""

    def json(self) -> dict[str, Any]:
        """Return the body as JSON; nothing is an empty object."""
        try:
            return json.loads(self.body or b"{}")
        except ValueError:
            raise invalid("the body is not JSON") from None


@dataclass(frozen=True)
class _Answer:
    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Session:
    """A resumable upload on its way."""

    bucket: str
    name: str
    properties: dict[str, Any]
    conditions: Mapping[str, str]
    data: bytearray = field(default_factory=bytearray)
    done: Blob | None = None


class GcsServer:
    """The server, its buckets, its log and the faults that wait. A context manager; `url` is what STORAGE_EMULATOR_HOST wants."""

    def __init__(self, *buckets: str, token: str = "") -> None:
        """Make empty buckets of these names; nothing listens before the context is entered.

        With `token` it stands for Google's token service too (`/token`), and refuses whoever does not bring what that gave.
        """
        self.buckets = Buckets(*buckets)
        self.token = token
        self.faults: list[Fault] = []
        self.log: list[Logged] = []
        self.sessions: dict[str, _Session] = {}
        self._lock = Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler, bind_and_activate=False)
        self._http.daemon_threads = True
        self._http.fake = self  # type: ignore[attr-defined]

    def __enter__(self) -> Self:
        """Listen on a free port of loopback."""
        self._http.server_bind()
        self._http.server_activate()
        Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stop listening."""
        self._http.shutdown()
        self._http.server_close()

    @property
    def url(self) -> str:
        """Return the address."""
        return f"http://127.0.0.1:{self._http.server_port}"

    def asked(self, operation: str, name: str = "*") -> list[Logged]:
        """Return the logged requests of an operation on matching names."""
        return [item for item in list(self.log) if item.operation == operation and fnmatchcase(item.name, name)]

    def fault(self, operation: str, name: str) -> Fault | None:
        """Return the first fault that strikes this request."""
        with self._lock:
            return next((fault for fault in self.faults if fault.strikes(operation, name)), None)


# -- operations --------------------------------------------------------------------------------------------------------


def _show(request: _Request, resource: Mapping[str, Any], status: int = 200) -> _Answer:
    mask = request.query.get("fields")
    shown = _masked(resource, _mask(mask)) if mask else resource
    return _Answer(status, json.dumps(shown).encode(), {"Content-Type": "application/json; charset=UTF-8"})


def _token(server: GcsServer, request: _Request) -> _Answer:
    given = {"access_token": server.token, "expires_in": 3600, "token_type": "Bearer"}
    return _Answer(200, json.dumps(given).encode(), {"Content-Type": "application/json"})


def _list_buckets(server: GcsServer, request: _Request) -> _Answer:
    items = [{"kind": "storage#bucket", "name": name} for name in server.buckets.names()]
    return _show(request, {"kind": "storage#buckets", "items": items})


def _make_bucket(server: GcsServer, request: _Request) -> _Answer:
    server.buckets.make(request.json()["name"])
    return _show(request, {"kind": "storage#bucket", "name": request.json()["name"]})


def _get_bucket(server: GcsServer, request: _Request) -> _Answer:
    server.buckets.page(request.bucket, {"maxResults": "1"})
    return _show(request, {"kind": "storage#bucket", "id": request.bucket, "name": request.bucket, "location": "US"})


def _list(server: GcsServer, request: _Request) -> _Answer:
    page = server.buckets.page(request.bucket, request.query)
    optional = {
        "items": [blob.resource() for blob in page.blobs],
        "prefixes": list(page.prefixes),
        "nextPageToken": page.token,
    }
    return _show(request, {"kind": "storage#objects"} | {name: value for name, value in optional.items() if value})


def _get(server: GcsServer, request: _Request) -> _Answer:
    if request.query.get("alt") == "media":
        return _download(server, request)
    return _show(request, server.buckets.get(request.bucket, request.name, request.query).resource())


def _download(server: GcsServer, request: _Request) -> _Answer:
    blob = server.buckets.get(request.bucket, request.name, request.query)
    encoding = blob.properties.get("contentEncoding", "")
    headers = {
        "Content-Type": blob.resource()["contentType"],
        "ETag": blob.etag,
        "Last-Modified": format_datetime(blob.moment, usegmt=True),
        "X-Goog-Generation": str(blob.generation),
        "X-Goog-Metageneration": str(blob.metageneration),
        "X-Goog-Hash": f"crc32c={blob.crc32c}" + ("" if blob.components else f",md5={blob.md5}"),
        "X-Goog-Stored-Content-Encoding": encoding or "identity",
        "X-Goog-Stored-Content-Length": str(len(blob.data)),
    }
    if encoding == "gzip" and "gzip" not in request.headers.get("accept-encoding", ""):
        return _Answer(200, gzip.decompress(blob.data), headers)  # transcoded, whatever range was asked for
    status, part, span = _ranged(blob.data, request.headers.get("range", ""))
    headers |= {"Content-Encoding": encoding} if encoding else {}
    return _Answer(status, part, headers | ({"Content-Range": span} if span else {}))


def _ranged(data: bytes, asked: str) -> tuple[int, bytes, str]:
    """Return status, bytes and the header that names them."""
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", asked)
    if not found or not any(found.groups()):
        return 200, data, ""
    first, last = found.groups()
    start = int(first) if first else max(0, len(data) - int(last))
    end = min(int(last), len(data) - 1) if first and last else len(data) - 1
    if start > end:
        raise Refused(416, "requestedRangeNotSatisfiable", f"Request range not satisfiable: {asked} of {len(data)}")
    return 206, data[start : end + 1], f"bytes {start}-{end}/{len(data)}"


def _delete(server: GcsServer, request: _Request) -> _Answer:
    server.buckets.remove(request.bucket, request.name, request.query)
    return _Answer(204)


def _patch(server: GcsServer, request: _Request) -> _Answer:
    return _show(request, server.buckets.patch(request.bucket, request.name, request.json(), request.query).resource())


def _compose(server: GcsServer, request: _Request) -> _Answer:
    asked = request.json()
    given = {key: value for key, value in asked.get("destination", {}).items() if key not in ("name", "bucket")}
    made = server.buckets.compose(
        request.bucket, request.name, asked.get("sourceObjects", []), properties=given, conditions=request.query
    )
    return _show(request, made.resource())


def _rewrite(server: GcsServer, request: _Request) -> _Answer:
    wanted = request.query.get("sourceGeneration")
    source = server.buckets.get(request.bucket, request.name, {"generation": wanted} if wanted else {})
    made = server.buckets.put(
        request.to_bucket,
        request.to_name,
        source.data,
        properties={**source.properties, **request.json()},
        conditions=request.query,
    )
    size = str(len(source.data))
    done = {"kind": "storage#rewriteResponse", "done": True, "objectSize": size, "totalBytesRewritten": size}
    return _show(request, done | {"resource": made.resource()})


def _insert(server: GcsServer, request: _Request) -> _Answer:
    if "upload_id" in request.query:
        return _resume(server, request)
    how = request.query.get("uploadType")
    if how == "resumable":
        return _begin(server, request)
    if how == "multipart":
        properties, data = _parts(request)
    elif how == "media":
        properties, data = {"contentType": request.headers.get("content-type", "")}, request.body
    else:
        raise invalid(f"Invalid value for uploadType: {how!r}")
    name = properties.pop("name", "") or request.query.get("name", "")
    blob = server.buckets.put(request.bucket, name, data, properties=properties, conditions=request.query)
    return _show(request, blob.resource())


def _parts(request: _Request) -> tuple[dict[str, Any], bytes]:
    """Return the metadata and the data of a multipart upload, whose lines end in CRLF or (gcsfs) in LF."""
    boundary = re.search(r'boundary="?([^";]+)"?', request.headers.get("content-type", ""))
    if not boundary:
        raise invalid("a multipart upload needs a boundary in Content-Type")
    mark = b"--" + boundary[1].encode()
    try:
        _, first, rest = request.body.split(mark, 2)
        line = b"\r\n" if rest.startswith(b"\r\n") else b"\n"
        head, data = rest[: rest.rindex(line + mark + b"--")].split(line * 2, 1)
        properties = json.loads(first.split(line * 2, 1)[1])
    except ValueError:
        raise invalid("the multipart body has not the two parts that it should have") from None
    given = re.search(rb"content-type:\s*(\S+)", head, re.IGNORECASE)
    return {"contentType": given[1].decode() if given else ""} | properties, data


def _begin(server: GcsServer, request: _Request) -> _Answer:
    properties = request.json()
    name = properties.pop("name", "") or request.query.get("name", "")
    properties.setdefault("contentType", request.headers.get("x-upload-content-type", ""))
    check(server.buckets.find(request.bucket, name), request.query)  # what cannot be finished is not begun
    upload = uuid4().hex
    server.sessions[upload] = _Session(request.bucket, name, properties, request.query)
    again = urlencode({**request.query, "name": name, "upload_id": upload})
    path = f"/upload/storage/v1/b/{quote(request.bucket)}/o"
    return _Answer(200, b"", {"Location": f"{request.base}{path}?{again}", "X-GUploader-UploadID": upload})


def _resume(server: GcsServer, request: _Request) -> _Answer:
    session = server.sessions.get(request.query["upload_id"])
    if session is None:
        raise Refused(404, "notFound", "no such upload")
    span = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", request.headers.get("content-range", "bytes */*"))
    if not span:
        raise invalid(f"Invalid Content-Range {request.headers['content-range']!r}")
    if session.done is None and (span[1] or request.body):
        _take(session, int(span[1] or 0), request.body, last=span[3] != "*" and int(span[2] or 0) + 1 == int(span[3]))
    total = len(request.body) if "content-range" not in request.headers else span[3]
    if session.done is None and str(total) == str(len(session.data)):
        properties = session.properties | _hashes(request.headers.get("x-goog-hash", ""))
        session.done = server.buckets.put(
            session.bucket, session.name, bytes(session.data), properties=properties, conditions=session.conditions
        )
    if session.done is not None:
        return _show(request, session.done.resource())
    held = {"Range": f"bytes=0-{len(session.data) - 1}"} if session.data else {}
    return _Answer(308, b"", held)


def _take(session: _Session, offset: int, body: bytes, *, last: bool) -> None:
    if offset > len(session.data):
        raise Refused(503, "backendError", f"the upload holds {len(session.data)} bytes, offered from {offset}")
    if not last and len(body) % CHUNK:
        raise invalid(f"a chunk of {len(body)} bytes: all but the last must be a multiple of {CHUNK}")
    del session.data[offset:]
    session.data.extend(body)


def _hashes(header: str) -> dict[str, str]:
    names = {"crc32c": "crc32c", "md5": "md5Hash"}
    pairs = (item.strip().partition("=") for item in header.split(",") if item.strip())
    return {names[name]: value for name, _, value in pairs}


def _cancel(server: GcsServer, request: _Request) -> _Answer:
    server.sessions.pop(request.query.get("upload_id", ""), None)
    return _Answer(499)


# -- partial responses -------------------------------------------------------------------------------------------------


def _mask(text: str) -> dict[str, Any]:
    """Parse `a,b(c,d),e/f` to nested dictionaries; an empty one is the whole value."""
    found: dict[str, Any] = {}
    for part in re.findall(r"[^,()]+(?:\([^()]*\))?", text):
        name, _, inner = part.partition("(")
        head, _, rest = name.partition("/")
        found.setdefault(head, {}).update(_mask(inner.rstrip(")") or rest))
    return found


def _masked(value: Any, mask: Mapping[str, Any]) -> Any:
    if isinstance(value, list):
        return [_masked(item, mask) for item in value]
    if not mask or "*" in mask or not isinstance(value, Mapping):
        return value
    return {name: _masked(value[name], inner) for name, inner in mask.items() if name in value}


# -- http --------------------------------------------------------------------------------------------------------------

Operation = Callable[[GcsServer, _Request], _Answer]
OBJECT = r"/storage/v1/b/(?P<bucket>[^/]+)/o/(?P<name>[^/]+)"
ONE = frozenset({*PRECONDITIONS, "generation"})
COPY = frozenset({*PRECONDITIONS, "sourceGeneration"})
ROUTES: list[tuple[str, str, str, Operation, frozenset[str]]] = [
    ("token", "POST", r"/token", _token, frozenset()),
    ("buckets", "GET", r"/storage/v1/b", _list_buckets, frozenset({"project"})),
    ("bucket", "POST", r"/storage/v1/b", _make_bucket, frozenset({"project"})),
    ("bucket", "GET", r"/storage/v1/b/(?P<bucket>[^/]+)", _get_bucket, frozenset()),
    ("list", "GET", r"/storage/v1/b/(?P<bucket>[^/]+)/o", _list, LISTING),
    ("get", "GET", OBJECT, _get, ONE),
    ("download", "GET", f"/download{OBJECT}", _download, ONE),
    ("delete", "DELETE", OBJECT, _delete, ONE),
    ("patch", "PATCH", OBJECT, _patch, ONE),
    ("compose", "POST", f"{OBJECT}/compose", _compose, frozenset({"ifGenerationMatch", "ifMetagenerationMatch"})),
    ("rewrite", "POST", OBJECT + r"/rewriteTo/b/(?P<to_bucket>[^/]+)/o/(?P<to_name>[^/]+)", _rewrite, COPY),
    ("insert", "POST", r"/upload/storage/v1/b/(?P<bucket>[^/]+)/o", _insert, UPLOAD),
    ("insert", "PUT", r"/upload/storage/v1/b/(?P<bucket>[^/]+)/o", _insert, UPLOAD),
    ("cancel", "DELETE", r"/upload/storage/v1/b/(?P<bucket>[^/]+)/o", _cancel, UPLOAD),
]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the server keeps its own log."""

    def do_GET(self) -> None:
        """Serve one request of any method."""
        fake: GcsServer = self.server.fake  # type: ignore[attr-defined]
        split = urlsplit(self.path)
        request = _Request(
            base=fake.url,
            query=dict(parse_qsl(split.query, keep_blank_values=True)),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self.rfile.read(int(self.headers.get("Content-Length") or 0)),
        )
        self._send(*_served(fake, request, self.command, split.path))

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def _send(self, answer: _Answer | None, kind: str) -> None:
        if answer is None:
            self._cut()
            return
        body = _spoilt(answer.body, kind)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if kind == "short" else body)
        if kind == "short":
            self.wfile.flush()
            self._cut()

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


def _served(server: GcsServer, request: _Request, method: str, path: str) -> tuple[_Answer | None, str]:
    """Return the answer (None: none at all) and the kind of fault that strikes it."""
    operation, run, allowed, names = _route(method, path)
    if operation == "get" and request.query.get("alt") == "media":
        operation = "download"
    request = replace(request, **names)
    name = request.name or request.query.get("name") or request.query.get("prefix") or _named(server, request)
    fault = server.fault(operation, name)
    kind = fault.kind if fault else ""
    answer = None if kind == "refused" else _answered(server, request, run, allowed, kind)
    if fault:
        time.sleep(fault.seconds)
    if kind == "lost":
        answer = None
    server.log.append(Logged(operation, name, request.query, answer.status if answer else 0, kind))
    return answer, kind


def _route(method: str, path: str) -> tuple[str, Operation, frozenset[str], dict[str, Any]]:
    for operation, verb, pattern, run, allowed in ROUTES:
        found = re.fullmatch(pattern, path)
        if verb == method and found:
            return operation, run, allowed, {name: unquote(value) for name, value in found.groupdict().items()}
    return f"{method} {path}", _unknown, frozenset(), {}


def _unknown(server: GcsServer, request: _Request) -> _Answer:
    raise Refused(501, "notImplemented", "this fake does not know the operation")


def _named(server: GcsServer, request: _Request) -> str:
    """Return the name of an object that is uploaded: of its session, or in the first lines of the body."""
    if "upload_id" in request.query:
        session = server.sessions.get(request.query["upload_id"])
        return session.name if session else ""
    found = re.search(rb'"name":\s*("(?:[^"\\]|\\.)*")', request.body[:4096])
    return json.loads(found[1]) if found else ""


def _answered(server: GcsServer, request: _Request, run: Operation, allowed: frozenset[str], kind: str) -> _Answer:
    try:
        if kind in INJECTED:
            raise Refused(int(kind), INJECTED[kind], "injected")
        if server.token and run is not _token and request.headers.get("authorization") != f"Bearer {server.token}":
            raise Refused(401, "authError", "Invalid Credentials")
        if unknown := set(request.query) - allowed - COMMON:
            raise Refused(400, "invalidParameter", f"this operation has no parameter {sorted(unknown)}")
        return run(server, request)
    except Refused as error:
        return _refusal(error)


def _refusal(error: Refused) -> _Answer:
    told = {"message": str(error), "domain": "global", "reason": error.reason}
    body = {"error": {"code": error.status, "message": str(error), "errors": [told]}}
    shown = b"" if error.status == 304 else json.dumps(body).encode()
    return _Answer(error.status, shown, {"Content-Type": "application/json; charset=UTF-8"})


def _spoilt(body: bytes, kind: str) -> bytes:
    if kind == "truncated":
        return body[: len(body) // 2]
    if kind == "flipped" and body:
        middle = len(body) // 2
        return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
    return body
