"""Checkpoints: what a task saves so that its next attempt goes on from there.

A checkpoint is a folder of immutable parts under the attempt's own prefix and a manifest, written last,
that names each part with its SHA-256. It counts once the operator has accepted it; only an accepted one is
resumed from.
"""

from __future__ import annotations

from longtask_worker.checkpoints.checkpoint import Checkpoint

__all__ = ["Checkpoint"]
