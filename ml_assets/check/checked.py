"""All declarations of a repository, checked at once: nothing is run and nothing is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ml_assets import keys
from ml_assets.check.documents import files, read
from ml_assets.check.fault import Fault, distinct
from ml_assets.check.problems import problem_faults
from ml_assets.check.repository import agreement, declared_repo
from ml_assets.check.shape import Declared, declared
from ml_assets.check.sources import shared_folders, source_faults
from ml_assets.check.tables import Tables, attempt
from ml_assets.check.views import view_faults
from ml_assets.features.compiled import CompiledRepo
from ml_assets.features.retrieval import CONFIG, current_repo
from ml_assets.quality.errors import nearest
from ml_assets.resources.environment import setting
from ml_assets.resources.partitions import daily

LAYERS = (keys.RAW, keys.CLEAN, keys.FEATURES, keys.FEATURE_STORE)
THINGS = {"Source": "source", "FeatureViews": "bundle of feature views", "MlProblem": "problem"}


@dataclass(frozen=True)
class Checked:
    """What was checked and what is wrong: `looked_at` counts what was declared, in words; `left_out` says what was not checked."""

    faults: Sequence[Fault]
    looked_at: Sequence[str]
    left_out: str = ""

    def text(self) -> str:
        """Return it to print: one line for each fault, and a last line with their number, or with what is well."""
        about = ", ".join(self.looked_at) or "no declarations"
        if not self.faults:
            return f"No fault: {about}."
        count, places = len(self.faults), len({fault.file for fault in self.faults})
        last = f"{_counted(count, 'fault')} in {_counted(places, 'file')}; checked: {about}."
        return "\n\n".join([*map(str, self.faults), " ".join(filter(None, [last, self.left_out]))])


def check(root: Path, name: str | None = None) -> Checked:
    """Check every declaration below `ml_assets/defs` of the repository at `root`, or those that `name` needs.

    `name` is that of a problem, source or view. A `ValueError` when nothing has that name.
    """
    documents, faults = _read(root)
    declarations = []
    for document in documents:
        found, wrong = declared(document)
        declarations.append(found)
        faults += wrong
    if name is not None:
        wanted = needed(declarations, name)
        elsewhere = {item.document.file for item in declarations if item not in wanted}
        faults = [fault for fault in faults if fault.file not in elsewhere or _within(fault, wanted)]
    return _checked(root, declarations, declarations if name is None else wanted, faults)


def faults(root: Path) -> list[Fault]:
    """Return what is wrong with the declarations below `ml_assets/defs` of the repository at `root`, by file and line."""
    return list(check(root).faults)


def _read(root: Path) -> tuple[list, list[Fault]]:
    documents, faults = [], []
    for path in files(root / "ml_assets" / "defs"):
        found, wrong = read(path, root=root)
        documents += found
        faults += wrong
    return documents, faults


def _checked(root: Path, declarations: list[Declared], wanted: list[Declared], faults: list[Fault]) -> Checked:
    tables, repo_path = Tables.of(declarations), Path(setting("ML_ASSETS_FEATURE_REPO", root))
    there = (repo_path / CONFIG).is_file()
    repo = current_repo(repo_path) if there else None
    faults = [*faults, *_across(declarations, wanted), *_each(wanted, tables, repo)]
    left_out = ""
    if there and repo is None and _asks_feast(wanted):
        if faults:
            left_out = "Feast's declarations were not compared; that is done when all else is well."
        else:
            repo_or_reason = declared_repo(repo_path)
            if isinstance(repo_or_reason, str):
                faults = [_broken_repo(root, repo_path, repo_or_reason)]
            else:
                faults = list(_each(wanted, tables, repo_or_reason))
    return Checked(distinct(faults), looked_at(wanted), left_out)


def _asks_feast(wanted: Sequence[Declared]) -> bool:
    return any(item.type == "FeatureViews" or (item.type == "MlProblem" and item.component) for item in wanted)


def _broken_repo(root: Path, repo: Path, reason: str) -> Fault:
    name = repo.relative_to(root).as_posix() if repo.is_relative_to(root) else str(repo)
    return Fault(name, 1, 1, "", f"Feast cannot apply the repository: {reason}", "correct its definitions")


def _each(wanted: Sequence[Declared], tables: Tables, repo: CompiledRepo | None) -> Iterator[Fault]:
    """Yield the faults of each component by itself and of what it names."""
    for found in wanted:
        if found.component is None:
            continue
        if found.type == "Source":
            yield from source_faults(found, tables)
        if found.type == "FeatureViews":
            yield from view_faults(found, tables)
            yield from agreement(found, tables, repo) if repo is not None else ()
        if found.type == "MlProblem":
            yield from problem_faults(found, tables, repo)


# -- across components -------------------------------------------------------------------------------------------------


def _across(declarations: Sequence[Declared], wanted: Sequence[Declared]) -> list[Fault]:
    """Return what no component can know by itself: names and folders that are taken."""
    found = [
        *_names(declarations),
        *_intervals(declarations),
        *shared_folders([item for item in declarations if item.type == "Source" and item.component]),
    ]
    return [fault for fault in found if _within(fault, wanted)]


def _names(declarations: Sequence[Declared]) -> Iterator[Fault]:
    first: dict[tuple[str, str], Declared] = {}
    for found in declarations:
        for kind, name, path in _own_names(found):
            if (kind, name) in first:
                owner = first[kind, name].document
                where = f"{owner.file}:{owner.place(('attributes', *path))[0]}"
                yield from found.fault(path, f"another {kind} is called {name!r}, in {where}", "give it another name")
            if kind == "problem" and name in LAYERS:
                yield from found.fault(path, f"{name!r} is the name of a layer of tables", "give it another name")
            first.setdefault((kind, name), found)


def _intervals(declarations: Sequence[Declared]) -> Iterator[Fault]:
    """Yield other days than the first declared: Dagster runs a job only over assets whose partitions are the same."""
    having = [found for found in declarations if found.component and getattr(found.component, "days", None)]
    dated = [found for found in having if not isinstance(attempt(partial(daily, found.component.days)), str)]
    for found in dated[1:]:
        days, first = found.component.days, dated[0]
        if days != first.component.days:
            problem = f"days {days!r} are not those of {first.name or first.document.file}, {first.component.days!r}"
            yield from found.fault(
                ("days",), problem, "write the same days everywhere: the named jobs run over all of them"
            )


def _own_names(found: Declared) -> Iterator[tuple[str, str, tuple[str | int, ...]]]:
    """Yield kind, name and the place of the name, of what a document declares."""
    if found.type in ("Source", "MlProblem") and found.name:
        yield THINGS[found.type], found.name, ("name",)
    views = found.document.get(("attributes", "views")) if found.type == "FeatureViews" else None
    for number, view in enumerate(views if isinstance(views, list) else ()):
        if isinstance(view, dict) and isinstance(view.get("name"), str):
            yield "view", view["name"], ("views", number, "name")


def needed(declarations: Sequence[Declared], name: str) -> list[Declared]:
    """Return the declarations of that name and those that they are made from; `ValueError` when there is none."""
    owners = {own: item for item in declarations for _, own, _ in _own_names(item)}
    if name not in owners:
        raise ValueError(
            f"nothing declared is called {name!r}{nearest(name, owners) or '; there are: ' + ', '.join(owners)}"
        )
    wanted, waiting = [], [item for item in declarations if any(own == name for _, own, _ in _own_names(item))]
    while waiting:
        item = waiting.pop()
        if item not in wanted:
            wanted.append(item)
            waiting += [owners[source] for source in _made_from(item) if source in owners]
    return [item for item in declarations if item in wanted]


def _made_from(found: Declared) -> Iterator[str]:
    """Yield the names of sources and views that a component reads."""
    component = found.component
    if component is None:
        return
    tables: list[str] = []
    if found.type == "MlProblem":
        tables = component.observations.tables
        yield from component.features.views if component.features else ()
    if found.type == "FeatureViews":
        tables = [table for view in component.views for table in (view.source, *view.uses)]
    if found.type == "Source" and component.clean:
        tables = list(component.clean.uses)
    yield from (table.rpartition("/")[2] for table in tables)


def _within(fault: Fault, wanted: Sequence[Declared]) -> bool:
    """Tell whether a fault lies in one of the documents."""
    return any(
        item.document.file == fault.file and item.document.spot.start[0] <= fault.line <= item.document.spot.end[0]
        for item in wanted
    )


def looked_at(wanted: Sequence[Declared]) -> list[str]:
    """Return in words how many components of each kind there are: "5 sources", "7 feature views", "1 problem"."""
    counts = Counter(item.type for item in wanted)
    views = sum(1 for item in wanted if item.type == "FeatureViews" for _ in _own_names(item))
    others = sum(count for kind, count in counts.items() if kind not in THINGS)
    told = [
        (counts["Source"], "source"),
        (views, "feature view"),
        (counts["MlProblem"], "problem"),
        (others, "other declaration"),
    ]
    return [_counted(count, what) for count, what in told if count]


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"
