"""Since when a pod waits for what, or has its node back: no status carries that time, so whoever watches notes it.

Every replica notes, so that a new leader need not begin anew. A restart forgets; the wait then
counts from the first sight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from longtask_operator.adapters.store import Store
from longtask_operator.core.observe import PodView, is_resizing
from longtask_operator.core.start_limits import Kind, kind_of


class PodWaits:
    """Notes by pod uid, kept while the pod is in *pods* and waits for one kind of reason."""

    def __init__(self, pods: Store[PodView], now: Callable[[], datetime]) -> None:
        self._now = now
        self._since: dict[str, tuple[Kind, datetime]] = {}
        self._resizing: dict[str, datetime] = {}
        self._back: dict[str, datetime] = {}
        pods.listeners.append(self._changed)

    def __len__(self) -> int:
        return len(self._since.keys() | self._resizing.keys() | self._back.keys())

    def noted(self, pod: PodView) -> PodView:
        """Return *pod* with since when it waits, to start or to be resized, and when its node was back."""
        note, resizing, back = self._since.get(pod.uid), self._resizing.get(pod.uid), self._back.get(pod.uid)
        if resizing or back:
            pod = replace(pod, resizing_since=resizing, node_back_at=back)
        return replace(pod, waiting_since=note[1]) if note else pod

    def _changed(self, before: PodView | None, after: PodView | None) -> None:
        if before and (after is None or after.uid != before.uid):
            self._since.pop(before.uid, None)
            self._resizing.pop(before.uid, None)
            self._back.pop(before.uid, None)
        if after is None:
            return
        if before and before.uid == after.uid and before.node_lost_at and not after.node_lost_at:
            self._back[after.uid] = self._now()
        if is_resizing(after):
            self._resizing.setdefault(after.uid, self._now())
        else:
            self._resizing.pop(after.uid, None)
        kind = kind_of(after.waiting)
        if kind is None:
            self._since.pop(after.uid, None)
        elif self._since.get(after.uid, (None,))[0] != kind:
            self._since[after.uid] = (kind, self._now())
