"""The `ml-assets` command."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TERMINATED = 143
DVC_REMOTE = "ML_ASSETS_DVC_REMOTE"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0, or 1 with a message on standard error."""
    from ml_assets.resources.process import prepare

    given = _parser().parse_args(arguments)
    prepare(os.environ, ROOT)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # so that what was started is ended too
    try:
        given.run(given)
    except (ValueError, RuntimeError, TimeoutError) as error:
        print(f"ml-assets: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ml-assets", description="The ML lifecycle as a Dagster asset graph.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    demo = commands.add_parser("demo", help="run the whole lifecycle on the recorded year, then serve the web UI")
    demo.add_argument("--no-ui", action="store_true", help="stop when everything is made")
    demo.add_argument("--port", type=int, default=3000, help="of the web UI on 127.0.0.1 (default %(default)s)")
    demo.set_defaults(run=_demo)
    ui = commands.add_parser("ui", help="serve the web UI on 127.0.0.1, with the daemon")
    ui.add_argument("--port", type=int, default=3000, help="default %(default)s")
    ui.set_defaults(run=_ui)
    status = commands.add_parser("status", help="what is there, how the checks went, which model is in office")
    status.add_argument("--json", action="store_true", help="for programs")
    status.set_defaults(run=_status)
    alerts = commands.add_parser("alerts", help="what was wrong, what is still, and whom it did not reach")
    alerts.add_argument("problem", nargs="?", default="", help="a problem, or platform (default: all)")
    alerts.set_defaults(run=_alerts)
    features = commands.add_parser(
        "features", help="the catalog of feature views: owner, contents, newest event, users"
    )
    features.add_argument("--json", action="store_true", help="for programs")
    features.set_defaults(run=_features)
    server = commands.add_parser("feature-server", help="take pushes and answer with online features, over HTTP")
    server.add_argument("--host", default="127.0.0.1", help="default %(default)s; others need ML_ASSETS_API_KEY_HASHES")
    server.add_argument("--port", type=int, default=6566, help="default %(default)s")
    server.set_defaults(run=_feature_server)
    _serving(commands)
    _own_data(commands)
    _versions(commands)
    _office_commands(commands)
    _quarantine_commands(commands)
    _images(commands)
    _deployments(commands)
    replay = commands.add_parser("replay", help="play the outside world: deliver recorded days into the landing zone")
    replay.add_argument("--until", required=True, metavar="DAY", help="last day to deliver, such as 2013-10-31")
    replay.add_argument(
        "--faults", action="store_true", help="and one broken delivery of each kind, beside the last days"
    )
    replay.set_defaults(run=_replay)
    outside = commands.add_parser("outside", help="serve what the example pulls from: its weather API and its register")
    outside.set_defaults(run=_outside)
    return parser


def _serving(commands: Any) -> None:
    serve = commands.add_parser("serve", help="answer with a problem's champion, over HTTP")
    serve.add_argument("problem", help="a declared problem")
    serve.add_argument("--host", default="127.0.0.1", help="default %(default)s; others need ML_ASSETS_API_KEY_HASHES")
    serve.add_argument("--port", type=int, default=8000, help="default %(default)s")
    serve.add_argument("--rate", type=float, metavar="N", help="requests per second of each API key (default: any)")
    serve.set_defaults(run=_serve)


def _own_data(commands: Any) -> None:
    new = commands.add_parser(
        "new", help="declare a problem over your own data: a file becomes definitions to read and edit"
    )
    new.add_argument("name", help="lower-case letters, digits and underscores")
    new.add_argument("--data", required=True, metavar="FILE_OR_GLOB_OR_URL", help="CSV, Parquet or JSON lines")
    new.add_argument("--target", metavar="COLUMN", help="what is to be predicted; without it, rows are clustered")
    new.add_argument("--task", choices=("classification", "regression", "clustering"), help="default: from the target")
    new.add_argument("--time", metavar="COLUMN", help="when each row was true; splits are then by time")
    new.add_argument("--entity", metavar="COLUMN", help="whom rows are about; its past outcomes become features")
    new.add_argument("--group", metavar="COLUMN", help="rows of one group stay on one side of a random split")
    new.add_argument(
        "--label-delay", default="1d", help="how long after its time a row's outcome is known (default %(default)s)"
    )
    new.set_defaults(run=_new)
    check = commands.add_parser("check", help="find every fault in the declarations, before anything runs")
    check.add_argument("name", nargs="?", help="a problem, source or view, and what it is made from; default: all")
    check.set_defaults(run=_check)
    run = commands.add_parser("run", help="run a problem in this process, from its files to its evaluation report")
    run.add_argument("name", help="the problem")
    run.set_defaults(run=_run)
    schema = commands.add_parser("schema", help="print the JSON schema of defs.yaml, for editors")
    schema.add_argument("type", nargs="?", help="Source, FeatureViews or MlProblem: of its attributes alone")
    schema.set_defaults(run=_schema)


def _quarantine_commands(commands: Any) -> None:
    quarantine = commands.add_parser("quarantine", help="files that broke their source's contract")
    what = quarantine.add_subparsers(required=True, metavar="WHAT")
    listing = what.add_parser("list", help="those that nothing has made good, with their reasons")
    show = what.add_parser("show", help="one file: where it is kept, why, and its first lines")
    retry = what.add_parser("retry", help="decide again, under the present contract; what follows is then to be made")
    discard = what.add_parser("discard", help="wait for it no longer; nothing is deleted")
    for parser in (show, retry, discard):
        parser.add_argument("name", help="of the file, as in the list")
    discard.add_argument("--reason", required=True, metavar="TEXT", help="for those who ask later")
    for parser, function in ((listing, _held), (show, _show), (retry, _retry), (discard, _discard)):
        parser.set_defaults(run=function)


def _images(commands: Any) -> None:
    image = commands.add_parser("image", help="build a registered model's image; keep it in a folder, or push it")
    image.add_argument("model", metavar="MODEL", help="a problem, or problem:version; default: the champion")
    image.add_argument("--tag", default="", help="its name here (default: ml-assets/PROBLEM:VERSION)")
    image.add_argument("--push", metavar="REFERENCE", help="push it there, such as registry.example/late:7")
    image.add_argument("--insecure", action="store_true", help="push over HTTP")
    image.add_argument("--to", metavar="FOLDER", help="keep it there as an OCI layout (default: below data/images)")
    image.add_argument("--base", metavar="IMAGE", help="with Python 3.11 and venv (default: python:3.11-slim)")
    image.add_argument(
        "--secret", action="append", default=[], metavar="ID=FILE", help="pip.conf or ca.pem, which only the build sees"
    )
    image.set_defaults(run=_image)


def _deployments(commands: Any) -> None:
    deploy = commands.add_parser("deploy", help="bring a registered model to where it answers; --dry-run shows how")
    deploy.add_argument("target", choices=("api", "container", "kubernetes", "cloud_function", "batch"))
    deploy.add_argument("model", metavar="MODEL", help="a problem, or problem:version; default: the champion")
    deploy.add_argument("--dry-run", action="store_true", help="print files and commands; nothing is written or run")
    deploy.add_argument("--to", metavar="FOLDER", help="of the files (default: data/deploy/TARGET/PROBLEM)")
    deploy.add_argument("--monitoring", action="store_true", help="kubernetes: scraped by Google Managed Prometheus")
    texts = {
        "image": "HOST/NAME@sha256:DIGEST, as `ml-assets image --push` prints it",
        "project": "Google Cloud project",
        "region": "of Google Cloud, such as europe-west1",
        "service-account": "Google account to act as",
        "name": "of what is made (default: from the problem)",
        "namespace": "of Kubernetes (default ml-assets)",
        "context": "of kubectl (default: the current one)",
        "clients": "the one namespace that may ask (default: any)",
        "secret": "name of the Secret with the environment of `ml-assets serve`, or of the batch job",
        "shared": "what holds the bundles for these: a PersistentVolumeClaim, for batch a bucket",
        "cpu": "cores (default 1)",
        "memory": "such as 512Mi (default 1Gi)",
    }
    numbers = {"replicas": "at least (default 2)", "most-replicas": "at most (default 10)", "port": "default 8080"}
    for name, text in texts.items():
        deploy.add_argument(f"--{name}", default=argparse.SUPPRESS, help=text)
    for name, text in numbers.items():
        deploy.add_argument(f"--{name}", type=int, default=argparse.SUPPRESS, help=text)
    deploy.set_defaults(run=_deploy)


def _office_commands(commands: Any) -> None:
    promote = commands.add_parser(
        "promote", help="let a registered model take office, when gates and champion allow it"
    )
    rollback = commands.add_parser("rollback", help="bring the model back that was in office before")
    approve = commands.add_parser("approve", help="say that you approve a registered model, as it is now")
    told = commands.add_parser("history", help="who was in office when, and why")
    for parser in (promote, approve):
        parser.add_argument("model", metavar="MODEL", help="a problem, or problem:version; default: the challenger")
    for parser in (rollback, told):
        parser.add_argument("model", metavar="PROBLEM", help="a declared problem")
    for parser in (promote, rollback, approve):
        parser.add_argument("--by", metavar="NAME", help="default: the name under which you are logged in")
        parser.add_argument("--why", required=True, metavar="TEXT", help="for those who ask later")
    promote.add_argument(
        "--force",
        action="store_true",
        help="ask neither gates nor approval; the log says so, an altered bundle is refused",
    )
    rollback.add_argument("--to", default="", metavar="VERSION", help="one that was in office; default: the one before")
    for parser, function in ((promote, _promote), (rollback, _rollback), (approve, _approve), (told, _history)):
        parser.set_defaults(run=function)


def _versions(commands: Any) -> None:
    track = commands.add_parser("track", help="bring DVC's files up to date with the lake and the models")
    track.set_defaults(run=_track)
    rebuild = commands.add_parser(
        "rebuild", help="make a registered model again from what it was made from, and compare"
    )
    rebuild.add_argument("model", metavar="MODEL", help="a problem, or problem:version; default: the champion")
    rebuild.set_defaults(run=_rebuild)
    gc = commands.add_parser("gc", help="what no reader, model or DVC revision needs; removed with --yes")
    gc.add_argument("--yes", action="store_true", help="remove it; without, it is only told")
    gc.add_argument("--grace-days", type=float, default=7, help="younger files stay (default %(default)s)")
    gc.set_defaults(run=_gc)
    preprocess = commands.add_parser("preprocess", help="stage of dvc.yaml: raw tables become a training set")
    train = commands.add_parser("train", help="stage of dvc.yaml: the training set becomes models and a bundle")
    for stage, function in ((preprocess, _preprocess), (train, _train)):
        stage.add_argument("problem", help="a declared problem")
        stage.add_argument("--to", default="data/repro", metavar="FOLDER", help="default %(default)s")
        stage.set_defaults(run=function)
    preprocess.add_argument(
        "--as-known-at", metavar="TIME", help="default: the moment of the current training set, or now"
    )


def _demo(given: argparse.Namespace) -> None:
    from ml_assets.replay.demo import demo

    demo(ROOT, port=given.port, ui=not given.no_ui, tell=_tell)


def _ui(given: argparse.Namespace) -> None:
    from ml_assets.replay.demo import serve

    serve(ROOT, port=given.port)


def _tell() -> str:
    """Return the state as a table."""
    from ml_assets.definitions import defs
    from ml_assets.resources.overview import current, table

    return table(current(defs(), ROOT))


def _status(given: argparse.Namespace) -> None:
    import json

    from ml_assets.definitions import defs
    from ml_assets.resources.overview import current

    print(json.dumps(current(defs(), ROOT), indent=1) if given.json else _tell())


def _alerts(given: argparse.Namespace) -> None:
    from ml_assets.monitoring.alerts import standing, table
    from ml_assets.resources.environment import resources

    known = standing(resources(ROOT)["lake"].open().store, given.problem)
    print(table(known) if known else f"no alerts{f' of {given.problem}' if given.problem else ''}")


def _features(given: argparse.Namespace) -> None:
    import json

    from ml_assets.features.catalog import as_text, catalog
    from ml_assets.resources.environment import resources

    places = resources(ROOT)
    found = catalog(places["feature_store"].declared(), places["lake"].open())
    print(json.dumps([entry.to_dict() for entry in found], indent=1) if given.json else as_text(found))


def _feature_server(given: argparse.Namespace) -> None:
    from ml_assets.features.guard import HASHES_VARIABLE
    from ml_assets.features.server import create_app, serve
    from ml_assets.resources.environment import resources
    from ml_assets.resources.local import require_free

    require_free(given.port)
    places = resources(ROOT)
    store, hashes = places["feature_store"], [one for one in os.environ.get(HASHES_VARIABLE, "").split(",") if one]
    store.declared()  # brings the registry up to date, or says why not, before anybody asks
    app = create_app(Path(store.repo), lake_url=store.lake, clock=places["clock"].open().now, api_keys=hashes)
    serve(app, host=given.host, port=given.port, api_keys=hashes)


def _serve(given: argparse.Namespace) -> None:
    from ml_assets.deployment.api import create_app, serve
    from ml_assets.features.guard import HASHES_VARIABLE
    from ml_assets.resources.environment import resources
    from ml_assets.resources.local import require_free
    from ml_assets.resources.serving import engine_of, features_of

    require_free(given.port)
    problem, places = _problem(given.problem), resources(ROOT)
    hashes = [one for one in os.environ.get(HASHES_VARIABLE, "").split(",") if one]
    features = features_of(problem, **{name: places[name] for name in ("feature_store", "clock")})
    engine = engine_of(
        problem, features, data=ROOT / "data", **{name: places[name] for name in ("lake", "tracking", "clock")}
    )
    app = create_app(engine, features=features, api_keys=hashes, rate=given.rate)
    serve(app, host=given.host, port=given.port, api_keys=hashes)


def _new(given: argparse.Namespace) -> None:
    from ml_assets.resources.clock import Clock
    from ml_assets.scaffold.command import new

    asked = {
        name: getattr(given, name) for name in ("data", "target", "task", "time", "entity", "group", "label_delay")
    }
    print(new(ROOT, given.name, now=Clock().now(), **asked))


def _check(given: argparse.Namespace) -> None:
    from ml_assets.check import check

    found = check(ROOT, given.name)
    print(found.text())
    if found.faults:
        sys.exit(1)


def _run(given: argparse.Namespace) -> None:
    import warnings

    from ml_assets.definitions import defs
    from ml_assets.resources.running import run_problem

    warnings.simplefilter(
        "ignore", DeprecationWarning
    )  # of libraries about each other: nothing that a user could act on

    started = time.monotonic()
    print(
        run_problem(
            defs(),
            ROOT,
            given.name,
            tell=lambda line: print(f"[{time.monotonic() - started:5.0f} s] {line}", flush=True),
        )
    )


def _held(_: argparse.Namespace) -> None:
    from ml_assets.collection.quarantine import held, table

    print(table(held(_contracts(), _landing())))


def _show(given: argparse.Namespace) -> None:
    from ml_assets.collection.quarantine import show

    print(show(given.name, _landing()))


def _retry(given: argparse.Namespace) -> None:
    from ml_assets.collection.quarantine import retry
    from ml_assets.resources.environment import resources

    now = resources(ROOT)["clock"].open().now()
    for entry in retry(given.name, _contracts(), _landing(), now=now):
        print(f"{entry.status}  {entry.name}  {entry.reason}")
        if entry.status == "ingested":
            print(f"raw/{entry.source} {entry.partition or ''} changed: materialize it and what follows in the web UI")


def _discard(given: argparse.Namespace) -> None:
    from ml_assets.collection.quarantine import discard
    from ml_assets.resources.environment import resources

    entry = discard(given.name, _landing(), reason=given.reason, now=resources(ROOT)["clock"].open().now())
    print(f"{entry.status}  {entry.name}  {entry.reason}")


def _landing() -> Any:
    """Return landing zone, ledger and quarantine."""
    from ml_assets.resources.environment import resources

    return resources(ROOT)["landing"].open()


def _contracts() -> list[Any]:
    """Return the contracts of the declared sources."""
    from ml_assets.definitions import declared
    from ml_assets.source import Source

    return [source.contract() for source in declared(Source)]


def _track(_: argparse.Namespace) -> None:
    from ml_assets.resources.environment import resources, setting
    from ml_assets.versions.assets import tag_champions
    from ml_assets.versions.tracked import folders, track, use_remote

    places = resources(ROOT)
    if os.environ.get(DVC_REMOTE):
        use_remote(ROOT, setting(DVC_REMOTE, ROOT))
    hashes = track(ROOT, folders(ROOT, places["lake"].url, places["models"].root))
    print("\n".join(f"{digest:<36}  {path}" for path, digest in hashes.items()))
    for name in tag_champions(_problems(), hashes, lake=places["lake"], tracking=places["tracking"]):
        print(f"named in the registry by the champion of {name}")


def _rebuild(given: argparse.Namespace) -> None:
    from ml_assets.resources.environment import resources
    from ml_assets.versions.assets import rebuild

    name, _, version = given.model.partition(":")
    places = {part: place for part, place in resources(ROOT).items() if part in ("lake", "feature_store", "tracking")}
    found = rebuild(_problem(name), version=version, **places)
    print(found.text())
    if not found.passed:
        sys.exit(1)


def _image(given: argparse.Namespace) -> None:
    from ml_assets.packaging.container import BASE
    from ml_assets.packaging.image import keep_sbom, push, registered_image, save
    from ml_assets.resources.environment import resources

    name, _, version = given.model.partition(":")
    _problem(name)  # says which are declared
    made = registered_image(
        resources(ROOT)["tracking"].open(),
        name,
        version=version,
        cache=ROOT / "data" / "bundles",
        tag=given.tag,
        base=given.base or BASE,
        secrets={one.partition("=")[0]: Path(one.partition("=")[2]) for one in given.secret},
    )
    print(f"{made.tag}  {made.digest}")
    folder = ROOT / (given.to or f"data/images/{made.tag.replace(':', '/')}")
    print(f"bill of materials  {keep_sbom(made, folder)}")
    if given.to or not given.push:
        print(f"{folder}  {save(made, folder)}")
    if given.push:
        print(push(made, given.push, insecure=given.insecure))


def _deploy(given: argparse.Namespace) -> None:
    from ml_assets.deployment.targets.command import deploy, registered
    from ml_assets.deployment.targets.settings import Settings
    from ml_assets.resources.environment import resources

    name, _, version = given.model.partition(":")
    _problem(name)  # says which are declared
    own = ("run", "target", "model", "dry_run", "to")
    folder = (ROOT / (given.to or f"data/deploy/{given.target}/{name}")).resolve()
    told = {option: value for option, value in vars(given).items() if option not in own}
    settings = Settings(root=ROOT, folder=folder, **told)
    tracking = resources(ROOT)["tracking"].open()
    release = registered(tracking, name, version=version, cache=ROOT / "data" / "bundles")
    deploy(given.target, release, settings, dry_run=given.dry_run, tell=print)


def _promote(given: argparse.Namespace) -> None:
    from ml_assets.packaging.assets import promote_version

    problem, version, said, places = _stood(given)
    begun = time.monotonic()
    found = promote_version(problem, version, why=given.why, force=given.force, **said, **places)
    if not found.promoted:
        raise ValueError(f"{given.model} was not promoted: {found.decision.reason}")
    seconds = time.monotonic() - begun
    print(f"{problem.name}:{found.office.version} is in office after {seconds:.1f} s: {found.office.why}")
    _card(problem, found.office.version, when=said["when"], **places)


def _rollback(given: argparse.Namespace) -> None:
    from ml_assets.packaging.office import rollback

    problem, _, said, places = _stood(given)
    begun = time.monotonic()
    tracking, store = places["tracking"].open(), places["lake"].open().store
    made = rollback(tracking, store, problem.name, why=given.why, to=given.to, **said)
    seconds = time.monotonic() - begun
    print(f"{problem.name}:{made.version} is in office again after {seconds:.1f} s, in place of {made.replaced}")
    _card(problem, made.version, when=said["when"], **places)


def _approve(given: argparse.Namespace) -> None:
    from ml_assets.packaging.assets import approve_version

    problem, version, said, places = _stood(given)
    made = approve_version(problem, version, why=given.why, **said, **places)
    seen = made.evidence
    print(
        f"{made.who} approved {problem.name}:{made.version}: model {seen.model[:12]}, data {seen.data[:12]}, "
        f"evaluation {seen.evaluation[:12]}; void when one of them changes"
    )
    _card(problem, made.version, when=said["when"], **places)


def _card(problem: Any, version: str, *, when: Any, **places: Any) -> None:
    """Bring a version's card up to date with what a person decided. What they decided stands, also where this fails."""
    from ml_assets.packaging.assets import write_card
    from ml_assets.resources.environment import resources

    _, page = write_card(problem, version, now=when, reports=resources(ROOT)["reports"], **places)
    print(f"its model card: {page}")


def _history(given: argparse.Namespace) -> None:
    from ml_assets.packaging.history import history, table
    from ml_assets.resources.environment import resources

    known = history(resources(ROOT)["lake"].open().store, _problem(given.model).name)
    print(table(known) if known else f"{given.model}: nobody was in office yet")


def _stood(given: argparse.Namespace) -> tuple[Any, str, dict[str, Any], dict[str, Any]]:
    """Return the problem, the version ("" for none named), who says so and when, and where lake and registry are."""
    from getpass import getuser

    from ml_assets.resources.environment import resources

    name, _, version = given.model.partition(":")
    problem, places = _problem(name), resources(ROOT)
    said = {"who": given.by or getuser(), "when": places["clock"].open(problem.clock).now()}
    return problem, version, said, {part: places[part] for part in ("lake", "tracking")}


def _gc(given: argparse.Namespace) -> None:
    from datetime import timedelta

    from ml_assets.resources.clock import Clock
    from ml_assets.resources.environment import resources
    from ml_assets.versions.assets import needed_by_models
    from ml_assets.versions.garbage import find, remove
    from ml_assets.versions.tracked import needed

    places = resources(ROOT)
    lake, grace = places["lake"].open(), timedelta(days=given.grace_days)
    need = needed_by_models(
        _problems(), needed(ROOT), **{part: places[part] for part in ("lake", "models", "tracking")}
    )
    garbage = find(lake, need, now=Clock().now(), grace=grace)  # files have the system's time, also in a replay
    print(garbage.table())
    print(f"removed {remove(lake, garbage)} files" if given.yes else "nothing was removed; --yes removes it")


def _preprocess(given: argparse.Namespace) -> None:
    from datetime import datetime

    from ml_assets.definitions import declared
    from ml_assets.features.assets import FeatureViews
    from ml_assets.resources.environment import resources
    from ml_assets.source import Source
    from ml_assets.versions.assets import moment_of, preprocess

    problem, places = _problem(given.problem), resources(ROOT)
    now = datetime.fromisoformat(given.as_known_at) if given.as_known_at else None
    made = preprocess(
        problem,
        declared(Source),
        declared(FeatureViews),
        lake=places["lake"],
        feature_store=places["feature_store"],
        now=now or moment_of(problem, lake=places["lake"], clock=places["clock"]),
        place=ROOT / given.to,
    )
    print(f"training set {made}")


def _train(given: argparse.Namespace) -> None:
    import json

    from ml_assets.resources.environment import resources
    from ml_assets.versions.assets import train

    told = train(_problem(given.problem), models=resources(ROOT)["models"], place=ROOT / given.to)
    print(json.dumps(told, indent=1))


def _problems() -> list[Any]:
    """Return the declared problems; no instance of Dagster is needed."""
    from ml_assets.definitions import declared
    from ml_assets.problem import MlProblem

    return declared(MlProblem)


def _problem(name: str) -> Any:
    known = {one.name: one for one in _problems()}
    if name not in known:
        raise ValueError(f"problem {name!r} is not declared; declared are {', '.join(sorted(known))}")
    return known[name]


def _schema(given: argparse.Namespace) -> None:
    import json

    from ml_assets.check import schema, schema_of_files

    print(json.dumps(schema(given.type) if given.type else schema_of_files(), indent=1))


def _replay(given: argparse.Namespace) -> None:
    from datetime import date

    from ml_assets.replay.demo import deliver

    print(deliver(ROOT, date.fromisoformat(given.until), faults=given.faults))


def _outside(_: argparse.Namespace) -> None:
    from ml_assets.replay.demo import outside

    outside(ROOT)


if __name__ == "__main__":
    sys.exit(main())
