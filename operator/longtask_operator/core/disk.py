"""Evictions that a program brings about itself: it wrote more to its node's disk than its pod may.

The kubelet evicts for that as it does when the node runs short, with the same reason `Evicted`, but without the
condition DisruptionTarget (KEP-3329), and says which limit was exceeded (`pkg/kubelet/eviction/helpers.go`).
Another node would not help.
"""

from __future__ import annotations

import re

from longtask_operator.api.names import SIDECAR_CONTAINER
from longtask_operator.core.observe import PodView

EVICTED = "Evicted"
_OWN_LIMIT = re.compile(r"\bexceed(?:s|ed) (?:the|its)\b.*\blimit\b")
_VOLUME = re.compile(r'EmptyDir volume "([^"]*)"')
#: What to do, by the volume that is full; they are the ones of `core.jobs`.
_ADVICE = {
    "tmp": "Write less to /tmp and $HOME, or ask an administrator to raise ephemeralStorageLimit.",
    "progress": "Replace the line in the progress file now and then: it may not grow for ever.",
}
_OTHERWISE = "Write less to the container's disk, its log included."


def overflow_of(pod: PodView) -> str:
    """Return which limit of *pod* its program exceeded, and what to do, or "" if it was not evicted for that."""
    if pod.reason != EVICTED or pod.disruption or not _OWN_LIMIT.search(pod.message):
        return ""
    if SIDECAR_CONTAINER in pod.message:  # ours, and never charged to the program
        return ""
    volume = _VOLUME.search(pod.message)
    return f"{pod.message.rstrip()} {_ADVICE.get(volume[1], _OTHERWISE) if volume else _OTHERWISE}"
