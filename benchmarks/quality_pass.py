"""A suite of 60 expectations: our one lazy Polars pass against Great Expectations itself, on pandas."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from benchmarks.runner import Arm, Bench, Comparison, Options, timed
from ml_assets.quality import Expectation, Suite, evaluate

ROWS, SMALL_ROWS, SEED = 500_000, 2_000, 20131231
NUMBERS, WHOLES, TEXTS, MOMENTS = 8, 4, 6, 2  # columns: 20
WORDS = ["EWR", "JFK", "LGA", "N14228"]
TARGET = 1 / 20
START = datetime(2013, 1, 1, tzinfo=UTC)
NOTES = """Both arms get the data in memory, as their own kind of frame, and the same suite; ours returns a verdict, Great Expectations the
result of a batch's `validate` (format SUMMARY, its default). Its context, its import and the conversion to pandas are not timed.
Equal means: for each expectation the same success, and the same number of unexpected values where there is one. A target
of 0.05 says 20 times as fast."""

Judgement = tuple[str, bool, int | None]  # type and column of an expectation, success, unexpected values


@contextmanager
def bench(options: Options) -> Iterator[Bench]:
    """Make the frame and the suite, open Great Expectations, and yield the bench."""
    frame, wanted = table(SMALL_ROWS if options.small else ROWS), suite()
    yield Bench(
        name="quality_pass",
        title=f"{len(wanted)} expectations on {frame.height:,} rows × {frame.width} columns",
        target=TARGET,
        ours=Arm("one Polars pass", timed(lambda: ours(frame, wanted))),
        theirs=Arm("Great Expectations on pandas", timed(great_expectations(frame, wanted))),
        compare=same_judgements,
        rounds=3 if options.small else 7,
        notes=NOTES,
    )


def table(rows: int) -> pl.DataFrame:
    """Return seeded columns of numbers, whole numbers, texts and times; most have nulls, the first text is a unique key."""
    import numpy as np

    random = np.random.default_rng(SEED)
    nulls = [pl.Series(random.random(rows) < share) for share in (0.0, 0.01, 0.1)]
    columns = {
        **{f"number_{at}": pl.Series(random.normal(at, 2, rows).round(3)) for at in range(NUMBERS)},
        **{f"whole_{at}": pl.Series(random.integers(0, 100 * (at + 1), rows)) for at in range(WHOLES)},
        **{f"text_{at}": pl.Series(random.choice(WORDS, rows)) for at in range(TEXTS)},
        **{f"moment_{at}": _moments(random.integers(0, 365 * 24 * 3600, rows)) for at in range(MOMENTS)},
    }
    frame = pl.DataFrame(columns).with_columns(
        pl.when(~nulls[number % 3]).then(pl.col(name)).alias(name) for number, name in enumerate(columns)
    )
    return frame.with_columns(pl.Series("text_0", [f"F{number:07d}" for number in random.permutation(rows)]))


def _moments(seconds: Any) -> pl.Series:
    return pl.Series(seconds * 1_000_000).cast(pl.Datetime("us", "UTC"))


def suite() -> Suite:
    """Return 60 expectations of 12 types, of which some fail."""
    numbers, wholes = [f"number_{at}" for at in range(NUMBERS)], [f"whole_{at}" for at in range(WHOLES)]
    texts, moments = [f"text_{at}" for at in range(TEXTS)], [f"moment_{at}" for at in range(MOMENTS)]
    last = (START + timedelta(days=300)).isoformat()
    found = [
        _about("expect_table_row_count_to_be_between", min_value=1),
        _about("expect_table_columns_to_match_set", column_set=[*numbers, *wholes], exact_match=False),
        *(_about("expect_column_values_to_not_be_null", name, mostly=0.95) for name in [*numbers, *wholes, *texts]),
        *(_about("expect_column_values_to_be_between", name, min_value=-6, max_value=12) for name in numbers),
        *(_about("expect_column_values_to_be_between", name, min_value=0, max_value=250) for name in wholes),
        *(_about("expect_column_values_to_be_between", name, max_value=last, mostly=0.8) for name in moments),
        *(_about("expect_column_values_to_be_in_set", name, value_set=WORDS[:3]) for name in texts[1:]),
        *(_about("expect_column_value_lengths_to_be_between", name, max_value=6) for name in texts[:3]),
        *(_about("expect_column_values_to_match_regex", name, regex="^[A-Z]{3}$") for name in texts[1:3]),
        _about("expect_column_values_to_be_unique", "text_0"),
        _about("expect_column_values_to_be_unique", "whole_3"),
        *(_about("expect_column_mean_to_be_between", name, min_value=0, max_value=5) for name in numbers[:5]),
        *(_about("expect_column_max_to_be_between", name, max_value=15) for name in numbers[:4]),
        *(_about("expect_column_min_to_be_between", name, min_value=0) for name in wholes[:3]),
        *(_about("expect_column_unique_value_count_to_be_between", name, max_value=4) for name in texts[3:5]),
    ]
    return Suite("sixty", tuple(found))


def _about(type_: str, column: str = "", **kwargs: Any) -> Expectation:
    return Expectation(type_, {**({"column": column} if column else {}), **kwargs})


def ours(frame: pl.DataFrame, wanted: Suite) -> list[Judgement]:
    """Return our verdict's judgements."""
    results = evaluate(frame.lazy(), wanted)[""].results
    return [(_named(one.expectation), one.success, one.unexpected_count) for one in results]


def great_expectations(frame: pl.DataFrame, wanted: Suite) -> Callable[[], list[Judgement]]:
    """Open Great Expectations with the frame as pandas has it, and return what validates the suite with it."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own deprecations, and those of the libraries it imports
        import great_expectations as gx

        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False}  # type: ignore[assignment]
        asset = context.data_sources.add_pandas("frames").add_dataframe_asset("frame")
        batch = asset.add_batch_definition_whole_dataframe("whole").get_batch({"dataframe": frame.to_pandas()})
        real = wanted.to_great_expectations()

    def validate() -> list[Judgement]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results = batch.validate(real).results
        configured = [(one, one.expectation_config) for one in results]
        found = {_key(config.to_json_dict()): one for one, config in configured if config}
        return [_theirs(one, found) for one in wanted]

    return validate


def _theirs(expectation: Expectation, found: dict[str, Any]) -> Judgement:
    one = found[_key(expectation.to_dict())]
    return _named(expectation), bool(one.success), one.result.get("unexpected_count")


def _key(raw: Mapping[str, Any]) -> str:
    """Return what tells an expectation in this suite from the others: its type and its column."""
    return f"{raw['type']} {raw['kwargs'].get('column', '')}"


def _named(expectation: Expectation) -> str:
    return _key(expectation.to_dict())


def same_judgements(found: Sequence[Judgement], other: Sequence[Judgement]) -> Comparison:
    """Compare success and counts of unexpected values, expectation by expectation."""
    pairs = list(zip(found, other, strict=True))
    wrong = [f"{one} and {two}" for one, two in pairs if not _same(one, two)]
    if wrong:
        return Comparison(False, f"{len(wrong)} of {len(pairs)} judgements differ: {'; '.join(wrong[:5])}")
    failed = sum(not one[1] for one in found)
    counted = sum(one[2] is not None for one in found)
    return Comparison(True, f"{len(found)} verdicts are equal ({failed} failed), {counted} of them with equal counts")


def _same(one: Judgement, two: Judgement) -> bool:
    return one[:2] == two[:2] and (one[2] is None or one[2] == two[2])
