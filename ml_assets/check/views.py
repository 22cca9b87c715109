"""What is wrong with declared feature views, beyond their form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ml_assets import keys
from ml_assets.check import common
from ml_assets.check.fault import Fault
from ml_assets.check.shape import Declared
from ml_assets.check.tables import Tables


def view_faults(found: Declared, tables: Tables) -> Iterator[Fault]:
    """Yield the faults of one bundle of views."""
    bundle = found.component
    yield from common.owners(found, bundle.owners)
    yield from common.days(found, bundle.days)
    yield from common.time_zone(found, bundle.time_zone)
    for number, field, message in bundle.problems():
        yield from found.refused(("views", number, field), message)
    for number, view in enumerate(bundle.views):
        yield from _view(found, number, view, tables)


def _view(found: Declared, number: int, view: Any, tables: Tables) -> Iterator[Fault]:
    place, table = ("views", number), keys.feature_view(view.name)
    used = ((*place, "uses", position) for position, _ in enumerate(view.uses))
    for path, read in zip([(*place, "source"), *used], [view.source, *view.uses], strict=True):
        yield from common.table(found, path, read, tables, days=view.partitioned or None)
    if tables.views.get(view.name, (found, None))[1] is not view:
        return  # another one of this name is in its place, which is a fault by itself
    outcome = tables.outcome(table)
    if outcome.message:
        yield from found.refused((*place, "compute"), outcome.message)
    elif tables.schema(view.source) is None:
        yield from common.function(found, (*place, "compute"), view.compute)
    if outcome.schema is not None:
        of = f"what {view.compute.rpartition('.')[2]} returns"
        yield from common.columns(found, (*place, "entity"), view.entity, outcome.schema, of=of)
    yield from common.expectations(found, (*place, "expectations"), view.expectations, outcome.schema, of=table)
