"""A LongTask in every row of the table of conditions, and what each tool must make of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One situation: conditions as type -> (status, reason), and the verdicts."""

    conditions: dict[str, tuple[str, str]] = field(default_factory=dict)
    spec: dict[str, Any] = field(default_factory=dict)
    observed: int | None = 3
    kstatus: str
    argo_cd: str
    flux: str

    def body(self) -> dict[str, Any]:
        """Return the object as the API server shows it; its generation is 3."""
        status: dict[str, Any] = {}
        if self.observed is not None:
            status["observedGeneration"] = self.observed
        if self.conditions:
            status["conditions"] = [
                {"type": kind, "status": value, "reason": reason, "message": f"{kind} is {value}"}
                for kind, (value, reason) in self.conditions.items()
            ]
        return {
            "apiVersion": "longtask.dev/v1alpha1",
            "kind": "LongTask",
            "metadata": {"name": "x", "namespace": "team-a", "generation": 3},
            "spec": {"image": "i", **self.spec},
            "status": status,
        }


def unfinished(admitted: tuple[str, str], succeeded: str, **more: tuple[str, str]) -> dict[str, tuple[str, str]]:
    """Return the conditions of a task that goes on."""
    return {
        "Admitted": admitted,
        "Succeeded": ("Unknown", succeeded),
        "Finished": ("False", "Unfinished"),
        "Ready": ("True", "Accepted"),
        **more,
    }


def finished(succeeded: tuple[str, str], **more: tuple[str, str]) -> dict[str, tuple[str, str]]:
    """Return the conditions of a task that has ended."""
    return {
        "Admitted": ("True", "Admitted"),
        "Succeeded": succeeded,
        "Finished": ("True", "Finished"),
        "Ready": ("True", "Accepted"),
        **more,
    }


FAILED = finished(("False", "Application"), Ready=("False", "Failed"), Stalled=("True", "Application"))
INADMISSIBLE = unfinished(("False", "Invalid"), "Inadmissible", Ready=("False", "Invalid"), Stalled=("True", "Invalid"))
SUCCEEDED = finished(("True", "Completed"))
CANCELLED = finished(("False", "Cancelled"))
RUNNING = unfinished(("True", "Admitted"), "Running")

CASES = {
    "unseen": Case(observed=-1, kstatus="InProgress", argo_cd="Progressing", flux="InProgress"),
    "queued": Case(
        conditions=unfinished(("False", "CohortExhausted"), "Queued"),
        kstatus="Current",
        argo_cd="Progressing",
        flux="InProgress",
    ),
    "running": Case(conditions=RUNNING, kstatus="Current", argo_cd="Progressing", flux="InProgress"),
    "running, new generation": Case(
        conditions=RUNNING, observed=2, kstatus="InProgress", argo_cd="Progressing", flux="InProgress"
    ),
    "backoff": Case(
        conditions=unfinished(("False", "Backoff"), "Backoff"),
        kstatus="Current",
        argo_cd="Progressing",
        flux="InProgress",
    ),
    "suspended": Case(
        conditions=unfinished(("False", "Suspended"), "Suspended"),
        spec={"suspend": True},
        kstatus="Current",
        argo_cd="Suspended",
        flux="InProgress",
    ),
    "succeeded": Case(conditions=SUCCEEDED, kstatus="Current", argo_cd="Healthy", flux="Current"),
    "succeeded, then suspend": Case(
        conditions=SUCCEEDED, spec={"suspend": True}, kstatus="Current", argo_cd="Healthy", flux="Current"
    ),
    "succeeded, new generation": Case(
        conditions=SUCCEEDED, observed=2, kstatus="InProgress", argo_cd="Progressing", flux="InProgress"
    ),
    "failed": Case(conditions=FAILED, kstatus="Failed", argo_cd="Degraded", flux="Failed"),
    "failed, new generation": Case(
        conditions=FAILED, observed=2, kstatus="InProgress", argo_cd="Progressing", flux="InProgress"
    ),
    "cancelled": Case(conditions=CANCELLED, kstatus="Current", argo_cd="Healthy", flux="Current"),
    "inadmissible": Case(conditions=INADMISSIBLE, kstatus="Failed", argo_cd="Degraded", flux="Failed"),
    "inadmissible and suspended": Case(
        conditions=INADMISSIBLE, spec={"suspend": True}, kstatus="Failed", argo_cd="Suspended", flux="Failed"
    ),
}
