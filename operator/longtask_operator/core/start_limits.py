"""How long an attempt may take to start, by what it waits for.

A start that people must repair ends soon: a wrong name stays wrong. One that waits for room is given
the whole `startTimeoutSeconds`, which caps all of them. A minute after our sight came back nobody is
judged: what the cluster did meanwhile may still be on its way to us.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from longtask_operator.api.longtask import LongTaskSpec
from longtask_operator.api.reasons import ConditionType
from longtask_operator.api.status import LongTaskStatus
from longtask_operator.core.conditions import find_condition
from longtask_operator.core.current import CurrentAttempt, Observed
from longtask_operator.core.handover import began
from longtask_operator.core.observe import PodView

#: What a start that gets no further waits for.
Kind = Literal["config", "image", "container"]
KINDS: Mapping[str, Kind] = {
    "InvalidImageName": "config",
    "ErrImageNeverPull": "config",
    "CreateContainerConfigError": "config",
    "ErrImagePull": "image",
    "ImagePullBackOff": "image",
    "ImageInspectError": "image",
    "CreateContainerError": "container",
}
DEFAULT_START_TIMEOUT = 600
#: After an outage of ours the cluster has so long to say what happened meanwhile.
SETTLING = timedelta(seconds=60)
_NUMBERS = re.compile(r"[0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class StartLimits:
    """Seconds that a start may stand still for each kind of reason."""

    config: int = 120
    image: int = 300
    container: int = 300

    def of(self, kind: Kind) -> timedelta:
        """Return the limit of *kind*."""
        return timedelta(seconds={"config": self.config, "image": self.image, "container": self.container}[kind])


@dataclass(frozen=True, slots=True, kw_only=True)
class StartLimit:
    """When an attempt must have started, and the sentence that says which limit it is."""

    at: datetime
    said: str


def word_of(waiting: str) -> str:
    """Return the one word of what a pod waits for, `Reason: message`, or an empty string."""
    return waiting.partition(":")[0]


def kind_of(waiting: str) -> Kind | None:
    """Return the kind of what a pod waits for, or None where only `startTimeoutSeconds` limits it."""
    return KINDS.get(word_of(waiting))


def start_limit(seen: Observed, attempt: CurrentAttempt, limits: StartLimits) -> StartLimit:
    """Return when *attempt* must have started: the earliest of the limits that apply, never before sight settled."""
    seconds = _timeout(seen.task.spec)
    found = StartLimit(
        at=began(attempt) + timedelta(seconds=seconds), said=f"did not start within startTimeoutSeconds ({seconds})"
    )
    for pod in attempt.pods:
        stuck = _reason_limit(pod, limits)
        if stuck and stuck.at < found.at:
            found = stuck
    if seen.watching_since:
        found = StartLimit(at=max(found.at, seen.watching_since + SETTLING), said=found.said)
    return found


def wait_shown(status: LongTaskStatus, waiting: str) -> str:
    """Return what to show of *waiting*: what *status* shows already where it says the same.

    The kubelet alternates between two words while it tries to pull, and the scheduler counts its nodes
    anew; neither is worth a write.
    """
    condition = find_condition(status, ConditionType.SUCCEEDED)
    shown = condition.message.partition(": ")[2] if condition else ""
    if not waiting or not shown or word_of(shown) != status.reason:
        return waiting
    kind = kind_of(waiting)
    if kind and kind == kind_of(shown):
        return shown
    return shown if _NUMBERS.sub("", shown) == _NUMBERS.sub("", waiting) else waiting


def _reason_limit(pod: PodView, limits: StartLimits) -> StartLimit | None:
    kind = kind_of(pod.waiting)
    if kind is None or pod.waiting_since is None:
        return None
    limit = limits.of(kind)
    return StartLimit(at=pod.waiting_since + limit, said=f"did not start within {limit.total_seconds():.0f} s")


def _timeout(spec: LongTaskSpec) -> int:
    return spec.start_timeout_seconds or DEFAULT_START_TIMEOUT
