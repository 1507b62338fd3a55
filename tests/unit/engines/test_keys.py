"""The index of idempotency keys, fed by caches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from longtask_operator.adapters.tasks import TaskRecord, observe_task
from longtask_operator.core.duplicates import Claimant, contest, counting_for, yields_to
from longtask_operator.core.ledger import LedgerEntry
from longtask_operator.engines.context import Clock, new_caches
from longtask_operator.engines.keys import Keys
from tests.builders import FINISHED, a_job, a_longtask_body, an_ended_pod, an_entry, at, wire

KEY: dict[str, Any] = {"idempotencyKey": "k"}
WAITS: dict[str, Any] = {"run": 1, "phase": "Queued", "runStartTime": wire(0)}
COPIED = FINISHED | {"attempts": None, "duplicateOf": {"name": "t0", "uid": "uid-t0"}}
MANY = 300


class Bench:
    """An index on caches and entries that a test fills."""

    def __init__(self) -> None:
        self.caches = new_caches()
        self.entries: dict[str, LedgerEntry] = {}
        self.asked: list[str] = []  #: uids of whom the ledger was asked
        self.woken: list[str] = []
        self.ledgers: Any = SimpleNamespace(entry=self.entry, appeared=[], vanished=[])
        clock = Clock(now=lambda: at(0), jitter=lambda: 0.5)
        self.context: Any = SimpleNamespace(caches=self.caches, clock=clock)
        self.keys = Keys(self.context, self.ledgers, self.woken.append)
        self.version = 0

    def entry(self, uid: str) -> LedgerEntry | None:
        self.asked.append(uid)
        return self.entries.get(uid)

    def task(
        self, name: str, status: dict[str, Any] | None = None, key: dict[str, Any] = KEY, **meta: Any
    ) -> TaskRecord:
        """Let a task be there, or change."""
        self.version += 1
        body = a_longtask_body(key, status)
        body["metadata"] |= {"name": name, "uid": f"uid-{name}", "resourceVersion": str(self.version), **meta}
        record = observe_task(body)
        self.caches.tasks.put(record)
        return record

    def goes(self, name: str) -> None:
        self.caches.tasks.remove("team-a", name, f"uid-{name}")

    def job(self, name: str, **changes: Any) -> None:
        """Let the Job of a task be there, or change."""
        self.version += 1
        named = {"name": f"{name}-1", "uid": f"job-{name}", "task_name": name, "task_uid": f"uid-{name}"}
        self.caches.jobs.put(a_job(**named, key="k", version=self.version, **changes))

    def job_goes(self, name: str) -> None:
        self.caches.jobs.remove("team-a", f"{name}-1", f"job-{name}")

    def admits(self, name: str) -> None:
        self.entries[f"uid-{name}"] = an_entry(uid=f"uid-{name}")
        for tell in self.ledgers.appeared:
            tell(f"uid-{name}")

    def releases(self, name: str) -> None:
        if self.entries.pop(f"uid-{name}", None):
            for tell in self.ledgers.vanished:
                tell(f"uid-{name}")


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_of_what_is_gone_nothing_is_remembered(bench: Bench) -> None:
    bench.task("a")
    bench.admits("a")
    bench.job("a")
    bench.goes("a")
    assert len(bench.keys) == 1  # it keeps its key while something of it lives
    bench.job_goes("a")
    assert len(bench.keys) == 1
    bench.releases("a")
    assert len(bench.keys) == 0


def test_who_waits_for_what_is_gone_is_woken_when_the_last_of_it_goes(bench: Bench) -> None:
    bench.task("a")
    bench.admits("a")
    bench.task("b", WAITS)
    bench.goes("a")
    bench.woken.clear()
    bench.releases("a")
    assert bench.woken == ["team-a/b"]


def test_a_job_whose_pod_object_goes_may_make_another_one(bench: Bench) -> None:
    bench.job("a")
    bench.caches.pods.put(an_ended_pod(name="p", uid="p", task_name="a", task_uid="uid-a", key="k", version=1))
    record = bench.task("b", WAITS)
    bench.goes("a")
    bench.caches.pods.remove("team-a", "p", "p")
    rivals = bench.keys.rivals_of(record)
    assert rivals
    assert rivals.holder
    assert (rivals.holder.uid, rivals.holder.lives) == ("uid-a", True)


def test_a_crowd_of_one_key_costs_each_of_its_changes_little(bench: Bench) -> None:
    """A client in a loop: each of many is created, told that it waits, and takes over what the first one came to."""
    bench.task("t0", WAITS)
    bench.admits("t0")
    for status in (None, WAITS, COPIED):
        bench.asked.clear()
        bench.woken.clear()
        for number in range(1, MANY):
            record = bench.task(f"t{number}", status)
            bench.keys.rivals_of(record)
        assert len(bench.asked) < 10 * MANY
        assert len(bench.woken) < 10 * MANY
        if status is WAITS:
            bench.releases("t0")
            bench.task("t0", FINISHED)
            assert len(set(bench.woken)) == MANY - 1


def test_the_end_of_who_ran_wakes_all_that_wait(bench: Bench) -> None:
    bench.task("t0", WAITS)
    bench.admits("t0")
    for name in ("t1", "t2"):
        bench.task(name, WAITS)
    bench.woken.clear()
    bench.task("t0", FINISHED)
    assert {"team-a/t1", "team-a/t2"} <= set(bench.woken)
    assert "team-a/t0" not in bench.woken


@pytest.mark.parametrize(
    ("status", "awaited"),
    [
        (None, True),
        (WAITS, True),
        ({**WAITS, "run": 2, "runStartTime": wire(4)}, True),
        ({**WAITS, "run": 2, "runStartTime": wire(6)}, False),
        ({**WAITS, "attempts": [{"number": 1, "run": 1}]}, False),
        (COPIED, False),
    ],
)
def test_an_outcome_is_awaited_while_another_task_may_take_it_over(
    bench: Bench, status: dict[str, Any] | None, awaited: bool
) -> None:
    done = bench.task("t0", FINISHED)
    bench.task("t1", status)
    rivals = bench.keys.rivals_of(done)
    assert rivals
    assert rivals.is_awaited is awaited


def test_nobody_awaits_the_end_of_a_duplicate_by_its_own_deadline(bench: Bench) -> None:
    waits = {"type": "Admitted", "status": "False", "reason": "Duplicate"}
    done = bench.task("t0", FINISHED | {"conditions": [*FINISHED["conditions"], waits]})
    bench.task("t1", WAITS)
    rivals = bench.keys.rivals_of(done)
    assert rivals
    assert not rivals.is_awaited


def test_nobody_awaits_the_outcome_of_another_spec_nor_while_it_is_suspended(bench: Bench) -> None:
    done = bench.task("t0", FINISHED)
    bench.task("t1", key=KEY | {"args": ["other"]})
    bench.task("t2", key=KEY | {"suspend": True})
    rivals = bench.keys.rivals_of(done)
    assert rivals
    assert not rivals.is_awaited


class Server:
    """Stands in for the API server: it lists *items*."""

    def __init__(self, *items: Any) -> None:
        self.items, self.asked = items, list[tuple[str, Any]]()

    async def list_pages(self, path: str, params: Any) -> AsyncIterator[dict[str, Any]]:
        self.asked.append((path, params))
        yield {"items": self.items}


def test_who_has_a_key_is_asked_for_while_a_ledger_has_lines_of_strangers(bench: Bench) -> None:
    bench.task("a")
    bench.keys.known = lambda uid: "" if uid == "uid-b" else "known"
    body = a_longtask_body(KEY) | {}
    body["metadata"] |= {"name": "b", "uid": "uid-b", "resourceVersion": "99"}
    server = bench.context.kube = Server(body)
    asyncio.run(bench.keys.learn(["uid-a"]))
    assert server.asked == []
    bench.admits("b")
    asyncio.run(bench.keys.learn(["uid-z"]))  # it has no key
    assert server.asked == []
    asyncio.run(bench.keys.learn(["uid-a"]))
    path = "/apis/longtask.dev/v1alpha1/namespaces/team-a/longtasks"
    assert server.asked == [(path, {"fieldSelector": "spec.idempotencyKey=k"})]
    assert list(bench.keys.rivals("uid-a")) == ["uid-b"]
    asyncio.run(bench.keys.learn(["uid-a"]))  # it is no stranger any more
    assert len(server.asked) == 1


def test_a_line_that_goes_is_no_strangers_any_more(bench: Bench) -> None:
    bench.task("a", key={"idempotencyKey": "a=b,c\\d"})
    bench.keys.known = lambda uid: ""
    server = bench.context.kube = Server()
    bench.admits("b")
    asyncio.run(bench.keys.learn(["uid-a"]))
    assert server.asked[0][1] == {"fieldSelector": "spec.idempotencyKey=a\\=b\\,c\\\\d"}
    bench.releases("b")
    asyncio.run(bench.keys.learn(["uid-a"]))
    assert len(server.asked) == 1


NAMES = st.sampled_from(["t0", "t1", "t2", "t3"])
STATUSES = (
    None,
    WAITS,
    {**WAITS, "run": 2, "runStartTime": wire(4)},
    {**WAITS, "attempts": [{"number": 1, "run": 1}]},
    FINISHED,
    FINISHED | {"completionTime": wire(9)},
    COPIED,
    COPIED | {"completionTime": wire(7)},
    COPIED | {"duplicateOf": {"name": "x", "uid": "uid-x"}},
)


class Story(RuleBasedStateMachine):
    """Whatever happens, the index says what a look at all of them says, and whom that concerns is woken."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()
        self.knew: dict[str, Any] = {}
        self.quiet = False  #: whether nobody has to be woken: the status of whoever has begun will say so

    @rule(name=NAMES, status=st.sampled_from(STATUSES), deleting=st.booleans(), created=st.integers(0, 1))
    def changes(self, name: str, status: dict[str, Any] | None, deleting: bool, created: int) -> None:
        meta = {"deletionTimestamp": wire(3)} if deleting else {}
        record = self.bench.task(name, status, creationTimestamp=wire(created), **meta)
        self.bench.woken.append(record.key)  # whoever changes is looked at anyway

    @rule(name=NAMES)
    def goes(self, name: str) -> None:
        self.bench.goes(name)

    @rule(name=NAMES, finished=st.booleans())
    def job(self, name: str, finished: bool) -> None:
        if not any(job.finished for job in self.bench.caches.jobs.group(f"team-a/{name}")):
            self.bench.job(name, finished=finished)
            self.quiet = True

    @rule(name=NAMES)
    def job_goes(self, name: str) -> None:
        self.bench.job_goes(name)

    @rule(name=NAMES)
    def admits(self, name: str) -> None:
        if f"team-a/{name}" in {record.key for record in self.bench.caches.tasks}:
            self.bench.admits(name)

    @rule(name=NAMES)
    def releases(self, name: str) -> None:
        self.bench.releases(name)

    @invariant()
    def it_says_what_a_look_at_all_of_them_says(self) -> None:
        everybody = self.everybody()
        holder, done = contest(everybody)
        knows: dict[str, Any] = {}
        for record in self.bench.caches.tasks:
            rivals = self.bench.keys.rivals_of(record)
            if rivals is None:
                assert len(everybody) == 1
                continue
            me = next(one for one in everybody if one.uid == record.uid)
            assert (rivals.me, rivals.holder, rivals.finished) == (me, holder, counting_for(me, done))
            if not (me.is_finished or me.is_leaving):
                other = yields_to(me, holder, rivals.finished)
                knows[record.key] = other and (other.uid, other.claim)
        woken, self.bench.woken[:] = set(self.bench.woken), []
        for key, other in () if self.quiet else knows.items():
            if key in self.knew and self.knew[key] != other and not self.is_polled(self.knew[key]):
                assert key in woken or self.takes_over_the_same(self.knew[key], other), (self.knew[key], other)
        self.knew, self.quiet = knows, False

    def teardown(self) -> None:
        for name in ("t0", "t1", "t2", "t3"):
            self.bench.goes(name)
            self.bench.releases(name)
            self.bench.job_goes(name)
        assert len(self.bench.keys) == 0

    def everybody(self) -> list[Claimant]:
        """Return all that a key is to be known of, found out the slow way."""
        found = []
        for name in ("t0", "t1", "t2", "t3"):
            record = self.bench.caches.tasks.get("team-a", name)
            holds = self.bench.entries.get(f"uid-{name}") is not None
            lives = any(not job.finished for job in self.bench.caches.jobs.group(f"team-a/{name}"))
            claim = record.claim if record else None
            if claim or holds or lives:
                found.append(Claimant(name=name, uid=f"uid-{name}", claim=claim, holds=holds, lives=lives))
        return found

    def is_polled(self, other: Any) -> bool:
        """Whether who waits for *other* looks again by itself."""
        return other is not None and (other[1] is None or other[1].deleting or bool(other[1].finished_at))

    def takes_over_the_same(self, before: Any, now: Any) -> bool:
        return bool(before and now and before[1].finished_at and now[1].finished_at)


def test_the_index_says_what_a_look_at_all_of_them_says() -> None:
    run_state_machine_as_test(Story)
