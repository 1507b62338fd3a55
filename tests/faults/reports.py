"""What the running worker of a task reports in a play, and what it must hear back."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from tests.faults.api import Json
from tests.faults.play import Play, Stuck
from tests.faults.worker import Worker


def cause_of_first(status: Json) -> str:
    """Return why the first attempt ended or is being ended, empty while nothing is known of that."""
    attempts = status.get("attempts") or [{}]
    return str(attempts[0].get("cause") or "")


def stuck_since(status: Json) -> str:
    """Return since when the task is said to make no progress, empty where it is not."""
    warned = [one for one in status.get("conditions") or [] if (one["type"], one["reason"]) == ("Stuck", "NoProgress")]
    return str(warned[0]["lastTransitionTime"]) if warned else ""


async def told_to_end(play: Play, name: str) -> bool:
    """Let the task's running worker report what it last said; return whether the answer is that it is to end.

    Raises Stuck if it is and the status does not say why: the end would be counted as the worker's own.
    """
    answer = await Worker(play.ground.api, await play.pod(name)).report({"sequence": 0})
    cause = cause_of_first((await play.find(name) or {}).get("status") or {})
    if answer.get("cancel") and not cause:
        raise Stuck("the worker was told to end, and the status does not say why")
    return bool(answer.get("cancel"))


async def until_told(play: Play, name: str, check: Callable[[Json, bool], Any]) -> None:
    """Let the task's running worker report until *check* holds for the status and whether it is told to end."""

    async def holds() -> bool:
        told = await told_to_end(play, name)
        return bool(check((await play.find(name) or {}).get("status") or {}, told))

    await play.await_(lambda: f"{name} reports, and hears what it should", holds, pause=0.2)


async def save(play: Play, name: str, number: int) -> Json:
    """Let the task's running worker save its *number*-th checkpoint and report it until it counts; return it."""
    pod = await play.pod(name)
    worker = Worker(play.ground.api, pod)
    uri = f"{worker.variable('LONGTASK_CHECKPOINT_URI')}{number}/manifest.json"
    saved = {"uri": uri, "sha256": f"{number:064x}", "sizeBytes": number}

    async def counts() -> bool:
        answer = await worker.report({"sequence": number, "checkpoint": saved})
        stands = ((await play.find(name) or {}).get("status") or {}).get("checkpoint") or {}
        if (answer.get("checkpoint") or {}).get("uri") == uri and stands.get("uri") != uri:
            raise Stuck(f"the worker was told to rely on {uri}, and the status has {stands}")
        return bool(stands.get("uri") == uri)

    await play.await_(lambda: f"checkpoint {number} of {name} accepted", counts, pause=0.3)
    return saved


async def reports_memory(play: Play, name: str, mebibytes: int, check: Callable[[Json, str], Any]) -> None:
    """Let the task's running worker report so much memory in use until *check* holds.

    It gets what the status says of the newest attempt, and the memory that the pod asks for.
    """

    async def holds(answer: Json) -> bool:
        status, pod = (await play.find(name) or {}).get("status") or {}, await play.pod(name)
        asked = pod["spec"]["containers"][0]["resources"]["limits"]["memory"]
        return bool(check((status.get("attempts") or [{}])[-1], asked))

    await _reports(play, name, {"memoryBytes": mebibytes * 2**20}, lambda: "resized, or not", holds)


async def reports(play: Play, name: str, check: Callable[[Json], Any], **said: Any) -> None:
    """Let the task's running worker report the same again and again until *check* holds for the status."""
    status: Json = {}

    async def holds(answer: Json) -> bool:
        nonlocal status
        status = (await play.find(name) or {}).get("status") or {}
        return bool(check(status))

    await _reports(play, name, said, lambda: f"reports of {said}; {json.dumps(status)[-1200:]}", holds)


async def reports_on(play: Play, name: str, **said: Any) -> None:
    """Let the task's running worker report the same until that was taken twice more."""
    taken = 0

    async def twice(answer: Json) -> bool:
        nonlocal taken
        taken += bool(answer)
        return taken == 2

    await _reports(play, name, said, lambda: "two more reports taken", twice)


async def _reports(
    play: Play, name: str, said: Json, what: Callable[[], str], holds: Callable[[Json], Awaitable[bool]]
) -> None:
    """Let the worker report until *holds*, which is told each answer, empty where a report was not taken."""
    worker = Worker(play.ground.api, await play.pod(name))

    async def reported() -> bool:
        return await holds(await worker.report({"sequence": time.time_ns() // 1_000_000, **said}))

    await play.await_(lambda: f"{name}: {what()}", reported, pause=0.2)
