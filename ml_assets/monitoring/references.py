"""What a window is held against: the rows that the champion was trained on, the windows before, or the season a year ago.

All of them are profiles in the same cuts, those of the training rows, so that effects of one feature can be compared over
windows and references.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date, timedelta
from functools import cached_property
from typing import Any, Literal

import polars as pl

from ml_assets import keys
from ml_assets.evaluation.metrics import stored_columns, with_answers
from ml_assets.lake import Lake
from ml_assets.monitoring.profile_store import FOLDER, profiles_of
from ml_assets.monitoring.profiles import Cut, Cuts, Profile, cuts_id, cuts_of, merge, profile
from ml_assets.monitoring.tables import DaysOf, days_of, of_champion
from ml_assets.monitoring.windows import Window
from ml_assets.packaging.champion import Champion

ReferenceKind = Literal["training", "previous", "seasonal"]

FORMAT = 1
LABEL = "label"
SEASON, SLACK, YEARS = 364, 7, 3
"""A year is 364 days, so that weekdays meet; so many days around the season count as well; so many years back at most."""
VERSION = "model_version"


@dataclass(frozen=True)
class Reference:
    """A profile to hold a window against, in words what it is of, and its days (None: the training rows)."""

    profile: Profile
    told: str
    days: Sequence[str] | None = None

    @property
    def lacking(self) -> str:
        """Why nothing can be held against it, or nothing."""
        return "" if self.profile.rows else f"nothing to compare with: no rows in {self.told}"


@dataclass(frozen=True)
class Watched:
    """The predictions of the champion of a problem, as profiles in its cuts. `earlier` windows make a previous reference."""

    lake: Lake
    problem: str
    champion: Champion
    kind: ReferenceKind = "training"
    window_days: int = 7
    earlier: int = 4
    loaded: dict[tuple[str, bool], Profile] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def predictions(self) -> DaysOf:
        """The predictions by days, of all models."""
        return days_of(self.lake, keys.problem(self.problem, "predictions"))

    @cached_property
    def observations(self) -> DaysOf:
        """The observations by days."""
        return days_of(self.lake, keys.problem(self.problem, "observations"))

    @cached_property
    def answer(self) -> str:
        """The column of the answer that is judged: the score where there is one number, else what was decided."""
        return "score" if stored_columns(self.champion.bundle.task) == ["score"] else "prediction"

    @property
    def columns(self) -> list[str]:
        """The columns of the predictions that are judged."""
        return [*self.champion.bundle.features, self.answer]

    @cached_property
    def trained(self) -> tuple[Profile, Cuts]:
        """The profile of the rows that the champion was trained on, with their labels, and the cuts for everything else.

        The answer's part is of the test split: on rows that it was fitted to, a model is surer than it will ever be again.
        """
        name = f"{FOLDER}/{keys.problem(self.problem, 'training_set')}/{self._digest}/reference.json.gz"
        found = _stored(self.lake, name)
        if found is None:
            found = self._made()
            self.lake.store.write(name, _packed(*found))
        return found

    @cached_property
    def training(self) -> pl.DataFrame:
        """The rows that the champion was trained on."""
        return training_rows(self.lake, self.problem, self.champion)

    def current(self, window: Window) -> Profile:
        """Return the profile of what the champion was asked in a window; a column that some days lack is null there."""
        return self._together(window.days)

    def load(self, days: Sequence[str], *, anyone: bool = False) -> None:
        """Get the profiles of many days at once, which is quicker than window by window; `anyone`: of all models' rows."""
        lacking = [day for day in days if (day, anyone) not in self.loaded]
        columns = self.champion.bundle.features if anyone else self.columns
        where = None if anyone else (VERSION, self.champion.version)
        if lacking:
            cuts = self.trained[1]
            found = profiles_of(self.lake, self.predictions.name, lacking, cuts=cuts, columns=columns, where=where)
            self.loaded.update({(day, anyone): one for day, one in found.items()})

    def labels(self, rows: pl.DataFrame) -> Profile:
        """Return the profile of labels, in the cuts of the training set's."""
        return profile(rows, columns=[LABEL], cuts=self.trained[1])

    def reference(self, window: Window) -> Reference:
        """Return what the window is held against."""
        found = {"training": self._training, "previous": self._previous, "seasonal": self._seasonal}[self.kind](window)
        if self.kind == "training" or LABEL not in self.trained[0].columns:
            return found
        both = {**found.profile.columns, LABEL: self.trained[0].columns[LABEL]}
        return replace(found, profile=replace(found.profile, columns=both)) if found.profile.rows else found

    def reference_days(self, window: Window) -> Sequence[str]:
        """Return the days that the reference is made of; none for the training rows."""
        days = {"training": lambda _: [], "previous": self._previous_days, "seasonal": self._season_days}
        return days[self.kind](window)

    def rows(self, days: Sequence[str]) -> pl.DataFrame:
        """Return the rows that the champion answered on the days."""
        return of_champion(self.predictions.read(days), self.champion)

    def _training(self, window: Window) -> Reference:
        return Reference(self.trained[0], f"the rows that version {self.champion.version} was trained on")

    def _previous(self, window: Window) -> Reference:
        days = self.reference_days(window)
        found = self._together(days)
        return Reference(found, f"the {self.earlier} windows before", days)

    def _seasonal(self, window: Window) -> Reference:
        days = self.reference_days(window)
        found = self._together(days, anyone=True)
        return Reference(found, f"the same season of earlier years, {SLACK} days more on either side", days)

    def _previous_days(self, window: Window) -> list[str]:
        return self._known(keys.before(window.first, self.window_days * self.earlier), keys.before(window.first, 1))

    def _season_days(self, window: Window) -> list[str]:
        return sorted(day for years in range(1, YEARS + 1) for day in self._season(window, SEASON * years))

    def _season(self, window: Window, back: int) -> list[str]:
        first, last = (date.fromisoformat(day) - timedelta(days=back) for day in (window.first, window.last))
        return self._known(keys.day(first - timedelta(days=SLACK)), keys.day(last + timedelta(days=SLACK)))

    def _known(self, first: str, last: str) -> list[str]:
        return [day for day in self.predictions.days if first <= day <= last]

    def _together(self, days: Sequence[str], *, anyone: bool = False) -> Profile:
        self.load(days, anyone=anyone)
        own = [self.loaded[day, anyone] for day in days if (day, anyone) in self.loaded]
        return filled(merge(own)) if own else Profile(0, {}, cuts_id(self.trained[1]))

    @property
    def _digest(self) -> str:
        told = [FORMAT, pl.__version__, self.champion.data_hash, self.champion.version, self.columns]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]

    def _made(self) -> tuple[Profile, Cuts]:
        rows = self.training
        supervised = self.champion.bundle.task.supervised and LABEL in rows.columns
        columns = [*self.champion.bundle.features, *([LABEL] if supervised else [])]
        answers = self._answers()
        cuts = {**cuts_of(rows, columns), **cuts_of(answers, [self.answer])}
        parts = [
            profile(frame, columns=names, cuts=cuts) for frame, names in ((rows, columns), (answers, [self.answer]))
        ]
        return replace(parts[0], columns={**parts[0].columns, **parts[1].columns}), cuts

    def _answers(self) -> pl.DataFrame:
        """The champion's answers on the test split; no column where there is no such row."""
        tested = _split(self.lake, self.problem, self.champion, "test")
        bundle = self.champion.bundle
        if tested.is_empty():
            return pl.DataFrame()
        return with_answers(tested, bundle.predict(tested), bundle.task, bundle.threshold).select(self.answer)


def training_rows(lake: Lake, problem: str, champion: Champion) -> pl.DataFrame:
    """Return the rows of the train split that the champion was fitted on, also when newer training sets came since."""
    return _split(lake, problem, champion, "train")


def filled(found: Profile) -> Profile:
    """Return a merged profile in which rows of partitions that lack a column are nulls of it: half a column is a fault."""
    columns = {
        name: replace(one, rows=found.rows, nulls=one.nulls + found.rows - one.rows)
        for name, one in found.columns.items()
    }
    return replace(found, columns=columns)


def _split(lake: Lake, problem: str, champion: Champion, split: str) -> pl.DataFrame:
    frame = lake.scan_version(keys.problem(problem, "training_set"), champion.data_hash)
    return frame.filter(pl.col("split") == split).collect()


def _packed(found: Profile, cuts: Cuts) -> bytes:
    told = {"profile": found.to_dict(), "cuts": {name: asdict(cut) for name, cut in cuts.items()}}
    return gzip.compress(json.dumps(told, allow_nan=False).encode(), mtime=0)


def _stored(lake: Lake, name: str) -> tuple[Profile, Cuts] | None:
    """Read what `_packed` made; None where it is not there or damaged."""
    try:
        raw = json.loads(gzip.decompress(lake.store.read(name)))
        cuts = {column: _cut(one) for column, one in raw["cuts"].items()}
        return Profile.from_dict(raw["profile"]), cuts
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _cut(raw: dict[str, Any]) -> Cut:
    return Cut(raw["kind"], tuple(float(edge) for edge in raw["edges"]), tuple(raw["categories"]))
