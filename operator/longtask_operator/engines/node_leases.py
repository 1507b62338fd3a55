"""Asks for the Leases of nodes, only of those whose worker is silent: one answer serves all tasks of a node."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from longtask_operator.adapters.errors import NoPermission, NotFound
from longtask_operator.adapters.kube import Kube, resource_path
from longtask_operator.api.times import parse_optional_time
from longtask_operator.core.node_life import NodeLife

#: Seconds between two reads of a node.
REST_SECONDS = 2.0
#: Longer than anything rests on what was read.
_KEPT = timedelta(minutes=5)
NAMESPACE = "kube-node-lease"
log = structlog.get_logger("longtask.nodes")


class NodeLeases:
    """What is known of nodes by their Leases."""

    def __init__(self, kube: Kube, now: Callable[[], datetime]) -> None:
        self._kube, self._now = kube, now
        self.rest_seconds = REST_SECONDS  #: between two reads of a node
        self._lives: dict[str, NodeLife] = {}
        self._reading = asyncio.Lock()
        self._is_refused = False

    def back_at(self, node: str) -> datetime | None:
        """Return when *node* was seen to come back, or None if it was not away as far as is known."""
        life = self._lives.get(node)
        return life.back_at if life else None

    async def lived_through(self, node: str, moment: datetime) -> bool:
        """Return whether *node* is known to live after *moment*; where it has no Lease nobody can tell: True.

        Ask again after `rest_seconds`: a node that lives renews its Lease every 10 s. Raises ApiError.
        """
        async with self._reading:
            life, now = self._lives.get(node), self._now()
            if life is None or now - life.read_at >= timedelta(seconds=self.rest_seconds):
                life = await self._read(node, life)
        return life is None or life.lived_through(moment)

    async def _read(self, node: str, life: NodeLife | None) -> NodeLife | None:
        """Return what is known of the node now, None where it has no Lease, or none that we may see."""
        try:
            lease = await self._kube.get(resource_path("coordination.k8s.io/v1", "leases", NAMESPACE, node))
        except NoPermission as error:
            if not self._is_refused:
                log.warning("Leases of nodes are not shown to us; a lost node may look like silence", error=str(error))
            self._is_refused = True
            return None
        except NotFound:
            return None
        renewed, now = parse_optional_time((lease.get("spec") or {}).get("renewTime")), self._now()
        if renewed is None:
            return None
        self._lives = {name: known for name, known in self._lives.items() if now - known.read_at < _KEPT}
        self._lives[node] = life.after(renewed, now) if life else NodeLife(renewed=renewed, read_at=now)
        return self._lives[node]
