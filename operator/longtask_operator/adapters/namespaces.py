"""Namespaces in the cache: name and labels, from which the tenant follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceView:
    """A namespace, reduced to its labels."""

    name: str
    uid: str
    version: int
    labels: Mapping[str, str]
    namespace: str = ""


def observe_namespace(body: Mapping[str, Any]) -> NamespaceView:
    """Return the view of a Namespace object."""
    meta = body["metadata"]
    return NamespaceView(
        name=meta["name"], uid=meta["uid"], version=int(meta["resourceVersion"]), labels=meta.get("labels") or {}
    )
