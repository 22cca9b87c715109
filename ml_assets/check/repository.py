"""What Feast's repository declares, read without a trace, and whether the views agree with it."""

from __future__ import annotations

import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import yaml

from ml_assets import keys
from ml_assets.check.fault import Fault
from ml_assets.check.shape import Declared
from ml_assets.check.tables import Tables, attempt
from ml_assets.features import retrieval
from ml_assets.features.views import declaration_verdict

if TYPE_CHECKING:
    from ml_assets.features.compiled import CompiledRepo

REGISTRY = "registry.db"


def declared_repo(repo: Path) -> CompiledRepo | str:
    """Return what the repository's modules declare, or why they cannot be applied.

    They are applied to a copy with a registry of its own and no online store, so nothing of the deployment changes;
    that imports Feast, for seconds. A feature in use that is gone is refused here as `apply` would refuse it.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / repo.name
        shutil.copytree(repo, copy, ignore=shutil.ignore_patterns("__pycache__"))
        config = yaml.safe_load((copy / retrieval.CONFIG).read_text())
        (copy / retrieval.CONFIG).write_text(yaml.safe_dump({**config, "registry": REGISTRY, "online_store": None}))
        if (compiled := retrieval.compiled_file(repo)).exists():
            shutil.copy(compiled, retrieval.compiled_file(copy))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Feast's own, of its deprecations
            return attempt(lambda: retrieval.apply(copy) and retrieval.applied_repo(copy))  # type: ignore[arg-type, return-value]


def agreement(found: Declared, tables: Tables, repo: CompiledRepo) -> Iterator[Fault]:
    """Yield where a bundle's views and Feast's declaration of the same names do not agree: columns, types, entity."""
    for number, view in enumerate(found.component.views):
        schema = tables.schema(keys.feature_view(view.name))
        if schema is not None and tables.views[view.name][1] is view:
            rows = pl.DataFrame(schema=dict(schema))
            verdict = declaration_verdict(view.name, rows, repo.views.get(view.name), entity=view.entity)
            for message in _messages([*verdict.notes, *(result.note for result in verdict.results)]):
                yield from found.refused(("views", number, "name"), message)


def _messages(notes: list[str]) -> Iterator[str]:
    """Yield the single messages of notes such as "feature view 'x': column 'a' …; fix; column 'b' …; fix"."""
    for note in filter(None, notes):
        yield from re.split(r"; (?=column '|its entity )", note)
