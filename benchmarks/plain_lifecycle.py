"""The whole lifecycle of `flight_delay` as a plain script: what the assets do, without Dagster.

    python -m benchmarks.plain_lifecycle 2013-01-01 2013-12-31

It calls the functions that the assets call, in the order of the graph, and makes the same lake tables, ledger, models,
MLflow runs, plots and reports, from the files in `data/landing` at the time in `data/replay_clock`. What a script can
keep in memory (the training set, the candidates' results) it does not read again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from ml_assets import keys
from ml_assets.lake import Lake, Store
from ml_assets.resources.clock import Clock
from ml_assets.resources.code import code_version, load, rooms_version

EXAMPLES = 5  # rows in a bundle, as the asset has them
DECLARATIONS = "ml_assets/defs/flights"
SEED = 2013  # the components' default


class RedError(ValueError):
    """A blocking check failed; the script ends where Dagster would stop the run."""


@dataclass(frozen=True)
class Places:
    """Where everything lies below a project's folder, and the replay's now."""

    root: Path

    @property
    def data(self) -> Path:
        """Return the folder of all that is generated."""
        return self.root / "data"

    @property
    def feature_repo(self) -> Path:
        """Return the Feast repository."""
        return self.root / "feature_repo"

    @cached_property
    def lake(self) -> Lake:
        """Return the lake."""
        return Lake(str(self.data / "lake"))

    @cached_property
    def landing(self) -> Any:
        """Return landing zone, ledger and quarantine."""
        from ml_assets.collection.collect import Landing
        from ml_assets.collection.ledger import Ledger

        landing, quarantine = (Store(str(self.data / name)) for name in ("landing", "quarantine"))
        return Landing(landing, self.lake, Ledger(self.lake.url), quarantine)

    @cached_property
    def tracking(self) -> Any:
        """Return MLflow."""
        from ml_assets.development.tracking import Tracking

        return Tracking(f"sqlite:///{self.data / 'mlflow.db'}", str(self.data / "mlartifacts"))

    @cached_property
    def now(self) -> datetime:
        """Return the replay's time."""
        return Clock(self.data / "replay_clock").now()


@dataclass(frozen=True)
class Declared:
    """What `defs/flights` declares, as YAML has it."""

    sources: Sequence[Mapping[str, Any]]
    views: Sequence[Mapping[str, Any]]
    time_zone: str
    problem: Mapping[str, Any]

    @classmethod
    def read(cls, root: Path) -> Declared:
        """Read the three files."""
        folder = root / DECLARATIONS
        (views,) = _documents(folder / "feature_views" / "defs.yaml")
        (problem,) = _documents(folder / "delay" / "defs.yaml")
        return cls(_documents(folder / "sources" / "defs.yaml"), views["views"], views["time_zone"], problem)

    @property
    def name(self) -> str:
        """Return the problem's name."""
        return str(self.problem["name"])

    def table(self, part: str) -> str:
        """Return a table of the problem."""
        return keys.problem(self.name, part)

    @property
    def view_tables(self) -> list[str]:
        """Return the tables of the feature views."""
        return [keys.feature_view(view) for view in self.problem["features"]["views"]]

    @property
    def key(self) -> Sequence[str]:
        """Return the columns that name an observation."""
        return list(self.problem["observations"]["key"])

    @property
    def task(self) -> Any:
        """Return the problem's task."""
        from ml_assets.tasks import task

        return task(self.problem["task"]["kind"])

    @property
    def metric(self) -> Any:
        """Return the metric that the problem calls success."""
        return self.task.metric(self.problem["success"]["metric"])

    @property
    def candidates(self) -> list[str]:
        """Return the names of the candidates, the ensemble last: it is made of the others."""
        from ml_assets.development.lifecycle import ENSEMBLE, default_candidates

        wanted = self.problem.get("candidates") or sorted(default_candidates(self.task))
        return sorted(wanted, key=lambda name: name == ENSEMBLE)

    def plan(self, columns: Sequence[str]) -> Any:
        """Return how the models are developed."""
        from ml_assets.development.lifecycle import Plan
        from ml_assets.development.search import Budget

        return Plan(
            task=self.task,
            metric=self.metric,
            features=tuple(self.features(columns)),
            seed=self.problem.get("seed", SEED),
            budget=Budget(**self.problem.get("search", {})),
            value={name: worth for name, worth in self.problem["value"].items() if name != "currency"},
        )

    def features(self, columns: Sequence[str]) -> list[str]:
        """Return the columns that a model may see."""
        from ml_assets.preparation.observations import model_features

        return model_features(columns, not_features=[*self.key, *self.problem["features"]["ignore"]])


@dataclass
class Script:
    """The script: places, declaration, the days to make, and the seconds that each part took."""

    places: Places
    declared: Declared
    days: Sequence[str]
    seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def below(cls, root: Path, days: Sequence[str]) -> Script:
        """Return the script for the project at `root`."""
        return cls(Places(root), Declared.read(root), days)

    def run(self) -> None:
        """Run the whole lifecycle."""
        self.ingest()
        training_set = self.make_training_set()
        challenge = self.train(training_set)
        self.evaluate(challenge)
        self.promote(challenge)
        self.score()
        self.monitor()

    def ingest(self) -> None:
        """Make raw, clean and feature tables, and the observations, of the days."""
        for source in self.declared.sources:
            with self.part(keys.raw(source["name"])):
                collect_source(self, source)
        for source in self.declared.sources:
            if "clean" in source:
                with self.part(keys.clean(source["name"])):
                    clean_source(self, source)
        for view in self.declared.views:
            with self.part(keys.feature_view(view["name"])):
                make_view(self, view)
            with self.part(keys.online(view["name"])):
                bring_online(self, view)
        with self.part(self.declared.table("observations")):
            make_observations(self)

    def make_training_set(self) -> pl.DataFrame:
        """Join the labelled observations with their features."""
        with self.part(self.declared.table("training_set")):
            return make_training_set(self)

    def train(self, training_set: pl.DataFrame) -> Challenge:
        """Train the candidates and select the challenger."""
        challenge = Challenge.of(self, training_set)
        for kind in self.declared.candidates:
            with self.part(keys.candidate(self.declared.name, kind)):
                train_one(self, challenge, kind)
        with self.part(self.declared.table("challenger")):
            make_challenger(self, challenge)
        return challenge

    def evaluate(self, challenge: Challenge) -> None:
        """Examine the challenger on the test split; its gates must pass."""
        with self.part(self.declared.table("evaluation_report")):
            evaluate(self, challenge)

    def promote(self, challenge: Challenge) -> None:
        """Bundle the challenger, and let it take office when it is better."""
        with self.part(self.declared.table("bundle")):
            bundle(self, challenge)
        with self.part(self.declared.table("champion")):
            take_office(self, challenge)

    def score(self) -> None:
        """Score every observation of the days."""
        with self.part(self.declared.table("predictions")):
            score_days(self)

    def monitor(self) -> None:
        """Report drift and realised performance."""
        with self.part(self.declared.table("drift_report")):
            watch_drift(self)
        with self.part(self.declared.table("performance_report")):
            watch_performance(self)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Note how long a part takes."""
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started


@dataclass
class Challenge:
    """What is made from one training set, kept in memory from the candidates to the champion."""

    experiment: Any
    frame: pl.DataFrame
    plan: Any
    rows: Any
    results: list[Any] = field(default_factory=list)
    winner: Any = None
    reason: str = ""
    mlflow_run: str = ""
    report: Any = None
    bundle: Any = None

    @classmethod
    def of(cls, script: Script, frame: pl.DataFrame) -> Challenge:
        """Begin with a training set that lies in the lake."""
        from ml_assets.development.experiment import Experiment

        manifest = script.places.lake.manifest(script.declared.table("training_set"))
        assert manifest is not None
        experiment = Experiment(script.places.data / "models", script.declared.name, manifest.version)
        plan = script.declared.plan(frame.columns)
        return cls(experiment, frame, plan, plan.rows(frame))

    @property
    def model_version(self) -> str:
        """Name the challenger and its data."""
        return f"{self.winner.result.name}@{self.experiment.data_hash[:8]}"


def collect_source(script: Script, source: Mapping[str, Any]) -> None:
    """Take new files from the landing zone into the raw table."""
    from ml_assets.collection.collect import collect

    places = script.places
    collect(contract_of(source), places.landing, now=places.now, partitions=days_of(script, source))


def clean_source(script: Script, source: Mapping[str, Any]) -> None:
    """Repair the raw table."""
    from ml_assets.preparation.cleaning import Repairs, clean
    from ml_assets.preparation.writing import PARTITION, write_checked
    from ml_assets.quality import Expectation, suite_for

    lake, declared = script.places.lake, source["clean"]
    raw, table, days = keys.raw(source["name"]), keys.clean(source["name"]), days_of(script, source)
    repairs = Repairs(
        key=declared.get("key", source.get("key", ())),
        plausible={column: (low, high) for column, (low, high) in declared.get("plausible", {}).items()},
        derive=load(declared["derive"]),
    )
    uses = {keys.sql_name(used): lake.scan(used) for used in declared.get("uses", ())}
    cleaned = clean(lake.scan(raw, days, partition_column=PARTITION), repairs, uses=uses)
    written = write_checked(
        lake,
        table,
        cleaned.frame,
        suite_for(table, (), extra=[Expectation.from_dict(item) for item in declared["expectations"]]),
        now=script.places.now,
        partitions=days,
        inputs={raw: lake.version(raw, days)},
        code_version=code_version(declared["derive"], "ml_assets.preparation.cleaning.clean"),
    )
    require_green(table, written)


def make_view(script: Script, view: Mapping[str, Any]) -> None:
    """Compute one feature view, hold it against Feast's declaration, and describe it."""
    from ml_assets.features.retrieval import applied_repo, apply
    from ml_assets.features.views import compute_view, declaration_verdict, freshness, view_suite
    from ml_assets.preparation.writing import write_checked

    apply(script.places.feature_repo)
    repo = applied_repo(script.places.feature_repo)
    lake, table = script.places.lake, keys.feature_view(view["name"])
    days = script.days if view.get("partitioned", True) else None
    reach = range(view.get("lookback_days", 0) + 1)
    sources = days and sorted({keys.before(day, back) for day in days for back in reach})
    tables = {read: lake.scan(read, sources) for read in (view["source"], *view.get("uses", ()))}
    frame = compute_view(computing(view, tables), tables[view["source"]], time_zone=script.declared.time_zone)
    declaration = declaration_verdict(view["name"], frame, repo.views.get(view["name"]), entity=view["entity"])
    written = write_checked(
        lake,
        table,
        frame,
        view_suite(table, view["entity"], view.get("expectations", ())),
        now=script.places.now,
        partitions=days,
        inputs={read: lake.version(read, sources) for read in tables},
        code_version=code_version(view["compute"]),
        besides=[declaration],
    )
    require_green(table, written)
    if hours := view.get("fresh_within_hours"):
        freshness(lake, table, now=script.places.now, within_hours=hours)
    describe(script, view, repo, frame, tables)


def computing(view: Mapping[str, Any], tables: Mapping[str, pl.LazyFrame]) -> Callable[..., Any]:
    """Return the view's function of its source alone, with the tables that it uses."""
    return partial(load(view["compute"]), **{keys.sql_name(used): tables[used] for used in view.get("uses", ())})


def describe(
    script: Script, view: Mapping[str, Any], repo: Any, frame: pl.DataFrame, tables: Mapping[str, pl.LazyFrame]
) -> None:
    """Write a page on the view: statistics, distributions, and what it is computed from."""
    from ml_assets.features import catalog
    from ml_assets.preparation.writing import PARTITION

    own = frame.filter(pl.col(PARTITION).is_in(list(script.days))) if view.get("partitioned", True) else frame
    features = catalog.features_of(own, view["entity"])
    pages = catalog.page(repo, view["name"], own, features)
    for read in tables:

        def compute(noting: pl.LazyFrame, read: str = read) -> Any:
            given = {name: table.clear() for name, table in tables.items()} | {read: noting}
            return computing(view, given)(given[view["source"]])

        lineage = catalog.lineage(compute, tables[read], features, view["entity"])
        pages[f"lineage in {read}"] = catalog.lineage_table(repo, view["name"], read, lineage)
    folder = script.places.data / "reports" / "features"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{view['name']}.md").write_text("\n\n".join(pages.values()))


def bring_online(script: Script, view: Mapping[str, Any]) -> None:
    """Bring one view online, and compare it with the offline join."""
    from ml_assets.features.online.materialize import materialize
    from ml_assets.features.online.parity import parity
    from ml_assets.features.online.place import OnlineSide

    places, days = script.places, script.days if view.get("partitioned", True) else None
    side = OnlineSide.open(places.feature_repo, lake_url=places.lake.url)
    source = side.source(view["name"])
    materialize(source, side.backend, now=places.now, partitions=days)
    found = parity(source, side.backend, now=places.now)
    side.backend.tell(view["name"], found.reason())
    if not found.green:
        raise RedError(found.reason())


def make_observations(script: Script) -> None:
    """Ask the declared query what is predicted, as of when."""
    from ml_assets.preparation.observations import observe, suite
    from ml_assets.preparation.writing import write_checked

    lake, days, table = script.places.lake, script.days, script.declared.table("observations")
    query = script.declared.problem["observations"]["query"]
    sources = [keys.clean(name) for name in re.findall(r"(?:FROM|JOIN) clean_(\w+)", query)]
    written = write_checked(
        lake,
        table,
        observe(lake, query, sources, days),
        suite(table, key=script.declared.key),
        now=script.places.now,
        partitions=days,
        inputs={source: lake.version(source, days) for source in sources},
    )
    require_green(table, written)


def labelled_rows(script: Script) -> Any:
    """Return the observations with a known outcome, each in its split."""
    from ml_assets.features.training import training_rows
    from ml_assets.preparation.splits import SplitPlan

    observed = script.places.lake.scan(script.declared.table("observations"))
    return training_rows(observed, SplitPlan(**script.declared.problem["split"]), as_known_at=script.places.now)


def make_training_set(script: Script) -> pl.DataFrame:
    """Join, check and write the training set."""
    from ml_assets.features.retrieval import apply, historical_features
    from ml_assets.features.training import refuse_empty_splits, training_suite
    from ml_assets.preparation.writing import write_checked

    places, declared, table = script.places, script.declared, script.declared.table("training_set")
    rows = labelled_rows(script)
    apply(places.feature_repo)
    frame = historical_features(
        places.feature_repo,
        declared.problem["features"]["service"],
        rows.labelled,
        as_known_at=places.now,
        lake_url=places.lake.url,
    )
    refuse_empty_splits(frame)
    written = write_checked(
        places.lake,
        table,
        frame,
        training_suite(table, frame.schema, key=declared.key),
        now=places.now,
        inputs={name: places.lake.version(name) for name in (declared.table("observations"), *declared.view_tables)},
    )
    require_green(table, written)
    return frame


def train_one(script: Script, challenge: Challenge, kind: str) -> None:
    """Search and train one candidate, and record it in MLflow."""
    experiment = challenge.experiment
    result = challenge.plan.train(
        kind,
        challenge.rows,
        experiment.folder(f"candidates/{kind}"),
        others=challenge.results,
        warm=experiment.warm(kind),
    )
    run_id = recorded(script, challenge, result)
    experiment.write(f"candidates/{kind}", result.to_dict() | {"mlflow_run_id": run_id})
    if result.trials:
        experiment.remember(kind, result.variant)
    challenge.results.append(result)


def recorded(script: Script, challenge: Challenge, result: Any, **tags: str) -> str:
    """Record a result in MLflow, and return its run."""
    known = {"data_hash": challenge.experiment.data_hash, "code_version": code_of_models(), **tags}
    tracking, metric = script.places.tracking, script.declared.metric.name
    return str(tracking.log_candidate(script.declared.name, result, tags=known, metric=metric))


def make_challenger(script: Script, challenge: Challenge) -> None:
    """Select the best candidate, and fit it again on train and validation."""
    plan, experiment = challenge.plan, challenge.experiment
    selection = plan.select(challenge.results, challenge.rows)
    made = plan.challenger(selection.winner, challenge.results, challenge.rows, experiment.folder("challenger"))
    challenge.winner, challenge.reason = made, selection.reason
    challenge.mlflow_run = recorded(script, challenge, made.result, role="challenger")
    told = {"reason": selection.reason, "mlflow_run_id": challenge.mlflow_run}
    experiment.write("challenger", made.to_dict() | told)


def evaluate(script: Script, challenge: Challenge) -> None:
    """Examine the challenger on the test split: report, explanation, page, gates."""
    from ml_assets.evaluation.challenge import examine, judge, left_out
    from ml_assets.evaluation.explanation import explain
    from ml_assets.evaluation.gates import Limits, PromotionPolicy
    from ml_assets.evaluation.page import write_page
    from ml_assets.evaluation.shown import short

    places, declared, success = script.places, script.declared, script.declared.problem["success"]
    observed = places.lake.scan(declared.table("observations"))
    found = examine(
        subject_of(script, challenge),
        challenge.frame,
        made_at=places.now,
        slices=success["slices"],
        unlabelled=left_out(observed, challenge.frame, as_known_at=places.now),
    )
    limits = Limits(at_least=success["at_least"], beats_baseline_by=success["beats_baseline_by"])
    verdicts = judge(found, challenge.frame, limits=limits, policy=PromotionPolicy(), key=declared.key)
    explained = explain(found, challenge.frame, key=declared.key)
    told = {"report": found.report.to_json(), "threshold": found.report.threshold, **explained.told()}
    challenge.experiment.write("evaluation_report", told)
    folder, said = places.data / "reports" / declared.name, {"question": declared.problem["question"]}
    write_page(folder / "evaluation_report.html", found, explained, verdicts, declaration=said, limits=limits)
    (folder / "evaluation_report.md").write_text(short(found, explained, limits))
    if red := [gate.reason for gate in verdicts if not gate.passed]:
        raise RedError(f"the challenger does not pass: {'; '.join(red)}")
    challenge.report = found.report


def subject_of(script: Script, challenge: Challenge) -> Any:
    """Return what is examined: the challenger beside the candidates and the champion in office."""
    from ml_assets.evaluation.challenge import Subject
    from ml_assets.packaging.champion import incumbent

    return Subject(
        problem=script.declared.name,
        version=challenge.model_version,
        plan=challenge.plan,
        challenger=challenge.winner,
        results=challenge.results,
        reason=challenge.reason,
        champion=incumbent(script.places.tracking, script.declared.name),
        currency=script.declared.problem["value"]["currency"],
    )


def bundle(script: Script, challenge: Challenge) -> None:
    """Pack the challenger with everything that inference needs."""
    from ml_assets.packaging.bundle import build_bundle, bundle_name

    frame, experiment, features = challenge.frame, challenge.experiment, challenge.plan.features
    result, threshold = challenge.winner.result, challenge.winner.threshold
    built = build_bundle(
        experiment.folder("bundles") / bundle_name(result.sha256, code_of_models(), threshold),
        result=result,
        problem=script.declared.name,
        features={name: str(frame.schema[name]) for name in features},
        example_rows=frame.filter(pl.col("split") == "test").head(EXAMPLES).select(features),
        model_version=challenge.model_version,
        data_hash=experiment.data_hash,
        code_version=code_of_models(),
        threshold=threshold,
        task=script.declared.task,
    )
    experiment.write("bundle", {"digest": built.digest, "folder": built.folder, "winner": result.name})
    challenge.bundle = built


def take_office(script: Script, challenge: Challenge) -> None:
    """Register the challenger, and promote it when it is better than the champion in office."""
    from ml_assets.packaging.bundle import load_bundle
    from ml_assets.packaging.champion import tags_of
    from ml_assets.packaging.office import promote, register
    from ml_assets.packaging.promotion import boundaries, decide

    registry, name, built = script.places.tracking, script.declared.name, challenge.bundle
    edges, packed = boundaries(challenge.frame), load_bundle(Path(built.folder), digest=built.digest)
    version = register(
        registry,
        name,
        run_id=challenge.mlflow_run,
        folder=Path(built.folder),
        digest=built.digest,
        tags=tags_of(
            data_hash=challenge.experiment.data_hash,
            fitted_until=edges.fitted_until,
            live_from=edges.live_from,
            test_metrics=challenge.report.metrics,
        ),
    )
    promote(
        registry,
        script.places.lake.store,
        name,
        version,
        decide=lambda office: decide(challenge.frame, packed, office, script.declared.metric),
        who="script",
        when=script.places.now,
    )


def score_days(script: Script) -> None:
    """Score the days' observations with the champion, each as of its moment."""
    from ml_assets.deployment.scoring import predictions_suite, score
    from ml_assets.features.retrieval import historical_features
    from ml_assets.packaging.champion import in_office
    from ml_assets.preparation.observations import without_outcome
    from ml_assets.preparation.writing import PARTITION, write_checked

    places, declared, table = script.places, script.declared, script.declared.table("predictions")
    observed, service = declared.table("observations"), declared.problem["features"]["service"]
    observations = places.lake.read(observed, script.days, partition_column=PARTITION)
    champion = in_office(places.tracking, declared.name)
    asked = observations.select(without_outcome(observations.columns))
    frame = historical_features(places.feature_repo, service, asked, lake_url=places.lake.url)
    keep = [*declared.key, *declared.problem["features"]["ignore"]]
    scored = pl.concat(
        score(day, champion.bundle, version=champion.version, fitted_until=champion.fitted_until, keep=keep)
        for day in frame.partition_by(PARTITION, maintain_order=True)
    )
    written = write_checked(
        places.lake,
        table,
        scored,
        predictions_suite(table, key=declared.key, task=champion.bundle.task),
        now=places.now,
        partitions=script.days,
        inputs={observed: places.lake.version(observed, script.days), "champion": champion.version},
    )
    require_green(table, written)


def watch_drift(script: Script) -> None:
    """Compare each window of predictions with the training rows, and plot the latest."""
    from ml_assets.evaluation.plots import as_markdown, drift_plot
    from ml_assets.monitoring.drift import DriftPolicy
    from ml_assets.monitoring.watching import latest_drift, report_drift
    from ml_assets.packaging.champion import in_office

    places, name, declared = script.places, script.declared.name, script.declared.problem["monitoring"]["drift"]
    folder = places.data / "reports" / name / "drift"
    report_drift(
        places.lake,
        name,
        in_office(places.tracking, name),
        policy=DriftPolicy(
            minimum_rows=declared.get("minimum_rows", 200),
            psi=declared["psi"],
            share=declared["share"],
            windows=declared.get("windows", 2),
        ),
        window_days=declared["window_days"],
        reports=folder,
        now=places.now,
    )
    if latest := latest_drift(places.lake, name):
        effects = dict(zip(latest.frame["feature"], latest.frame["psi"], strict=True))
        plot = drift_plot(effects, limit=latest.limit, drifted=latest.drifted)
        (folder / "latest.md").write_text(f"{as_markdown(plot, 'drift')}\n\n{latest.markdown}")


def watch_performance(script: Script) -> None:
    """Measure the live predictions on the outcomes that are known by now."""
    from ml_assets.evaluation.plots import as_markdown
    from ml_assets.monitoring.realised import performance_plot, report_performance
    from ml_assets.packaging.champion import in_office
    from ml_assets.preparation.spans import Span

    places, declared = script.places, script.declared
    found = report_performance(
        places.lake,
        declared.name,
        in_office(places.tracking, declared.name),
        key=declared.key,
        now=places.now,
        metric=declared.metric.name,
        slices=declared.problem["success"]["slices"],
        label_delay=Span.parse(declared.problem["availability"]["label_delay"]).length,
    )
    plot = performance_plot(found, declared.metric, declared.problem["monitoring"]["tolerance"])
    page = places.data / "reports" / declared.name / "performance_report.md"
    page.write_text(f"{as_markdown(plot, 'performance over time')}\n\n{found.markdown()}")


def contract_of(source: Mapping[str, Any]) -> Any:
    """Return the contract of a declared source, as the Source component does."""
    from ml_assets.collection.contract import SourceContract
    from ml_assets.quality.contract import ColumnContract

    columns = [
        ColumnContract(
            dtype=column["type"],
            nullable=column.get("nullable", True),
            sparse=column.get("nullable", True) is True,
            **{name: value for name, value in column.items() if name not in ("type", "nullable")},
        )
        for column in source["columns"]
    ]
    taken = ("name", "pattern", "key", "null_values", "separator", "day_columns", "days")
    return SourceContract(columns=columns, **{name: source[name] for name in taken if name in source})


def days_of(script: Script, source: Mapping[str, Any]) -> Sequence[str] | None:
    """Return the days to make of a source, None when it is one table without days."""
    return script.days if source.get("days") else None


def code_of_models() -> str:
    """Return one version for all code that decides what a model becomes."""
    return rooms_version("tasks", "preparation", "features", "development")


def require_green(table: str, written: Any) -> None:
    """Raise `RedError` when the table's suite failed."""
    if not written.verdict.success:
        raise RedError(f"{table}: {written.verdict.reason()}")


def _documents(path: Path) -> list[Mapping[str, Any]]:
    return [document["attributes"] for document in yaml.safe_load_all(path.read_text())]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the script on the project in the working folder and print what took how long."""
    import sys

    first, last = arguments or sys.argv[1:]
    script = Script.below(Path.cwd(), keys.days(first, last))
    script.run()
    for name, seconds in script.seconds.items():
        print(f"{seconds:8.2f} s  {name}")


if __name__ == "__main__":
    main()
