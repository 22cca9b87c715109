"""Deployment targets: what a plan says, that it is carried out in order, and that a wrong value is refused before anything is done."""

from __future__ import annotations

import copy
import hashlib
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from ml_assets import cli
from ml_assets.deployment.targets import kubernetes
from ml_assets.deployment.targets.command import TARGETS, deploy, registered
from ml_assets.deployment.targets.plan import Copy, DeployError, Plan, Release, Run, Write, carry_out
from ml_assets.deployment.targets.settings import SettingError, Settings, outside_name
from ml_assets.development.tracking import ChampionRef
from ml_assets.packaging import inference
from ml_assets.packaging.bundle import BundleError
from ml_assets.packaging.container import PORT

ROOT = Path(__file__).parents[2]
IMAGE = f"registry.example:5000/models/late@sha256:{'0a' * 32}"
GOOGLE = {
    "project": "my-project-1",
    "region": "europe-west1",
    "service_account": "serving@my-project-1.iam.gserviceaccount.com",
}


@pytest.fixture
def release(tmp_path: Path) -> Release:
    folder = tmp_path / "registered"
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    (folder / "requirements.txt").write_text("fastapi==0.1\nnumpy==1.0\n")
    return Release("flight_delay", "3", folder, "ab" * 32, "cd" * 32)


def settings(folder: Path, **told: Any) -> Settings:
    return Settings(root=ROOT, folder=folder / "made", **told)


# -- plans -------------------------------------------------------------------------------------------------------------


def commands(plan: Plan) -> list[str]:
    return [step.title() for step in plan.steps if isinstance(step, Run)]


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_a_dry_run_tells_every_file_and_command_and_does_nothing(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("a dry run runs nothing"))
    told, chosen = [], settings(tmp_path, image=IMAGE, **GOOGLE)
    deploy(target, release, chosen, dry_run=True, tell=told.append)
    plan, text = TARGETS[target](release, chosen), "\n".join(told)
    assert plan.steps and all(step.title() in text and step.why in text for step in plan.steps)
    for step in plan.steps:
        if isinstance(step, Write):
            assert all(line in text for line in step.content.splitlines())
    assert not chosen.folder.exists()


def test_our_own_commands_are_called_as_they_are(release: Release, tmp_path: Path) -> None:
    calls = [
        step.arguments[1:]
        for chosen in ({}, {"image": "registry.example/late"})
        for step in TARGETS["container"](release, settings(tmp_path, **chosen)).steps
        if isinstance(step, Run) and step.arguments[0] == "ml-assets"
    ]
    (container,) = by_kind(release, tmp_path, "the API")["Deployment"]["spec"]["template"]["spec"]["containers"]
    unit = TARGETS["api"](release, settings(tmp_path)).steps[0]
    assert isinstance(unit, Write)
    started = re.findall(r"^ExecStart=\S+/ml-assets (.*)$", unit.content, re.MULTILINE)
    for call in [*calls, container["args"][1:], *(shlex.split(line) for line in started)]:
        assert cli._parser().parse_args(call).run  # ends the process where it is refused
    assert len(calls) == 2 and len(started) == 1


def test_the_api_listens_on_this_machine_only(release: Release, tmp_path: Path) -> None:
    plan = TARGETS["api"](release, settings(tmp_path, port=9000))
    (unit,) = [step for step in plan.steps if isinstance(step, Write)]
    assert "serve flight_delay --host 127.0.0.1 --port 9000\n" in unit.content
    assert "0.0.0.0" not in plan.text()


def test_a_container_is_built_and_pushed_unless_its_digest_says_that_it_exists(
    release: Release, tmp_path: Path
) -> None:
    def first(image: str) -> str:
        return commands(TARGETS["container"](release, settings(tmp_path, image=image)))[0]

    assert first("") == "ml-assets image flight_delay:3 --tag=ml-assets/flight_delay:3"
    assert first("registry.example/late") == "ml-assets image flight_delay:3 --push=registry.example/late:3"
    assert first(IMAGE).startswith("docker compose")


def test_a_container_has_no_privileges_and_is_reached_from_this_machine_only(release: Release, tmp_path: Path) -> None:
    plan = TARGETS["container"](release, settings(tmp_path, image=IMAGE, cpu="500m", memory="512Mi", port=9000))
    (file,) = [step for step in plan.steps if isinstance(step, Write)]
    model = yaml.safe_load(file.content)["services"]["model"]
    assert model["ports"] == [f"127.0.0.1:9000:{PORT}"]
    assert (model["read_only"], model["cap_drop"], model["cpus"], model["mem_limit"]) == (True, ["ALL"], 0.5, "512m")


def test_a_function_gets_the_digest_from_outside_its_folder_and_the_bundles_own_pins(
    release: Release, tmp_path: Path
) -> None:
    plan = TARGETS["cloud_function"](release, settings(tmp_path, **GOOGLE))
    files = {step.path: step.content for step in plan.steps if isinstance(step, Write)}
    assert {"fastapi==0.1", "numpy==1.0"} <= set(files["requirements.txt"].splitlines())
    assert "functions-framework==" in files["requirements.txt"]
    (command,) = commands(plan)
    assert f"BUNDLE_DIGEST={release.digest}" in command and "--no-allow-unauthenticated" in command
    assert [step.source for step in plan.steps if isinstance(step, Copy)] == [release.folder]


def test_batch_names_jobs_and_assets_that_dagster_has(release: Release) -> None:
    import dagster as dg

    from ml_assets.definitions import defs
    from ml_assets.deployment.targets import batch

    found = defs()
    assert {batch.UPDATE_JOB, batch.SCORE_JOB} <= {job.name for job in found.resolve_all_job_defs()}
    (key,) = dg.AssetSelection.from_string(batch.select(release)).resolve(found.resolve_asset_graph())
    assert key == dg.AssetKey(["flight_delay", "predictions"])


def test_batch_makes_yesterdays_partition_each_morning(release: Release, tmp_path: Path) -> None:
    chosen = settings(tmp_path, image=IMAGE, secret="places", shared="bundles", **GOOGLE)
    job, schedule = commands(TARGETS["batch"](release, chosen))
    assert "--set-secrets=/secrets/ml-assets.env=places:latest" in job and "bucket=bundles,readonly=true" in job
    assert "dagster asset materialize --module-name ml_assets.definitions" in job and f"--image={IMAGE}" in job
    assert "flight-delay-predictions:run" in schedule


# -- the registry ------------------------------------------------------------------------------------------------------


class Registry:
    """A registry with one version, which is the champion."""

    def __init__(self, folder: Path, tags: dict[str, str]) -> None:
        self._found = ChampionRef("flight_delay", "3", "run", str(folder), tags)

    def champion(self, problem: str) -> ChampionRef | None:
        return self._found if problem == "flight_delay" else None

    def version(self, _: str, version: str) -> ChampionRef | None:
        return self._found if version == "3" else None

    def bundle_folder(self, ref: ChampionRef, _: Path) -> Path:
        return Path(ref.source)


def test_what_is_deployed_is_the_champion_or_the_version_that_was_named(release: Release, tmp_path: Path) -> None:
    digest = hashlib.sha256(b'{"files": {}}').hexdigest()
    (release.folder / "manifest.json").write_text('{"files": {}}')
    (release.folder / "requirements.txt").unlink()
    registry: Any = Registry(release.folder, {"bundle_digest": digest, "data_hash": "d"})
    for version in ("", "3"):
        found = registered(registry, "flight_delay", version=version, cache=tmp_path)
        assert found == Release("flight_delay", "3", release.folder, digest, "d")
    with pytest.raises(DeployError, match="flight_delay has no version 9 with a bundle"):
        registered(registry, "flight_delay", version="9", cache=tmp_path)
    with pytest.raises(DeployError, match="other has no champion"):
        registered(registry, "other", cache=tmp_path)
    (release.folder / "manifest.json").write_text('{"files":  {}}')
    with pytest.raises(BundleError, match="refused"):
        registered(registry, "flight_delay", cache=tmp_path)


# -- values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("namespace", "Models"),
        ("namespace", "-models"),
        ("namespace", "m" * 64),
        ("name", "late_flights"),
        ("secret", "key=value"),
        ("clients", "a b"),
        ("project", "p"),
        ("region", "europe"),
        ("service_account", "me@example.com"),
        ("cpu", "0"),
        ("cpu", "-1"),
        ("memory", "512"),
        ("memory", "0Gi"),
        ("replicas", 0),
        ("most_replicas", 1),
        ("port", 70_000),
    ],
)
def test_a_value_that_no_target_can_use_is_refused_by_its_option(tmp_path: Path, name: str, value: Any) -> None:
    with pytest.raises(SettingError, match=f"--{name.replace('_', '-')} ") as refused:
        settings(tmp_path, **{name: value})
    assert str(value) in str(refused.value)


@pytest.mark.parametrize(
    "image", ["", "late", "registry.example/late:3", "registry.example/late@sha256:12", f"{IMAGE} x"]
)
@pytest.mark.parametrize("target", ["kubernetes", "batch"])
def test_an_image_that_may_change_under_its_name_is_refused(
    release: Release, tmp_path: Path, image: str, target: str
) -> None:
    with pytest.raises(SettingError, match="@sha256"):
        TARGETS[target](release, settings(tmp_path, image=image, **GOOGLE))


def test_what_a_target_needs_is_named(release: Release, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="cloud_function needs --project and --region"):
        TARGETS["cloud_function"](release, settings(tmp_path))


def test_a_problems_name_becomes_one_that_kubernetes_takes() -> None:
    assert outside_name("flight_delay") == "flight-delay"
    assert len(outside_name("p" * 90)) == 50


# -- carrying out ------------------------------------------------------------------------------------------------------


def tool(place: Path, name: str, script: str) -> None:
    (place / name).write_text(f"#!/bin/sh\n{script}\n")
    (place / name).chmod(0o755)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that comes first on PATH."""
    place = tmp_path / "tools"
    place.mkdir()
    monkeypatch.setenv("PATH", f"{place}:/bin:/usr/bin")
    return place


def test_kubernetes_is_told_in_order(release: Release, tmp_path: Path, tools: Path) -> None:
    tool(tools, "kubectl", f'echo "$@" >> {tmp_path}/asked; ls')
    chosen, told = settings(tmp_path, image=IMAGE, context="staging"), []
    deploy("kubernetes", release, chosen, dry_run=False, tell=told.append)
    apply, follow = (tmp_path / "asked").read_text().splitlines()
    assert apply == "--context=staging apply --filename=manifests.yaml"
    assert follow.startswith("--context=staging rollout status deployment/flight-delay --namespace=ml-assets")
    assert len(list(yaml.safe_load_all((chosen.folder / "manifests.yaml").read_text()))) == 7
    assert told[0] == "1/3 write manifests.yaml" and "rollout undo" in told[-1]


def test_the_first_failure_ends_it_and_what_was_done_is_told(release: Release, tmp_path: Path, tools: Path) -> None:
    tool(tools, "kubectl", f'echo "$@" >> {tmp_path}/asked; exit 3')
    with pytest.raises(DeployError) as stopped:
        deploy("kubernetes", release, settings(tmp_path, image=IMAGE), dry_run=False, tell=str)
    told = str(stopped.value).splitlines()
    assert told[0] == "step 2 of 3 failed: kubectl apply --filename=manifests.yaml: exit status 3"
    assert told[1] == "  done: write manifests.yaml" and told[2].startswith("  not done: kubectl rollout status")
    assert len((tmp_path / "asked").read_text().splitlines()) == 1


def test_a_missing_tool_is_told_before_anything_is_done(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    chosen = settings(tmp_path, image=IMAGE)
    with pytest.raises(DeployError, match="kubectl not found on PATH, so nothing was done"):
        deploy("kubernetes", release, chosen, dry_run=False, tell=str)
    assert not chosen.folder.exists()


def test_our_own_command_is_the_one_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []
    monkeypatch.setattr(
        subprocess, "run", lambda given, **_: ran.append(given) or subprocess.CompletedProcess(given, 0)
    )
    monkeypatch.setenv("PATH", str(tmp_path))
    carry_out(Plan("t", (Run(("ml-assets", "image", "late"), "builds"),)), tmp_path, tell=str)
    assert ran == [[sys.executable, "-m", "ml_assets.cli", "image", "late"]]


def test_a_bundle_takes_the_place_of_a_bundle_and_of_nothing_else(release: Release, tmp_path: Path) -> None:
    plan = Plan("t", (Copy("bundle", release.folder, "the model"),))
    carry_out(plan, tmp_path / "to", tell=str)
    (tmp_path / "to" / "bundle" / "stale.onnx").touch()
    carry_out(plan, tmp_path / "to", tell=str)
    assert {path.name for path in (tmp_path / "to/bundle").iterdir()} == {"manifest.json", "requirements.txt"}
    (tmp_path / "mine" / "bundle").mkdir(parents=True)
    with pytest.raises(DeployError, match="no bundle: move it"):
        carry_out(plan, tmp_path / "mine", tell=str)


# -- Kubernetes --------------------------------------------------------------------------------------------------------

SHAPES = {
    "a bundle": {},
    "with monitoring": {"monitoring": True, "clients": "web"},
    "the API": {"secret": "serving", "shared": "bundles", **GOOGLE},
}


def manifests(release: Release, folder: Path, shape: str) -> list[dict[str, Any]]:
    """Return the manifests as they read back from the file."""
    plan = kubernetes.plan(release, settings(folder, image=IMAGE, **SHAPES[shape]))
    text = next(step.content for step in plan.steps if isinstance(step, Write))
    assert "&id" not in text
    return list(yaml.safe_load_all(text))


def refused(manifest: dict[str, Any]) -> bool:
    try:
        kubernetes_validate.validate(manifest, kubernetes.VERSION, strict=True)
    except kubernetes_validate.ValidationError:
        return True
    return False


@pytest.mark.parametrize("shape", SHAPES)
def test_manifests_are_what_the_api_knows(release: Release, tmp_path: Path, shape: str) -> None:
    known = [one for one in manifests(release, tmp_path, shape) if one["kind"] != "PodMonitoring"]
    assert [one["kind"] for one in known] == [
        *("Namespace", "ServiceAccount", "NetworkPolicy", "Deployment", "Service"),
        *("HorizontalPodAutoscaler", "PodDisruptionBudget"),
    ]
    assert [one["kind"] for one in known if refused(one)] == []


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Deployment", ("spec", "template", "spec", "containers", 0, "livenessprobe"), {}),
        ("Deployment", ("spec", "strategy", "rollingUpdate", "maxUnavailable"), [0]),
        ("Deployment", ("spec", "template", "spec", "containers", 0, "ports", 0, "containerPort"), "http"),
        ("HorizontalPodAutoscaler", ("spec", "targetCPUUtilizationPercentage"), 70),  # of autoscaling/v1
        ("NetworkPolicy", ("spec", "ingress", 0, "port"), 8080),
        ("Service", ("spec", "ports", 0, "port"), None),
    ],
)
def test_the_same_check_refuses_a_wrong_field(
    release: Release, tmp_path: Path, kind: str, path: tuple[Any, ...], value: Any
) -> None:
    manifest = copy.deepcopy(next(one for one in manifests(release, tmp_path, "a bundle") if one["kind"] == kind))
    place = manifest
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    assert refused(manifest)


def by_kind(release: Release, folder: Path, shape: str) -> dict[str, Any]:
    return {one["kind"]: one for one in manifests(release, folder, shape)}


def test_names_labels_and_ports_agree(release: Release, tmp_path: Path) -> None:
    found = by_kind(release, tmp_path, "with monitoring")
    deployment, pod = found["Deployment"]["spec"], found["Deployment"]["spec"]["template"]
    labels = pod["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"] == labels == found["Service"]["spec"]["selector"]
    assert found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    assert found["PodMonitoring"]["spec"]["selector"]["matchLabels"] == labels
    assert found["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == found["Deployment"]["metadata"]["name"]
    assert pod["spec"]["serviceAccountName"] == found["ServiceAccount"]["metadata"]["name"]
    (port,) = pod["spec"]["containers"][0]["ports"]
    assert found["Service"]["spec"]["ports"][0]["targetPort"] == port["name"]
    assert found["NetworkPolicy"]["spec"]["ingress"][0]["ports"] == [{"protocol": "TCP", "port": port["containerPort"]}]
    assert {one["metadata"]["namespace"] for kind, one in found.items() if kind != "Namespace"} == {"ml-assets"}


def test_a_pod_may_do_no_more_than_answer(release: Release, tmp_path: Path) -> None:
    pod = by_kind(release, tmp_path, "a bundle")["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == IMAGE
    assert pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(container["resources"]["limits"]) == {"cpu", "memory"}


def test_an_image_of_another_bundle_would_not_start(release: Release, tmp_path: Path) -> None:
    """Both start `inference.py`, which compares the digest that the registry has with the bytes in the image."""
    pod = by_kind(release, tmp_path, "a bundle")["Deployment"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["env"] == [{"name": inference.DIGEST_VARIABLE, "value": release.digest}]
    plan = TARGETS["container"](release, settings(tmp_path, image=IMAGE))
    (file,) = [step for step in plan.steps if isinstance(step, Write)]
    model = yaml.safe_load(file.content)["services"]["model"]
    assert model["environment"] == {inference.DIGEST_VARIABLE: release.digest}


def test_a_bundle_reaches_nothing_but_dns(release: Release, tmp_path: Path) -> None:
    (rule,) = by_kind(release, tmp_path, "a bundle")["NetworkPolicy"]["spec"]["egress"]
    assert {port["port"] for port in rule["ports"]} == {53}


def test_a_rollout_never_has_fewer_pods_and_leaves_their_number_to_the_autoscaler(
    release: Release, tmp_path: Path
) -> None:
    found = by_kind(release, tmp_path, "a bundle")
    deployment = found["Deployment"]["spec"]
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0 and "replicas" not in deployment
    scaled = found["HorizontalPodAutoscaler"]["spec"]
    assert (scaled["minReplicas"], scaled["maxReplicas"]) == (2, 10)
    pod = deployment["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]


def test_the_api_gets_its_keys_from_a_secret_that_is_named_and_its_identity_from_google(
    release: Release, tmp_path: Path
) -> None:
    found = by_kind(release, tmp_path, "the API")
    (container,) = found["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "serving"}}] and "Secret" not in found
    assert container["args"][:3] == ["ml-assets", "serve", "flight_delay"]
    assert {"name": "shared", "mountPath": "/app/shared", "readOnly": True} in container["volumeMounts"]
    annotations = found["ServiceAccount"]["metadata"]["annotations"]
    assert annotations == {"iam.gke.io/gcp-service-account": GOOGLE["service_account"]}
