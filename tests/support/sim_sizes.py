"""Stories of tasks that ask for another size at any time, in a quota that has room for few of them.

The truth are the ledger as the API server had it and the pods that live: neither is ever more than the quota, and no
pod asks for more than the ledger holds for its attempt.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from longtask_operator.api.quantity import MEBIBYTE, parse_cpu, parse_memory
from longtask_operator.core.ledger import LedgerEntry, parse_entries
from longtask_operator.core.sizing import Size
from tests.support.sim_api import Broken, Json
from tests.support.sim_story import NAMES, Story, index, tell
from tests.support.sim_world import ENDS, NAMESPACE, is_terminal

#: What a task may ask for, and no attempt grows beyond the quota by itself. The last two start nothing.
SIZES: dict[str, dict[str, str]] = {
    "small": {"cpu": "250m", "memory": "512Mi", "maxMemory": "2Gi"},
    "more memory": {"cpu": "250m", "memory": "2Gi", "maxMemory": "2Gi"},
    "more CPU": {"cpu": "500m", "memory": "1Gi", "maxMemory": "2Gi"},
    "as large as the quota": {"cpu": "1", "memory": "2Gi", "maxMemory": "2Gi"},
    "larger": {"cpu": "2", "memory": "4Gi"},
    "of no rung": {"cpu": "3"},
}
NOMINAL = Size(cpu=1000, memory=2048 * MEBIBYTE)
QUICK: dict[str, Any] = {"retry": {"backoff": {"initialSeconds": 1}}}
#: What is under way, and what becomes of it.
WRITES, REPLIES = ("configmaps", "jobs", "status"), ("later", "later", "lost", "not sent")
sizes = st.sampled_from(list(SIZES))


class SizeStory(Story):
    """Stories of a quota for CPU and memory."""

    def __init__(self) -> None:
        super().__init__()
        spec = {"cpu": {"nominal": "1"}, "memory": {"nominal": "2Gi"}}
        self.api.new("tenantquotas", "", {"metadata": {"name": NAMESPACE, "generation": 1}, "spec": spec})
        self.api.watchers.append(self.take_note)
        self.of_kueue: set[tuple[str, int]] = set()  #: attempts that count for no quota

    @initialize(size=sizes, steps=st.integers(0, 12), end=st.sampled_from(list(ENDS)))
    def begin(self, size: str = "small", steps: int = 0, end: str = "success") -> None:
        self.world.apply("a", resources=SIZES[size], **QUICK)
        self.advance(steps, end)

    @rule(name=st.sampled_from(NAMES), size=sizes, steps=st.integers(0, 6))
    def another(self, name: str, size: str = "small", steps: int = 0) -> None:
        """A task comes, if that name is free."""
        if all(task["metadata"]["name"] != name for task in self.tasks()):
            self.world.apply(name, resources=SIZES[size], **QUICK)
        self.advance(steps, "success")

    @rule(number=index, size=sizes, heard=st.booleans())
    def resize(self, number: int = 0, size: str = "larger", heard: bool = True) -> None:
        """A user asks for another size; the operators hear of it at once, or when it is their turn."""
        if task := self.pick(self.tasks(), number):
            self.world.edit(task, resources=SIZES[size])
        for operator in self.operators if heard else ():
            while operator.inbox["longtasks"]:
                operator.deliver("longtasks")
        self.loop.settle()

    @rule(write=st.sampled_from(WRITES), reply=st.sampled_from(REPLIES), number=index, size=sizes)
    def resize_during(
        self, write: str = "configmaps", reply: str = "later", number: int = 0, size: str = "larger"
    ) -> None:
        """The same while a write of that kind is under way."""
        for _ in range(8):
            for pending in self.requests():
                if pending.request.method != "GET" and f"/{write}" in pending.request.path:
                    if reply != "not sent":
                        pending.execute(self.api)
                    self.resize(number, size)
                    if reply != "later":
                        pending.lose()
                    return
            if not self.answer_all():
                return

    def take_note(self, plural: str, kind: str, body: Json) -> None:
        """See that a ledger never holds more than the quota."""
        if plural == "configmaps" and kind != "DELETED":
            entries = entries_of(body).values()
            self.of_kueue |= {(entry.uid, entry.attempt) for entry in entries if entry.handed_over}
            self.check_sum("the ledger holds", [entry.held for entry in entries])

    def check_sum(self, what: str, held: list[Size]) -> None:
        cpu, memory = sum(size.cpu for size in held), sum(size.memory for size in held)
        if cpu > NOMINAL.cpu or memory > NOMINAL.memory:
            self.api.broken = Broken(f"{what} {cpu}m and {memory // MEBIBYTE}Mi, more than the quota: {held}")

    @invariant()
    def nobody_has_more_than_the_quota(self) -> None:
        """Nor more than the ledger holds for it."""
        living = [pod for pod in self.api.of("pods") if not is_terminal(pod) and not self.is_excused(pod)]
        self.check_sum("pods ask for", [asked(pod) for pod in living])
        for pod in living:
            labels, wants = pod["metadata"]["labels"], asked(pod)
            entry = self.entry(labels["longtask.dev/task-uid"])
            if entry is None or entry.attempt != int(labels["longtask.dev/attempt"]):
                continue
            if wants.cpu > entry.size.cpu or wants.memory > entry.size.memory:
                raise Broken(f"{pod['metadata']['name']} asks for {wants}, the ledger holds {entry}")
        if self.api.broken:
            raise self.api.broken

    def come_to_rest(self) -> None:
        """Let everybody ask for what the quota has."""
        for task in self.tasks():
            if "maxMemory" not in (task["spec"].get("resources") or {}):
                self.world.edit(task, resources=SIZES["small"])
        super().come_to_rest()

    def is_excused(self, pod: Json) -> bool:
        """Return whether the pod counts for no quota, or is none of the operator's doing."""
        container = self.world.containers[pod["metadata"]["uid"]]
        attempt = (container.task, container.attempt)
        return container.excused or container.duplicate or attempt in self.world.strays | self.of_kueue

    def entry(self, uid: str) -> LedgerEntry | None:
        return next((found[uid] for body in self.api.of("configmaps") if uid in (found := entries_of(body))), None)


def entries_of(ledger: Json) -> dict[str, LedgerEntry]:
    return parse_entries(ledger["data"].get("attempts", ""))


def asked(pod: Json) -> Size:
    """Return what the pod's task container is limited to."""
    limits = pod["spec"]["containers"][0]["resources"]["limits"]
    return Size(cpu=parse_cpu(limits["cpu"]), memory=parse_memory(limits["memory"]))


def tell_sizes(story: Callable[[SizeStory], None]) -> None:
    """Tell *story* of tasks that ask for another size to its end."""
    tell(story, SizeStory)
