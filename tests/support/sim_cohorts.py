"""Stories of two tenants that share what they have in a cohort, and leave and join cohorts while their tasks run.

The truth are the ledgers as the API server has them: whatever lives stands in one of them at every moment, also in the
middle of a move, and while nobody moves both tenants together never hold more than their quotas.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from longtask_operator.core.ledger import LedgerEntry
from longtask_operator.core.ledger_layout import parse_ledger
from tests.support.sim_api import Broken, Json
from tests.support.sim_story import Story, tell
from tests.support.sim_world import ENDS, NAMESPACE

HOST, GUEST = NAMESPACE, "team-b"
#: Of each tenant; it may borrow as much.
NOMINAL = 1
SPECS: list[dict[str, Any]] = [{}, {"priority": 3}, {"retry": {"backoff": {"initialSeconds": 1}}}, {"suspend": True}]
tenants = st.sampled_from([HOST, GUEST])


class CohortStory(Story):
    """Stories of a cohort of two."""

    def __init__(self) -> None:
        super().__init__()
        self.has_moved, self.generation = False, 0
        self.api.new("namespaces", "", {"metadata": {"name": GUEST, "labels": {}}})
        for tenant in (HOST, GUEST):
            self.set_quota(tenant, cohort="c", concurrency={"nominal": NOMINAL, "borrowingLimit": NOMINAL})
        self.api.watchers.append(self.take_note)

    def set_quota(self, tenant: str, **spec: Any) -> None:
        """Change the quota of *tenant*; None takes a field out."""
        self.generation += 1
        known = next((quota for quota in self.api.of("tenantquotas") if quota["metadata"]["name"] == tenant), None)
        wanted = {key: value for key, value in ((known or {}).get("spec", {}) | spec).items() if value is not None}
        meta = {"name": tenant, "generation": self.generation}
        if known:
            self.api.put("tenantquotas", {"metadata": known["metadata"] | meta, "spec": wanted})
        else:
            self.api.new("tenantquotas", "", {"metadata": meta, "spec": wanted})
        self.loop.settle()

    @initialize(steps=st.integers(0, 12), end=st.sampled_from(list(ENDS)))
    def begin(self, steps: int = 0, end: str = "success") -> None:
        self.submit(HOST, "a")
        self.submit(GUEST, "g")
        self.advance(steps, end)

    @rule(tenant=tenants, name=st.sampled_from(["x", "y"]), spec=st.sampled_from(SPECS), steps=st.integers(0, 6))
    def submit(self, tenant: str, name: str, spec: dict[str, Any] | None = None, steps: int = 0) -> None:
        """A task comes, if that name is free."""
        known = {(task["metadata"]["namespace"], task["metadata"]["name"]) for task in self.tasks()}
        if (tenant, name) not in known:
            self.world.apply(name, tenant, **(spec or {}))
        self.advance(steps, "success")

    @rule(tenant=tenants, cohort=st.sampled_from(["c", "d", None]))
    def move(self, tenant: str, cohort: str | None) -> None:
        """A tenant leaves its cohort for another, or for none."""
        self.has_moved = True
        self.set_quota(tenant, cohort=cohort)

    def take_note(self, plural: str, kind: str, body: Json) -> None:
        """See what stands in the ledgers after each of their writes."""
        if plural == "configmaps":
            try:
                self.what_lives_stands_in_a_ledger()
            except Broken as error:
                self.api.broken = self.api.broken or error

    @invariant()
    def what_lives_stands_in_a_ledger(self) -> None:
        """And while nobody moved no more than the quotas have together."""
        entries = self.entries()
        held = {(entry.uid, entry.attempt) for entry in entries}
        for one in self.world.containers.values():
            of_us = not (one.excused or one.duplicate or (one.task, one.attempt) in self.world.strays)
            if one.lives and of_us and (one.task, one.attempt) not in held:
                raise Broken(f"attempt {one.attempt} of {one.task} lives and stands in no ledger")
        counted = {(entry.uid, entry.attempt) for entry in entries if not entry.handed_over}
        if not self.has_moved and len(counted) > 2 * NOMINAL:
            raise Broken(f"the cohort holds {len(counted)} of {2 * NOMINAL}: {entries}")
        if self.api.broken:
            raise self.api.broken

    def entries(self) -> list[LedgerEntry]:
        """Return all entries of all ledgers; in a move one may stand in two."""
        contents = [parse_ledger(one["metadata"]["name"], one["data"]) for one in self.api.of("configmaps")]
        return [entry for content in contents for held in content.tenants.values() for entry in held.values()]


def tell_of_cohorts(story: Callable[[CohortStory], None]) -> None:
    """Tell *story* of a cohort to its end."""
    tell(story, CohortStory)
