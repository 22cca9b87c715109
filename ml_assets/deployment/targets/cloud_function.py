"""A Cloud Function: the bundle's folder beside a few lines, which functions-framework runs here as Google runs them."""

from __future__ import annotations

from packaging.utils import canonicalize_name

from ml_assets.deployment.targets.plan import Copy, Plan, Release, Run, Write
from ml_assets.deployment.targets.settings import Settings, outside_name
from ml_assets.packaging.bundle import REQUIREMENTS, pinned
from ml_assets.packaging.container import DIGEST_VARIABLE

SOURCE, MAIN, ENTRY = "deploy/cloud_function/main.py", "main.py", "serve"
RUNTIME = "python311"
ASGI_VARIABLE = "FUNCTION_USE_ASGI"
"""Makes functions-framework hand over the request as the bundle's own application takes it."""
SECONDS, AT_ONCE = 60, 80


def plan(release: Release, settings: Settings) -> Plan:
    """Return the folder of the function and the command that deploys it; needs a project and a region."""
    settings.require("cloud_function", "project", "region")
    return Plan(
        "cloud_function",
        (
            Write(MAIN, (settings.root / SOURCE).read_text(), "loads the bundle when its bytes match the digest"),
            Write(REQUIREMENTS, requirements(release), "the bundle's own, and functions-framework"),
            Copy("bundle", release.folder, "the same bytes as everywhere else"),
            Run(_command(release, settings), "the digest is kept outside the folder, in the function's environment"),
        ),
        ("only callers with roles/run.invoker are let in: the function asks for no keys of its own",),
    )


def requirements(release: Release) -> str:
    """Return the pins of the bundle and of functions-framework, a line each; where both have one the bundle's holds."""
    own = {_name(line): line for line in pinned(("functions-framework",))}
    bundle = (release.folder / REQUIREMENTS).read_text().splitlines()
    return "".join(f"{line}\n" for _, line in sorted({**own, **{_name(line): line for line in bundle}}.items()))


def _name(line: str) -> str:
    return canonicalize_name(line.partition("==")[0])


def _command(release: Release, settings: Settings) -> tuple[str, ...]:
    account = (f"--service-account={settings.service_account}",) if settings.service_account else ()
    return (
        *("gcloud", "functions", "deploy", settings.name or outside_name(release.problem), "--gen2", "--quiet"),
        *(f"--project={settings.project}", f"--region={settings.region}", f"--runtime={RUNTIME}"),
        *("--source=.", f"--entry-point={ENTRY}", "--trigger-http", "--no-allow-unauthenticated"),
        *(f"--cpu={settings.cpu}", f"--memory={settings.memory}", f"--timeout={SECONDS}s", f"--concurrency={AT_ONCE}"),
        f"--max-instances={settings.most_replicas}",
        *account,
        f"--set-env-vars={DIGEST_VARIABLE}={release.digest},{ASGI_VARIABLE}=1",
    )
