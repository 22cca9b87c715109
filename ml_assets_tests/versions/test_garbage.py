"""After a removal every read that worked before still works, and what nobody needs is gone."""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.lake import Lake, MissingPartitionError, content_hash
from ml_assets.versions.garbage import GRACE, Need, find, need_of, remove

NOW = datetime(2030, 1, 1, tzinfo=UTC)  # long after every file was written
AT = datetime(2024, 1, 1, tzinfo=UTC)
TRAINING_SET = "p/training_set"
WRITES = st.lists(
    st.tuples(st.sampled_from(["observe", "train"]), st.sampled_from(["a", "b", "c"]), st.integers(0, 4)),
    min_size=1,
    max_size=14,
)


def rows(value: int) -> pl.DataFrame:
    return pl.DataFrame({"x": [value, value + 1]})


def played(lake: Lake, writes: list[tuple[str, str, int]]) -> dict[str, tuple[str, str]]:
    """Write partitions, and now and then a training set of them; return each one's snapshot and the hash of what was read."""
    trained = {}
    for what, partition, value in writes:
        if what == "observe" or not lake.partitions("p/observations"):
            lake.write("p/observations", rows(value), partition=partition, written_at=AT)
            continue
        snapshot = lake.snapshot("p/observations")
        read = lake.read("p/observations")
        made = lake.write(TRAINING_SET, read, written_at=AT, inputs={"p/observations": snapshot, "as_known_at": "2024"})
        trained[made.version] = (snapshot, content_hash(read))
    return trained


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(WRITES, st.data())
def test_what_could_be_read_can_be_read(writes: list[tuple[str, str, int]], data: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(folder)
        trained = played(lake, writes)
        registered = data.draw(st.lists(st.sampled_from(sorted(trained)), unique=True)) if trained else []
        before = {table: lake.read(table) for table in lake.tables()}
        current = lake.manifest(TRAINING_SET)
        wanted = {version: trained[version] for version in registered}
        pinned = [{"p/observations": snapshot} for snapshot, _ in wanted.values()]
        garbage = find(lake, need_of(lake, {TRAINING_SET: registered}, pinned=pinned), now=NOW)
        remove(lake, garbage)
        assert {table: lake.read(table) for table in lake.tables()}.keys() == before.keys()
        assert all(lake.read(table).equals(frame) for table, frame in before.items())
        if current:
            wanted[current.version] = current.inputs["p/observations"], current.version
        for version, (snapshot, digest) in wanted.items():
            assert content_hash(lake.scan_version(TRAINING_SET, version).collect()) == version
            assert content_hash(lake.scan_snapshot("p/observations", snapshot).collect()) == digest
        again = find(lake, need_of(lake, {TRAINING_SET: registered}, pinned=pinned), now=NOW)
        assert not again.objects


def old_and_new(folder: Path) -> tuple[Lake, str]:
    """Return a lake with one superseded version, and that version."""
    lake = Lake(str(folder))
    old = lake.write("t", rows(1), partition="a", written_at=AT).version
    lake.write("t", rows(2), partition="a", written_at=AT)
    return lake, old


def test_without_the_need_a_superseded_version_goes(tmp_path: Path) -> None:
    lake, old = old_and_new(tmp_path)
    snapshot = lake.snapshot("t")
    garbage = find(lake, Need({}, {}), now=NOW)
    assert len(garbage.objects) == 3 and "t" in garbage.table()
    assert remove(lake, garbage) == 3
    with pytest.raises(MissingPartitionError, match="no version"):
        lake.scan_version("t", old, "a").collect()
    with pytest.raises(MissingPartitionError, match="no snapshot"):
        lake.versions_in(snapshot)
    assert lake.read("t").equals(rows(2))


def test_what_a_snapshot_or_a_revision_needs_stays(tmp_path: Path) -> None:
    lake, old = old_and_new(tmp_path)
    names = [f"t/a/{old[:20]}.parquet", f"t/a/{old[:20]}.json"]
    assert not find(lake, Need({}, {}, names), now=NOW).objects
    first = Lake(str(tmp_path / "other"))
    first.write("t", rows(1), partition="a", written_at=AT)
    snapshot = first.snapshot("t")
    first.write("t", rows(2), partition="a", written_at=AT)
    assert not find(first, Need({"t": [snapshot]}, {}), now=NOW).objects
    assert find(first, Need({}, {}), now=NOW).objects


def test_fresh_files_stay(tmp_path: Path) -> None:
    """A writer has written its data, and not yet the manifest."""
    lake, _ = old_and_new(tmp_path)
    lake.store.write(f"t/b/{'0' * 20}.parquet", b"data")
    moment = max(item.modified_at for item in lake.store.objects())
    assert not find(lake, Need({}, {}), now=moment + GRACE - timedelta(seconds=1)).objects
    assert len(find(lake, Need({}, {}), now=moment + GRACE + timedelta(seconds=1)).objects) == 3


def test_a_version_that_was_brought_back_meanwhile_stays(tmp_path: Path) -> None:
    lake, old = old_and_new(tmp_path)
    garbage = find(lake, Need({}, {}), now=NOW)
    lake.write("t", rows(1), partition="a", written_at=AT)
    remove(lake, garbage)
    assert lake.read("t").equals(rows(1)) and lake.live("t")["a"].version == old


def test_a_version_that_comes_back_while_it_is_removed_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake, old = old_and_new(tmp_path)
    garbage, plain = find(lake, Need({}, {}), now=NOW), lake.store.remove

    def late(name: str, *, generation: str | None = None) -> None:
        """Called when the remover has seen that the version is not current."""
        if name.endswith(".parquet"):
            Lake(lake.url).write("t", rows(1), partition="a", written_at=AT)
        plain(name, generation=generation)

    monkeypatch.setattr(lake.store, "remove", late)
    remove(lake, garbage)
    assert lake.read("t").equals(rows(1)) and lake.live("t")["a"].version == old


def test_leftovers_of_writers_go_when_they_are_old(tmp_path: Path) -> None:
    lake, _ = old_and_new(tmp_path)
    left = tmp_path / "t" / "a" / ".tmp-123"
    left.write_bytes(b"half")
    fresh = find(lake, Need({}, {}), now=datetime.fromtimestamp(left.stat().st_mtime, UTC))
    assert fresh.temporary == ()
    os.utime(left, (0, 0))
    assert not find(lake, Need({}, {}), now=NOW, grace=timedelta(days=40_000)).temporary
    remove(lake, find(lake, Need({}, {}), now=NOW))
    assert not left.exists()


def test_what_is_not_the_lakes_own_is_left_alone(tmp_path: Path) -> None:
    lake, _ = old_and_new(tmp_path)
    others = ["_ledger/00000001.jsonl", "_pushed/features/x/2024-01-01/abc.parquet", "t/notes.txt", "t.dvc"]
    for name in others:
        lake.store.write(name, b"x")
    remove(lake, find(lake, Need({}, {}), now=NOW))
    assert all(lake.store.exists(name) for name in [*others, "_lake.json", "t/a/manifest.json"])
