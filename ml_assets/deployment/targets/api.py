"""The REST API on one machine: `ml-assets serve` as a service of systemd's, on 127.0.0.1, with a proxy in front."""

from __future__ import annotations

from ml_assets.deployment.targets.plan import OWN_COMMAND, Plan, Release, Run, Write
from ml_assets.deployment.targets.settings import Settings, outside_name

HASHES_VARIABLE = "ML_ASSETS_API_KEY_HASHES"
ENVIRONMENT = "%h/.config/ml-assets.env"
UNIT = """\
# Keys and places are in the environment file, which only its owner may read; `-`: it may be missing.
[Unit]
Description=Answers of {problem}, on this machine only
Wants=network-online.target
After=network-online.target

[Service]
WorkingDirectory={root}
EnvironmentFile=-{environment}
ExecStart={root}/.venv/bin/{command} serve {problem} --host 127.0.0.1 --port {port}
Restart=on-failure
RestartSec=2
TimeoutStopSec=30
NoNewPrivileges=yes
UMask=0077

[Install]
WantedBy=default.target
"""


def plan(release: Release, settings: Settings) -> Plan:
    """Return the unit and the commands that start it, as a service of the user who runs them.

    The service follows the champion by itself; a version cannot be fixed here.
    """
    unit = f"ml-assets-{settings.name or outside_name(release.problem)}.service"
    told = UNIT.format(
        problem=release.problem,
        root=settings.root,
        environment=ENVIRONMENT,
        command=OWN_COMMAND,
        port=settings.port,
    )
    return Plan(
        "api",
        (
            Write(unit, told, "systemd starts it again when it ends, and when the machine does"),
            Run(("systemctl", "--user", "link", str(settings.folder / unit)), "makes the unit known"),
            Run(("systemctl", "--user", "daemon-reload"), "reads it again where it was known"),
            Run(("systemctl", "--user", "enable", unit), "starts it with the machine, after `loginctl enable-linger`"),
            Run(("systemctl", "--user", "restart", unit), "starts it now"),
        ),
        (
            f"by hand it is: {OWN_COMMAND} serve {release.problem} --port {settings.port}",
            f"behind a proxy with TLS that passes on to http://127.0.0.1:{settings.port} it needs API keys: set {HASHES_VARIABLE} "
            f"in {ENVIRONMENT.replace('%h', '~')}; without, it answers this machine only, and so everybody whom the proxy lets in",
            "it answers as the champion of the moment: a promotion or a rollback needs no deployment",
        ),
    )
