"""A program that takes some memory and keeps it, telling of it in its reports."""

from __future__ import annotations

import textwrap

from tests.support.live import Json

#: Fills some memory, slowly enough that reports tell of it, and keeps it until its pod is told otherwise.
HOLDS = textwrap.dedent(
    """
    import time
    from longtask_worker import run

    def main(task):
        kept, until = [], time.monotonic() + task.payload["seconds"]
        while time.monotonic() < until:
            task.raise_if_cancelled()
            if len(kept) < task.payload["megabytes"]:
                kept.append(b"x" * (1 << 20))
            time.sleep(0.01)
        return len(kept)

    run(main)
    """
)


def holds(megabytes: int, seconds: int) -> Json:
    """Return the spec of a task that keeps so much in memory for so long."""
    payload = {"megabytes": megabytes, "seconds": seconds}
    return {
        "command": ["python3", "-c", HOLDS],
        "payload": payload,
        "retry": {"backoff": {"initialSeconds": 1, "factor": 1}},
    }
