"""What deploying would do, as steps that a person can read before they are taken."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ml_assets.packaging.bundle import MANIFEST

OWN_COMMAND = "ml-assets"


class DeployError(RuntimeError):
    """A deployment that cannot begin, or that stopped; the message says what was done and what was not."""


@dataclass(frozen=True)
class Release:
    """The registered version that is deployed: its bundle's folder on this machine and its digest."""

    problem: str
    version: str
    folder: Path
    digest: str
    data_hash: str = ""


@dataclass(frozen=True)
class Write:
    """Write a text file, at a path below the plan's folder."""

    path: str
    content: str
    why: str

    def title(self) -> str:
        """Return the step in one line."""
        return f"write {self.path}"

    def take(self, folder: Path) -> None:
        """Write the file."""
        target = folder / self.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(self.content)


@dataclass(frozen=True)
class Copy:
    """Copy a bundle's folder to a path below the plan's folder, in place of the bundle that lay there."""

    path: str
    source: Path
    why: str

    def title(self) -> str:
        """Return the step in one line."""
        return f"copy {self.source} to {self.path}"

    def take(self, folder: Path) -> None:
        """Copy it; `DeployError` when something else than a bundle is in the way."""
        target = folder / self.path
        if target.exists() and not (target / MANIFEST).is_file():
            raise DeployError(f"{target} is in the way and no bundle: move it, or choose another folder by --to")
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self.source, target)


@dataclass(frozen=True)
class Run:
    """Run a command in the plan's folder; its output is the user's to see."""

    arguments: tuple[str, ...]
    why: str

    def title(self) -> str:
        """Return the step in one line, as one would type it."""
        return shlex.join(self.arguments)

    def take(self, folder: Path) -> None:
        """Run it; `DeployError` when it fails."""
        own = [sys.executable, "-m", "ml_assets.cli"]  # the one that is running, also where PATH knows none
        tool, *rest = self.arguments
        status = subprocess.run([*(own if tool == OWN_COMMAND else [tool]), *rest], cwd=folder, check=False).returncode
        if status:
            raise DeployError(f"exit status {status}")


Step = Write | Copy | Run


@dataclass(frozen=True)
class Plan:
    """The steps in their order, and what a person should know beside them."""

    target: str
    steps: tuple[Step, ...]
    notes: tuple[str, ...] = ()

    def tools(self) -> list[str]:
        """Return the commands that must be installed, each once."""
        return list(dict.fromkeys(step.arguments[0] for step in self.steps if isinstance(step, Run)))

    def text(self) -> str:
        """Return the plan for reading: every step with its reason, every file with its content."""
        parts = [_told(number, step) for number, step in enumerate(self.steps, start=1)]
        return "\n".join([*parts, *(f"Note: {note}" for note in self.notes)])


def _told(number: int, step: Step) -> str:
    told = f"{number}. {step.title()}\n   {step.why}"
    if isinstance(step, Write):
        told += "\n" + "".join(f"   | {line}\n" for line in step.content.splitlines())
    return told


def carry_out(plan: Plan, folder: Path, *, tell: Callable[[str], None]) -> None:
    """Take the steps one by one, in `folder`; stop at the first that fails.

    Raises `DeployError` before anything is done when a tool is missing, and otherwise with what was done and what was not.
    """
    _require(plan.tools())
    folder.mkdir(parents=True, exist_ok=True)
    titles = [step.title() for step in plan.steps]
    for number, step in enumerate(plan.steps):
        tell(f"{number + 1}/{len(titles)} {titles[number]}")
        try:
            step.take(folder)
        except (DeployError, OSError) as error:
            raise DeployError(_stopped(titles, number, error)) from error
    for note in plan.notes:
        tell(f"Note: {note}")


def _require(tools: Sequence[str]) -> None:
    missing = [tool for tool in tools if tool != OWN_COMMAND and shutil.which(tool) is None]
    if missing:
        raise DeployError(
            f"{', '.join(missing)} not found on PATH, so nothing was done: install it, or see the steps with --dry-run"
        )


def _stopped(titles: Sequence[str], at: int, error: Exception) -> str:
    done, left = "; ".join(titles[:at]) or "nothing", "; ".join(titles[at + 1 :]) or "nothing"
    return f"step {at + 1} of {len(titles)} failed: {titles[at]}: {error}\n  done: {done}\n  not done: {left}"
