"""What a deployment may be told. Every value is checked before a plan is made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
PROJECT = re.compile(r"[a-z][-a-z0-9]{4,28}[a-z0-9]")
REGION = re.compile(r"[a-z]+-[a-z]+[0-9]+")
ACCOUNT = re.compile(r"[a-z][-a-z0-9]{4,28}[a-z0-9]@[a-z][-a-z0-9]{4,28}[a-z0-9]\.iam\.gserviceaccount\.com")
REPOSITORY = r"[a-z0-9][a-z0-9.-]*(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+"
UNTAGGED = re.compile(REPOSITORY)
IMAGE = re.compile(rf"{REPOSITORY}@sha256:[0-9a-f]{{64}}")
CPU = re.compile(r"[1-9][0-9]*m?|0\.[0-9]*[1-9][0-9]*|[1-9][0-9]*\.[0-9]+")
MEMORY = re.compile(r"[1-9][0-9]*(Mi|Gi)")
_FORMS = {
    "namespace": (NAME, "lower-case letters, digits and hyphens, at most 63, beginning with a letter"),
    "name": (NAME, "lower-case letters, digits and hyphens, at most 63, beginning with a letter"),
    "secret": (NAME, "the name of a Secret, never its content"),
    "shared": (NAME, "the name of a PersistentVolumeClaim, or for batch of a bucket"),
    "clients": (NAME, "the name of a namespace"),
    "project": (PROJECT, "a Google Cloud project's id, such as my-project-1"),
    "region": (REGION, "such as europe-west1"),
    "service_account": (ACCOUNT, "such as serving@my-project-1.iam.gserviceaccount.com"),
    "cpu": (CPU, "cores, such as 1, 0.5 or 500m"),
    "memory": (MEMORY, "such as 512Mi or 1Gi"),
}
_POSITIVE = {"replicas": 1_000, "most_replicas": 1_000, "port": 65_535}


class SettingError(ValueError):
    """A value that a target cannot use, or lacks."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Empty text means not given. `root` is the repository, `folder` is where files of the deployment are written.

    `name` is of what is made outside, `clients` of the one namespace that may ask, `service_account` of the Google account to
    act as. `secret` names the Secret that becomes the environment of `ml-assets serve` on Kubernetes (without it the image is a
    bundle's), and of the batch job; `shared` names what holds the bundles for these two, a PersistentVolumeClaim or a bucket.
    `cpu` is in cores and `memory` in Mi or Gi.
    """

    root: Path
    folder: Path
    image: str = ""
    project: str = ""
    region: str = ""
    namespace: str = "ml-assets"
    name: str = ""
    secret: str = ""
    shared: str = ""
    clients: str = ""
    service_account: str = ""
    context: str = ""
    replicas: int = 2
    most_replicas: int = 10
    cpu: str = "1"
    memory: str = "1Gi"
    port: int = 8080
    monitoring: bool = False

    def __post_init__(self) -> None:
        """Refuse what no target could use; `SettingError` names the option, the value and what would do."""
        for name, (form, meant) in _FORMS.items():
            value = getattr(self, name)
            if value and not form.fullmatch(value):
                raise SettingError(f"{_option(name)} {value!r} does not do: give {meant}")
        for name, most in _POSITIVE.items():
            if not 1 <= getattr(self, name) <= most:
                raise SettingError(f"{_option(name)} {getattr(self, name)} does not do: give a number from 1 to {most}")
        if self.most_replicas < self.replicas:
            raise SettingError(f"--most-replicas {self.most_replicas} is less than --replicas {self.replicas}")

    def require(self, target: str, *names: str) -> None:
        """Refuse to go on without these; `SettingError` names them."""
        missing = [_option(name) for name in names if not getattr(self, name)]
        if missing:
            raise SettingError(f"target {target} needs {' and '.join(missing)}")

    def require_image(self, target: str) -> None:
        """Refuse an image that is not named by its digest: a tag may mean something else tomorrow."""
        if not IMAGE.fullmatch(self.image):
            raise SettingError(
                f"target {target} needs --image HOST/NAME@sha256:DIGEST, not {self.image!r}; "
                "`ml-assets image PROBLEM --push HOST/NAME` prints it"
            )


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def outside_name(problem: str) -> str:
    """Return a problem's name as Kubernetes and Google Cloud allow it: at most 50 letters, digits and hyphens."""
    return problem.lower().replace("_", "-")[:50].strip("-")
