"""Stories of a tenant whose urgent tasks take the places of others, whatever becomes of the operator meanwhile.

The truth is the ledger as the API server had it: nobody is stopped for another task before a claim of that stood.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from longtask_operator.core.preemption import parse_claims
from tests.support.sim_api import Broken, Json
from tests.support.sim_story import Story
from tests.support.sim_world import ENDS, NAMESPACE

KEY = "preemption.claims"
GAVE_WAY = "gives way to"
SPECS: list[dict[str, Any]] = [{}, {"priority": 1}, {"priority": 5}, {"retry": {"limits": {"preempted": 1}}}]


class PreemptStory(Story):
    """Stories of a quota with `preemption: LowerPriority`."""

    def __init__(self, nominal: int = 1) -> None:
        super().__init__()
        self.named: set[tuple[str, int]] = set()  #: all attempts that ever stood in a claim
        self.stopped: dict[tuple[str, int], str] = {}  #: attempts that gave way to a task, and what was said of it
        before_status = self.api.on_status

        def on_status(before: Json, after: Json) -> None:
            before_status(before, after)
            self.check_stop(after)

        self.api.on_status = on_status
        self.api.watchers.append(self.take_note)
        self.generation = 0
        self.set_quota(concurrency={"nominal": nominal}, preemption="LowerPriority")

    def set_quota(self, **spec: Any) -> None:
        """Give the tenant another quota."""
        self.generation += 1
        known = next(iter(self.api.of("tenantquotas")), None)
        meta = {"name": NAMESPACE, "generation": self.generation}
        if known:
            meta = known["metadata"] | meta
            self.api.put("tenantquotas", {"metadata": meta, "spec": known["spec"] | spec})
        else:
            self.api.new("tenantquotas", "", {"metadata": meta, "spec": spec})

    @initialize(specs=st.lists(st.sampled_from(SPECS), min_size=2, max_size=2), steps=st.integers(0, 12))
    def begin(self, specs: list[dict[str, Any]], steps: int = 0) -> None:
        for name, spec in zip("ab", specs, strict=True):
            self.world.apply(name, **spec)
        self.advance(steps, "success")

    @rule(priority=st.sampled_from([2, 9]), steps=st.integers(0, 6), end=st.sampled_from(list(ENDS)))
    def urgent(self, priority: int = 9, steps: int = 0, end: str = "success") -> None:
        """A task of a higher priority comes, if that name is free."""
        if all(task["metadata"]["name"] != "c" for task in self.tasks()):
            self.world.apply("c", priority=priority)
        self.advance(steps, end)

    @rule(preemption=st.sampled_from(["Never", "LowerPriority"]), stop=st.sampled_from(["None", "None", "Hold"]))
    def quota_changes(self, preemption: str, stop: str) -> None:
        self.set_quota(preemption=preemption, stopPolicy=stop)

    def come_to_rest(self) -> None:
        self.set_quota(preemption="LowerPriority", stopPolicy="None")
        super().come_to_rest()

    def take_note(self, plural: str, kind: str, body: Json) -> None:
        """See what a ledger claims now: of each attempt once, and of one that stands in it."""
        if plural != "configmaps" or kind == "DELETED":
            return
        claims = parse_claims(body["data"].get(KEY, ""))
        victims = [victim for claim in claims for victim in claim.victims]
        if len(victims) != len(set(victims)):
            self.api.broken = Broken(f"an attempt gives way twice: {claims}")
        self.named |= set(victims)

    def check_stop(self, task: Json) -> None:
        for attempt in task["status"].get("attempts") or []:
            name = (task["metadata"]["uid"], attempt["number"])
            if attempt.get("cause") == "Preempted" and GAVE_WAY in attempt.get("message", ""):
                self.stopped.setdefault(name, attempt["message"])
            if name in self.stopped and name not in self.named:
                raise Broken(f"{name} is stopped for another task, and no claim ever named it")
            if name in self.stopped and attempt.get("cause") == "Preempted" and not attempt.get("message"):
                raise Broken(f"it is forgotten why {name} was stopped: {attempt}")

    def check_rest(self) -> None:
        for config in self.api.of("configmaps"):
            if config["data"].get(KEY):
                raise Broken(f"a claim is left: {config['data']}")
        super().check_rest()


def tell_preempting(story: Callable[[PreemptStory], None]) -> None:
    """Tell *story* of tasks that give way to its end."""
    from tests.support.sim_story import tell

    tell(story, PreemptStory)
