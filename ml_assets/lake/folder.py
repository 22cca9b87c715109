"""Objects in a local folder, without fsspec: a lake has thousands of small files and fsspec doubles their cost."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from ml_assets.lake.objects import ABSENT, StoredObject, lost, safe

LOCK = ".lock"


class Folder:
    """A backend below the folder `root`. Hidden files and folders are not listed."""

    def __init__(self, root: str) -> None:
        """`root` need not exist; the first write makes it."""
        self._root = Path(root)
        self._text = str(self._root)

    def path(self, name: str) -> str:
        """Return the path."""
        return f"{self._text}/{safe(name)}"

    def read(self, name: str, generation: str | None) -> bytes:
        """Return the bytes. With `generation` also a file that changes while it is read is refused."""
        try:
            with open(self.path(name), "rb", buffering=0) as file:  # a third of the time of Path.read_bytes
                data = file.read()
                same = generation is None or generation == _generation(os.fstat(file.fileno()))
        except FileNotFoundError as error:
            if generation is None:
                raise
            raise lost(self.path(name), generation) from error
        if not same:
            raise lost(self.path(name), generation)
        return data

    def write(self, name: str, data: bytes, only: str | None) -> str:
        """Write a temporary file, make it durable, and rename it. Writers that replace one generation exclude each other."""
        target = self._local(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.parent / f".tmp-{uuid4().hex}"  # not mkstemp, which would leave it to its owner alone
        try:
            _write_durably(temporary, data)
            if only == ABSENT:
                return _link(temporary, target)
            if only is None:
                return _replace(temporary, target)
            with _locked(target.parent):
                if _generation_at(target) != only:
                    raise lost(str(target), only)
                return _replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)

    def stat(self, name: str) -> StoredObject | None:
        """Return the file without its bytes, or None."""
        path = self._local(name)
        return _object(self._root, path) if path.is_file() else None

    def remove(self, name: str, generation: str | None) -> None:
        """Remove the file."""
        path = self._local(name)
        if generation is None or not path.exists():
            return path.unlink(missing_ok=True)
        with _locked(path.parent):
            if _generation_at(path) not in (generation, None):
                raise lost(str(path), generation)
            return path.unlink(missing_ok=True)

    def objects(self, prefix: str, after: str) -> Iterator[StoredObject]:
        """Yield the files below a folder."""
        for folder, folders, files in os.walk(self._local(prefix)):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in files:
                path = Path(folder) / name
                if not name.startswith(".") and path.relative_to(self._root).as_posix() > after:
                    with contextlib.suppress(FileNotFoundError):  # renamed or removed while we looked
                        yield _object(self._root, path)

    def folders(self, prefix: str) -> Iterator[str]:
        """Yield the folders in a folder."""
        root = self._local(prefix)
        if root.is_dir():
            yield from (entry.name for entry in os.scandir(root) if entry.is_dir())

    def settle(self, folder: str) -> None:
        """Make the names in a folder, and its own in the ones above, survive a power failure."""
        for place in (folder, *(str(parent) for parent in Path(folder).parents)):
            _sync_folder(self._local("" if place == "." else place))

    def _local(self, name: str) -> Path:
        return self._root / safe(name) if name else self._root


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _link(temporary: Path, target: Path) -> str:
    try:
        os.link(temporary, target)
    except FileExistsError as error:
        raise lost(str(target), ABSENT) from error
    return _generation(temporary.stat())


def _replace(temporary: Path, target: Path) -> str:
    """Rename, later by at least one tick than what was there: the clock's ticks are long, and inodes come again."""
    with contextlib.suppress(FileNotFoundError):
        before, now = target.stat().st_mtime_ns, temporary.stat()
        if now.st_mtime_ns <= before:
            os.utime(temporary, ns=(now.st_atime_ns, before + 1))
    generation = _generation(temporary.stat())
    os.replace(temporary, target)
    return generation


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock against other threads and processes; a killed holder loses it."""
    with open(folder / LOCK, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _generation_at(path: Path) -> str | None:
    try:
        return _generation(path.stat())
    except FileNotFoundError:
        return None


def _generation(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns}-{status.st_size}-{status.st_ino}"


def _object(root: Path, path: Path) -> StoredObject:
    status = path.stat()
    return StoredObject(
        name=path.relative_to(root).as_posix(),
        size=status.st_size,
        generation=_generation(status),
        modified_at=datetime.fromtimestamp(status.st_mtime, UTC),
    )


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
