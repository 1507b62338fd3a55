"""Which storage a URI means. S3 is loaded at its first use: the plain SDK is standard library only."""

from __future__ import annotations

from longtask_worker.errors import PermanentError
from longtask_worker.storage.base import Storage
from longtask_worker.storage.files import FileStorage

_FILES = FileStorage()


def open_storage(uri: str) -> Storage:
    """Return the storage of *uri*; PermanentError for a scheme that is not known, MissingExtraError without boto3."""
    if uri.startswith("file://"):
        return _FILES
    if uri.startswith("s3://"):
        from longtask_worker.storage.s3 import s3_storage

        return s3_storage()
    raise PermanentError(f"only s3:// and file:// can be used here, not {uri!r}")
