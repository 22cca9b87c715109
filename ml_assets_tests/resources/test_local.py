"""Runs that a killed Dagster left behind are ended when the next one starts; those of a living one go on."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.tags import GRPC_INFO_TAG

from ml_assets.resources.local import reconcile


@dg.job
def nothing() -> None:
    """Do nothing."""


def run_of(instance: dg.DagsterInstance, place: str | None) -> str:
    """Return the id of a run that was started through the code server at a socket."""
    tags = {GRPC_INFO_TAG: json.dumps({"host": "localhost", "socket": place})} if place else {}
    return instance.create_run_for_job(nothing, status=dg.DagsterRunStatus.STARTED, tags=tags).run_id


def status(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    """Return the run's status."""
    run = instance.get_run_by_id(run_id)
    assert run
    return run.status


@pytest.mark.parametrize("there", [False, True])
def test_a_run_whose_server_is_gone_has_failed(tmp_path: Path, there: bool) -> None:
    place = tmp_path / "socket"
    if there:  # the file outlives a server that was killed
        with socket.socket(socket.AF_UNIX) as killed:
            killed.bind(str(place))
    with dg.DagsterInstance.ephemeral() as instance:
        run_id = run_of(instance, str(place))
        assert reconcile(instance) == [run_id]
        assert status(instance, run_id) is dg.DagsterRunStatus.FAILURE
        assert reconcile(instance) == []


def test_a_run_whose_server_is_up_goes_on_and_so_does_one_that_was_started_otherwise(tmp_path: Path) -> None:
    place = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as server, dg.DagsterInstance.ephemeral() as instance:
        server.bind(str(place))
        server.listen()
        runs = [run_of(instance, str(place)), run_of(instance, None)]
        assert reconcile(instance) == []
        assert [status(instance, run_id) for run_id in runs] == [dg.DagsterRunStatus.STARTED] * 2
