"""What the online store keeps: for each view and entity key, one row with all its features, packed as text.

A row has two times in microseconds since 1970: `event`, when its values were true, and `created`, when the platform
knew them. The row with the later (event, created) is the newer one, so an older value never replaces a newer one, in whatever
order they come. `origin` is the partition that a row was materialized from, or "" when it was pushed.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from json.encoder import encode_basestring
from typing import Any, NamedTuple

import polars as pl

PUSHED = ""  # the origin of rows that no partition holds
NEVER = -(2**62)  # the `created` of rows from a source without created timestamps
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class OnlineRow(NamedTuple):
    """One entity's row of one view; see the module."""

    key: str
    event: int
    created: int
    origin: str
    values: str


@dataclass(frozen=True)
class Change:
    """What one materialization or push does to a view, in one step where the backend can.

    `rows` are written when they are newer than what is there, or when what is there came from one of the `revised` partitions, whose
    rows are replaced whatever their times. Rows of the keys `gone` are removed when they came from there. `versions` are remembered.
    """

    rows: Sequence[OnlineRow] = ()
    revised: Collection[str] = ()
    gone: Sequence[str] = ()
    versions: Mapping[str, str] | None = None


def newer(row: OnlineRow, held: OnlineRow | None, revised: Collection[str] = ()) -> bool:
    """Tell whether `row` replaces `held`: the one rule that every backend follows, in its own language.

    Of rows with equal times a materialized one replaces the other; of two pushed ones the one whose values sort later, so that the
    order in which they came does not matter.
    """
    if held is None or (held.origin and held.origin in revised):
        return True
    if (row.event, row.created) != (held.event, held.created):
        return (row.event, row.created) > (held.event, held.created)
    return bool(row.origin) or (not held.origin and row.values > held.values)


def micros(moment: datetime) -> int:
    """Return microseconds since 1970; a time without zone is UTC, as in Feast."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - EPOCH) // MICROSECOND


def moment(value: int) -> datetime:
    """Return the time of microseconds since 1970."""
    return EPOCH + value * MICROSECOND


def pack_key(values: Sequence[Any]) -> str:
    """Return the key of join key values in the order of their names, such as `["EWR","LAX"]`."""
    return f"[{','.join([_quoted(value) for value in values])}]"


def _quoted(value: Any) -> str:
    """Return one value as JSON; text without the detour over an encoder, which takes ten times as long."""
    return encode_basestring(value) if type(value) is str else _as_json(_plain(value))


_as_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode  # made once, unlike that of `json.dumps`


class Packing:
    """How a view's features become text and come back, by their Feast types.

    Numbers, truths and text as JSON has them (floats to the last digit, NaN and infinities by name), times as microseconds, bytes as
    base64.
    """

    def __init__(self, types: Mapping[str, str]) -> None:
        """`types` maps feature names to Feast types: `Float64`, `Array(Int64)`, …"""
        self.names = tuple(types)
        self._to = {name: _plain for name, dtype in types.items() if _encoded(dtype)}
        self._from = {name: _decoder(dtype) for name, dtype in types.items() if _encoded(dtype)}

    def pack(self, values: Mapping[str, Any]) -> str:
        """Return the text of one row; features that it lacks are null."""
        plain = {name: values.get(name) for name in self.names}
        for name, to in self._to.items():
            plain[name] = to(plain[name])
        return _as_json(plain)

    def unpack(self, text: str) -> dict[str, Any]:
        """Return the features by name; a feature that was declared after the row was written is absent."""
        found: dict[str, Any] = json.loads(text)
        return self.decoded(found) if self._from else found

    def decoded(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return values as JSON has them in the types that they had."""
        coded = {name: values[name] for name in self._from if values.get(name) is not None}
        return values | {name: self._from[name](value) for name, value in coded.items()}

    def pack_all(self, frame: pl.DataFrame) -> list[str]:
        """Return the text of each row of a frame that has the features as columns."""
        columns = [frame[name].to_list() for name in self.names]
        return [self.pack(dict(zip(self.names, row, strict=True))) for row in zip(*columns, strict=True)]


def keys_of(frame: pl.DataFrame, names: Sequence[str]) -> list[str]:
    """Return the key of each row; `names` are the join key columns, in any order."""
    ordered = sorted(names)
    if not ordered:
        return [pack_key(())] * frame.height
    return [pack_key(row) for row in frame.select(ordered).iter_rows()]


def spread(items: Sequence[str], most: int) -> list[str]:
    """Return all items, or `most` of them at equal distances."""
    if len(items) <= most:
        return list(items)
    return [items[place * len(items) // most] for place in range(most)]


def _encoded(dtype: str) -> bool:
    return any(name in dtype for name in ("UnixTimestamp", "Bytes"))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return micros(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _decoder(dtype: str) -> Callable[[Any], Any]:
    one = moment if "UnixTimestamp" in dtype else base64.b64decode

    def decode(value: Any) -> Any:
        if isinstance(value, list):
            return [None if item is None else decode(item) for item in value]
        return one(value)

    return decode
