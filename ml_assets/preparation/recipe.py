"""What partitions are made from: the versions that a step reads, its code, its declaration. Equal ones are not made again.

A manifest names the exact inputs of its partition. Before a step computes, it compares them with what it would read now; only what
differs is computed, from the versions that were compared, even when somebody writes meanwhile.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

import polars as pl

from ml_assets import keys
from ml_assets.lake import AlteredFileError, Lake, Live, Manifest
from ml_assets.lake.manifest import WHOLE, combined_version
from ml_assets.preparation.writing import Written, as_stored, write_checked
from ml_assets.quality import Suite, Verdict

DECLARATION = "declaration"  # among a manifest's inputs: the hash of what is declared


@dataclass(frozen=True)
class Recipe:
    """How a table is made, apart from the data: the same recipe over the same versions gives the same rows and verdicts.

    `reads` maps each table to the days before a partition on which the partition depends too; None: on all of the table. A
    table without partitions counts whole in any case. The first table gives the days. `declaration` is what decides rows
    and verdicts besides the code, JSON-safe: key, limits, query, expectations.
    """

    table: str
    reads: Mapping[str, int | None]
    code_version: str
    declaration: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def declared(self) -> str:
        """Return 12 hex digits for the declaration."""
        text = json.dumps(self.declaration, sort_keys=True, default=str)  # a day in YAML is no text
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def work(self, lake: Lake, partitions: Sequence[str] | None, *, anew: bool = False) -> Work:
        """Look at what there is and what it would be made from; `partitions` None is the whole table.

        `anew`: everything is to be made again, whatever it was made from.
        """
        live = {table: self._live(lake, table, partitions) for table in self.reads}
        found = Work(self, lake, partitions, live)
        return found if anew else found.without_unchanged()

    def days(self, table: str, partitions: Collection[str]) -> list[str]:
        """Return the partitions of `table` from which those of the recipe's table are made."""
        back = range((self.reads[table] or 0) + 1)
        return sorted({keys.before(name, days) if days else name for name in partitions for days in back})

    def _live(self, lake: Lake, table: str, partitions: Sequence[str] | None) -> dict[str, Live]:
        if partitions is None or self.reads[table] is None:
            return lake.live(table)
        found = lake.live(table, [WHOLE, *self.days(table, partitions)])
        return {WHOLE: found[WHOLE]} if WHOLE in found else found


@dataclass(frozen=True)
class Work:
    """What a run has to make of its partitions, and the versions from which it makes it.

    `live` are the versions by table and partition. `unchanged` are the partitions that would come out as they are: they are
    left out of `left` and of what `scan` returns.
    """

    recipe: Recipe
    lake: Lake
    partitions: Sequence[str] | None
    live: Mapping[str, Mapping[str, Live]]
    unchanged: Mapping[str, Manifest] = field(default_factory=dict)

    @property
    def names(self) -> Sequence[str]:
        """Return the partitions of the run; the whole table is one."""
        return [WHOLE] if self.partitions is None else self.partitions

    @property
    def left(self) -> list[str]:
        """Return the partitions that have to be made."""
        return [name for name in self.names if name not in self.unchanged]

    @property
    def is_done(self) -> bool:
        """Tell whether nothing has to be made: what is left has no input and never had one."""
        return bool(self.unchanged) and not any(map(self._has_days, self.left))

    @property
    def done(self) -> Written:
        """Return what was stored when it was made."""
        return as_stored(self.unchanged)

    def inputs(self, partition: str) -> dict[str, str]:
        """Return what a partition is made from: `table/partition`, or the name of a table that counts whole, to versions."""
        found = {name: version for table in self.recipe.reads for name, version in self._of(table, partition).items()}
        return found | {DECLARATION: self.recipe.declared}

    def scan(self, table: str, *, partition_column: str | None = None) -> pl.LazyFrame:
        """Return the rows of `table` from which what is left is made; of the last partition, to look at, when nothing is.

        Raises as `Lake.scan` does.
        """
        live, names = self.live[table], None
        if self.partitions is not None and self.recipe.reads[table] is not None and WHOLE not in live:
            names = self.recipe.days(table, self.left or self.names[-1:])
            live = {name: live[name] for name in names if name in live}
        return self.lake.scan(table, names, live=live, partition_column=partition_column)

    def write(
        self,
        frame: pl.DataFrame,
        suite: Suite,
        *,
        now: datetime,
        besides: Sequence[Verdict] = (),
        may_be_empty: bool = False,
    ) -> Written:
        """Write what was left, as `write_checked` does; the verdict is that of the unchanged partitions too."""
        return write_checked(
            self.lake,
            self.recipe.table,
            frame,
            suite,
            now=now,
            partitions=None if self.partitions is None else self.left,
            inputs=self.inputs,
            code_version=self.recipe.code_version,
            besides=besides,
            may_be_empty=may_be_empty,
            unchanged=self.unchanged,
        )

    def without_unchanged(self) -> Work:
        """Return the work without the partitions that would come out as they are."""
        with ThreadPoolExecutor(8) as pool:  # waiting for the disk or the network
            found = zip(self.names, pool.map(self._current, self.names), strict=True)
            unchanged = {name: manifest for name, manifest in found if manifest}
        return Work(self.recipe, self.lake, self.partitions, self.live, unchanged)

    def _current(self, name: str) -> Manifest | None:
        """Return the manifest of a partition that would come out as it is; None for one that has to be made."""
        try:
            manifest = self.lake.manifest(self.recipe.table, None if name == WHOLE else name)
        except AlteredFileError:  # to be repaired
            return None
        return manifest if manifest and self._same(name, manifest) and self._is_whole(manifest) else None

    def _same(self, name: str, manifest: Manifest) -> bool:
        """Tell whether a partition was made from the same; what is red, or made from what is red by now, is made again."""
        made = (manifest.code_version, manifest.inputs) == (self.recipe.code_version, self.inputs(name))
        return made and not manifest.red and not any(item.red for item in self._items(name))

    def _is_whole(self, manifest: Manifest) -> bool:
        """Tell whether the files are there: byte for byte in a folder; in a bucket, where that means to fetch them, by size."""
        if self.lake.store.is_local:
            return self.lake.intact(manifest)
        folder = f"{manifest.table}/{manifest.partition or WHOLE}"
        found = [(self.lake.store.stat(f"{folder}/{file.name}"), file) for file in manifest.files]
        return all(there and there.size == file.size for there, file in found)

    def _items(self, partition: str) -> list[Live]:
        return [item for table in self.recipe.reads for item in self._pinned(table, partition).values()]

    def _pinned(self, table: str, partition: str) -> Mapping[str, Live]:
        """Return the partitions of `table` on which one of the recipe's partitions depends, as they were found."""
        live = self.live[table]
        if partition == WHOLE or WHOLE in live or self.recipe.reads[table] is None:
            return live
        return {name: live[name] for name in self.recipe.days(table, [partition]) if name in live}

    def _of(self, table: str, partition: str) -> dict[str, str]:
        pinned = self._pinned(table, partition)
        if WHOLE in pinned:
            return {table: pinned[WHOLE].version}
        if partition != WHOLE and self.recipe.reads[table] is None:
            return {table: combined_version(pinned.values())}
        return {f"{table}/{name}": item.version for name, item in pinned.items()}

    def _has_days(self, partition: str) -> bool:
        """Tell whether the first table has anything of its days from which a partition could be made."""
        return bool(self._pinned(next(iter(self.recipe.reads)), partition))
