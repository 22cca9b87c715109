"""The lake: atomic, versioned Parquet partitions with manifests, on a folder or a bucket.

Ground room: plain Python, no Dagster. Start with `Lake(url)`.
"""

from ml_assets.lake.lake import Lake, MissingPartitionError, RedPartitionError
from ml_assets.lake.manifest import DataFile, Live, Manifest, content_hash
from ml_assets.lake.objects import PreconditionFailed, StoredObject
from ml_assets.lake.store import Store
from ml_assets.lake.verify import AlteredFileError

__all__ = [
    "AlteredFileError",
    "DataFile",
    "Lake",
    "Live",
    "Manifest",
    "MissingPartitionError",
    "PreconditionFailed",
    "RedPartitionError",
    "Store",
    "StoredObject",
    "content_hash",
]
