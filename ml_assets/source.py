"""The Source component: the contract of one table from outside. From it come reading, checks, quarantine and cleaning."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import dagster as dg
from pydantic import Field

from ml_assets.resources.literal import Text, Texts, text
from ml_assets.resources.outside import Api, Database
from ml_assets.resources.scaffolder import ExampleScaffolder

Scalar = str | int | float | bool


def _written(_: dg.ResolutionContext, values: Sequence[Scalar] | None) -> list[Scalar] | None:
    """Return values as the YAML has them: Dagster's templates would make a number of the text "-999", and None of "None"."""
    return None if values is None else list(values)


def _words(_: dg.ResolutionContext, values: Sequence[Scalar]) -> list[str]:
    """Return words as text; YAML makes a number of -999, which is its own text, but a truth of yes, which is not."""
    truths = [value for value in values if isinstance(value, bool)]
    if truths:
        raise ValueError(f"YAML reads a word as {truths[0]}; put words such as 'yes' and 'true' in quotes")
    return [str(value) for value in values]


# Values that are taken as they are written, not as templates.
Words = Annotated[Sequence[str], dg.Resolver(_words, model_field_type=Sequence[Scalar], inject_before_resolve=False)]
Categories = Annotated[
    Sequence[Scalar] | None,
    dg.Resolver(_written, model_field_type=Sequence[Scalar] | None, inject_before_resolve=False),
]
ColumnType = Literal["Int64", "Float64", "String", "Boolean", "Date", "Datetime"]
# Fields that the contract takes over under the same name.
READING = (
    *("name", "pattern", "key", "null_values", "separator", "day_columns", "days", "format"),
    *("encoding", "quote", "decimal", "thousands", "true_values", "false_values"),
)


class Column(dg.Model, dg.Resolvable):
    """One column of the contract. A file that breaks it goes to quarantine whole."""

    name: Text = Field(description="as the file names it")
    type: ColumnType = Field(description="of its values; a Datetime is in UTC")
    nullable: bool | float = Field(default=True, description="true, false, or the share of nulls that is acceptable")
    minimum: float | None = Field(default=None, description="lowest value that there may be")
    maximum: float | None = Field(default=None, description="highest value that there may be")
    categories: Categories = Field(default=None, description="all values that there may be")
    format: str | None = Field(
        default=None, description="how text writes days or times, as in strftime: %d.%m.%Y; default: ISO 8601"
    )
    future: bool = Field(default=True, description="whether days and times may lie after the moment of collecting")
    unit: str = Field(default="", description="of the values, such as EUR or min")
    description: str = Field(default="", description="what the column says, for people")
    personal: bool = Field(default=False, description="personal data")

    @property
    def allowed(self) -> tuple[Scalar, ...]:
        """Return the categories in the column's type: in YAML, 1 is a number, and a text column may hold its digits."""
        found = self.categories or ()
        return tuple(map(str, found)) if self.type == "String" else tuple(found)


def _columns(context: dg.ResolutionContext, given: Sequence[Any]) -> list[Column]:
    """Return the columns as written: there may be a thousand, and for each Dagster would look its resolvers up and compile templates."""
    return [
        Column(**{field: getattr(one, field) for field in one.model_fields_set} | {"name": text(context, one.name)})
        for one in given
    ]


Columns = Annotated[Sequence[Column], dg.Resolver(_columns, model_field_type=Sequence[Column.model()])]  # type: ignore[misc]


Policy = Literal["refuse", "quarantine", "accept"]
POLICY = "refuse: the run fails and the file waits; quarantine: the file goes there whole; accept: "


class SchemaChanges(dg.Model, dg.Resolvable):
    """What becomes of a file whose columns are not the declared ones. What is accepted is told in a warning."""

    new_column: Policy = Field(default="quarantine", description=f"{POLICY}it is left out")
    missing_column: Policy = Field(
        default="quarantine",
        description=f"{POLICY}it is null, where nullable is true; else the file goes to quarantine",
    )
    widened_type: Policy = Field(
        default="quarantine",
        description=f"{POLICY}text is taken where every value is of the declared type; else the file goes to quarantine",
    )


class Cleaning(dg.Model, dg.Resolvable):
    """How the raw table becomes the clean one."""

    derive: str | None = Field(default=None, description="dotted path of a function over Polars lazy frames")
    uses: Sequence[str] = Field(
        default=(), description="unpartitioned tables that `derive` takes besides, e.g. raw/airports"
    )
    plausible: Mapping[str, Sequence[float]] = Field(
        default={}, description="column: [lowest, highest]; outside becomes null"
    )
    key: Sequence[str] | None = Field(default=None, description="default: the source's key")
    expectations: Sequence[Mapping[str, Any]] = Field(default=(), description="Great Expectations: {type, kwargs}")


@dg.scaffold_with(ExampleScaffolder)
class Source(dg.Component, dg.Model, dg.Resolvable):
    """The contract of one table from outside.

    ```yaml
    type: ml_assets.Source
    attributes:
      name: weather
      description: Hourly weather at the three airports of New York.
      owners: [team:operations]
      pattern: weather/weather-{day}*.csv.gz
      days: 2013-01-01/2013-12-31
      key: [origin, time_hour]
      columns:
        - {name: origin, type: String, nullable: false, categories: [EWR, JFK, LGA]}
        - {name: time_hour, type: Datetime, nullable: false}
        - {name: temp, type: Float64, unit: °F}
      clean:
        plausible: {temp: [-40, 130]}
    ```

    With `database` or `api` its rows are pulled from there into the landing zone; a pattern such as weather/weather-{day}*
    takes files of all formats.

    Gives the asset `raw/<name>`, and `clean/<name>` when `clean` is declared, each with a blocking check, and
    `profiles/raw/<name>`.
    """

    name: str = Field(description="in lower case; the tables are raw/<name> and clean/<name>")
    pattern: str = Field(description="file name in the landing zone, with {day} for daily files and * as a wildcard")
    columns: Columns = Field(description="all columns of the file")
    description: str = Field(default="", description="what one row is, for people")
    owners: Sequence[str] = Field(default=(), description="e-mail addresses, or teams as team:name")
    database: Database | None = Field(default=None, description="the table that is pulled; default: files only")
    api: Api | None = Field(default=None, description="the API that is pulled; default: files only")
    days: str | None = Field(
        default=None, description="first and last day, 2013-01-01/2013-12-31, when files are daily"
    )
    key: Texts = Field(default=(), description="columns that name one row")
    day_columns: Sequence[str] = Field(
        default=(), description="year, month and day columns that must agree with the file"
    )
    format: Literal["csv", "parquet", "jsonl"] | None = Field(
        default=None, description="default: as the pattern ends, .csv, .parquet, .jsonl or .ndjson, else csv"
    )
    encoding: str = Field(default="utf-8", description="of text: utf-8, latin-1, cp1252, utf-16 …")
    separator: str = Field(default=",", description="one character between the fields of a CSV")
    quote: str = Field(default='"', description="one character around fields of a CSV, or empty when it has none")
    decimal: Literal[".", ","] = Field(default=".", description="the mark before decimals in a CSV")
    thousands: Literal["", ",", ".", " ", "'"] = Field(
        default="", description="the mark between groups of three digits in a CSV"
    )
    null_values: Words = Field(default=("", "NA"), description="what stands for no value in a CSV")
    true_values: Words = Field(
        default=("true", "1", "yes", "t", "y"), description="words for true in a CSV, in any case"
    )
    false_values: Words = Field(
        default=("false", "0", "no", "f", "n"), description="words for false in a CSV, in any case"
    )
    schema_changes: SchemaChanges = Field(
        default=SchemaChanges(), description="what becomes of a file with new or missing columns, or other types"
    )
    clock: Literal["replay", "system"] = Field(
        default="replay", description="whose time: the replay's while there is one, or the system's"
    )
    fresh_within_hours: float = Field(default=36, description="raw data older than this is stale")
    clean: Cleaning | None = Field(default=None, description="how clean/<name> is made; without it there is none")

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Return the raw asset, its profiles, and the clean one."""
        from ml_assets.collection.assets import raw_asset
        from ml_assets.monitoring.profile_assets import source_profiles
        from ml_assets.preparation.assets import clean_asset

        self.check()
        assets = [raw_asset(self), source_profiles(self)]
        if self.clean:
            assets.append(clean_asset(self, self.clean))
        return dg.Definitions(assets=assets)

    def check(self) -> None:
        """Raise `ValueError` for a declaration that contradicts itself."""
        for problem in self.problems():
            raise ValueError(f"source {self.name}: {problem}")

    def problems(self) -> Iterator[str]:
        """Yield each contradiction of the declaration; the first word of a message is the field that it is about."""
        yield from self._name()
        yield from self._columns()
        yield from self._pattern()
        yield from self._limits()
        yield from self._dialect()
        yield from self._forms()
        yield from self._pulled()

    @property
    def pulled(self) -> Database | Api | None:
        """Return what the source is pulled from; None when it takes files only, as declared or as the environment says."""
        found = self.database or self.api
        return None if found is None or found.off else found

    def _pulled(self) -> Iterator[str]:
        """Yield what is wrong with what the source is pulled from."""
        if self.database and self.api:
            yield "api: there is a database as well; declare one of them"
        types = {column.name: column.type for column in self.columns}
        for field, found in {"database": self.database, "api": self.api}.items():
            if found is None:
                continue
            for problem in found.problems(types, partitioned=self.days is not None, days_known=bool(self.day_columns)):
                yield f"{field}.{problem}"
            if found.cursor and not self.key:
                yield f"{field}.cursor needs a key, by which new rows replace old ones; declare the source's key"
            if self.pattern.find("*") != len(self.pattern) - 1 or self.format:
                day = "-{day}" if self.days else ""
                yield f"pattern {self.pattern!r}: end it in *, such as {self.name}/{self.name}{day}*, and declare no format"

    def _name(self) -> Iterator[str]:
        """Yield what is wrong with the name, which is part of file, asset and SQL names."""
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            yield f"name {self.name!r} is not a name; use lower-case letters, digits and underscores"

    def _columns(self) -> Iterator[str]:
        """Yield what is wrong with the columns and their uses."""
        types = {column.name: column.type for column in self.columns}
        names = [column.name for column in self.columns]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            yield f"columns {twice} are declared twice; keep one of each"
        cleaning = self.clean or Cleaning()
        plausible = list(cleaning.plausible)
        uses = {"key": self.key, "day_columns": self.day_columns, "clean.key": cleaning.key or ()}
        for field, used in (uses | {"clean.plausible": plausible}).items():
            unknown = [name for name in used if name not in names]
            if unknown:
                yield f"{field} names {unknown}, which are not among columns {names}; correct the names"
        if [types.get(name) for name in self.day_columns] not in ([], ["Int64"] * 3):
            yield f"day_columns {list(self.day_columns)}: name three Int64 columns, year, month and day, or none"

    def _pattern(self) -> Iterator[str]:
        """Yield what is wrong with the pattern."""
        if self.pattern.count("{day}") > 1 or "/" not in self.pattern:
            yield f"pattern {self.pattern!r}: write a folder that no other source uses, and {{day}} at most once"
        if ("{day}" in self.pattern) != (self.days is not None):
            yield f"pattern {self.pattern!r}, days {self.days!r}: {{day}} needs days, and days need {{day}}"

    def _limits(self) -> Iterator[str]:
        """Yield what is wrong with lowest and highest values."""
        for name, limits in (self.clean or Cleaning()).plausible.items():
            if len(limits) != 2 or limits[0] > limits[1]:
                yield f"clean.plausible {name}: {list(limits)} is no range; write [lowest, highest]"
        for column in self.columns:
            if not column.future and column.type not in ("Date", "Datetime"):
                yield f"column {column.name}: future is for Date and Datetime; remove it"
            if column.minimum is not None and column.maximum is not None and column.minimum > column.maximum:
                yield f"column {column.name}: minimum {column.minimum:g} is above maximum {column.maximum:g}; swap them"

    def _dialect(self) -> Iterator[str]:
        """Yield what is wrong with how files are written."""
        marks = {"separator": self.separator, "quote": self.quote}
        for field, mark in marks.items():
            if len(mark.encode()) > 1 or mark in ("\r", "\n"):
                yield f"{field} {mark!r}: write one plain character"
        if not self.separator or self.separator == self.quote:
            yield f"separator {self.separator!r}, quote {self.quote!r}: write one character that is not the quote"
        if self.decimal == self.thousands:
            yield f"decimal and thousands are both {self.decimal!r}; choose two marks, or leave thousands out"
        both = {word.lower() for word in self.true_values} & {word.lower() for word in self.false_values}
        if both:
            yield f"true_values and false_values share {sorted(both)}; keep each word in one of them"
        if not _is_encoding(self.encoding):
            yield f"encoding {self.encoding!r} is not known; write one of Python's, such as utf-8, cp1252 or utf-16"

    def _forms(self) -> Iterator[str]:
        """Yield what is wrong with how columns write days and times."""
        forms = [(column, column.format) for column in self.columns if column.format is not None]
        if not forms:
            return  # every process loads the definitions, and few of them need Polars for it
        from ml_assets.collection.values import form_problem

        for column, form in forms:
            if column.type not in ("Date", "Datetime"):
                yield f"column {column.name}: format {form!r} is for Date and Datetime; remove it"
            elif problem := form_problem(form, column.type):
                yield f"column {column.name}: format {form!r}: {problem}"

    def contract(self) -> Any:
        """Return the plain `SourceContract` that readers work with."""
        from ml_assets.collection import contract as plain
        from ml_assets.quality.contract import ColumnContract

        columns = [
            ColumnContract(
                name=column.name,
                dtype=column.type,
                nullable=column.nullable,
                minimum=column.minimum,
                maximum=column.maximum,
                categories=column.allowed,
                unit=column.unit,
                description=column.description,
                personal=column.personal,
                sparse=column.nullable is True,
            )
            for column in self.columns
        ]
        forms = {column.name: column.format for column in self.columns if column.format}
        past = [column.name for column in self.columns if not column.future]
        same = {name: getattr(self, name) for name in READING}
        changes = plain.SchemaChanges(**self.schema_changes.model_dump())
        return plain.SourceContract(columns=columns, forms=forms, past=past, schema_changes=changes, **same)


def _is_encoding(name: str) -> bool:
    """Tell whether Python knows the encoding, and it holds plain text."""
    try:
        return "a,1\n".encode(name).decode(name) == "a,1\n"
    except (LookupError, UnicodeError, ValueError):
        return False
