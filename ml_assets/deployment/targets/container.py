"""A container on one machine: the bundle's image under Docker, on loopback."""

from __future__ import annotations

from typing import Any

import yaml

from ml_assets.deployment.targets.plan import OWN_COMMAND, Plan, Release, Run, Step, Write
from ml_assets.deployment.targets.settings import IMAGE, UNTAGGED, SettingError, Settings, outside_name
from ml_assets.packaging.container import DIGEST_VARIABLE, PORT

FILE = "compose.yaml"


def plan(release: Release, settings: Settings) -> Plan:
    """Return the steps that build, push if `image` names where, and start it; an image named by its digest is only started."""
    image, made = _image(release, settings)
    name = settings.name or outside_name(release.problem)
    text = yaml.safe_dump(
        {"name": name, "services": {"model": _service(image, release, settings)}}, sort_keys=False, width=120
    )
    up = ("docker", "compose", f"--file={FILE}", "up", "--detach", "--wait")
    return Plan(
        "container",
        (
            *made,
            Write(FILE, text, "a service that may write nothing and has no privileges"),
            Run(up, "takes the place of the one that ran, and ends when it is healthy"),
        ),
        (f"ask it: curl http://127.0.0.1:{settings.port}/model", f"stop it: docker compose --project-name={name} down"),
    )


def _image(release: Release, settings: Settings) -> tuple[str, list[Step]]:
    """Return the image's name, and the step that makes it where it is not one that exists."""
    if IMAGE.fullmatch(settings.image):
        return settings.image, []
    model = f"{release.problem}:{release.version}"
    if not settings.image:
        tag = f"ml-assets/{model}"
        return tag, [Run((OWN_COMMAND, "image", model, f"--tag={tag}"), "builds the bundle's image, for this machine")]
    if not UNTAGGED.fullmatch(settings.image):
        raise SettingError(f"--image {settings.image!r} does not do: give HOST/NAME, or HOST/NAME@sha256:DIGEST")
    pushed = f"{settings.image}:{release.version}"
    return pushed, [Run((OWN_COMMAND, "image", model, f"--push={pushed}"), "builds the bundle's image and pushes it")]


def _service(image: str, release: Release, settings: Settings) -> dict[str, Any]:
    """The digest is the registry's: an image of another bundle does not start."""
    return {
        "image": image,
        "environment": {DIGEST_VARIABLE: release.digest},
        "restart": "unless-stopped",
        "read_only": True,
        "tmpfs": ["/tmp"],
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "ports": [f"127.0.0.1:{settings.port}:{PORT}"],
        "cpus": _cores(settings.cpu),
        "mem_limit": settings.memory.removesuffix("i").lower(),  # Docker's g is 2^30
    }


def _cores(cpu: str) -> float:
    return int(cpu[:-1]) / 1_000 if cpu.endswith("m") else float(cpu)
