"""Whatever happens to a queue: a little later what waiting tasks show is true, and then nothing is written any more.

Stories are made from numbers: what is looked for are rare orders of common events, which Hypothesis seldom finds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random
from typing import cast

import pytest

from longtask_operator.adapters.kube import Kube
from longtask_operator.api.status import Queue
from longtask_operator.core.ledger import LedgerEntry
from longtask_operator.core.queueing import Candidate, moved_noticeably
from longtask_operator.core.quota import Caps, Limits
from longtask_operator.core.waits import stays_said
from longtask_operator.engines.admission_loop import AdmissionLoop
from longtask_operator.engines.ledgers import Ledgers
from longtask_operator.engines.snapshots import NoLimits
from tests.builders import SMALLEST, START
from tests.support.cohort import LARGE
from tests.support.sim_api import SimApi
from tests.support.sim_operator import METRICS, LogTrap, SimKube, VirtualLoop
from tests.support.stories import how_many

TENANTS = ("team-a", "team-b")
#: Longer than a look at places takes to come, when few wait.
REST = 300.0


class Known(NoLimits):
    """Tenants with limits that change, and persons."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.own, self.users, self.now = dict[str, Limits](), dict[str, str](), now  # type: ignore[method-assign]

    def limits(self, tenant: str) -> Limits:
        return self.own[tenant]

    def of_cohort(self, cohort: str) -> list[str]:
        return [tenant for tenant, own in self.own.items() if own.cohort == cohort]

    def user(self, uid: str) -> str:
        return self.users.get(uid, "")


class Story:
    """An admission loop, and statuses that are written as a reconcile writes them."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.trap, self.loop, self.kube = LogTrap(), VirtualLoop(), SimKube()
        self.api, self.known = SimApi(now=self.loop.now), Known(self.now)
        self.ledgers = Ledgers(cast(Kube, self.kube), "longtask-system")
        self.waiting, self.live = dict[str, Candidate](), dict[str, Candidate]()
        self.shown, self.writes, self.count = dict[str, Queue](), 0, 0
        self.known.own = {tenant: self.some_limits() for tenant in TENANTS}
        self.admission = self.loop.within(lambda: AdmissionLoop(self.ledgers, METRICS, self.look_soon, self.known))
        self.task = self.loop.create_task(self.admission.run())

    def some_limits(self) -> Limits:
        def may_be(chance: float, *values: int) -> int | None:
            return self.random.choice(values) if self.random.random() < chance else None

        return Limits(
            origin="a quota",
            cohort=self.random.choice(["", "research", "research"]),
            concurrency=may_be(0.8, *range(7)),
            cpu=may_be(0.4, 250, 1000, 4000, 6000),
            per_user=may_be(0.2, 0, 1, 2),
            max_queued=may_be(0.2, 0, 4, 8),
            max_priority=may_be(0.3, -4, 0, 2),
            on_hold=self.random.random() < 0.05,
            borrowing=Caps(concurrency=may_be(0.4, *range(5))),
            lending=Caps(concurrency=may_be(0.4, *range(5))),
        )

    def look_soon(self, uid: str) -> None:
        self.loop.call_soon(lambda: self.look(uid))

    def now(self) -> datetime:
        return START + timedelta(seconds=self.loop.elapsed)

    def look(self, uid: str) -> None:
        """Write what holds a task back, where that differs from what is shown; let go of one that was admitted."""
        candidate = self.waiting.get(uid)
        if candidate is None:
            return
        if self.ledgers.entry(uid):
            self.live[uid] = self.waiting.pop(uid)
            self.leaves(candidate)
            return
        shown = self.shown.get(uid)
        found = self.admission.held_back(uid, shown)
        if found is None or (shown and stays_said(shown, found)):
            return
        self.shown[uid] = Queue(reason=found.reason, message=found.message, position=found.position)
        self.writes += 1

    def submit(self, candidate: Candidate) -> None:
        self.waiting[candidate.entry.uid] = candidate
        self.look(candidate.entry.uid)
        self.loop.within(lambda: self.admission.submit(candidate))

    def leaves(self, candidate: Candidate) -> None:
        self.shown.pop(candidate.entry.uid, None)
        self.loop.within(lambda: self.admission.withdraw(candidate.entry.uid, candidate.tenant))

    def some(self, uids: Mapping[str, Candidate]) -> Candidate | None:
        return uids[self.random.choice(sorted(uids))] if uids else None

    def goes_on(self) -> None:
        """Let something happen."""
        events = (
            self.some_come,
            self.one_ends,
            self.one_is_cancelled,
            self.one_gets_another_priority,
            self.quota_changes,
        )
        self.random.choices(events, weights=(45, 15, 10, 10, 20))[0]()
        self.time_passes(self.random.choice([0.05, 0.3, 2, 70, 300]))

    def some_come(self) -> None:
        tenant, choice = self.random.choice(TENANTS), self.random.choice
        for _ in range(self.random.randint(1, 6)):
            self.count += 1
            uid, priority, user = f"u{self.count:03}", self.random.randint(-3, 3), choice(["", "", "eve"])
            self.known.users[uid] = user
            entry = LedgerEntry(uid=uid, attempt=1, generation=1, size=choice([SMALLEST, SMALLEST, LARGE]))
            self.submit(
                Candidate(key=uid, tenant=tenant, priority=priority, queued_at=self.now(), entry=entry, user=user)
            )

    def one_ends(self) -> None:
        if candidate := self.some(self.live):
            uid = candidate.entry.uid
            del self.live[uid]
            self.loop.within(lambda: self.admission.release(candidate.tenant, uid, 1))

    def one_is_cancelled(self) -> None:
        if candidate := self.some(self.waiting):
            del self.waiting[candidate.entry.uid]
            self.leaves(candidate)

    def one_gets_another_priority(self) -> None:
        if candidate := self.some(self.waiting):
            self.submit(replace(candidate, priority=self.random.randint(-9, 9)))

    def quota_changes(self) -> None:
        tenant = self.random.choice(TENANTS)
        self.known.own[tenant] = self.some_limits()
        self.loop.within(lambda: self.admission.limits_changed(tenant))

    def time_passes(self, seconds: float) -> None:
        """Answer everything for some time."""
        self.loop.pass_time(seconds, self._answers)

    def _answers(self) -> bool:
        asked = next((pending for pending in self.kube.pending if not pending.reply.done()), None)
        if asked:
            asked.execute(self.api)
            asked.deliver()
        return asked is not None

    def close(self) -> None:
        self.task.cancel()
        self.loop.settle()
        self.loop.close()
        self.trap.close()

    def check(self) -> None:
        for uid, candidate in self.waiting.items():
            shown = self.shown.get(uid)
            found = self.admission.held_back(uid, shown)
            assert found, f"nothing keeps {uid} from starting"
            assert shown, f"{uid} shows nothing"
            place = self.admission._room.of(candidate.tenant).queue.positions()[uid]
            assert found.was_said(shown.reason, shown.message), f"{shown.message}, but {found.message}"
            assert not moved_noticeably(shown.position, place), f"{uid} is at {place}, not {shown.position}"
        live = set(self.live)
        for tenant in TENANTS:
            self.loop.within(lambda tenant=tenant: self.admission.look_at(self.admission.home(tenant)))
        before = self.writes
        self.time_passes(REST)
        assert set(self.live) == live, "some waited for nothing"
        assert self.writes == before, "something is written at rest"


@pytest.mark.parametrize("seed", range(how_many(60)))
def test_what_waiting_tasks_show_becomes_true_and_stays(seed: int) -> None:
    story = Story(seed)
    try:
        for _ in range(30):
            story.goes_on()
        story.time_passes(REST)
        story.check()
    finally:
        story.close()
