"""Where an attempt keeps its checkpoints, and which it may resume from: parsed from the environment, once. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from longtask_worker.checkpoints.layout import Prefix, Reference, parse_prefix
from longtask_worker.errors import UsageError

DEFAULT_INTERVAL = 60.0
DEFAULT_KEEP = 2
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where to save, how often, and how many to keep."""

    prefix: Prefix
    #: Seconds between two saves of `save_if_due`.
    interval: float = DEFAULT_INTERVAL
    #: Accepted checkpoints that are kept.
    keep: int = DEFAULT_KEEP


def parse_place(env: Mapping[str, str], uid: str, attempt: int) -> Place | None:
    """Return where this attempt saves, None if the task keeps no checkpoints; UsageError names what is malformed."""
    uri = env.get("LONGTASK_CHECKPOINT_URI")
    if not uri:
        return None
    try:
        prefix = parse_prefix(uri, uid, attempt)
    except ValueError as error:
        raise UsageError(f"LONGTASK_CHECKPOINT_URI is {error}") from None
    interval = _number(env, "LONGTASK_CHECKPOINT_INTERVAL", DEFAULT_INTERVAL)
    keep = _number(env, "LONGTASK_CHECKPOINT_KEEP", DEFAULT_KEEP)
    return Place(prefix=prefix, interval=interval, keep=max(int(keep), 1))


def parse_resume(env: Mapping[str, str]) -> tuple[Reference, ...]:
    """Return the accepted checkpoints, newest first, none at a fresh start; UsageError names what is malformed."""
    uri = env.get("LONGTASK_RESUME_URI")
    if not uri:
        return ()
    newest = _reference("LONGTASK_RESUME_SHA256", {"uri": uri, "sha256": env.get("LONGTASK_RESUME_SHA256")})
    name = "LONGTASK_RESUME_OLDER"
    try:
        older = json.loads(env.get(name) or "[]")
    except ValueError as error:
        raise UsageError(f"{name} is not JSON: {error}") from None
    if not isinstance(older, list):
        raise UsageError(f"{name} is not a list")
    return (newest, *(_reference(name, fields) for fields in older))


def _reference(name: str, fields: Any) -> Reference:
    try:
        uri, sha256 = fields["uri"], fields["sha256"]
        if not _SHA256.fullmatch(sha256) or not isinstance(uri, str):
            raise ValueError
    except (TypeError, KeyError, ValueError):
        raise UsageError(f"{name} does not name a checkpoint by uri and sha256: {fields!r}") from None
    return Reference(uri=uri, sha256=sha256)


def _number(env: Mapping[str, str], name: str, default: float) -> float:
    text = env.get(name)
    try:
        value = float(text) if text else default
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise UsageError(f"{name} is not a positive number: {text!r}")
    return value
