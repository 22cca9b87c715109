"""The `ml-assets` command."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
TERMINATED = 143


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
    features = commands.add_parser(
        "features", help="the catalog of feature views: owner, contents, newest event, users"
    )
    features.add_argument("--json", action="store_true", help="for programs")
    features.set_defaults(run=_features)
    server = commands.add_parser("feature-server", help="take pushes and answer with online features, over HTTP")
    server.add_argument("--host", default="127.0.0.1", help="default %(default)s; others need ML_ASSETS_API_KEY_HASHES")
    server.add_argument("--port", type=int, default=6566, help="default %(default)s")
    server.set_defaults(run=_feature_server)
    replay = commands.add_parser("replay", help="play the outside world: deliver recorded days into the landing zone")
    replay.add_argument("--until", required=True, metavar="DAY", help="last day to deliver, such as 2013-10-31")
    replay.add_argument(
        "--faults", action="store_true", help="and one broken delivery of each kind, beside the last days"
    )
    replay.set_defaults(run=_replay)
    return parser


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


def _replay(given: argparse.Namespace) -> None:
    from datetime import date

    from ml_assets.replay.demo import deliver

    print(deliver(ROOT, date.fromisoformat(given.until), faults=given.faults))


if __name__ == "__main__":
    sys.exit(main())
