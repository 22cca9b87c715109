"""What a source is pulled from, as declared: a table of a database, or a REST API. Secrets come from the environment only."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import dagster as dg
from pydantic import Field

from ml_assets.resources.environment import NONE

ROOT = Path(__file__).parents[2]  # relative files of SQLite are below it
SQLITE = "sqlite:///"
PAGINATORS = ("json_link", "header_link", "header_cursor", "cursor", "offset", "page_number", "single_page", "auto")
SECRETS = ("password", "passwd", "pwd", "token", "secret", "api_key", "apikey")


class Pulled(dg.Model, dg.Resolvable):
    """What databases and APIs have in common."""

    url_env: str | None = Field(
        default=None,
        description="environment variable with the address, before that in the declaration; its value `none` ends pulling",
    )
    cursor: str | None = Field(
        default=None,
        description="column that grows with new and changed rows; only these are pulled. Default: all rows each time",
    )
    lag: float = Field(
        default=0, description="how far before the last cursor a pull begins: seconds for times, days for days"
    )
    day: str | None = Field(
        default=None, description="column with the day of a row; default: day_columns, or else the cursor"
    )
    every_hours: float = Field(default=24, description="hours from one pull to the next")

    @property
    def written(self) -> str | None:
        """Return the address in the declaration."""
        raise NotImplementedError

    @property
    def off(self) -> bool:
        """Tell whether the environment says that nothing is pulled: the source takes files only."""
        return self._of_environment == NONE

    @property
    def address(self) -> str:
        """Return the address; `ValueError` when neither environment nor declaration has one."""
        found = self._of_environment or self.written
        if not found:
            raise ValueError(f"environment variable {self.url_env} is not set; set it to the address, or to {NONE}")
        return found

    @property
    def _of_environment(self) -> str:
        return os.environ.get(self.url_env, "") if self.url_env else ""

    def shared_problems(self, columns: Mapping[str, str], *, partitioned: bool, days_known: bool) -> Iterator[str]:
        """Yield contradictions, each without the name of the field. `columns` maps names to types."""
        for field, name in {"cursor": self.cursor, "day": self.day}.items():
            if name and name not in columns:
                yield f"{field} {name!r} is not among columns {list(columns)}; correct the name"
        day = self.day or self.cursor
        if partitioned and not days_known and columns.get(day or "") not in ("Date", "Datetime"):
            yield f"day {day!r} tells no day of a row; name a Date or Datetime column, or declare day_columns"
        if self.every_hours <= 0:
            yield f"every_hours {self.every_hours:g}: write a number above 0"
        if self.lag < 0 or (self.lag and not self.cursor):
            yield f"lag {self.lag:g}: write a number above 0, with a cursor"


class Database(Pulled):
    """A table, or view, of a database that SQLAlchemy reaches."""

    url: str | None = Field(
        default=None,
        description="SQLAlchemy's, without a password: sqlite:///data/my.db; one with a password is for url_env",
    )
    table: str = Field(description="the table, or a view")
    schema_name: str | None = Field(default=None, description="the database's schema; default: its own default")

    @property
    def written(self) -> str | None:
        """Return the URL in the declaration."""
        return self.url

    def problems(self, columns: Mapping[str, str], *, partitioned: bool, days_known: bool) -> Iterator[str]:
        """Yield contradictions."""
        if not self.url and not self.url_env:
            yield "url: write the address, or name the environment variable that has it in url_env"
        if self.url and _has_password(self.url):
            yield "url has a password; put the address into an environment variable, and name that in url_env"
        yield from self.shared_problems(columns, partitioned=partitioned, days_known=days_known)

    def opened(self) -> Any:
        """Return the plain `ml_assets.collection.databases.Database`."""
        from ml_assets.collection import databases

        address = self.address
        path = address.removeprefix(SQLITE)
        if path != address and not path.startswith("/"):
            address = f"{SQLITE}{ROOT / path}"
        return databases.Database(address, self.table, self.schema_name, self.cursor, self.lag, self.day)


class Auth(dg.Model, dg.Resolvable):
    """How an API knows who asks."""

    type: Literal["bearer", "api_key"] = Field(default="bearer", description="as dlt calls it")
    key_env: str = Field(description="environment variable with the key")
    name: str = Field(default="X-API-Key", description="of the header, parameter or cookie of an api_key")
    location: Literal["header", "query", "cookie"] = Field(default="header", description="where an api_key goes")

    def opened(self) -> dict[str, str]:
        """Return it as dlt takes it, with the key; `ValueError` when the environment has none."""
        key = os.environ.get(self.key_env)
        if not key:
            raise ValueError(f"environment variable {self.key_env} is not set; set it to the API's key")
        if self.type == "bearer":
            return {"type": "bearer", "token": key}
        return {"type": "api_key", "api_key": key, "name": self.name, "location": self.location}


class Api(Pulled):
    """A list of objects of a REST API. Paginator, selector and parameters are as in dlt's `rest_api`."""

    base_url: str | None = Field(default=None, description="such as https://example.org/v1")
    path: str = Field(description="below base_url")
    auth: Auth | None = Field(default=None, description="default: none")
    params: Mapping[str, Any] = Field(default={}, description="of every request, such as {limit: 1000}")
    start_param: str | None = Field(default=None, description="parameter that takes the last value of the cursor")
    paginator: Mapping[str, Any] | None = Field(
        default=None, description="{type: json_link, next_url_path: next} and others of dlt; default: dlt looks for it"
    )
    data_selector: str | None = Field(
        default=None, description="where the rows are in an answer; default: dlt looks for them"
    )

    @property
    def written(self) -> str | None:
        """Return the URL in the declaration."""
        return self.base_url

    def problems(self, columns: Mapping[str, str], *, partitioned: bool, days_known: bool) -> Iterator[str]:
        """Yield contradictions."""
        if not self.base_url and not self.url_env:
            yield "base_url: write the address, or name the environment variable that has it in url_env"
        secret = next((name for name in self.params if name.lower() in SECRETS), None)
        if secret:
            yield f"params has {secret!r}; name the environment variable with the key in auth"
        if self.start_param and not self.cursor:
            yield "start_param needs a cursor, whose last value it takes"
        if self.paginator is not None and self.paginator.get("type") not in PAGINATORS:
            yield f"paginator has type {self.paginator.get('type')!r}; use one of: {', '.join(PAGINATORS)}"
        yield from self.shared_problems(columns, partitioned=partitioned, days_known=days_known)

    def opened(self) -> Any:
        """Return the plain `ml_assets.collection.apis.Api`."""
        from ml_assets.collection import apis

        return apis.Api(
            self.address,
            self.path,
            params=dict(self.params),
            paginator=self.paginator,
            data_selector=self.data_selector,
            auth=self.auth.opened() if self.auth else None,
            key_env=self.auth.key_env if self.auth else None,
            cursor=self.cursor,
            start_param=self.start_param,
            lag=self.lag,
            day=self.day,
        )


def _has_password(url: str) -> bool:
    """Tell whether a URL has a password before its host."""
    place = url.partition("://")[2].partition("/")[0]
    return "@" in place and ":" in place.rpartition("@")[0]
