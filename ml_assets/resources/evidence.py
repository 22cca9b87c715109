"""What a materialization shows in the web UI: rows, versions, schema, verdicts, per partition and in total."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dagster as dg

CHECK = "expectations"  # the one blocking check of a table: its suite
MOST_PARTITIONS_NAMED = 5


def check_specs(table: str, description: str, *, name: str = CHECK) -> list[dg.AssetCheckSpec]:
    """Return the blocking check of a table, evaluated in the same step that writes it."""
    return [dg.AssetCheckSpec(name=name, asset=table.split("/"), blocking=True, description=description)]


def check_result(verdict: Any, *, name: str = CHECK, table: str | None = None) -> dg.AssetCheckResult:
    """Return a suite's `Verdict` as a Dagster check result, with a table of every expectation."""
    return dg.AssetCheckResult(
        check_name=name,
        asset_key=table.split("/") if table else None,
        passed=verdict.success,
        severity=dg.AssetCheckSeverity.ERROR,
        description=None if verdict.success else verdict.reason(),
        metadata={
            "rows": verdict.rows,
            "expectations": len(verdict.results),
            "verdict": dg.MetadataValue.md(verdict.markdown()),
        },
    )


def schema_of(manifest: Any) -> dg.TableSchema:
    """Return a manifest's schema in Dagster's form."""
    return dg.TableSchema(columns=[dg.TableColumn(name, dtype) for name, dtype in manifest.schema.items()])


def describe(manifests: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of written partitions: rows, version, schema."""
    if not manifests:
        return {"dagster/row_count": 0}
    return {
        "dagster/row_count": sum(manifest.rows for manifest in manifests.values()),
        "dagster/column_schema": schema_of(next(iter(manifests.values()))),
        "partitions_with_rows": len(manifests),
    }


def per_partition(
    context: dg.AssetExecutionContext, table: str, manifests: Mapping[str, Any], partitions: Sequence[str]
) -> None:
    """Attach each partition's own row count and version to its materialization."""
    for partition in partitions:
        manifest = manifests.get(partition)
        about: dict[str, Any] = {"dagster/row_count": manifest.rows if manifest else 0}
        if manifest:
            about["version"] = manifest.version[:12]
        context.add_asset_metadata(about, asset_key=table.split("/"), partition_key=partition)


def data_version(versions: Iterable[str]) -> dg.DataVersion:
    """Return one data version for several content hashes."""
    import hashlib

    return dg.DataVersion(hashlib.sha256("\n".join(versions).encode()).hexdigest()[:20])


def file(path: Any) -> dg.PathMetadataValue:
    """Return a file or folder for the UI, relative to the repository when it lies inside."""
    from pathlib import Path

    root, target = Path(__file__).resolve().parents[2], Path(path).resolve()
    return dg.MetadataValue.path(str(target.relative_to(root) if target.is_relative_to(root) else target))
