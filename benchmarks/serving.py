"""The serving API against an empty handler and against the usual ways to serve the same models; and under a steady load."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.asking import Asked, Connection, at_once, free_port, one_after_another, open_loop, post, server
from benchmarks.peers import write_peers
from benchmarks.project import code_of, kept
from benchmarks.runner import LOSSES, Arm, Bench, Comparison, Limit, Measured, Options
from benchmarks.scored import Stored, plain, rows

COMPARED = 100  # rows whose answers are compared first
TOLERANCE = 1e-6
CONNECTIONS = 8
LOAD_A_SECOND, LOAD_SECONDS, SMALL_SECONDS = 200, 60, 2
STATE = "2"
NOTES = """Each server is a process of its own on this machine, all by uvicorn with the same settings, ours with its log of predictions on,
and one client asks over kept connections, on the same cores."""
FIRST_COMPARED = f"""The answers to {COMPARED} rows, sent together and one by one, are compared first, to 1e-6; beside a handler that says
nothing, with the bundle's own."""

MOMENTS = "A request has its moment, whether the last is answered or not, from which its time counts. Times are p50."


@dataclass(frozen=True)
class Served:
    """A server that runs, and how it is asked: the request for rows, and the scores in its answer."""

    port: int
    request: Callable[[Sequence[Mapping[str, Any]]], bytes]
    scores: Callable[[Any], list[float]]

    def answers(self, given: Sequence[Mapping[str, Any]]) -> list[float]:
        """Return the score of each row, asked in one request."""
        connection = Connection(self.port)
        status, body = connection.ask(self.request(given))
        connection.close()
        if status != 200:
            raise ValueError(f"the answer is {status}: {body[:500].decode(errors='replace')}")
        return self.scores(json.loads(body))


def ours_or_peer(port: int) -> Served:
    """Return a server that is asked as ours is."""
    return Served(
        port,
        lambda given: post("/predict", {"rows": [*given]}),
        lambda answer: [row["score"] for row in answer["rows"]],
    )


def by_mlflow(port: int) -> Served:
    """Return `mlflow models serve`, which answers with the probabilities of both classes."""
    return Served(
        port,
        lambda given: post("/invocations", {"dataframe_records": [*given]}),
        lambda answer: [row[1] for row in answer["predictions"]],
    )


def handler(options: Options) -> Any:
    """Yield the bench of one row by XGBoost against a handler that does nothing."""
    return _bench(
        options,
        "serving_one_row",
        "One row over HTTP, p50, against an empty FastAPI handler",
        model="xgboost",
        peer="empty",
        target=3.0,
        ask=_singly(3_000, 50),
    )


def forest(options: Options) -> Any:
    """Yield the bench of one row by a random forest against scikit-learn behind pydantic and pandas."""
    return _bench(
        options,
        "serving_forest",
        "One row by a random forest over HTTP, p50, against scikit-learn behind pydantic and pandas",
        model="random_forest",
        peer="sklearn",
        target=1 / 20,
        ask=_singly(500, 10),
    )


def xgboost(options: Options) -> Any:
    """Yield the bench of batches of 100 rows by XGBoost against XGBoost behind pydantic and pandas."""
    return _bench(
        options,
        "serving_xgboost_100",
        "100 rows by XGBoost over HTTP, p50, against XGBoost behind pydantic and pandas",
        model="xgboost",
        peer="xgboost",
        target=1 / 4,
        ask=_singly(500, 5, rows_each=100),
    )


def mlflow(options: Options) -> Any:
    """Yield the bench of a random forest over eight connections against `mlflow models serve`."""
    return _bench(
        options,
        "serving_mlflow",
        f"One row by a random forest over {CONNECTIONS} connections, seconds a request, against mlflow models serve",
        model="random_forest",
        peer="mlflow",
        target=1 / 5,
        limits=[Limit("p99_ms", 0.5)],
        ask=_together(800, 16),
    )


@contextmanager
def load(options: Options) -> Iterator[Bench]:
    """Yield the bench of a steady load: judged are the answers that are no success, and shown is how late they are."""
    seconds = SMALL_SECONDS if options.small else LOAD_SECONDS
    folder = _folder(options)
    with _started("ours", "xgboost", folder) as served, _started("empty", "xgboost", folder) as other:
        given = _given()
        found = {served: _scores(served, given), other: _known(folder / "xgboost")}

        def steady(one: Served) -> Measured:
            requests = [one.request([given[place % len(given)]]) for place in range(LOAD_A_SECOND * seconds)]
            run = open_loop(one.port, requests, per_second=LOAD_A_SECOND)
            told = run.numbers()
            return Measured(found[one], run.at(0.5), told | {LOSSES: told["refused"]})

        yield Bench(
            name="serving_load",
            title=f"{LOAD_A_SECOND} requests a second for {seconds} s: answers that are no success",
            target=0,
            judged="losses",
            ours=Arm("serving API", lambda: steady(served)),
            theirs=Arm("empty handler", lambda: steady(other)),
            compare=same_scores,
            rounds=1,
            warm_up=False,
            notes=f"{NOTES}\n{FIRST_COMPARED}\n{MOMENTS}",
        )


@contextmanager
def _bench(
    options: Options,
    name: str,
    title: str,
    *,
    model: str,
    peer: str,
    target: float,
    ask: Callable[[Served, Sequence[Mapping[str, Any]], bool], Measured],
    limits: Sequence[Limit] = (),
) -> Iterator[Bench]:
    folder = _folder(options)
    with _started("ours", model, folder) as ours, _started(peer, model, folder) as theirs:
        given = _given()
        found = {
            ours: _scores(ours, given),
            theirs: _known(folder / model) if peer == "empty" else _scores(theirs, given),
        }

        def measured(one: Served) -> Measured:
            run = ask(one, given, options.small)
            return Measured(found[one], run.seconds, run.details)

        yield Bench(
            name=name,
            title=title,
            target=target,
            limits=limits,
            ours=Arm("serving API", lambda: measured(ours)),
            theirs=Arm(peer, lambda: measured(theirs)),
            compare=same_scores,
            rounds=1 if options.small else 3,
            notes=f"{NOTES}\n{FIRST_COMPARED}",
        )


def _scores(one: Served, given: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return the scores of the rows that are compared, once all in one request, which must be those of one each."""
    together, apart = one.answers(given), [score for row in given for score in one.answers([row])]
    np.testing.assert_allclose(together, apart, rtol=0, atol=TOLERANCE)
    return together


def _known(home: Path) -> list[float]:
    """Return the bundle's own scores of the rows that are compared."""
    bundle = Stored(**json.loads((home / "bundle.json").read_text())).load()
    return [float(score) for score in bundle.predict(rows(COMPARED, day=7))]


def same_scores(ours: Sequence[float], theirs: Sequence[float]) -> Comparison:
    """Compare the scores of all rows, to 1e-6."""
    if len(ours) != len(theirs):
        return Comparison(False, f"{len(ours)} and {len(theirs)} scores")
    worst = float(np.max(np.abs(np.subtract(ours, theirs))))
    return Comparison(worst <= TOLERANCE, f"the scores of {len(ours)} rows differ by at most {worst:.1e}")


def _singly(count: int, small: int, *, rows_each: int = 1) -> Callable[..., Measured]:
    """Return how one client asks so many times, one after the other; the time is the median."""

    def ask(one: Served, given: Sequence[Mapping[str, Any]], is_small: bool) -> Measured:
        found = one_after_another(one.port, _requests(one, given, small if is_small else count, rows_each))
        return Measured(None, _sound(found).at(0.5), found.numbers())

    return ask


def _together(count: int, small: int) -> Callable[..., Measured]:
    """Return how several clients ask at once; the time is that of all by the number of requests."""

    def ask(one: Served, given: Sequence[Mapping[str, Any]], is_small: bool) -> Measured:
        found = _sound(at_once(one.port, _requests(one, given, small if is_small else count, 1), CONNECTIONS))
        return Measured(None, found.wall / len(found.statuses), found.numbers())

    return ask


def _requests(one: Served, given: Sequence[Mapping[str, Any]], count: int, rows_each: int) -> list[bytes]:
    bodies = [one.request(given[first : first + rows_each]) for first in range(0, len(given), rows_each)]
    return [bodies[place % len(bodies)] for place in range(count)]


def _sound(found: Asked) -> Asked:
    if found.refused:
        raise ValueError(f"{found.refused} of {len(found.statuses)} requests were refused: nothing can be compared")
    return found


def _given() -> list[dict[str, Any]]:
    return [plain(row) for row in rows(COMPARED, day=7).iter_rows(named=True)]


def _folder(options: Options) -> Path:
    folder = options.folder / "serving"
    folder.mkdir(parents=True, exist_ok=True)
    return kept(folder / "models", write_peers, state=f"{STATE} {code_of('development', 'packaging')}")


@contextmanager
def _started(kind: str, model: str, folder: Path) -> Iterator[Served]:
    port, home = free_port(), folder / model
    for old in ("lake", "spool"):
        shutil.rmtree(home / old, ignore_errors=True)
    program = [sys.executable, "-m"]
    if kind == "mlflow":
        served = "models serve --env-manager local --workers 1"
        program += ["mlflow", *served.split(), "-h", "127.0.0.1", "-p", str(port), "-m", str(home / "mlflow")]
    else:
        program += ["benchmarks.arms.serve", kind, str(port), str(home)]
    ready = {"ours": "/ready", "mlflow": "/ping"}.get(kind, "/health")
    log = folder.parent / f"{model}-{kind}.log"
    with ExitStack() as stack:
        stack.enter_context(server(program, port=port, log=log, ready=ready))
        yield by_mlflow(port) if kind == "mlflow" else ours_or_peer(port)
