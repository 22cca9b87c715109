"""What lies in deploy/ and .github/: files that parse, name commands that exist, keep no secret, and gate a promotion."""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from dagster._core.errors import DagsterInvalidConfigError
from dagster._core.instance.config import dagster_instance_config

from ml_assets import cli
from ml_assets.deployment.targets.kubernetes import VERSION
from ml_assets.packaging.container import USER

ROOT = Path(__file__).parents[2]
WORKFLOW, BUILD = ROOT / ".github/workflows/ci.yml", ROOT / "deploy/cloudbuild.yaml"
COMPOSE, HELM = ROOT / "deploy/compose.yaml", ROOT / "deploy/dagster-helm-values.yaml"
FILES = (WORKFLOW, BUILD, COMPOSE, HELM, ROOT / "deploy/Dockerfile", ROOT / "deploy/cloud_function/main.py")
SECRET = re.compile(
    r"-----BEGIN|AIza[0-9A-Za-z_-]{30}|ghp_\w{30}|\"private_key\"|(password|secret|token|api_key)\s*[:=]\s*['\"]?(?!\$)[\w+/-]{8,}",
    re.IGNORECASE,
)


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def leaves(value: Any) -> Iterator[str]:
    """Every text below a value."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from leaves(one)
    elif isinstance(value, str):
        yield value


# -- commands ----------------------------------------------------------------------------------------------------------


def own_commands(value: Any) -> list[list[str]]:
    """Return the arguments of each call of `ml-assets` below a value of YAML: in a list, in a script, or as an entry point."""
    found = []
    if isinstance(value, dict):
        found += [value["args"]] if value.get("entrypoint") == "ml-assets" else []
        for one in value.values():
            found += own_commands(one)
    elif isinstance(value, list):
        found += [value[1:]] if value[:1] == ["ml-assets"] else [call for one in value for call in own_commands(one)]
    elif isinstance(value, str):
        found += [shlex.split(line) for line in re.findall(r"(?:^|-- |\s)ml-assets ((?:[a-z]).*)", value)]
    return found


def refused(arguments: list[str]) -> bool:
    """Tell whether our command's parser refuses the arguments, which are not run."""
    try:
        cli._parser().parse_args(arguments)
    except SystemExit:
        return True
    return False


@pytest.mark.parametrize("path", [WORKFLOW, BUILD, COMPOSE], ids=lambda path: path.name)
def test_our_own_commands_are_called_as_they_are(path: Path) -> None:
    calls = own_commands(load(path))
    assert calls and [call for call in calls if refused(call)] == []


@pytest.mark.parametrize("call", [["promte", "flight_delay"], ["promote", "flight_delay"], ["serve", "--bind", "all"]])
def test_a_call_of_another_name_or_without_what_is_needed_is_found(call: list[str], capsys: Any) -> None:
    script = {"run": f"kubectl exec x -- ml-assets {shlex.join(call)}"}
    assert own_commands(script) == [call] and refused(call)
    assert capsys.readouterr().err


def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("path", [WORKFLOW, BUILD], ids=lambda path: path.name)
def test_targets_of_make_exist(path: Path) -> None:
    asked = {target for text in leaves(load(path)) for target in re.findall(r"\bmake ([a-z]+)", text)}
    assert {"check", "test"} <= asked <= targets()


def test_the_images_start_what_is_installed() -> None:
    tools = {service["command"][0] for service in load(COMPOSE)["services"].values() if "command" in service}
    scripts = Path(sys.executable).parent
    assert [tool for tool in tools - {"redis-server"} if not (scripts / tool).exists()] == []
    command = re.findall(r'^CMD \["(\S+)",', (ROOT / "deploy/Dockerfile").read_text(), re.MULTILINE)
    assert command == ["dagster"]


# -- order and permissions ---------------------------------------------------------------------------------------------


def test_the_workflow_tests_then_builds_then_promotes_after_a_person_said_so() -> None:
    jobs = load(WORKFLOW)["jobs"]
    assert set(jobs["image"]["needs"]) == {"check", "test"} and jobs["promote"]["needs"] == ["image"]
    assert jobs["promote"]["environment"] == "production"
    for name in ("image", "promote"):
        assert "github.ref == 'refs/heads/main'" in jobs[name]["if"]


def test_the_workflow_may_do_no_more_than_it_needs() -> None:
    workflow = load(WORKFLOW)
    assert workflow["permissions"] == {"contents": "read"}
    more = {name: job["permissions"] for name, job in workflow["jobs"].items() if "permissions" in job}
    assert set(more) == {"image", "promote"}
    assert all(given == {"contents": "read", "id-token": "write"} for given in more.values())
    assert "pull_request_target" not in workflow[True]  # YAML reads `on` as true
    assert "credentials_json" not in WORKFLOW.read_text()  # federation, no keys


def test_actions_are_pinned() -> None:
    steps = [step for job in load(WORKFLOW)["jobs"].values() for step in job["steps"]]
    used = [step["uses"] for step in steps if "uses" in step]
    assert used and [one for one in used if not re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|[0-9a-f]{40})", one)] == []


def test_no_script_of_the_workflow_is_written_by_whoever_opens_a_pull_request() -> None:
    scripts = [step["run"] for job in load(WORKFLOW)["jobs"].values() for step in job["steps"] if "run" in step]
    assert [script for script in scripts if "${{" in script] == []  # values come by the environment, quoted


def test_cloud_build_does_the_same_in_the_same_order() -> None:
    steps = load(BUILD)["steps"]
    assert [(step["id"], step.get("waitFor")) for step in steps] == [
        ("test", None),
        ("image", ["test"]),
        ("push", ["image"]),
        ("promote", ["push"]),
    ]
    assert "--require-approval" in BUILD.read_text()


def test_a_refused_promotion_fails_the_job() -> None:
    promotes = [text for path in (WORKFLOW, BUILD) for text in leaves(load(path)) if "ml-assets promote" in text]
    assert len(promotes) == 2
    assert [text for text in promotes if re.search(r"\|\| |; true|--force|set \+e", text)] == []


# -- secrets and networks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_file_holds_a_secret(path: Path) -> None:
    assert [line for line in path.read_text().splitlines() if SECRET.search(line)] == []


@pytest.mark.parametrize("line", ["POSTGRES_PASSWORD: hunter2hunter2", 'api_key = "0123456789"', "-----BEGIN KEY"])
def test_a_secret_would_be_found(line: str) -> None:
    assert SECRET.search(line)


def test_compose_is_reached_from_this_machine_only() -> None:
    services = load(COMPOSE)["services"]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports and [port for port in ports if not port.startswith("127.0.0.1:")] == []
    assert not {"postgres", "redis"} & {name for name, service in services.items() if "ports" in service}


def test_compose_gives_our_services_one_environment() -> None:
    services = load(COMPOSE)["services"]
    own = {name for name, service in services.items() if service["image"] == "ml-assets:local"}
    assert own == {"code", "webserver", "daemon", "api", "mlflow"}
    assert services["api"]["environment"].items() >= services["code"]["environment"].items()


# -- Dagster -----------------------------------------------------------------------------------------------------------


def production() -> dict[str, Any]:
    return load(ROOT / "deploy/dagster.production.yaml")


def test_compose_runs_dagster_as_production_does_but_for_where_steps_print() -> None:
    own, other = load(ROOT / "deploy/dagster.compose.yaml"), production()
    assert own.pop("compute_logs") != other.pop("compute_logs")
    assert own == other


def test_the_charts_instance_is_that_of_production() -> None:
    values, other = load(HELM), production()
    assert values["telemetry"] == other.pop("telemetry")
    logs, told = other.pop("compute_logs"), values["computeLogManager"]
    assert (told["type"], told["config"]["gcsComputeLogManager"]["prefix"]) == (logs["class"], logs["config"]["prefix"])
    assert told["config"]["gcsComputeLogManager"]["uploadInterval"] == logs["config"]["upload_interval"]
    assert not values["postgresql"]["enabled"] and "postgres" in other.pop("storage")
    assert values["additionalInstanceConfig"] == other


def test_the_chart_writes_none_of_these_blocks_a_second_time() -> None:
    daemon = load(HELM)["dagsterDaemon"]
    assert not any(daemon[name]["enabled"] for name in ("runCoordinator", "runMonitoring", "runRetries"))
    assert not any(daemon[name]["useThreads"] for name in ("sensors", "schedules"))
    assert not load(HELM)["retention"]["enabled"]


@pytest.mark.parametrize("where", ["compose", "chart"])
def test_dagster_takes_every_setting(tmp_path: Path, where: str) -> None:
    if where == "chart":
        text = yaml.safe_dump(load(HELM)["additionalInstanceConfig"])
    else:
        text = (ROOT / "deploy/dagster.compose.yaml").read_text()
    (tmp_path / "dagster.yaml").write_text(text)
    settings, _ = dagster_instance_config(str(tmp_path))
    assert settings["run_monitoring"]["max_runtime_seconds"] == 7200
    (tmp_path / "dagster.yaml").write_text(text.replace("max_runtime_seconds", "maximal_seconds"))
    with pytest.raises(DagsterInvalidConfigError, match="maximal_seconds"):
        dagster_instance_config(str(tmp_path))


def test_webserver_and_daemon_find_the_code_where_it_listens() -> None:
    compose = load(COMPOSE)
    (place,) = yaml.safe_load(compose["configs"]["workspace"]["content"])["load_from"]
    assert place["grpc_server"] == {"host": "code", "port": 4000, "location_name": "ml_assets"}
    assert '"--host", "0.0.0.0", "--port", "4000"' in (ROOT / "deploy/Dockerfile").read_text()
    for name in ("webserver", "daemon"):
        assert compose["services"][name]["command"][-2:] == ["--workspace", "/app/home/workspace.yaml"]
        assert {"source": "workspace", "target": "/app/home/workspace.yaml"} in compose["services"][name]["configs"]


POD = {"image", "env", "envSecrets", "podSecurityContext", "securityContext", "resources", "volumes", "volumeMounts"}
KNOWN = {
    "": {"global", "serviceAccount", "postgresql", "generatePostgresqlPasswordSecret", "dagsterWebserver"}
    | {"dagster-user-deployments", "runLauncher", "computeLogManager", "dagsterDaemon", "retention", "telemetry"}
    | {"rabbitmq", "additionalInstanceConfig"},
    "global": {"postgresqlSecretName", "serviceAccountName", "dagsterHome"},
    "serviceAccount": {"create", "name", "annotations"},
    "postgresql": {"enabled", "postgresqlHost", "postgresqlUsername", "postgresqlDatabase"},
    "dagsterWebserver": POD | {"service", "replicaCount"},
    "dagsterDaemon": POD | {"enabled", "runCoordinator", "runMonitoring", "runRetries", "sensors", "schedules"},
    "dagster-user-deployments": {"enabled", "enableSubchart", "deployments"},
    "runLauncher": {"type", "config"},
}
"""The chart's keys at the top and one below, read in its schema (helm/dagster/schema in Dagster's repository)."""


def test_the_values_have_keys_that_the_chart_knows() -> None:
    values = load(HELM)
    assert set(values) <= KNOWN[""]
    assert [name for name, keys in KNOWN.items() if name and not set(values[name]) <= keys] == []
    (code,) = values["dagster-user-deployments"]["deployments"]
    assert set(code) <= POD | {"name", "codeServerArgs", "port", "includeConfigInLaunchedRuns"}
    launcher = values["runLauncher"]["config"]["k8sRunLauncher"]
    assert set(launcher) <= {
        "imagePullPolicy",
        "loadInclusterConfig",
        "envSecrets",
        "failPodOnRunFailure",
        "runK8sConfig",
    }


def test_what_the_chart_hands_to_kubernetes_is_what_the_api_knows() -> None:
    values = load(HELM)
    (code,) = values["dagster-user-deployments"]["deployments"]
    for part in (values["dagsterWebserver"], values["dagsterDaemon"], code):
        kubernetes_validate.validate(_pod(part), VERSION, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(_pod(code | {"resources": {"request": {"cpu": 1}}}), VERSION, strict=True)


def _pod(part: dict[str, Any]) -> dict[str, Any]:
    container = {"name": "c", "image": part["image"]["repository"], "securityContext": part["securityContext"]}
    container |= {"resources": part["resources"], "volumeMounts": part.get("volumeMounts", [])}
    spec = {
        "containers": [container],
        "securityContext": part["podSecurityContext"],
        "volumes": part.get("volumes", []),
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}


def test_the_image_is_one_and_its_user_is_the_same_everywhere() -> None:
    values = load(HELM)
    (code,) = values["dagster-user-deployments"]["deployments"]
    assert code["image"] == values["dagsterWebserver"]["image"] == values["dagsterDaemon"]["image"]
    assert code["podSecurityContext"]["runAsUser"] == USER
    assert re.findall(r"^USER (\S+)", (ROOT / "deploy/Dockerfile").read_text(), re.MULTILINE) == [f"{USER}:{USER}"]


def test_the_chart_is_of_our_version_of_dagster_and_of_the_location_that_we_load() -> None:
    assert f"--version {version('dagster')} " in HELM.read_text()
    (code,) = load(HELM)["dagster-user-deployments"]["deployments"]
    module = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["dg"]["project"][
        "code_location_target_module"
    ]
    assert code["codeServerArgs"][:2] == ["--module-name", module]
    for path in (WORKFLOW, BUILD):
        assert f"deployment/dagster-dagster-user-deployments-{code['name']}" in path.read_text()


# -- the image of this repository --------------------------------------------------------------------------------------


def test_what_the_dockerfile_copies_exists_and_is_let_through() -> None:
    text = (ROOT / "deploy/Dockerfile").read_text()
    sources = [one for line in re.findall(r"^COPY (.*)", text, re.MULTILINE) for one in line.split()[:-1]]
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(sources) == allowed and all((ROOT / one).exists() for one in sources)
    assert not {"data", ".venv", ".git", "."} & set(sources)


def test_the_image_installs_what_the_lock_has_by_its_hashes() -> None:
    assert "--require-hashes" in (ROOT / "deploy/Dockerfile").read_text()
