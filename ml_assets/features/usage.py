"""Who uses a feature: feature services and the problems behind them; and the refusal to remove what is in use.

A service belongs to the problem that its tag `problem` names, or else to the problem of its own name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from ml_assets.features.compiled import CompiledService
from ml_assets.features.point_in_time import FeatureError

PROBLEM = "problem"  # the tag of a feature service


@dataclass(frozen=True)
class User:
    """A feature service that uses something, and the problem that it serves."""

    service: str
    problem: str

    def __str__(self) -> str:
        """Return both in words."""
        return f"feature service {self.service!r} (problem {self.problem})"


@dataclass(frozen=True)
class BrokenUse:
    """A feature in use that is gone (`now` is "") or has changed its Feast type from `before` to `now`."""

    view: str
    feature: str
    before: str
    now: str
    users: tuple[User, ...]

    def __str__(self) -> str:
        """Return it in words, with its users."""
        change = f"changes from {self.before} to {self.now}" if self.now else f"({self.before}) is gone"
        verb = "use it" if len(self.users) > 1 else "uses it"
        return f"feature view {self.view!r}: feature {self.feature!r} {change}, but {_listed(self.users)} {verb}"


def users(services: Mapping[str, CompiledService], view: str, feature: str | None = None) -> list[User]:
    """Return who uses a view or, with `feature`, that feature of it; in the order of the services' names."""
    return [
        User(name, service.tags.get(PROBLEM, name))
        for name, service in sorted(services.items())
        if view in service.uses and (feature is None or feature in service.uses[view])
    ]


def broken_uses(
    before: Mapping[str, CompiledService], after: Mapping[str, Mapping[str, str]], *, services: Collection[str]
) -> list[BrokenUse]:
    """Return the features that services used `before` and that are not there `after` as they were.

    `after` maps views to their features with Feast types; a view with no feature at all has left them to Feast, which
    infers them from the data, and is not judged. Only `services`, those that still exist, count as users.
    """
    standing = {name: service for name, service in before.items() if name in services}
    return [
        BrokenUse(view, feature, dtype, now, tuple(users(standing, view, feature)))
        for view, feature, dtype in sorted(set(_used(standing)))
        if (now := _now(after, view, feature, dtype)) != dtype
    ]


def require_unused(
    before: Mapping[str, CompiledService], after: Mapping[str, Mapping[str, str]], *, services: Collection[str]
) -> None:
    """Raise `FeatureError` when a feature in use is removed or changes its type; it names the users and the fix."""
    broken = broken_uses(before, after, services=services)
    if broken:
        raise FeatureError(
            f"{'; '.join(map(str, broken))}. Put it back as it was. To do without it: declare a new version of the "
            "service, name that in the problem's `features`, retrain; then remove the old service and the feature"
        )


def _used(services: Mapping[str, CompiledService]) -> Iterator[tuple[str, str, str]]:
    for service in services.values():
        for view, features in service.uses.items():
            yield from ((view, feature, dtype) for feature, dtype in features.items())


def _now(after: Mapping[str, Mapping[str, str]], view: str, feature: str, dtype: str) -> str:
    """Return the feature's type after the change, "" when it is gone; the same when Feast infers it."""
    features = after.get(view)
    return dtype if features == {} else (features or {}).get(feature, "")


def _listed(found: Collection[User]) -> str:
    return " and ".join(map(str, found))
