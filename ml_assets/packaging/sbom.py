"""The bill of materials of a bundle, as CycloneDX 1.6: the model, the data it was fitted on, the libraries it needs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import NAMESPACE_OID, uuid5

from ml_assets.packaging.bundle import BUNDLE, MANIFEST, REQUIREMENTS

if TYPE_CHECKING:
    from cyclonedx.model.component import Component


def sbom(files: Mapping[str, bytes], *, digest: str, now: datetime | None = None) -> bytes:
    """Return the bill of materials of a bundle's verified `files` as JSON; equal input gives equal bytes.

    The model is a `machine-learning-model` with the SHA-256 of each file, made from a `data` component which is the training set;
    every line of the requirements is a `library` with its version and package URL. `digest` is the bundle's. Without `now` it has
    no time, so that the same bundle has the same bill.
    """
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.output.json import JsonV1Dot6

    model, data, libraries = _model(files, digest), _data(files), list(_libraries(files))
    bom = Bom(
        serial_number=uuid5(NAMESPACE_OID, digest),  # the same bundle is the same document
        components=[data, *libraries],
        metadata=BomMetaData(component=model, timestamp=now),
    )
    bom.register_dependency(model, [data, *libraries])
    told = json.loads(JsonV1Dot6(bom).output_as_string())
    if now is None:
        del told["metadata"]["timestamp"]
    return json.dumps(told, sort_keys=True, indent=1).encode()


def _model(files: Mapping[str, bytes], digest: str) -> Component:
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.component import Component, ComponentType

    told, listed = json.loads(files[BUNDLE]), json.loads(files[MANIFEST])["files"]
    parts = {**{name: entry["sha256"] for name, entry in listed.items()}, MANIFEST: digest}
    return Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        name=told["problem"],
        version=told["model_version"],
        bom_ref="model",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)],
        properties=[Property(name=f"ml_assets:{name}", value=told[name]) for name in ("data_hash", "code_version")],
        components=[
            Component(
                type=ComponentType.FILE,
                name=name,
                bom_ref=f"file:{name}",
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=sha256)],
            )
            for name, sha256 in sorted(parts.items())
        ],
    )


def _data(files: Mapping[str, bytes]) -> Component:
    from cyclonedx.model.component import Component, ComponentType

    told = json.loads(files[BUNDLE])
    name = f"{told['problem']}/training_set"
    return Component(type=ComponentType.DATA, name=name, version=told["data_hash"], bom_ref="training_set")


def _libraries(files: Mapping[str, bytes]) -> Iterator[Component]:
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    for line in files[REQUIREMENTS].decode().split():
        name, _, version = line.partition("==")
        purl = PackageURL("pypi", name=name, version=version)
        yield Component(type=ComponentType.LIBRARY, name=name, version=version, purl=purl, bom_ref=str(purl))
