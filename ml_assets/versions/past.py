"""The lake as it was: chosen versions of tables in a lake of their own, so that all code reads the past like the present."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from ml_assets.lake import Lake, Manifest, Store
from ml_assets.lake.lake import WHOLE

PUSHED = "_pushed"  # below it is what was pushed to feature views, each row with the time since when it is known
WRITERS = 8  # waiting for the disk or the network


class PastError(ValueError):
    """The past cannot be made again: something that it consisted of is gone, or is not what it was."""


def restore(lake: Lake, snapshots: Mapping[str, str], target: Lake) -> None:
    """Write the partitions that snapshots name, by table, to `target`, with what was pushed to the tables.

    Every partition is compared with its version: its bytes before they are parsed, and its rows after. Raises
    `MissingPartitionError` for what was removed, `AlteredFileError` for other bytes, `PastError` for other rows.
    """
    for table, snapshot in snapshots.items():
        versions = lake.versions_in(snapshot)
        with ThreadPoolExecutor(WRITERS) as pool:
            list(pool.map(lambda item, table=table: _restore(lake, table, item[0], item[1], target), versions.items()))
        _restore_pushed(lake.store, table, target.store)


def _restore(lake: Lake, table: str, name: str, version: str, target: Lake) -> None:
    partition = None if name == WHOLE else name
    known = lake.manifest_of(table, version, partition)
    frame = lake.scan_version(table, version, partition).collect()
    written = target.write(
        table, frame, partition=partition, written_at=known.written_at, inputs=known.inputs, verdicts=known.verdicts
    )
    if written.version != version:
        raise PastError(f"{table}/{name}: the rows of version {version[:12]} are by now {written.version[:12]}")


def copy_live(lake: Lake, tables: Mapping[str, Mapping[str, Manifest]], target: Lake) -> None:
    """Write the current partitions of tables to `target`, with their verdicts."""
    for table, manifests in tables.items():
        for name, manifest in manifests.items():
            _restore(lake, table, name, manifest.version, target)


def _restore_pushed(source: Store, table: str, target: Store) -> None:
    """Copy the log of pushes: it only grows, and the join leaves out what was not known yet."""
    for name in source.names(f"{PUSHED}/{table}"):
        if not target.exists(name):
            target.write(name, source.read(name))
