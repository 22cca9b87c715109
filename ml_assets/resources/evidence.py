"""What a materialization shows in the web UI: rows, versions, schema, verdicts, per partition and in total."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

CHECK = "expectations"  # the one blocking check of a table: its suite
UNCHANGED = "partitions unchanged"
UNDECIDED = "undecided"
"""Metadata of a check that did not pass because it cannot judge yet: nobody is called for it (see `monitoring/alerts.py`)."""
NOT_JUDGED = (UNDECIDED, "not applicable")


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


def warning(
    name: str,
    passed: bool,
    reason: str,
    *,
    undecided: bool = False,
    table: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> dg.AssetCheckResult:
    """Return the result of a check that warns and blocks nothing.

    One that does not pass because it cannot judge is marked in its metadata, which is what alerts look at: told by `undecided`, or
    by a reason that begins with a word of `NOT_JUDGED`, as plain modules say it.
    """
    unjudged = not passed and (undecided or reason.startswith(NOT_JUDGED))
    return dg.AssetCheckResult(
        check_name=name,
        asset_key=table.split("/") if table else None,
        passed=passed,
        severity=dg.AssetCheckSeverity.WARN,
        description=reason,
        metadata={**(metadata or {}), **({UNDECIDED: True} if unjudged else {})},
    )


def nothing_asked(table: str) -> dg.AssetCheckResult:
    """Return the check of a table for days on which nothing is asked: there is nothing to judge, and nothing to block."""
    description = "not applicable: nothing is asked on these days (observations.every_day: false)"
    return dg.AssetCheckResult(check_name=CHECK, asset_key=table.split("/"), passed=True, description=description)


def show(
    context: dg.AssetExecutionContext,
    table: str,
    manifests: Mapping[str, Any],
    partitions: Sequence[str] | None,
    details: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the metadata of what was written; each partition's materialization gets its own rows and version.

    Dagster stores the result's metadata with every partition of the run, so what is large (the column schema and
    `details`) goes to the last partition only, which is the one that the asset's page shows.
    """
    summary = {"dagster/row_count": sum(manifest.rows for manifest in manifests.values())}
    large = {**_schema(manifests), **(details or {})}
    if not partitions:
        return summary | large
    for partition in partitions:
        own = _own(manifests.get(partition)) | (large if partition == partitions[-1] else {})
        context.add_asset_metadata(own, asset_key=table.split("/"), partition_key=partition)
    return {"partitions in this run": len(partitions), "of these with rows": len(manifests)}


def _schema(manifests: Mapping[str, Any]) -> dict[str, Any]:
    for manifest in manifests.values():
        columns = [dg.TableColumn(name, dtype) for name, dtype in manifest.schema.items()]
        return {"dagster/column_schema": dg.TableSchema(columns=columns)}
    return {}


def _own(manifest: Any) -> dict[str, Any]:
    if manifest is None:
        return {"dagster/row_count": 0}
    return {"dagster/row_count": manifest.rows, "version": manifest.version[:12]}


def unchanged(count: int) -> dict[str, Any]:
    """Return the metadata of a run that found `count` partitions made from the same, and left them as they are."""
    return {UNCHANGED: count}


def data_version(manifests: Mapping[str, Any]) -> dg.DataVersion:
    """Return Dagster's version of what the run's manifests, by partition, describe: unchanged data has the version that it had."""
    return combined_data_version({name: manifest.version for name, manifest in manifests.items()})


def combined_data_version(versions: Mapping[str, str]) -> dg.DataVersion:
    """Return Dagster's version of a run's partitions: that of the one, or a hash of all their names and versions.

    Dagster (1.13) tags all partitions of a run with the output's one version. A partition that a run over many days made
    has another version after a run over fewer: downstream may look stale without need, and never fresh without reason.
    Each partition's own version is in its metadata and its manifest, and the manifest decides what is made again.
    """
    if len(versions) == 1:
        return dg.DataVersion(next(iter(versions.values()))[:20])
    lines = "\n".join(f"{name}={version}" for name, version in sorted(versions.items()))
    return dg.DataVersion(hashlib.sha256(lines.encode()).hexdigest()[:20])


def file(path: Any) -> dg.PathMetadataValue:
    """Return a file or folder for the UI, relative to the repository when it lies inside."""
    from pathlib import Path

    root, target = Path(__file__).resolve().parents[2], Path(path).resolve()
    return dg.MetadataValue.path(str(target.relative_to(root) if target.is_relative_to(root) else target))
