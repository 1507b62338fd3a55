"""Objects by URI: `s3://bucket/key` and `file:///path`, with the same few verbs for both.

Objects are created whole and never replaced. Paths of a mounted volume are files, so a claim
works as a bucket does.
"""

from __future__ import annotations

from longtask_worker.storage.base import Stat, Storage, create_once
from longtask_worker.storage.opening import open_storage

__all__ = ["Stat", "Storage", "create_once", "open_storage"]
