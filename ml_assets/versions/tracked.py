"""What DVC tracks: the lake's top folders and each problem's models, as DVC's users know it, by its own library."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

REMOTE = "default"
OWN = ".dvc"  # ends the names of DVC's own files, which lie beside what they track


class TrackedError(ValueError):
    """DVC cannot track something: it is not below the repository, or DVC says no."""


def folders(root: Path, lake: str, models: str) -> list[Path]:
    """Return what is to be tracked, relative to `root`: whatever lies directly in the lake and in the folder of models.

    Raises `TrackedError` for a lake that is no folder below `root`: DVC tracks files of a workspace.
    """
    found = []
    for place in (lake, models):
        folder = Path(place)
        if "://" in place or not folder.is_relative_to(root):
            raise TrackedError(
                f"{place} is no folder below {root}, so DVC cannot track it; the lake itself keeps what models need"
            )
        found += [path.relative_to(root) for path in _content(folder)]
    if not found:
        raise TrackedError(f"nothing is in {lake} and {models} yet; run job ingest")
    return found


def _content(folder: Path) -> Iterable[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.suffix != OWN)


def track(root: Path, paths: Iterable[Path]) -> dict[str, str]:
    """Bring the `.dvc` files of `paths` up to date, and DVC's cache; return DVC's hash (MD5, `….dir` of a folder) by path.

    The workspace is only read: DVC does not put links to its cache in the place of files, because somebody may be writing
    there. `TrackedError` when DVC refuses, or a file went while it was read.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    wanted = [str(root / path) for path in paths]
    try:
        with Repo(str(root)) as repo:
            stages = repo.add(wanted, relink=False)
            outs = [out for stage in stages for out in stage.outs]
            return {Path(out.fs_path).relative_to(root).as_posix(): str(out.hash_info.value) for out in outs}
    except (DvcException, FileNotFoundError) as error:
        raise TrackedError(f"DVC: {error}; if something is being written, run it again") from error


def use_remote(root: Path, url: str) -> None:
    """Let DVC's default remote be at `url`, in the part of its configuration that is not committed."""
    from dvc.repo import Repo

    with Repo(str(root)) as repo, repo.config.edit("local") as config:
        config["remote"][REMOTE] = {"url": url}


def as_tags(hashes: Mapping[str, str]) -> dict[str, str]:
    """Return the hashes as tags of a registered model: `dvc.data.lake.raw` and so on."""
    return {f"dvc.{path.replace('/', '.')}": digest for path, digest in hashes.items()}


def needed(root: Path) -> set[Path]:
    """Return the files that the `.dvc` files name: those of the workspace, and of each commit that git has.

    What a commit names and this cache lacks cannot be listed; DVC has to fetch it first.
    """
    if not (root / ".dvc").is_dir():
        return set()
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    found: set[Path] = set()
    with Repo(str(root)) as repo:
        for _ in repo.brancher(workspace=True, all_commits=True):
            for out in repo.index.outs:
                try:
                    found |= _files(root, out)
                except (DvcException, FileNotFoundError):
                    continue  # not in this cache
    return found


def _files(root: Path, out: object) -> set[Path]:
    tree, relative = out.get_obj(), Path(*out.index_key[1])  # type: ignore[attr-defined]
    if tree is None:
        return set()
    names = [key for key, _, _ in tree] if hasattr(tree, "hash_info") and out.is_dir_checksum else [()]  # type: ignore[attr-defined]
    return {root / relative.joinpath(*key) for key in names}
