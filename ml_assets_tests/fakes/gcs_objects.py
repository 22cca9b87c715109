"""What a bucket of Google Cloud Storage holds, and its rules: generations, preconditions, checksums, pages. In memory.

Stricter than the real one where that finds mistakes: a parameter that it does not know is refused instead of ignored.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from threading import RLock
from typing import Any

import google_crc32c

MOST_PER_PAGE = 1000
MOST_COMPOSED = 32  # objects in one compose request
PRECONDITIONS = ("ifGenerationMatch", "ifGenerationNotMatch", "ifMetagenerationMatch", "ifMetagenerationNotMatch")


class Refused(Exception):
    """A request that the bucket refuses: the HTTP status, the API's reason, and a sentence."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        """`reason` as in the JSON API's error list, such as `conditionNotMet`."""
        super().__init__(message)
        self.status, self.reason = status, reason


def not_found(what: str) -> Refused:
    """Return the refusal of what is not there."""
    return Refused(404, "notFound", f"No such object: {what}")


def invalid(message: str) -> Refused:
    """Return the refusal of a request that makes no sense."""
    return Refused(400, "invalid", message)


@dataclass(frozen=True)
class Blob:
    """One generation of one object. `properties` are those that its writer gave: contentType, contentEncoding, metadata …"""

    bucket: str
    name: str
    data: bytes
    generation: int  # microseconds since 1970, as in a real bucket
    metageneration: int = 1
    properties: Mapping[str, Any] = field(default_factory=dict)
    components: int = 0  # of a composed object, which has no MD5

    @cached_property
    def crc32c(self) -> str:
        """Return the checksum as the API writes it: big-endian, base64."""
        return base64.b64encode(google_crc32c.value(self.data).to_bytes(4, "big")).decode()

    @cached_property
    def md5(self) -> str:
        """Return the MD5 as the API writes it."""
        return base64.b64encode(hashlib.md5(self.data, usedforsecurity=False).digest()).decode()

    @property
    def etag(self) -> str:
        """Return a tag that changes with the generation and the metageneration."""
        return base64.b64encode(f"{self.generation}/{self.metageneration}".encode()).decode()

    @property
    def moment(self) -> datetime:
        """Return when this generation was made."""
        return datetime.fromtimestamp(self.generation / 1_000_000, UTC)

    def resource(self) -> dict[str, Any]:
        """Return the object's metadata as the JSON API shows it."""
        moment = self.moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        checksums = {"componentCount": self.components} if self.components else {"md5Hash": self.md5}
        return {
            "contentType": "application/octet-stream",
            **self.properties,
            "kind": "storage#object",
            "id": f"{self.bucket}/{self.name}/{self.generation}",
            "bucket": self.bucket,
            "name": self.name,
            "generation": str(self.generation),
            "metageneration": str(self.metageneration),
            "size": str(len(self.data)),
            "crc32c": self.crc32c,
            **checksums,
            "etag": self.etag,
            "storageClass": "STANDARD",
            **dict.fromkeys(("timeCreated", "updated", "timeStorageClassUpdated"), moment),
        }


@dataclass
class _Bucket:
    blobs: dict[str, Blob] = field(default_factory=dict)
    names: list[str] | None = None  # sorted; None after a change

    def sorted_names(self) -> list[str]:
        if self.names is None:
            self.names = sorted(self.blobs)  # code points sort as UTF-8 does, which is the API's order
        return self.names


@dataclass(frozen=True)
class Page:
    """One page of a listing."""

    blobs: Sequence[Blob]
    prefixes: Sequence[str]
    token: str | None


class Buckets:
    """Some buckets without object versioning: an overwrite or a removal makes the old generation unreadable."""

    def __init__(self, *names: str) -> None:
        """Make empty buckets of these names."""
        self._buckets = {name: _Bucket() for name in names}
        self._lock = RLock()
        self._last = 0

    def names(self) -> list[str]:
        """Return the buckets' names."""
        return sorted(self._buckets)

    def make(self, bucket: str) -> None:
        """Make an empty bucket."""
        if bucket in self._buckets:
            raise Refused(409, "conflict", f"Your previous request to create the bucket {bucket} succeeded")
        self._buckets[bucket] = _Bucket()

    def put(
        self,
        bucket: str,
        name: str,
        data: bytes,
        *,
        properties: Mapping[str, Any] | None = None,
        conditions: Mapping[str, str] | None = None,
        components: int = 0,
    ) -> Blob:
        """Store a new generation. Checksums among the properties must be those of the data."""
        _check_name(name)
        given = dict(properties or {})
        sums: dict[str, str] = {key: given.pop(key) for key in ("crc32c", "md5Hash") if key in given}
        with self._lock:
            held = self._bucket(bucket)
            check(held.blobs.get(name), conditions or {})
            blob = Blob(bucket, name, data, self._generation(), properties=given, components=components)
            _compare(sums, blob)
            if name not in held.blobs:
                held.names = None
            held.blobs[name] = blob
            return blob

    def find(self, bucket: str, name: str) -> Blob | None:
        """Return the live generation, or None."""
        with self._lock:
            return self._bucket(bucket).blobs.get(name)

    def get(self, bucket: str, name: str, query: Mapping[str, str] | None = None) -> Blob:
        """Return the live generation. 404 when `generation` asks for another one; preconditions as asked for."""
        blob = self.find(bucket, name)
        wanted = (query or {}).get("generation")
        if blob is None or (wanted and wanted != str(blob.generation)):
            raise not_found(f"{bucket}/{name}{'#' + wanted if wanted else ''}")
        check(blob, query or {}, reading=True)
        return blob

    def remove(self, bucket: str, name: str, query: Mapping[str, str] | None = None) -> None:
        """Remove the live generation, under the same conditions as `get`."""
        with self._lock:
            generation = {key: value for key, value in (query or {}).items() if key == "generation"}
            check(self.get(bucket, name, generation), query or {})
            del self._bucket(bucket).blobs[name]
            self._bucket(bucket).names = None

    def patch(self, bucket: str, name: str, changes: Mapping[str, Any], query: Mapping[str, str]) -> Blob:
        """Change an object's properties: its metageneration grows, its generation stays."""
        with self._lock:
            blob = self.get(bucket, name, {key: value for key, value in query.items() if key == "generation"})
            check(blob, query)
            changed = replace(blob, properties={**blob.properties, **changes}, metageneration=blob.metageneration + 1)
            self._bucket(bucket).blobs[name] = changed
            return changed

    def compose(
        self,
        bucket: str,
        name: str,
        sources: Sequence[Mapping[str, Any]],
        *,
        properties: Mapping[str, Any],
        conditions: Mapping[str, str],
    ) -> Blob:
        """Join up to 32 objects of a bucket to one."""
        if not 0 < len(sources) <= MOST_COMPOSED:
            raise invalid(f"The number of source components provided ({len(sources)}) is not from 1 to 32")
        with self._lock:
            parts = [self._source(bucket, source) for source in sources]
            components = sum(part.components or 1 for part in parts)
            data = b"".join(part.data for part in parts)
            return self.put(bucket, name, data, properties=properties, conditions=conditions, components=components)

    def page(self, bucket: str, query: Mapping[str, str]) -> Page:
        """Return one page of names in order: `prefix`, `delimiter`, `startOffset`, `endOffset`, `maxResults`, `pageToken`."""
        with self._lock:
            held = self._bucket(bucket)
            names, blobs = held.sorted_names(), held.blobs
            return _page(names, blobs, _Listing.of(query))

    def _source(self, bucket: str, source: Mapping[str, Any]) -> Blob:
        wanted = {"generation": str(source["generation"])} if "generation" in source else {}
        blob = self.get(bucket, source["name"], wanted)
        match = source.get("objectPreconditions", {}).get("ifGenerationMatch")
        check(blob, {} if match is None else {"ifGenerationMatch": str(match)})
        return blob

    def _bucket(self, name: str) -> _Bucket:
        if name not in self._buckets:
            raise Refused(404, "notFound", f"The specified bucket does not exist: {name}")
        return self._buckets[name]

    def _generation(self) -> int:
        self._last = max(self._last + 1, time.time_ns() // 1000)
        return self._last


def check(blob: Blob | None, query: Mapping[str, str], *, reading: bool = False) -> None:
    """Refuse with 412 (304 for a read whose "not match" fails) when a precondition does not hold."""
    for name in PRECONDITIONS:
        if name in query:
            actual = _number(blob, "Metageneration" in name)
            equal = _whole(name, query[name]) == actual
            if equal == ("Not" in name):
                status = 304 if reading and "Not" in name else 412
                raise Refused(
                    status, "conditionNotMet", "At least one of the pre-conditions you specified did not hold."
                )


def _compare(sums: Mapping[str, str], blob: Blob) -> None:
    actual = {"crc32c": blob.crc32c, "md5Hash": blob.md5} if sums else {}
    for name, value in sums.items():
        if value != actual[name]:
            raise invalid(f"Provided {name} {value!r} doesn't match calculated {name} {actual[name]!r}")


def _number(blob: Blob | None, meta: bool) -> int:
    if blob is None:
        return 0
    return blob.metageneration if meta else blob.generation


def _whole(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise invalid(f"Invalid value for {name}: {text!r}") from None


@dataclass(frozen=True)
class _Listing:
    prefix: str
    delimiter: str
    first: str
    end: str
    most: int
    after: str

    @classmethod
    def of(cls, query: Mapping[str, str]) -> _Listing:
        most = _whole("maxResults", query.get("maxResults", str(MOST_PER_PAGE)))
        if most < 1:
            raise invalid(f"Invalid value for maxResults: {most}")
        prefix, token = query.get("prefix", ""), query.get("pageToken", "")
        return cls(
            prefix,
            query.get("delimiter", ""),
            max(query.get("startOffset", ""), prefix),
            query.get("endOffset", ""),
            min(most, MOST_PER_PAGE),
            _untoken(token) if token else "",
        )

    def folder(self, name: str) -> str | None:
        """Return the part of a name up to the delimiter after the prefix; None without one."""
        rest = name[len(self.prefix) :]
        if not self.delimiter or self.delimiter not in rest:
            return None
        return self.prefix + rest[: rest.index(self.delimiter) + len(self.delimiter)]


def _page(names: Sequence[str], blobs: Mapping[str, Blob], asked: _Listing) -> Page:
    found: list[Blob] = []
    prefixes: list[str] = []
    last = ""
    for name in names[bisect_left(names, max(asked.first, asked.after)) :]:
        if not name.startswith(asked.prefix) or (asked.end and name >= asked.end):
            break
        folder = asked.folder(name)
        shown = folder or name
        if (asked.after and shown <= asked.after) or (folder and folder == last):
            continue
        if len(found) + len(prefixes) == asked.most:
            return Page(found, prefixes, _token(last))
        last = shown
        if folder:
            prefixes.append(folder)
        else:
            found.append(blobs[name])
    return Page(found, prefixes, None)


def _token(last: str) -> str:
    return base64.urlsafe_b64encode(last.encode()).decode()


def _untoken(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise invalid(f"Invalid pageToken {token!r}") from None


def _check_name(name: str) -> None:
    if not 0 < len(name.encode()) <= 1024 or name in (".", "..") or {"\r", "\n"} & set(name):
        raise invalid(f"Invalid object name {name!r}")
