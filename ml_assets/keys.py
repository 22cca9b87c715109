"""The only place where asset keys, lake tables, groups and partitions are spelled.

A lake table has the name of its asset: `clean/flights` is asset key ["clean", "flights"] and folder `clean/flights`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from itertools import pairwise

RAW, CLEAN, FEATURES = "raw", "clean", "features"
PROFILES_FOLDER = "_profiles"  # beside the lake's tables: it is no table itself

# Groups in the web UI: the stages of the lifecycle, in order.
COLLECTION = "collection"
PREPARATION = "preparation"
FEATURE_STORE = "feature_store"
DEVELOPMENT = "development"
EVALUATION = "evaluation"
PACKAGING = "packaging"
DEPLOYMENT = "deployment"
MONITORING = "monitoring"
GROUPS = (COLLECTION, PREPARATION, FEATURE_STORE, DEVELOPMENT, EVALUATION, PACKAGING, DEPLOYMENT, MONITORING)

SELDOM = "ml_assets/seldom"
"""Tag of assets that take long and change slowly: the named jobs leave them out, and a schedule of their own makes them."""


def raw(source: str) -> str:
    """Return the table of a source as it arrived."""
    return f"{RAW}/{source}"


def clean(source: str) -> str:
    """Return the table of a source after repairs."""
    return f"{CLEAN}/{source}"


def feature_view(view: str) -> str:
    """Return the table of one feature view."""
    return f"{FEATURES}/{view}"


def online(view: str) -> str:
    """Return the asset of one feature view's online side."""
    return f"{FEATURE_STORE}/online/{view}"


def problem(name: str, part: str) -> str:
    """Return a table or asset of one problem, such as `flight_delay/training_set`."""
    return f"{name}/{part}"


def candidate(name: str, kind: str) -> str:
    """Return the asset of one candidate, such as `flight_delay/candidates/xgboost`."""
    return f"{name}/candidates/{kind}"


def infrastructure(part: str) -> str:
    """Return a table or asset of the whole deployment's monitoring, such as `monitoring/infrastructure_report`."""
    return f"{MONITORING}/{part}"


def profiles(table: str) -> str:
    """Return the asset of a table's profiles, such as `profiles/raw/flights`; they lie beside the lake's tables."""
    return f"profiles/{table}"


def sql_name(table: str) -> str:
    """Return the name of a table in SQL: `clean/flights` is `clean_flights`."""
    return table.replace("/", "_")


def check_name(purpose: str) -> str:
    """Return the name of an asset check; Dagster allows letters, digits and underscores."""
    return "".join(letter if letter.isalnum() else "_" for letter in purpose)


def day(moment: date) -> str:
    """Return the partition of a day: `2013-01-31`."""
    return moment.strftime("%Y-%m-%d")


def days(first: date | str, last: date | str) -> list[str]:
    """Return the partitions from `first` to `last`, both included."""
    start, end = (date.fromisoformat(item) if isinstance(item, str) else item for item in (first, last))
    return [day(start + timedelta(days=count)) for count in range((end - start).days + 1)]


def before(partition: str, count: int) -> str:
    """Return the partition `count` days before `partition`."""
    return day(date.fromisoformat(partition) - timedelta(days=count))


def ranges(partitions: Iterable[str], *, most: int) -> list[tuple[str, str]]:
    """Cover the days by at most `most` contiguous ranges (first, last), closing the smallest gaps first."""
    ordered = sorted(date.fromisoformat(partition) for partition in set(partitions))
    if not ordered:
        return []
    gaps = [(later - earlier).days for earlier, later in pairwise(ordered)]
    widest = sorted((gap for gap in gaps if gap > 1), reverse=True)[: most - 1]
    cuts, first, found = list(widest), ordered[0], []
    for (previous, following), gap in zip(pairwise(ordered), gaps, strict=True):
        if gap in cuts:
            cuts.remove(gap)
            found.append((day(first), day(previous)))
            first = following
    return [*found, (day(first), day(ordered[-1]))]
