"""What no zombie may bring about: that something of an attempt counts after the next one has begun to count."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tests.support.live import Json


def late_commits(statuses: Sequence[Json], late: Collection[str], result: Json) -> list[str]:
    """Return what of attempt 1 came to stand in the *statuses* of a task, oldest first, though it was too late.

    *late* are the URIs of what it saved after it woke, *result* is that of attempt 2, which must be the last word.
    """
    stood = [found for status in statuses if (found := status.get("checkpoint"))]
    named = {one["uri"] for found in stood for one in [found, *(found.get("older") or [])]}
    complaints = [f"checkpoint {uri}" for uri in sorted(named & set(late))]
    order = [found["attempt"] for found in stood]
    if order != sorted(order):
        complaints.append(f"checkpoints in the order {order}")
    said = [message for status in statuses if (message := (status.get("progress") or {}).get("message"))]
    if said != sorted(said) or len(set(said)) != 2:
        complaints.append(f"reports in the order {said}")
    results = [found for status in statuses if (found := (status.get("result") or {}).get("value"))]
    if not results or any(found != result for found in results):
        complaints.append(f"the results {results}")
    return complaints
