"""REST APIs, extracted by dlt: pages, keys, retries with Retry-After."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from itertools import islice
from typing import Any
from urllib.parse import quote_plus, urlsplit

import polars as pl

from ml_assets.collection.contract import SourceContract
from ml_assets.collection.databases import root_of
from ml_assets.collection.pull import DAY, UNKNOWN, Page, PullError

PAGE = 10_000  # rows
LINE = "line"
SECONDS = (10, 60)  # to connect, and until the next byte
MOST_TRIES = 6  # for one request
MOST_WAIT = 60  # seconds before one more try, whatever Retry-After says
MOST_FAILURES = 60  # answers of 429 or 5xx in one pull: it ends within the hour


@dataclass
class Api:
    """One list of objects, at `base_url` and `path`.

    `params` are sent with each request; `start_param` is the one that takes the cursor's last value. `paginator` and
    `data_selector` (the place of the rows in the answer) are dlt's; without them dlt looks for both. `auth` is dlt's as
    well, with the secret; `key_env` is the environment variable that the secret comes from, for messages. `day` is the
    field whose (UTC) day a row belongs to, unless the contract has `day_columns`; None: the cursor.
    `requests` counts the answers.
    """

    base_url: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    paginator: Mapping[str, Any] | None = None
    data_selector: str | None = None
    auth: Mapping[str, Any] | None = field(default=None, repr=False)
    key_env: str | None = None
    cursor: str | None = None
    start_param: str | None = None
    lag: float = 0
    day: str | None = None
    requests: int = 0
    failures: int = 0

    @property
    def identity(self) -> str:
        """Return address, parameters and cursor."""
        return f"{self.base_url} {self.path} {sorted(self.params.items())} {self.data_selector} {self.cursor}"

    def pages(self, contract: SourceContract, start: Any) -> Iterator[Page]:
        """Yield the rows whose cursor is `start` or higher; `PullError` when it cannot."""
        from dlt.common.exceptions import DltException
        from requests import RequestException

        self.requests = self.failures = 0
        session = self._session()
        try:
            for rows in _in_parts(self._resource(start, session)):
                yield self._page(rows, contract)
        except (DltException, RequestException) as error:
            raise PullError(self._told(error)) from error
        finally:
            session.close()

    def file(self, rows: pl.DataFrame) -> tuple[bytes, str]:
        """Return the rows as JSON lines."""
        return "\n".join(rows[LINE]).encode(), "jsonl"

    def _page(self, rows: Sequence[Any], contract: SourceContract) -> Page:
        strange = next((row for row in rows if not isinstance(row, dict)), None)
        if strange is not None:
            raise PullError(f"{self._where}: a row is no object but {type(strange).__name__}; correct `data_selector`")
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        days = [_day(row, contract, self.day or self.cursor) for row in rows]
        cursors = [row[self.cursor] for row in rows if row.get(self.cursor) is not None] if self.cursor else []
        frame = pl.DataFrame({LINE: lines, DAY: days}, schema={LINE: pl.String, DAY: pl.String})
        return Page(frame, max(cursors, default=None))

    def _resource(self, start: Any, session: Any) -> Any:
        from dlt.sources.rest_api import rest_api_resources

        client = {"base_url": self.base_url, "session": session, "auth": self.auth, "paginator": self.paginator}
        endpoint: dict[str, Any] = {"path": self.path, "params": dict(self.params), "data_selector": self.data_selector}
        if self.cursor:
            since = {"cursor_path": self.cursor, "initial_value": start, "start_param": self.start_param}
            endpoint["incremental"] = _given(since) | {"primary_key": [], "on_cursor_value_missing": "include"}
        config: Any = {"client": _given(client), "resources": [{"name": "rows", "endpoint": _given(endpoint)}]}
        return rest_api_resources(config)[0]

    def _session(self) -> Any:
        """Return dlt's session, which waits as Retry-After says and tries again, while `_again` says so."""
        from dlt.sources.helpers.requests import Client

        session = Client(
            request_timeout=SECONDS,
            raise_for_status=False,
            status_codes=(),
            exceptions=(),
            request_max_attempts=MOST_TRIES,
            request_max_retry_delay=MOST_WAIT,
            retry_condition=self._again,
        ).session
        session.send = self._only_there(session.send)  # type: ignore[method-assign]
        return session

    def _only_there(self, send: Callable[..., Any]) -> Callable[..., Any]:
        """Return `send` for this host only: a next page or a redirect elsewhere would take the key along."""

        def guarded(request: Any, **options: Any) -> Any:
            place = urlsplit(request.url).netloc
            if place != urlsplit(self.base_url).netloc:
                raise PullError(f"{self._where}: it sends on to {place}, which shall not see the key")
            return send(request, **options)

        return guarded

    def _again(self, response: Any, error: BaseException | None) -> bool:
        """Count an answer, or its failure, and tell whether to ask once more."""
        from requests.exceptions import ChunkedEncodingError, ConnectionError, Timeout

        self.requests += response is not None
        if error is not None and response is not None:
            response.close()  # its body has not been read
        failed = isinstance(error, ChunkedEncodingError | ConnectionError | Timeout)
        failed = failed or (response is not None and (response.status_code == 429 or response.status_code >= 500))
        self.failures += failed
        return failed and self.failures <= MOST_FAILURES

    @property
    def _where(self) -> str:
        return f"{self.base_url.rstrip('/')}/{self.path.lstrip('/')}"

    def _told(self, error: BaseException) -> str:
        """Return the reason, without the secret, and the fix."""
        cause = root_of(error)
        if isinstance(cause, PullError):
            return str(cause)
        status = getattr(getattr(cause, "response", None), "status_code", None)
        reason = f"answered {status}" if status else f"{type(cause).__name__}: {cause}"
        for secret in filter(None, [str((self.auth or {}).get(name) or "") for name in ("api_key", "token")]):
            reason = reason.replace(secret, "***").replace(quote_plus(secret), "***")
        return f"{self._where}: {reason}; {self._fix(status)}"

    def _fix(self, status: int | None) -> str:
        if status in (401, 403):
            return f"set the key in environment variable {self.key_env}" if self.key_env else "declare its `auth`"
        if status == 429:
            return "ask for fewer or larger pages, or for a higher limit"
        return "see that it answers, and that `base_url`, `path` and `paginator` are right"


def _in_parts(rows: Iterable[Any]) -> Iterator[list[Any]]:
    taken = iter(rows)
    while part := list(islice(taken, PAGE)):
        yield part


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _day(row: Mapping[str, Any], contract: SourceContract, column: str | None) -> str | None:
    """Return the day that a row belongs to; None for a table without days."""
    if not contract.partitioned:
        return None
    try:
        if contract.day_columns:
            return date(*(row[name] for name in contract.day_columns)).isoformat()
        return _moment(row[column or ""], contract.forms.get(column or "")).date().isoformat()
    except (KeyError, TypeError, ValueError):
        return UNKNOWN


def _moment(text: str, form: str | None) -> datetime:
    moment = datetime.strptime(text, form) if form else datetime.fromisoformat(text)
    return moment.astimezone(UTC) if moment.tzinfo else moment
