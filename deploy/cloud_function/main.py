"""A Cloud Function that answers for the bundle in the folder `bundle/` beside this file.

The bundle's own application answers, so routes, checks and faults are those of its container. BUNDLE_DIGEST must hold the
bundle's digest, and FUNCTION_USE_ASGI must be 1. An altered bundle raises here, and the function does not start.
Here as there: functions-framework --target=serve --source=main.py --host=127.0.0.1
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import types
from pathlib import Path
from typing import Any

BUNDLE = Path(__file__).resolve().parent / "bundle"
SERVER = "inference.py"


def _server(folder: Path, digest: str) -> Any:
    """Return the bundle's module `inference`, after its bytes matched: it is code, so it is not run before."""
    manifest = (folder / "manifest.json").read_bytes()
    if hashlib.sha256(manifest).hexdigest() != digest:
        raise ValueError(f"the bundle in {folder} is not the one that BUNDLE_DIGEST names: it was not read")
    content = (folder / SERVER).read_bytes()
    if hashlib.sha256(content).hexdigest() != json.loads(manifest)["files"][SERVER]["sha256"]:
        raise ValueError(f"{folder / SERVER} is not the one of the bundle: it was not run")
    module = types.ModuleType("bundle_inference")
    sys.modules[module.__name__] = module  # where its data classes look for it
    exec(compile(content, str(folder / SERVER), "exec"), module.__dict__)  # importing would write into the folder
    return module


def _application() -> Any:
    digest = os.environ["BUNDLE_DIGEST"]
    server = _server(BUNDLE, digest)
    return server.create_app(server.load(BUNDLE, digest=digest))


_APPLICATION = _application()


async def serve(_: Any) -> Any:
    """Return the application as the answer: Starlette calls what it is given with the request."""
    return _APPLICATION
