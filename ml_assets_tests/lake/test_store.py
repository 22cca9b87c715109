"""Objects in a folder and at an fsspec URL: the same operations, the same guarantees, the same errors."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from uuid import uuid4

import pytest

from ml_assets.lake import PreconditionFailed, Store
from ml_assets.lake.remote import RemoteFolder

LOCKED = """
import fcntl, time
file = open({!r}, "ab")
fcntl.flock(file, fcntl.LOCK_EX)
print("locked", flush=True)
time.sleep(60)
"""


@pytest.fixture(params=["folder", "file URL", "memory URL"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store; memory:// stands in for a bucket (it has preconditions, but no generations)."""
    urls = {"folder": str(tmp_path / "s"), "file URL": f"file://{tmp_path}/s/", "memory URL": f"memory://{uuid4().hex}"}
    return Store(urls[request.param])


def test_what_was_written_is_read_listed_and_removed(store: Store) -> None:
    assert store.names() == store.folders() == []
    store.write("b/two.txt", b"22")
    store.write("b/c/three.txt", b"333")
    store.write("one.txt", b"1")
    assert store.names() == ["b/c/three.txt", "b/two.txt", "one.txt"]
    assert store.names("b") == ["b/c/three.txt", "b/two.txt"]
    assert store.folders() == ["b"]
    assert store.folders("b") == ["c"]
    assert [(item.name, item.size) for item in store.objects("b/c")] == [("b/c/three.txt", 3)]
    assert (store.read("b/two.txt"), store.exists("b/two.txt")) == (b"22", True)
    store.remove("b/two.txt")
    store.remove("b/two.txt")
    assert not store.exists("b/two.txt")
    with pytest.raises(FileNotFoundError):
        store.read("b/two.txt")


def test_an_overwritten_object_has_another_generation(store: Store) -> None:
    store.write("a", b"1")
    (first,) = store.objects()
    store.write("a", b"22")
    (second,) = store.objects()
    assert store.read("a") == b"22"
    assert first.generation != second.generation
    assert first.modified_at <= second.modified_at
    assert second.modified_at.tzinfo is not None
    assert store.objects() == [second]


def test_equal_bytes_are_a_new_generation_however_quickly_they_come(tmp_path: Path) -> None:
    """The clock's ticks are long, and a file that was replaced gives its inode back."""
    store = Store(str(tmp_path))
    generations = [store.write("a", b"1") for _ in range(50)]
    assert len(set(generations)) == 50
    for _ in range(50):
        generations.append(store.write("a", b"1", generation=generations[-1]))
    assert len(set(generations)) == 100


def test_one_object_is_told_as_it_is_listed(store: Store) -> None:
    generation = store.write("a/b", b"123")
    assert [store.stat("a/b")] == store.objects()
    assert store.objects()[0].generation == generation
    assert (store.stat("a"), store.stat("c"), store.exists("a")) == (None, None, False)


def test_a_listing_goes_on_after_a_name(store: Store) -> None:
    for name in ("b/1", "b/2", "c", "a"):
        store.write(name, b"")
    assert store.names(after="b/1") == ["b/2", "c"]
    assert store.names("b", after="b/1") == ["b/2"]
    assert store.names(after="b") == ["b/1", "b/2", "c"]
    assert store.names(after="c") == []


def test_a_read_returns_one_generation_or_nothing(store: Store) -> None:
    first = store.write("a", b"1")
    assert store.read("a", generation=first) == b"1"
    second = store.write("a", b"2")
    with pytest.raises(PreconditionFailed, match=f"generation {re.escape(first)}; read it and decide again"):
        store.read("a", generation=first)
    assert store.read("a", generation=second) == b"2"
    store.remove("a")
    with pytest.raises(PreconditionFailed):
        store.read("a", generation=second)


def test_a_write_replaces_one_generation_or_nothing(store: Store) -> None:
    first = store.write("a", b"1")
    second = store.write("a", b"2", generation=first)
    for late in (first, "another"):
        with pytest.raises(PreconditionFailed, match=f"is no longer generation {re.escape(late)};"):
            store.write("a", b"3", generation=late)
    assert store.read("a", generation=second) == b"2"
    store.remove("a")
    with pytest.raises(PreconditionFailed):
        store.write("a", b"3", generation=second)
    assert store.names() == []


def test_a_removal_takes_one_generation_or_nothing(store: Store) -> None:
    first = store.write("a", b"1")
    second = store.write("a", b"2")
    with pytest.raises(PreconditionFailed):
        store.remove("a", generation=first)
    assert store.read("a") == b"2"
    store.remove("a", generation=second)
    store.remove("a", generation=second)
    assert store.names() == []


def test_a_write_has_one_condition(store: Store) -> None:
    with pytest.raises(ValueError, match="not both"):
        store.write("a", b"1", expect="absent", generation="1")


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that another program still writes into the landing zone."""
    store, status = Store(str(tmp_path)), os.fstat
    generation = store.write("a", b"1")

    def late(descriptor: int) -> os.stat_result:
        with (tmp_path / "a").open("ab") as file:
            file.write(b"2")
        return status(descriptor)

    monkeypatch.setattr(os, "fstat", late)
    with pytest.raises(PreconditionFailed):
        store.read("a", generation=generation)


def test_the_lock_of_a_killed_writer_is_free_again(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    first = store.write("a", b"1")
    holder = subprocess.Popen(
        [sys.executable, "-c", LOCKED.format(str(tmp_path / ".lock"))], stdout=subprocess.PIPE, text=True
    )
    with holder, ThreadPoolExecutor(1) as pool:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        waiting = pool.submit(store.write, "a", b"2", generation=first)
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.2)
        holder.kill()
        waiting.result(timeout=10)
    assert (store.read("a"), store.names()) == (b"2", ["a"])


def test_a_folder_can_be_settled_whatever_is_in_it(store: Store) -> None:
    store.write("deep/er/a", b"1")
    for folder in ("deep/er", "deep"):
        store.settle(folder)
    assert store.names() == ["deep/er/a"]


def test_a_precondition_protects_what_is_there(store: Store) -> None:
    store.write("a", b"mine", expect="absent")
    with pytest.raises(PreconditionFailed, match="exists already; read it and decide again"):
        store.write("a", b"yours", expect="absent")
    assert store.read("a") == b"mine"


def test_of_two_racing_writers_exactly_one_wins(tmp_path: Path) -> None:
    """In a folder; a bucket decides by its generation, and the stand-in in memory has no lock."""
    store = Store(str(tmp_path))
    for turn in range(20):
        ready = Barrier(2)

        def write(who: bytes, name: str = f"{turn}", ready: Barrier = ready) -> bool:
            ready.wait()
            try:
                store.write(name, who, expect="absent")
            except PreconditionFailed:
                return False
            return True

        with ThreadPoolExecutor(2) as pool:
            won = list(pool.map(write, (b"first", b"second")))
        assert sorted(won) == [False, True]
        assert store.read(f"{turn}") == (b"first" if won[0] else b"second")


@pytest.mark.parametrize("name", ["../a", "a/../../b", "/etc/passwd", ".."])
def test_names_that_leave_the_folder_are_refused(store: Store, name: str) -> None:
    for use in (store.read, store.exists, store.remove, store.path, store.names, lambda name: store.write(name, b"")):
        with pytest.raises(ValueError, match="leaves its folder"):
            use(name)


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path))
    store.write("a", b"old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        store.write("a", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert store.read("a") == b"old"


def test_leftovers_of_a_killed_writer_are_invisible(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write("t/a", b"1")
    (tmp_path / "t" / ".tmp-0123").write_bytes(b"half")
    assert store.names() == ["t/a"]


def test_what_vanishes_while_we_look_is_left_out(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write("a", b"1")
    (tmp_path / "gone").symlink_to(tmp_path / "nothing")  # listed, and not there
    assert store.names() == ["a"]


def test_others_may_read_what_the_umask_allows(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        Store(str(tmp_path)).write("a", b"1")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o644


def bucket(answer: Callable[..., None]) -> Store:
    """A store at memory:// whose writes go through `answer` first."""
    store = Store(f"memory://{uuid4().hex}")

    class Shaky(type(store.backend._fs)):  # type: ignore[misc]
        cachable = False

        def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: object) -> None:
            answer(super().pipe_file, path, value, mode)

    shaky = Shaky()
    store.backend.__class__ = type("ShakyFolder", (RemoteFolder,), {"_fs": property(lambda self: shaky)})
    return store


def test_a_lost_answer_is_no_false_alarm() -> None:
    """The write went through, its answer was lost, the client tried again: 412, though the object is ours."""

    def twice(write: Callable[..., None], path: str, value: bytes, mode: str) -> None:
        write(path, value, mode=mode)
        write(path, value, mode=mode)

    store = bucket(twice)
    store.write("a", b"1", expect="absent")
    assert store.read("a") == b"1"


def test_an_unknown_outcome_is_read_back() -> None:
    def cut(write: Callable[..., None], path: str, value: bytes, mode: str) -> None:
        write(path, value, mode=mode)
        raise OSError("connection reset")

    store = bucket(cut)
    store.write("a", b"1")
    assert store.read("a") == b"1"


def test_a_write_that_did_not_happen_is_an_error() -> None:
    def refuse(*_: object) -> None:
        raise OSError("503")

    with pytest.raises(OSError, match="503"):
        bucket(refuse).write("a", b"1")
