"""The benches of serving: the client counts what it should, the peers give our answers, and another answer is noticed."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.asking import (
    FAILED,
    Asked,
    Connection,
    at_once,
    free_port,
    get,
    one_after_another,
    open_loop,
    post,
    server,
)
from benchmarks.processes import BenchError
from benchmarks.serving import same_scores
from ml_assets_tests.benchmarks.small import small

ROOT = Path(__file__).parents[2]


class Answering:
    """A server of one answer a request, which it splits; every `failing`th is a 500, and each takes `seconds`."""

    def __init__(self, failing: int = 0, seconds: float = 0.0) -> None:
        self.failing, self.seconds, self.asked = failing, seconds, 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                there, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(there,), daemon=True).start()

    def _answer(self, there: socket.socket) -> None:
        with there:
            while data := there.recv(65_536):
                self.asked += 1
                time.sleep(self.seconds)
                status = b"500 No" if self.failing and self.asked % self.failing == 0 else b"200 OK"
                there.sendall(b"HTTP/1.1 " + status + b"\r\nContent-LENGTH: %d\r\n\r\n" % len(data) + data[:7])
                time.sleep(0.001)
                there.sendall(data[7:])


@pytest.fixture
def answering() -> Iterator[type[Answering]]:
    """Servers that end with the test."""
    made: list[Answering] = []

    class Kept(Answering):
        def __init__(self, failing: int = 0, seconds: float = 0.0) -> None:
            super().__init__(failing, seconds)
            made.append(self)

    yield Kept
    for one in made:
        one.socket.close()


def test_an_answer_in_parts_is_whole(answering: type[Answering]) -> None:
    connection, request = Connection(answering().port), post("/p", {"rows": [1]})
    assert [connection.ask(request) for _ in range(3)] == [(200, request)] * 3
    assert json.loads(request.partition(b"\r\n\r\n")[2]) == {"rows": [1]}
    connection.close()


def test_every_request_is_asked_once_and_failures_are_counted(answering: type[Answering]) -> None:
    there = answering(failing=5)
    found = one_after_another(there.port, [get("/")] * 20)
    assert (len(found.statuses), len(found.seconds), found.refused, there.asked) == (20, 20, 4, 20)
    found = at_once(answering().port, [get("/")] * 30, connections=4)
    assert (len(found.statuses), found.refused) == (30, 0)
    assert found.numbers()["a_second"] == 30 / found.wall


def test_no_answer_is_a_failure() -> None:
    assert one_after_another(free_port(), [get("/")] * 2).statuses == [FAILED] * 2


def test_a_steady_load_counts_the_wait_behind_a_slow_answer(answering: type[Answering]) -> None:
    found = open_loop(answering(seconds=0.05).port, [get("/")] * 8, per_second=100, connections=1)
    assert found.at(0.99) > 0.05 * 8 - 0.08  # the last had its moment at 0.07 s and was answered after 0.4 s
    assert min(found.seconds) >= 0.05


def test_a_steady_load_does_not_hurry(answering: type[Answering]) -> None:
    assert open_loop(answering().port, [get("/")] * 20, per_second=100, connections=2).wall >= 0.19


@pytest.mark.parametrize(("share", "expected"), [(0.5, 51.0), (0.99, 100.0), (1.0, 100.0), (0.0, 1.0)])
def test_a_share_of_the_answers_is_there(share: float, expected: float) -> None:
    assert Asked(seconds=[float(number) for number in range(100, 0, -1)]).at(share) == expected


def test_a_server_that_ends_is_told_with_its_last_words(tmp_path: Path) -> None:
    with (
        pytest.raises(BenchError, match="no such thing"),
        server(
            ["/bin/sh", "-c", "echo no such thing; exit 3"], port=free_port(), log=tmp_path / "a.log", ready="/health"
        ),
    ):
        pass


def test_scores_are_compared() -> None:
    assert same_scores([0.1, 0.2], [0.1, 0.2 + 9e-7]).equal
    assert same_scores([0.1, 0.2], [0.1, 0.2 + 2e-6]).equal is False
    assert same_scores([0.1], [0.1, 0.2]).equal is False


@pytest.mark.slow
@pytest.mark.parametrize("name", ["serving_forest", "serving_load"])
def test_a_small_bench_runs(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp() / "serving-benches"  # models are fitted once for both
    assert small(name, folder)["details"]["serving API"]["refused"] == 0
