"""Stories of attempts that run short of memory: workers report, nodes give, defer or refuse, clusters and quotas too.

The truth is the ledger as the API server has it at the moment in which a pod is asked for more.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from longtask_operator.adapters.errors import Forbidden
from longtask_operator.api.quantity import MEBIBYTE, parse_memory
from longtask_operator.api.report import Report
from longtask_operator.core.ledger import parse_entries
from tests.support.sim_api import Broken, Json
from tests.support.sim_story import Story, index
from tests.support.sim_world import ENDS, NAMESPACE

QUICK: dict[str, Any] = {"retry": {"backoff": {"initialSeconds": 1}}}
SPECS: list[dict[str, Any]] = [
    QUICK,
    QUICK,
    QUICK | {"resources": {"maxMemory": "1Gi"}},
    QUICK | {"progressFile": True},
]


class ResizeStory(Story):
    """Stories of attempts that grow in place."""

    def __init__(self) -> None:
        super().__init__()
        self.sequence = 0
        self.asked = 0  #: how often a pod was asked for more
        self.forbidden = False
        self.api.on_resize = self.check_resize

    @initialize(spec=st.sampled_from(SPECS), steps=st.integers(0, 12), end=st.sampled_from(list(ENDS)))
    def begin(self, spec: dict[str, Any], steps: int = 0, end: str = "success") -> None:
        self.world.apply("a", **spec)
        self.advance(steps, end)

    @rule(number=index, operator=index, percent=st.sampled_from([10, 85, 99]))
    def report(self, number: int = 0, operator: int = 0, percent: int = 85) -> None:
        """A worker reports so much of its memory in use."""
        alive = [one for one in self.world.containers.values() if one.lives]
        container, teller = self.pick(alive, number), self.pick(self.operators, operator)
        pod = self.api.find("pods", container.pod) if container else None
        task = self.api.find("longtasks", container.task) if container else None
        if teller is None or pod is None or task is None:
            return
        limit = memory_in(pod["status"]["containerStatuses"][0])
        self.sequence += 1
        report = Report(sequence=self.sequence, memory_bytes=limit * percent // 100)
        key = f"{NAMESPACE}/{task['metadata']['name']}"
        record = partial(
            teller.book.record, container.pod, report, self.loop.now(), task_key=key, alarm=limit * 8 // 10
        )
        self.loop.call_soon(record)
        self.loop.settle()

    @rule(forbidden=st.booleans())
    def forbid(self, forbidden: bool = True) -> None:
        """A ResourceQuota of the namespace refuses what pods ask for, or does so no more."""
        self.forbidden = forbidden

    def check_resize(self, pod: Json) -> None:
        """Nothing is asked for that the ledger does not hold at that moment; to ask for less is always right."""
        before = self.api.find("pods", pod["metadata"]["uid"])
        assert before is not None
        asked = memory_in(pod["spec"]["containers"][0])
        if asked <= memory_in(before["spec"]["containers"][0]):
            return
        if self.forbidden:
            raise Forbidden(403, "Forbidden", "exceeded quota")
        self.asked += 1
        labels = pod["metadata"]["labels"]
        uid, attempt = labels["longtask.dev/task-uid"], int(labels["longtask.dev/attempt"])
        entry = self.entry(uid)
        if entry is None or entry.attempt != attempt or entry.size.memory < asked:
            raise Broken(f"attempt {attempt} is given {asked // MEBIBYTE}Mi, and the ledger holds {entry}")

    @invariant()
    def nobody_asks_for_more_than_the_ledger_holds(self) -> None:
        for pod in self.api.of("pods"):
            labels, asked = pod["metadata"]["labels"], memory_in(pod["spec"]["containers"][0])
            entry = self.entry(labels["longtask.dev/task-uid"])
            if entry and entry.attempt == int(labels["longtask.dev/attempt"]) and entry.size.memory < asked:
                raise Broken(
                    f"pod {pod['metadata']['name']} asks for {asked // MEBIBYTE}Mi, and the ledger holds {entry}"
                )

    def entry(self, uid: str) -> Any:
        for ledger in self.api.of("configmaps"):
            entries = parse_entries(ledger["data"].get("attempts", ""))
            if uid in entries:
                return entries[uid]
        return None

    def check_rest(self) -> None:
        """Who ran at the end had what its pod was given last: the status says so."""
        super().check_rest()
        for task in self.tasks():
            for attempt in (task["status"].get("attempts") or [])[-1:]:
                pod = self.api.find("pods", attempt.get("podUid", ""))
                statuses = pod["status"].get("containerStatuses") if pod else None
                if statuses and memory_in(statuses[0]) != parse_memory(attempt["memory"]):
                    raise Broken(f"{attempt} was recorded of a pod with {statuses[0]['resources']}")


def memory_in(container: Json) -> int:
    return parse_memory(container["resources"]["limits"]["memory"])


def tell_growing(story: Callable[[ResizeStory], None]) -> None:
    """Tell *story* of tasks that grow in place to its end."""
    from tests.support.sim_story import tell

    tell(story, ResizeStory)
