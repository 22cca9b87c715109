"""The data sets of the quality bench: they come with the dependencies or lie in data/sample, so nothing is downloaded.

Each is a Polars frame of features and a column `label`, and each is cut in the same way whoever asks: the same seed, the
same rows. The numbers, texts and nulls are the source's own; what was left out or derived is said in `about`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from polars import selectors

Kind = Literal["binary", "multiclass", "regression"]

SAMPLE = Path(__file__).parents[1] / "data" / "sample"
SEED = 20130704
PARTS = 5
"""Shuffled rows are cut into so many parts: one is the test split, one the validation split, the others are trained on."""
LABEL, SPLIT, TIME, KNOWN = "label", "split", "event_timestamp", "label_timestamp"
NOT_FEATURES = (LABEL, SPLIT, TIME, KNOWN)
METRICS: dict[Kind, str] = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse"}
FLIGHTS = 20_000
LATE = 15  # minutes


class DatasetError(ValueError):
    """A data set was asked for that does not exist, or one of its folds that does not."""


@dataclass(frozen=True)
class Dataset:
    """One problem: how its frame is made, and into how many train/test splits it is cut.

    The label is 0 or 1 (binary), a text (multi-class) or a number. With `by_time` the frame has a column
    `event_timestamp`, in whose order it is cut once. Its label is known `label_delay` later (`label_timestamp`); a row
    is left out when the next split has begun by then. Otherwise fold 0 … `folds` - 1 have test splits without a common row.
    """

    name: str
    kind: Kind
    about: str
    source: str
    load: Callable[[], pl.DataFrame]
    folds: int = 1
    by_time: bool = False
    label_delay: timedelta = timedelta()

    @property
    def metric(self) -> str:
        """Return the name of the metric that this kind of problem is measured by."""
        return METRICS[self.kind]


@dataclass(frozen=True)
class Cut:
    """One split of a data set: `development` has a column `split` (train or validation), `test` has none."""

    development: pl.DataFrame
    test: pl.DataFrame

    @property
    def features(self) -> list[str]:
        """Return the columns that a model may see."""
        return [name for name in self.test.columns if name not in NOT_FEATURES]

    @property
    def classes(self) -> list[str]:
        """Return the classes of a text label in order; none for a number."""
        label = self.development[LABEL]
        return sorted(label.unique()) if label.dtype == pl.String else []


def cut(dataset: Dataset, *, fold: int = 0, frame: pl.DataFrame | None = None) -> Cut:
    """Return a split: 60 % train, 20 % validation, 20 % test, the same rows at every call.

    Rows with a time are in its order, and the test rows are the last. Rows without are shuffled, classes stratified.
    `frame` spares loading it again. Raises `DatasetError` for a fold that does not exist.
    """
    if not 0 <= fold < dataset.folds:
        raise DatasetError(f"{dataset.name} has no fold {fold}: give 0 to {dataset.folds - 1}")
    rows = checked(dataset, dataset.load() if frame is None else frame)
    part = _in_time(rows) if dataset.by_time else _shuffled(dataset, rows, fold)
    labelled = _known_in_time(rows.with_columns(part.alias(SPLIT)), dataset)
    return Cut(labelled.filter(pl.col(SPLIT) != "test"), labelled.filter(pl.col(SPLIT) == "test").drop(SPLIT))


def checked(dataset: Dataset, frame: pl.DataFrame) -> pl.DataFrame:
    """Return the frame in plain types: Int64, Float64, Boolean and String; `DatasetError` when the label is not whole."""
    if frame[LABEL].null_count():
        raise DatasetError(f"{dataset.name}: {frame[LABEL].null_count()} labels are null; leave those rows out")
    plain = frame.with_columns(selectors.integer().cast(pl.Int64), selectors.float().cast(pl.Float64).fill_nan(None))
    if not dataset.by_time:
        return plain
    return plain.sort(TIME, maintain_order=True).with_columns((pl.col(TIME) + dataset.label_delay).alias(KNOWN))


def _in_time(rows: pl.DataFrame) -> pl.Series:
    """Return each row's split by its place in time."""
    place = np.arange(rows.height) * PARTS // rows.height
    return pl.Series(np.where(place == PARTS - 1, "test", np.where(place == PARTS - 2, "validation", "train")))


def _known_in_time(rows: pl.DataFrame, dataset: Dataset) -> pl.DataFrame:
    """Return the rows without those whose label was not known when the next split began."""
    if not dataset.by_time:
        return rows
    begins = {name: rows.filter(pl.col(SPLIT) == name)[TIME].min() for name in ("validation", "test")}
    known, split = pl.col(KNOWN), pl.col(SPLIT)
    late = (split == "train") & (known > begins["validation"]) | (split == "validation") & (known > begins["test"])
    return rows.filter(~late)


def _shuffled(dataset: Dataset, rows: pl.DataFrame, fold: int) -> pl.Series:
    """Return each row's split: the fold's part is the test split, the next part the validation split."""
    part = np.empty(rows.height, dtype=np.int64)
    for number, held in enumerate(_held_out(dataset, rows)):
        part[held] = number
    is_test, is_validation = part == fold, part == (fold + 1) % PARTS
    return pl.Series(np.where(is_test, "test", np.where(is_validation, "validation", "train")))


def _held_out(dataset: Dataset, rows: pl.DataFrame) -> Iterator[np.ndarray]:
    """Yield the row numbers of each part."""
    from sklearn.model_selection import KFold, StratifiedKFold

    cutter = (KFold if dataset.kind == "regression" else StratifiedKFold)(PARTS, shuffle=True, random_state=SEED)
    label = rows[LABEL].to_numpy()
    return (held for _, held in cutter.split(label, label))


def dataset(name: str) -> Dataset:
    """Return the data set of this name; `DatasetError` lists the known ones."""
    for known in DATASETS:
        if known.name == name:
            return known
    raise DatasetError(f"no data set {name!r}; use one of: {', '.join(known.name for known in DATASETS)}")


def _inside(package: str, *path: str) -> Path:
    """Return a file that comes with an installed package, which is not imported."""
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise DatasetError(f"{package} is not installed; run `make setup`")
    return Path(found.submodule_search_locations[0], *path)


def _statsmodels(*path: str, **options: Any) -> pl.DataFrame:
    return pl.read_csv(_inside("statsmodels", "datasets", *path), infer_schema_length=None, **options)


def _scikit_learn(loader: str, **options: Any) -> pl.DataFrame:
    """Return a data set of scikit-learn: numbers, and the target as it comes."""
    from sklearn import datasets

    loaded = getattr(datasets, loader)(**options)
    names = [str(name).replace(" ", "_") for name in loaded.feature_names]
    return pl.DataFrame(loaded.data, schema=names).with_columns(pl.Series(LABEL, loaded.target))


def _named(frame: pl.DataFrame, classes: Sequence[str]) -> pl.DataFrame:
    """Return the frame with its label's codes as the names of classes."""
    return frame.with_columns(pl.col(LABEL).replace_strict(list(range(len(classes))), list(classes)))


def _iris() -> pl.DataFrame:
    return _named(_scikit_learn("load_iris"), ["setosa", "versicolor", "virginica"])


def _wine() -> pl.DataFrame:
    return _named(_scikit_learn("load_wine"), ["first", "second", "third"])


def _digits() -> pl.DataFrame:
    return _named(_scikit_learn("load_digits"), [str(digit) for digit in range(10)])


def _diabetes() -> pl.DataFrame:
    return _scikit_learn("load_diabetes", scaled=False)


def _affair() -> pl.DataFrame:
    frame = _statsmodels("fair", "fair.csv")
    return frame.select(pl.exclude("affairs"), (pl.col("affairs") > 0).cast(pl.Int64).alias(LABEL))


def _election() -> pl.DataFrame:
    return _statsmodels("anes96", "anes96.csv", separator="\t", quote_char="'")


def _vote() -> pl.DataFrame:
    return _election().rename({"vote": LABEL})


def _party() -> pl.DataFrame:
    names = ["democrat", "democrat", "independent", "independent", "independent", "republican", "republican"]
    return _election().select(
        pl.exclude("PID", "vote"), pl.col("PID").replace_strict(list(range(7)), names).alias(LABEL)
    )


def _travel_mode() -> pl.DataFrame:
    """Return one row per traveller: what each of the four modes would take and cost, and which one was chosen.

    Waiting times are left out: they are round numbers for the modes that were not chosen.
    """
    modes = {1: "air", 2: "train", 3: "bus", 4: "car"}
    frame = _statsmodels("modechoice", "modechoice.csv", separator=";").with_columns(
        pl.col("mode").replace_strict(modes)
    )
    offers = frame.pivot("mode", index=["individual", "hinc", "psize"], values=["invc", "invt"])
    chosen = frame.filter(pl.col("choice") == 1).select("individual", pl.col("mode").alias(LABEL))
    return offers.join(chosen, on="individual", maintain_order="left").drop("individual")


def _maths() -> pl.DataFrame:
    products = selectors.matches("^PER.*_|^AVY.*_|^PTR.*_")
    share = (pl.col("PR50M") / pl.col("MATHTOT")).alias(LABEL)
    return _statsmodels("star98", "star98.csv").select(pl.exclude("MATHTOT", "PR50M"), share).drop(products)


def _visits() -> pl.DataFrame:
    """Return one row per person of the health insurance experiment: the first year."""
    kept = ["plan", "site", "coins", "tookphys", "black", "income", "xage", "female", "educdec", "time", "num", "mhi"]
    kept += ["disea", "physlm", "ghindx", "mdeoff", "pioff", "child", "lfam"]
    groups = pl.col("plan", "site").cast(pl.String)
    frame = _statsmodels("randhie", "src", "randhie.csv").filter(pl.col("year") == 1)
    return frame.select(*kept, pl.col("mdvis").alias(LABEL)).with_columns(groups)


def _life() -> pl.DataFrame:
    frame = pl.read_csv(_inside("plotly", "package_data", "datasets", "gapminder.csv.gz"), infer_schema_length=None)
    return frame.select("country", "continent", "year", "pop", "gdpPercap", pl.col("lifeExp").alias(LABEL))


def _fertility() -> pl.DataFrame:
    """Return countries and every second year: the rate then and two years before, and the one two years later."""
    years = [str(year) for year in range(1960, 2012)]
    long = _statsmodels("fertility", "fertility.csv").unpivot(
        years, index="Country Name", variable_name="year", value_name="rate"
    )
    long = long.select(pl.col("Country Name").alias("country"), pl.col("year").cast(pl.Int64), "rate")
    past = long.select("country", pl.col("year") + 2, pl.col("rate").alias("rate_2_years_before"))
    later = long.select("country", pl.col("year") - 2, pl.col("rate").alias(LABEL))
    keys = ["country", "year"]
    joined = long.join(past, on=keys, maintain_order="left").join(later, on=keys, maintain_order="left")
    known = joined.drop_nulls(LABEL).filter(pl.col("year") % 2 == 0)
    return known.with_columns(pl.datetime(pl.col("year"), 1, 1, time_zone="UTC").alias(TIME))


def _flights() -> pl.DataFrame:
    """Return a sample of the year's flights with what is known before departure, and the delay at arrival in minutes."""
    flights = pl.read_parquet(SAMPLE / "flights.parquet").filter(pl.col("arr_delay").is_not_null())
    sample = flights.sample(FLIGHTS, seed=SEED, shuffle=True).sort("time_hour", "carrier", "flight", "origin")
    planes = pl.read_parquet(SAMPLE / "planes.parquet").select("tailnum", "manufacturer", "seats", built="year")
    wanted = ["temp", "dewp", "wind_dir", "wind_speed", "precip", "pressure", "visib"]
    weather = (
        pl.read_parquet(SAMPLE / "weather.parquet")
        .select("origin", "time_hour", *wanted)
        .unique(["origin", "time_hour"], keep="first", maintain_order=True)
    )
    joined = sample.join(planes, on="tailnum", how="left", maintain_order="left").join(
        weather, on=["origin", "time_hour"], how="left", maintain_order="left"
    )
    day = pl.col("time_hour").dt.convert_time_zone("America/New_York").dt.weekday().alias("weekday")
    known = ["carrier", "origin", "dest", "hour", "distance", "manufacturer", "seats", "built", *wanted]
    return joined.select(pl.col("time_hour").alias(TIME), day, *known, pl.col("arr_delay").alias(LABEL))


def _late() -> pl.DataFrame:
    return _flights().with_columns((pl.col(LABEL) > LATE).cast(pl.Int64))


def _tomorrow() -> pl.DataFrame:
    """Return every third hour's weather at the three airports, and the temperature there a day later."""
    weather = pl.read_parquet(SAMPLE / "weather.parquet").unique(
        ["origin", "time_hour"], keep="first", maintain_order=True
    )
    later = weather.select("origin", pl.col("time_hour").dt.offset_by("-24h"), pl.col("temp").alias(LABEL))
    joined = weather.join(later, on=["origin", "time_hour"], maintain_order="left").drop_nulls(LABEL)
    told = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]
    every_third = joined.filter(pl.col("hour") % 3 == 0).sort("time_hour", "origin")
    return every_third.select(pl.col("time_hour").alias(TIME), "origin", "hour", *told, LABEL)


def _planes() -> pl.DataFrame:
    planes = pl.read_parquet(SAMPLE / "planes.parquet").filter(pl.col("year") > 0)
    return planes.select(
        "type", "manufacturer", "model", "engines", "seats", "speed", "engine", pl.col("year").alias(LABEL)
    )


DATASETS: tuple[Dataset, ...] = (
    Dataset(
        "breast_cancer",
        "binary",
        "malignant or benign, from 30 measures of cell nuclei",
        "scikit-learn",
        lambda: _scikit_learn("load_breast_cancer"),
        folds=3,
    ),
    Dataset("affair", "binary", "any extramarital affair, from a survey", "statsmodels fair", _affair),
    Dataset("vote", "binary", "Clinton or Dole, from a survey of voters", "statsmodels anes96", _vote, folds=3),
    Dataset(
        "flight_late",
        "binary",
        "more than 15 minutes late; what is known before departure",
        "data/sample",
        _late,
        by_time=True,
        label_delay=timedelta(days=1),
    ),
    Dataset("iris", "multiclass", "three species", "scikit-learn", _iris, folds=3),
    Dataset("wine", "multiclass", "three growers, from 13 measures", "scikit-learn", _wine, folds=3),
    Dataset("digits", "multiclass", "ten digits, from 64 grey values", "scikit-learn", _digits, folds=3),
    Dataset(
        "travel_mode",
        "multiclass",
        "air, train, bus or car; one row per traveller, without the waiting times, which give the answer away",
        "statsmodels modechoice",
        _travel_mode,
        folds=3,
    ),
    Dataset(
        "party",
        "multiclass",
        "democrat, independent or republican, without the vote",
        "statsmodels anes96",
        _party,
        folds=3,
    ),
    Dataset("diabetes", "regression", "progression after a year", "scikit-learn", _diabetes, folds=3),
    Dataset(
        "maths",
        "regression",
        "share of pupils above the median, by district; without the products",
        "statsmodels star98",
        _maths,
        folds=3,
    ),
    Dataset(
        "life_expectancy",
        "regression",
        "by country (142) and year, with income and population",
        "plotly gapminder",
        _life,
        folds=3,
    ),
    Dataset(
        "doctor_visits",
        "regression",
        "visits in a year, skewed: one row per person, the first year; with nulls",
        "statsmodels randhie",
        _visits,
    ),
    Dataset(
        "plane_built",
        "regression",
        "year of manufacture, from maker, model (121) and engines; with nulls",
        "data/sample",
        _planes,
        folds=3,
    ),
    Dataset(
        "flight_delay",
        "regression",
        "delay at arrival in minutes, skewed; what is known before departure",
        "data/sample",
        _flights,
        by_time=True,
        label_delay=timedelta(days=1),
    ),
    Dataset(
        "temperature",
        "regression",
        "temperature in °F a day later, from today's weather; with nulls",
        "data/sample",
        _tomorrow,
        by_time=True,
        label_delay=timedelta(days=1),
    ),
    Dataset(
        "fertility",
        "regression",
        "births per woman two years later, by country (209); drifting",
        "statsmodels fertility",
        _fertility,
        by_time=True,
        label_delay=timedelta(days=731),
    ),
)
