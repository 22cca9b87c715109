"""The Dockerfile of a bundle: a small image that serves it as an unprivileged user and refuses bytes that were altered."""

from __future__ import annotations

BASE = "docker.io/library/python:3.11-slim"
USER = 10001
PORT = 8080
DIGEST_VARIABLE = "BUNDLE_DIGEST"
"""Build argument and environment variable: the digest, which is kept outside the bundle's folder."""
PIP_CONF, CERTIFICATES = "pip.conf", "ca.pem"
"""Secrets that a build may be given, for a package index of one's own: nothing of them stays in the image."""

_TEXT = f"""\
# docker build --build-arg {DIGEST_VARIABLE}=$(sha256sum manifest.json | cut -d ' ' -f 1) --tag NAME .
# A package index of your own: --secret id={PIP_CONF},src=FILE, and --secret id={CERTIFICATES},src=FILE which it may name
# as /run/secrets/{CERTIFICATES}.
ARG BASE={BASE}
FROM ${{BASE}}

# An environment of its own: some bases do not let pip change theirs.
RUN python3 -m venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 HOST=0.0.0.0 PORT={PORT}

# Before the model, so that a new model with the same libraries takes this layer as it is.
COPY requirements.txt /bundle/
RUN --mount=type=secret,id={PIP_CONF} --mount=type=secret,id={CERTIFICATES} \\
    PIP_CONFIG_FILE=/run/secrets/{PIP_CONF} pip install --quiet --no-cache-dir --disable-pip-version-check --no-deps \\
    --requirement /bundle/requirements.txt

COPY . /bundle/
ARG {DIGEST_VARIABLE}
ENV {DIGEST_VARIABLE}=${{{DIGEST_VARIABLE}}}
RUN chmod -R a+rX /bundle && echo "${{{DIGEST_VARIABLE}}}  /bundle/manifest.json" | sha256sum --check --quiet

WORKDIR /bundle
USER {USER}:{USER}
EXPOSE {PORT}
HEALTHCHECK --interval=30s --timeout=3s --start-period=30s \\
    CMD python -c "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['PORT'] + '/health', timeout=2)"
ENTRYPOINT ["sh", "-c", "exec python /bundle/inference.py --host $HOST --port $PORT"]
"""


def dockerfile() -> str:
    """Return the Dockerfile, the same for every bundle; for Docker with BuildKit and for buildah.

    Build arguments: `BASE`, an image with Python 3.11 and its `venv`; `BUNDLE_DIGEST`, which must be that of the folder.
    """
    return _TEXT
