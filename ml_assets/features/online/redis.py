"""Online rows in Redis: one string for each view and entity, compared and set by a script, so that writers cannot cross.

Keys are `<project>/<view>/row/<entity key>`, and the hashes `<project>/<view>/versions` and `<project>/verdicts`. A string is
`event|created|origin|values`; times are decimal numbers of microseconds, compared by length and digits because Lua's numbers
are floats. Works on one server or a primary with replicas; a view's rows are found by SCAN, only for corrections and parity checks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from ml_assets.features.online.rows import Change, OnlineRow, spread

BATCH = 1_000
SHIFT = 2**63  # times are stored above zero and of one length, so that text compares as numbers do
DIGITS = 20
CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 30.0  # a server that hangs must not hold up whoever asks for ever
# KEYS: rows; ARGV: number of revised partitions, their names, then one row for each key. Returns how many were written.
WRITE = """
local revised = {}
for place = 1, tonumber(ARGV[1]) do revised[ARGV[1 + place]] = true end
local written, head = 0, '^(%d+)|(%d+)|([^|]*)|(.*)$'
for place, key in ipairs(KEYS) do
  local row = ARGV[1 + tonumber(ARGV[1]) + place]
  local held = redis.call('GET', key)
  local wins = not held
  if held then
    local event, created, origin, values = string.match(held, head)
    local new_event, new_created, new_origin, new_values = string.match(row, head)
    local old, new = event .. created, new_event .. new_created
    wins = new > old or (origin ~= '' and revised[origin])
      or (new == old and (new_origin ~= '' or (origin == '' and new_values > values)))
  end
  if wins then redis.call('SET', key, row) written = written + 1 end
end
return written
"""
REMOVE = """
local revised = {}
for place = 1, tonumber(ARGV[1]) do revised[ARGV[1 + place]] = true end
for _, key in ipairs(KEYS) do
  local held = redis.call('GET', key)
  local origin = held and string.match(held, '^%d+|%d+|([^|]*)|')
  if origin and origin ~= '' and revised[origin] then redis.call('DEL', key) end
end
"""
Item = TypeVar("Item")


class RedisBackend:
    """Online rows of one project in Redis; see the module and `Backend`.

    A change is written in batches and its versions last: after a crash it is done again, which changes nothing.
    """

    def __init__(self, url: str, *, project: str) -> None:
        """Nothing is connected before the first call."""
        from redis import Redis

        limits = {
            "socket_connect_timeout": CONNECT_SECONDS,
            "socket_timeout": ANSWER_SECONDS,
        }  # the URL may say otherwise
        self._redis: Any = Redis.from_url(url, decode_responses=True, **limits)
        self._write, self._remove = (self._redis.register_script(script) for script in (WRITE, REMOVE))
        self._project = project

    def __repr__(self) -> str:
        """Show where, without a password."""
        where = self._redis.connection_pool.connection_kwargs
        return f"RedisBackend({where.get('host', where.get('path'))}:{where.get('port', '')}/{where.get('db', 0)})"

    def apply(self, view: str, change: Change) -> int:
        """Write in batches, each compared and set in one step; the versions come last."""
        revised, written = sorted(change.revised), 0
        head: list[Any] = [len(revised), *revised]
        for rows in _batches(change.rows):
            names = [self._row(view, row.key) for row in rows]
            written += int(self._write(keys=names, args=[*head, *map(_packed, rows)]))
        for keys in _batches(change.gone):
            self._remove(keys=[self._row(view, key) for key in keys], args=head)
        if change.versions:
            self._redis.hset(f"{self._project}/{view}/versions", mapping=dict(change.versions))
        return written

    def read(self, view: str, keys: Sequence[str]) -> list[OnlineRow | None]:
        """Ask once."""
        if not keys:
            return []
        found = self._redis.mget([self._row(view, key) for key in keys])
        return [None if text is None else _unpacked(key, text) for key, text in zip(keys, found, strict=True)]

    def rows(self, view: str, origins: Collection[str] | None = None) -> list[OnlineRow]:
        """Scan the view's keys."""
        found = sorted(self._keys(view))
        rows = [row for batch in _batches(found) for row in self.read(view, batch) if row]
        return rows if origins is None else [row for row in rows if row.origin in origins]

    def keys(self, view: str, *, most: int) -> list[str]:
        """Return them in order."""
        return spread(sorted(self._keys(view)), most)

    def versions(self, view: str, partitions: Collection[str]) -> dict[str, str]:
        """Ask for those partitions only."""
        if not partitions:
            return {}
        wanted = sorted(partitions)
        found = self._redis.hmget(f"{self._project}/{view}/versions", wanted)
        return {name: version for name, version in zip(wanted, found, strict=True) if version is not None}

    def tell(self, view: str, verdict: str) -> None:
        """Remember the outcome."""
        self._redis.hset(f"{self._project}/verdicts", view, verdict)

    def verdicts(self) -> dict[str, str]:
        """Return the outcomes of this project's views."""
        return dict(self._redis.hgetall(f"{self._project}/verdicts"))

    def drop(self, view: str) -> None:
        """Forget the view."""
        for batch in _batches([*map(self._rowed(view).__add__, self._keys(view)), f"{self._project}/{view}/versions"]):
            self._redis.delete(*batch)
        self._redis.hdel(f"{self._project}/verdicts", view)

    def _keys(self, view: str) -> list[str]:
        prefix = self._rowed(view)
        pattern = "".join(f"\\{letter}" if letter in r"*?[]\^-" else letter for letter in prefix)
        names = self._redis.scan_iter(match=f"{pattern}*", count=BATCH)
        return list({name.removeprefix(prefix) for name in names})  # SCAN may name a key twice

    def _row(self, view: str, key: str) -> str:
        return self._rowed(view) + key

    def _rowed(self, view: str) -> str:
        return f"{self._project}/{view}/row/"


def _packed(row: OnlineRow) -> str:
    return f"{row.event + SHIFT:0{DIGITS}d}|{row.created + SHIFT:0{DIGITS}d}|{row.origin}|{row.values}"


def _unpacked(key: str, text: str) -> OnlineRow:
    event, created, origin, values = text.split("|", 3)
    return OnlineRow(key, int(event) - SHIFT, int(created) - SHIFT, origin, values)


def _batches(items: Sequence[Item]) -> Iterator[list[Item]]:
    left: Any = iter(items)
    while batch := list(islice(left, BATCH)):
        yield batch
