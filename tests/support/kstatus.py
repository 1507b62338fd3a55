"""The rules of kstatus, which Helm 4 and Flux judge a custom resource by: a test oracle.

Order of the rules: being deleted, stale observedGeneration, Reconciling, Stalled, Ready. An
object without any of these conditions counts as Current.
"""

from __future__ import annotations

from typing import Any, Literal

Verdict = Literal["InProgress", "Failed", "Current", "Terminating"]


def kstatus(body: dict[str, Any]) -> Verdict:
    """Return the verdict of kstatus on an object."""
    metadata, status = body["metadata"], body.get("status") or {}
    if metadata.get("deletionTimestamp"):
        return "Terminating"
    observed = status.get("observedGeneration")
    if observed is not None and not isinstance(observed, int):
        raise TypeError("observedGeneration must be an integer: kstatus fails on anything else")
    if observed is not None and observed != metadata.get("generation"):
        return "InProgress"
    conditions = {condition["type"]: condition["status"] for condition in status.get("conditions", [])}
    if conditions.get("Reconciling") == "True":
        return "InProgress"
    if conditions.get("Stalled") == "True":
        return "Failed"
    return "InProgress" if conditions.get("Ready", "True") != "True" else "Current"
