"""The admission loop on a model of the API server: each test executes and answers its requests itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from longtask_operator.adapters.errors import Invalid, Unavailable
from longtask_operator.adapters.kube import Kube
from longtask_operator.api.reasons import QueueReason
from longtask_operator.core.ledger import MAX_ENTRIES, LedgerEntry, format_entries
from longtask_operator.core.ledger_layout import Tenants, ledger_name
from longtask_operator.core.preemption import Run
from longtask_operator.core.queueing import Candidate
from longtask_operator.core.quota import RECLAIM, Limits
from longtask_operator.core.sizing import Size
from longtask_operator.engines.admission_loop import (
    BYTES_AT_ONCE_SECONDS,
    BYTES_PER_SECOND,
    RAISE_SECONDS,
    AdmissionLoop,
)
from longtask_operator.engines.ledgers import Ledgers
from longtask_operator.engines.snapshots import NoLimits
from tests.builders import SMALLEST, START
from tests.support.sim_api import Request, SimApi
from tests.support.sim_operator import METRICS, LogTrap, SimKube, VirtualLoop

NAMESPACE = "longtask-system"


class Bench:
    """An admission loop that runs, and what it told."""

    def __init__(self) -> None:
        self.trap = LogTrap()
        self.loop = VirtualLoop()
        self.api = SimApi(now=self.loop.now)
        self.kube = SimKube()
        self.ledgers = Ledgers(cast(Kube, self.kube), NAMESPACE)
        self.told: list[str] = []
        self.tenants: Any = None
        self.admission = self.loop.within(lambda: AdmissionLoop(self.ledgers, METRICS, self.told.append))
        self.task = self.loop.create_task(self.admission.run())

    def know(self, tenants: Any) -> None:
        """Let the loop ask *tenants* from now on."""
        self.tenants = self.admission._tenants = self.admission._snapshots._tenants = tenants
        self.admission._snapshots.persons.tasks = tenants

    def submit(self, uid: str, attempt: int = 1, tenant: str = "team-a", generation: int = 1, user: str = "") -> None:
        entry = LedgerEntry(uid=uid, attempt=attempt, generation=generation, size=SMALLEST)
        candidate = Candidate(key=f"ns/{uid}", tenant=tenant, priority=0, queued_at=START, entry=entry, user=user)
        self.loop.within(lambda: self.admission.submit(candidate))

    def submit_large(self, uid: str, tenant: str = "team-a", priority: int = 0) -> None:
        entry = LedgerEntry(uid=uid, attempt=1, generation=1, size=Size(cpu=500, memory=SMALLEST.memory))
        candidate = Candidate(key=f"ns/{uid}", tenant=tenant, priority=priority, queued_at=START, entry=entry)
        self.loop.within(lambda: self.admission.submit(candidate))

    def keep(self, uid: str, attempt: int = 1) -> None:
        entry = LedgerEntry(uid=uid, attempt=attempt, generation=1, size=SMALLEST)
        self.loop.within(lambda: self.admission.keep("team-a", entry, f"ns/{uid}"))

    def release(self, uid: str, attempt: int = 1, tenant: str = "team-a") -> None:
        self.loop.within(lambda: self.admission.release(tenant, uid, attempt))

    def withdraw(self, uid: str) -> None:
        self.loop.within(lambda: self.admission.withdraw(uid, "team-a"))

    def step(self, reply: str = "ok") -> None:
        """Execute the oldest request, and answer it or lose the answer."""
        self.loop.settle()
        request = next(pending for pending in self.kube.pending if not pending.reply.done())
        if reply != "not sent":
            request.execute(self.api)
        if reply == "ok":
            request.deliver()
        else:
            request.lose()
        self.loop.settle()

    def run(self, seconds: float = 60) -> None:
        """Answer everything for some time."""
        self.loop.pass_time(seconds, self._answers)

    def _answers(self) -> bool:
        if not any(not pending.reply.done() for pending in self.kube.pending):
            return False
        self.step()
        return True

    def ledger(self, tenant: str = "team-a", cohort: str = "") -> list[str]:
        """Return `uid attempt` of each line that the API server holds."""
        config = self.api.objects.get(("configmaps", NAMESPACE, ledger_name(tenant, cohort)))
        lines = config["data"].get(tenant if cohort else "attempts", "").splitlines() if config else []
        return [" ".join(line.split()[:2]) for line in lines]

    def restart(self) -> None:
        """Kill the process and start another one, which loads the ledgers."""
        self.task.cancel()
        self.loop.settle()
        for pending in self.kube.pending:
            pending.reply.cancel()
        self.kube = SimKube()
        self.ledgers = Ledgers(cast(Kube, self.kube), NAMESPACE)
        self.load()
        self.admission = self.loop.within(lambda: AdmissionLoop(self.ledgers, METRICS, self.told.append, self.tenants))
        self.task = self.loop.create_task(self.admission.run())

    def store_ledger(self, text: str, tenant: str = "team-a") -> None:
        """Write a ledger as somebody else would."""
        name = ledger_name(tenant)
        config = self.api.objects.get(("configmaps", NAMESPACE, name))
        if config:
            self.api.put("configmaps", {**config, "data": {"attempts": text}})
        else:
            labels = {"app.kubernetes.io/component": "ledger"}
            self.api.new(
                "configmaps", NAMESPACE, {"metadata": {"name": name, "labels": labels}, "data": {"attempts": text}}
            )

    def load(self) -> None:
        task = self.loop.create_task(self.ledgers.load())
        self.step()
        assert task.done()

    def close(self) -> None:
        self.task.cancel()
        self.loop.settle()
        self.loop.close()
        self.trap.close()


def test_what_waits_when_a_write_begins_shares_it(bench: Bench) -> None:
    for uid in "abc":
        bench.submit(uid)
    bench.run()
    assert bench.ledger() == ["a 1", "b 1", "c 1"]
    assert len(bench.api.writes) == 1
    assert sorted(bench.told) == ["ns/a", "ns/b", "ns/c"]


def test_a_release_waits_for_company_and_names_its_attempt(bench: Bench) -> None:
    bench.submit("a")
    bench.run()
    bench.release("a", attempt=2)
    bench.run()
    assert bench.ledger() == ["a 1"]
    bench.release("a")
    bench.submit("b")
    bench.run()
    assert bench.ledger() == ["b 1"]
    assert len(bench.api.writes) == 2


def test_each_tenant_has_a_ledger_of_its_own(bench: Bench) -> None:
    bench.submit("a")
    bench.submit("b", tenant="team-b")
    bench.run()
    assert (bench.ledger(), bench.ledger("team-b")) == (["a 1"], ["b 1"])


def test_a_conflict_is_planned_anew_from_what_the_other_wrote(bench: Bench) -> None:
    bench.load()
    bench.store_ledger("z 4 1 250 512\n")
    bench.submit("a")
    bench.run()
    assert bench.ledger() == ["a 1", "z 4"]


@pytest.mark.parametrize("faults", [0, 1])
def test_who_shares_a_key_with_one_that_only_the_ledger_knows_is_heard_of_first(bench: Bench, faults: int) -> None:
    """Another operator has admitted a task that this one has not seen yet."""
    known: dict[str, list[str]] = {}
    asked: list[list[str]] = []

    async def learn(uids: Iterable[str]) -> None:
        asked.append(list(uids))
        if len(asked) <= faults:
            raise Unavailable(0, "ConnectionLost", "no answer")
        known["a"] = ["b"] if bench.ledgers.entry("b") else []

    bench.admission.rivals, bench.admission.learn_rivals = lambda uid: known.get(uid, ()), learn
    bench.store_ledger("b 1 1 250 512\n")
    bench.submit("a")
    bench.submit("c")
    bench.run()
    assert bench.ledger() == ["b 1", "c 1"]
    assert asked[:2] == [["a", "c"]] * 2
    assert "ns/a" in bench.told
    assert not bench.admission.concerns("a", "team-a")


@pytest.mark.parametrize("reply", ["lost", "not sent"])
def test_a_write_without_an_answer_is_read_again(bench: Bench, reply: str) -> None:
    bench.submit("a")
    bench.step(reply)
    bench.run()
    assert bench.ledger() == ["a 1"]
    assert "ns/a" in bench.told


def test_a_ledger_in_doubt_is_read_until_it_is_known(bench: Bench) -> None:
    bench.submit("a")
    bench.step("lost")
    bench.withdraw("a")
    bench.loop.elapsed += 1
    bench.step("lost")  # reading it again fails as well
    assert bench.admission.concerns("a", "team-a")
    bench.run()
    assert bench.ledgers.entry("a") is not None
    assert bench.told == ["ns/a"]
    assert not bench.admission.concerns("a", "team-a")


def test_a_full_ledger_holds_back_until_a_release_makes_room(bench: Bench) -> None:
    full = [LedgerEntry(uid=f"u{n:05d}", attempt=1, generation=1, size=SMALLEST) for n in range(MAX_ENTRIES)]
    bench.store_ledger(format_entries(full))
    bench.load()
    bench.submit("a")
    bench.run()
    held_back = bench.admission.held_back("a")
    assert held_back is not None
    assert held_back.reason is QueueReason.COHORT_EXHAUSTED
    bench.release("u00000")
    bench.run()
    assert bench.admission.held_back("a") is None
    assert "a 1" in bench.ledger()


def test_a_ledger_that_is_not_stored_is_tried_again_in_a_while_and_it_is_said_why(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle, refused = SimApi.handle, list[Request]()

    def refuse(self: SimApi, request: Request) -> Any:
        if request.method == "GET":
            return handle(self, request)
        refused.append(request)
        raise Invalid(422, "Invalid", "data: Too long: may not be more than 1048576 bytes")

    with monkeypatch.context() as full:
        full.setattr(SimApi, "handle", refuse)
        for number in range(100):
            bench.submit(f"u{number}")
            bench.run(1)
    assert len(refused) == 4, "each half a minute, however many come"
    held_back = bench.admission.held_back("u0")
    assert held_back is not None
    assert held_back.message.endswith("-team-a cannot be stored: data: Too long: may not be more than 1048576 bytes")
    bench.run(100)
    assert len(bench.ledger()) == 100


def test_a_release_goes_to_the_ledger_that_holds_the_attempt(bench: Bench) -> None:
    bench.submit("a", tenant="team-a")
    bench.run()
    bench.release("a", tenant="team-b")  # the namespace changed its tenant meanwhile
    bench.run()
    assert bench.ledger() == []


def test_a_task_waits_for_one_tenant_only(bench: Bench) -> None:
    bench.submit("a", tenant="team-a")
    bench.submit("a", tenant="team-b")
    bench.run()
    assert (bench.ledger(), bench.ledger("team-b")) == ([], ["a 1"])


def test_an_attempt_that_is_kept_is_not_released_by_an_older_wish_nor_the_other_way_round(bench: Bench) -> None:
    bench.submit("a")
    bench.run()
    bench.release("a")
    bench.keep("a")
    bench.run()
    assert bench.ledger() == ["a 1"]
    bench.keep("a")
    bench.release("a")
    bench.run()
    assert bench.ledger() == []


def test_whoever_is_kept_is_looked_at_once_that_stands(bench: Bench) -> None:
    """By then its attempt may be over, and nobody would release an entry that was not there when that was seen."""
    bench.load()
    bench.store_ledger("z 4 1 250 512\n")
    bench.keep("a")
    bench.run()
    assert bench.ledger() == ["a 1", "z 4"]
    assert bench.told == ["ns/a"]


def test_a_task_is_remembered_while_its_entry_is_being_put_back(bench: Bench) -> None:
    """It may go meanwhile: whoever forgot it would find nobody to release the entry."""
    bench.load()
    bench.keep("a")
    assert bench.admission.concerns("a", "team-a")
    bench.loop.settle()
    assert bench.admission.concerns("a", "team-a")
    bench.step("lost")
    assert bench.admission.concerns("a", "team-a")
    bench.run()
    assert (bench.ledger(), bench.told) == (["a 1"], ["ns/a"])
    assert not bench.admission.concerns("a", "team-a")


def test_an_admission_anew_outlives_the_release_of_the_same_attempt(bench: Bench) -> None:
    bench.submit("a", generation=1)
    bench.run()
    bench.release("a")
    bench.submit("a", generation=2)
    bench.step("lost")  # executed: the entry is visible after the next read
    bench.loop.elapsed += 1
    bench.step()
    bench.withdraw("a")  # its Job stands
    bench.run()
    assert bench.ledger() == ["a 1"]


def test_a_withdrawn_task_is_not_admitted(bench: Bench) -> None:
    bench.submit("a")
    bench.withdraw("a")
    bench.run()
    assert bench.ledger() == []
    assert bench.told == []


def test_nothing_is_written_where_nothing_changes(bench: Bench) -> None:
    bench.submit("a")
    bench.run()
    bench.submit("a")
    bench.keep("a")
    bench.release("unknown")
    bench.run()
    assert len(bench.api.writes) == 1


def test_a_broken_ledger_holds_everybody_back_until_it_is_repaired(bench: Bench) -> None:
    bench.store_ledger("nonsense\n")
    bench.load()
    bench.submit("a")
    bench.run()
    held_back = bench.admission.held_back("a")
    assert held_back is not None
    assert "cannot be read" in held_back.message
    assert bench.ledger() == ["nonsense"]
    bench.store_ledger("")
    bench.run(600)
    assert bench.ledger() == ["a 1"]
    assert bench.admission.held_back("a") is None


def test_what_is_labelled_a_ledger_and_not_named_as_one_is_passed_over_and_said_once(bench: Bench) -> None:
    labels = {"app.kubernetes.io/component": "ledger"}
    for name in ("notes", "longtask-ledger-", "longtask-ledger-tenant-"):
        meta = {"name": name, "labels": labels}
        bench.api.new("configmaps", NAMESPACE, {"metadata": meta, "data": {"attempts": "z 1 1 250 512\n"}})
    bench.store_ledger("a 1 1 250 512\n")
    with capture_logs() as logs:
        bench.load()
        bench.load()
    assert (bench.ledgers.names(), bench.ledgers.uids()) == ([ledger_name("team-a")], ["a"])
    assert [log["log_level"] for log in logs] == ["warning"]


class OneAtATime(NoLimits):
    """Every tenant may have one attempt."""

    def __init__(self) -> None:
        self.concurrency = 1

    def limits(self, tenant: str) -> Limits:
        return Limits(origin="a test", concurrency=self.concurrency)


@pytest.fixture
def limited(bench: Bench) -> Bench:
    bench.know(OneAtATime())
    return bench


def test_who_does_not_fit_waits_and_hears_it_once(limited: Bench) -> None:
    for uid in "abc":
        limited.submit(uid)
    limited.run(1)
    assert limited.ledger() == ["a 1"]
    assert sorted(limited.told) == ["ns/a", "ns/b", "ns/c"]
    held_back = limited.admission.held_back("c")
    assert held_back is not None
    assert (held_back.reason, held_back.position) == (QueueReason.QUOTA_EXHAUSTED, 2)
    for uid in "bc":
        limited.submit(uid)
    limited.run(300)
    assert sorted(limited.told) == ["ns/a", "ns/b", "ns/c"]
    assert limited.admission.queued("team-a")[0] == 2


def test_a_release_lets_the_next_one_start_in_the_same_write(limited: Bench) -> None:
    for uid in "ab":
        limited.submit(uid)
    limited.run(1)
    limited.release("a")
    limited.run(1)
    assert limited.ledger() == ["b 1"]
    assert len(limited.api.writes) == 2


def test_what_another_operator_puts_back_is_no_place_for_the_next_attempt(limited: Bench) -> None:
    """It had not heard that attempt 1 of a was over; b was admitted in its place."""
    limited.submit("b")
    limited.run(1)
    limited.submit("a", attempt=2)
    limited.run(1)
    limited.store_ledger("a 1 1 250 512\nb 1 1 250 512\n")
    limited.told.clear()
    limited.load()
    assert limited.told == ["ns/a"], "whoever looks at it lets go of the attempt that is over"
    limited.loop.within(lambda: limited.admission.look_at(ledger_name("team-a")))
    limited.run(1)
    assert limited.ledger() == ["a 1", "b 1"]
    for uid, left in (("a", ["b 1"]), ("b", ["a 2"])):
        limited.release(uid)
        limited.run(1)
        assert limited.ledger() == left


def test_a_raised_limit_counts_at_once(limited: Bench) -> None:
    for uid in "abc":
        limited.submit(uid)
    limited.run(1)
    limited.tenants.concurrency = 2
    limited.loop.within(lambda: limited.admission.limits_changed("team-a"))
    limited.run(1)
    assert limited.ledger() == ["a 1", "b 1"]


def test_a_place_that_changed_is_told_after_a_while(limited: Bench) -> None:
    for uid in "abc":
        limited.submit(uid)
    limited.run(1)
    limited.told.clear()
    limited.release("a")
    limited.run(1)
    assert limited.told == ["ns/b"]
    limited.run(100)
    assert limited.told == ["ns/b", "ns/c"]
    held_back = limited.admission.held_back("c")
    assert held_back is not None
    assert held_back.position == 1


def test_a_newcomer_that_is_looked_at_again_is_not_put_behind_those_that_came_after_it(limited: Bench) -> None:
    """Places are computed once a second at most, and what is told may be written later."""
    for uid in "ab":
        limited.submit(uid)
    limited.run(0.1)
    limited.submit("c")
    limited.run(0.1)
    assert position_of(limited, "c") == 2
    for uid in "de":
        limited.submit(uid)
        limited.run(0.1)
    assert [position_of(limited, uid) for uid in "bcde"] == [1, 2, 3, 4]


def position_of(bench: Bench, uid: str) -> int | None:
    held_back = bench.admission.held_back(uid)
    return held_back.position if held_back else None


def test_another_operators_attempts_count(limited: Bench) -> None:
    limited.load()
    limited.store_ledger("z 4 1 250 512\n")
    limited.submit("a")
    limited.run(5)
    assert limited.ledger() == ["z 4"]
    assert limited.admission.held_back("a") is not None


def test_an_attempt_is_fresh_once_and_only_for_who_admitted_it(bench: Bench) -> None:
    bench.submit("a")
    bench.run()
    assert bench.admission.attempts.take_fresh("a", 1)
    assert not bench.admission.attempts.take_fresh("a", 1)
    bench.submit("b")
    bench.step("lost")
    bench.run()
    assert bench.ledger() == ["a 1", "b 1"]
    assert not bench.admission.attempts.take_fresh("b", 1)


def test_when_an_attempt_was_admitted_is_known_until_it_is_released(bench: Bench) -> None:
    bench.submit("a")
    assert bench.admission.attempts.time("a", 1) is None
    bench.run()
    assert bench.admission.attempts.time("a", 1) == NoLimits().now()
    bench.release("a")
    assert bench.admission.attempts.time("a", 1) is None


class Cohorts(NoLimits):
    """Tenants with a cohort each; each may have *concurrency* attempts."""

    def __init__(self, **cohorts: str) -> None:
        self.cohorts, self.concurrency, self.cpu, self.max_cpu = cohorts, None, None, None

    def limits(self, tenant: str) -> Limits:
        cohort = self.cohorts.get(tenant, "")
        return Limits(cohort=cohort, concurrency=self.concurrency, cpu=self.cpu, max_cpu=self.max_cpu)

    def of_cohort(self, cohort: str) -> list[str]:
        return [tenant for tenant, of in self.cohorts.items() if of == cohort]


def in_cohorts(bench: Bench, **cohorts: str) -> Cohorts:
    bench.know(Cohorts(**{key.replace("_", "-"): of for key, of in cohorts.items()}))
    return cast(Cohorts, bench.tenants)


def test_a_cohort_shares_one_ledger_and_its_writes(bench: Bench) -> None:
    in_cohorts(bench, team_a="research", team_b="research")
    bench.submit("a")
    bench.submit("b", tenant="team-b")
    bench.run()
    assert (bench.ledger("team-a", "research"), bench.ledger("team-b", "research")) == (["a 1"], ["b 1"])
    assert len(bench.api.writes) == 1


def test_who_joins_a_cohort_whose_ledger_is_full_is_taken_in_as_attempts_end(bench: Bench) -> None:
    """Else it would grow beyond what the API server stores, and nobody could leave it any more either."""
    in_cohorts(bench, team_b="research")
    name, full = ledger_name("team-b", "research"), [entry_of(f"b{n:05d}") for n in range(MAX_ENTRIES - 2)]
    bench.store_ledger(format_entries([entry_of(f"a{n}") for n in range(3)]))
    meta = {"name": name, "labels": {"app.kubernetes.io/component": "ledger"}}
    bench.api.new("configmaps", NAMESPACE, {"metadata": meta, "data": {"team-b": format_entries(full)}})
    bench.load()
    move(bench, "team-a", "research")
    bench.submit("late", tenant="team-b")
    bench.run(5)
    assert (len(bench.ledger("team-a", "research")), len(bench.ledger("team-a"))) == (2, 1)
    held_back = bench.admission.held_back("late")
    assert held_back is not None
    assert held_back.message == "10000 attempts are live, the most that one ledger holds"
    bench.release("b00000", tenant="team-b")
    bench.run(5)
    assert (len(bench.ledger("team-a", "research")), bench.ledger("team-a")) == (3, [])
    assert bench.admission.held_back("late") is not None
    bench.release("a1", tenant="team-a")
    bench.run(5)
    assert bench.admission.held_back("late") is None


def entry_of(uid: str) -> LedgerEntry:
    return LedgerEntry(uid=uid, attempt=1, generation=1, size=SMALLEST)


def test_an_idle_member_lends_and_the_decayed_usage_survives_a_restart(bench: Bench) -> None:
    in_cohorts(bench, team_a="research", team_b="research").concurrency = 1
    for uid in "abc":
        bench.submit(uid)
    bench.run()
    assert bench.ledger("team-a", "research") == ["a 1", "b 1"]
    held_back = bench.admission.held_back("c")
    assert held_back is not None
    assert held_back.reason is QueueReason.COHORT_EXHAUSTED
    bench.release("a")
    bench.run(1)
    assert bench.ledger("team-a", "research") == ["b 1", "c 1"]
    key = bench.admission._snapshots.shares.key
    carried = bench.ledgers.ledger(ledger_name("team-a", "research")).content.further[key]
    bench.restart()
    bench.load()  # as a leader does: when all riders are there
    shares = bench.admission._snapshots.shares
    assert shares.text(ledger_name("team-a", "research"), {}, {}) == carried


def test_who_waits_hears_in_time_what_another_members_admission_means_for_it(bench: Bench) -> None:
    tenants = in_cohorts(bench, team_a="research", team_b="research")
    tenants.cpu, tenants.now = 500, lambda: START + timedelta(minutes=11)  # type: ignore[method-assign]
    for uid in "abc":
        bench.submit(uid)
    bench.run(1)
    bench.submit_large("large", "team-b")
    bench.submit("d")
    bench.run(1)
    assert reason_of(bench, "d") is QueueReason.RESERVED
    bench.release("c")
    bench.run(1)
    assert bench.ledger("team-b", "research") == ["large 1"]
    bench.told.clear()
    bench.run(100)
    assert bench.told == ["ns/d"]
    assert reason_of(bench, "d") is QueueReason.COHORT_EXHAUSTED


def test_who_waits_hears_in_time_for_whom_else_room_is_kept(bench: Bench) -> None:
    tenants = in_cohorts(bench)
    tenants.cpu, tenants.now = 750, lambda: START + timedelta(minutes=11)  # type: ignore[method-assign]
    for uid in "ab":
        bench.submit(uid)
    bench.run(1)
    for uid in ("large-1", "large-2"):
        bench.submit_large(uid, priority=1)
    bench.submit("c")
    bench.run(1)
    assert "kept for ns/large-1, which" in message_of(bench, "c")
    bench.release("a")
    bench.run(70)
    assert bench.ledger() == ["b 1", "large-1 1"]
    bench.told.clear()
    bench.release("b")
    bench.run(70)
    assert "kept for ns/large-2, which" in message_of(bench, "c")
    assert bench.told == ["ns/c"]


def test_what_was_kept_for_a_task_that_waits_no_more_others_get_at_once(bench: Bench) -> None:
    """Its end is the only thing that happens: nothing else lets anybody look at the queue."""
    tenants = in_cohorts(bench)
    tenants.cpu, tenants.now = 500, lambda: START + timedelta(minutes=11)  # type: ignore[method-assign]
    bench.submit("a")
    bench.run(1)
    bench.submit_large("large", priority=1)
    bench.submit("b")
    bench.run(1)
    assert reason_of(bench, "b") is QueueReason.RESERVED
    bench.withdraw("large")
    bench.run(1)
    assert bench.ledger() == ["a 1", "b 1"]


def message_of(bench: Bench, uid: str) -> str:
    held_back = bench.admission.held_back(uid)
    return held_back.message if held_back else ""


def reason_of(bench: Bench, uid: str) -> QueueReason | None:
    held_back = bench.admission.held_back(uid)
    return held_back.reason if held_back else None


def move(bench: Bench, tenant: str, cohort: str) -> None:
    bench.tenants.cohorts[tenant] = cohort
    bench.loop.within(lambda: bench.admission.limits_changed(tenant))


def begin_to_move(bench: Bench, reply: str = "ok") -> None:
    """Let `team-a` join a cohort with its attempt `a`: the write of the new ledger is answered by *reply*."""
    in_cohorts(bench)
    bench.submit("a")
    bench.run()
    move(bench, "team-a", "research")
    bench.step(reply)


def test_a_tenant_that_joins_a_cohort_is_written_to_the_new_ledger_first(bench: Bench) -> None:
    begin_to_move(bench)
    assert (bench.ledger(), bench.ledger("team-a", "research")) == (["a 1"], ["a 1"])
    bench.run()
    assert (bench.ledger(), bench.ledger("team-a", "research")) == ([], ["a 1"])
    move(bench, "team-a", "")
    bench.run()
    assert (bench.ledger(), bench.ledger("team-a", "research")) == (["a 1"], [])


@pytest.mark.parametrize("reply", ["ok", "lost", "not sent"])
def test_a_move_that_was_cut_short_is_finished_by_the_next_leader(bench: Bench, reply: str) -> None:
    begin_to_move(bench, reply)
    bench.restart()
    bench.run()
    assert (bench.ledger(), bench.ledger("team-a", "research")) == ([], ["a 1"])
    assert bench.ledgers.standing("a") == [ledger_name("team-a", "research")]


def test_an_attempt_that_ends_during_a_move_leaves_both_ledgers(bench: Bench) -> None:
    begin_to_move(bench)
    bench.release("a")
    bench.run()
    assert (bench.ledger(), bench.ledger("team-a", "research"), bench.ledgers.uids()) == ([], [], [])


def go_on(bench: Bench, lost: str) -> None:
    """Answer the oldest request, but lose it if it writes the ledger *lost*; without one let time pass."""
    bench.loop.settle()
    request = next((str(pending.request) for pending in bench.kube.pending if not pending.reply.done()), "")
    if request:
        bench.step("not sent" if request.startswith("PUT ") and request.endswith(lost) else "ok")
    else:
        bench.loop.elapsed = bench.loop.next_timer() or bench.loop.elapsed


def test_what_has_left_the_new_ledger_does_not_come_back_from_the_old_one(bench: Bench) -> None:
    """The old ledger cannot be written for a while, and the new one is written for somebody else meanwhile."""
    begin_to_move(bench)
    bench.release("a")
    while bench.ledger("team-a", "research"):
        go_on(bench, lost=ledger_name("team-a"))
    bench.submit("b")
    while not bench.ledger("team-a", "research"):
        go_on(bench, lost=ledger_name("team-a"))
    bench.run()
    assert (bench.ledger(), bench.ledger("team-a", "research")) == ([], ["b 1"])


def test_what_still_stands_in_the_old_ledger_counts_in_the_new_one(bench: Bench) -> None:
    tenants = in_cohorts(bench)
    tenants.concurrency = 1
    bench.submit("a")
    bench.run()
    bench.submit("b")
    bench.run()
    move(bench, "team-a", "research")
    bench.run()
    assert (bench.ledger(), bench.ledger("team-a", "research")) == ([], ["a 1"])


def raised(bench: Bench, uid: str, cpu: int, attempt: int = 1) -> Any:
    size = Size(cpu=cpu, memory=SMALLEST.memory)
    entry = LedgerEntry(uid=uid, attempt=attempt, generation=1, size=size)
    return bench.loop.create_task(bench.admission.raise_entry(uid, entry))


def test_a_live_attempt_may_hold_more_where_the_quota_has_room(bench: Bench) -> None:
    in_cohorts(bench).cpu = 1000
    for uid in "ab":
        bench.submit(uid)
    bench.run()
    first, second = raised(bench, "a", 500), raised(bench, "b", 1000)
    bench.run()
    shortage = "tenant team-a uses 750m of 1 CPU; this needs 750m more"
    assert (first.result(), second.result()) == ("", shortage)
    entry = bench.ledgers.entry("a")
    assert entry is not None
    assert entry.size.cpu == 500
    bench.keep("a")
    second = raised(bench, "b", 750)
    bench.run()
    assert second.result() == ""


@pytest.mark.parametrize("reply", ["lost", "not sent"])
def test_a_raise_is_answered_only_when_the_ledger_is_known(bench: Bench, reply: str) -> None:
    bench.submit("a")
    bench.run()
    asked = raised(bench, "a", 500)
    bench.step(reply)
    assert not asked.done()
    bench.run()
    assert asked.result() == ""


def test_an_attempt_that_is_not_there_cannot_hold_more(bench: Bench) -> None:
    asked = raised(bench, "a", 500)
    bench.run()
    assert asked.result() == "the ledger does not hold the attempt"
    bench.submit("a")
    bench.run()
    other, ended = raised(bench, "a", 500, attempt=2), raised(bench, "a", 500)
    bench.release("a")
    bench.run()
    why = "the ledger does not hold the attempt, or holds a newer wish"
    assert (other.result(), ended.result()) == (why, why)


def test_a_raise_beyond_the_largest_size_of_the_tenant_is_refused(bench: Bench) -> None:
    in_cohorts(bench).max_cpu = 500
    bench.submit("a")
    bench.run()
    asked = raised(bench, "a", 1000)
    bench.run()
    assert asked.result() == "1/512Mi has more CPU than maxSize of no quota allows: 500m"


def test_a_raise_takes_what_others_of_the_cohort_lend(bench: Bench) -> None:
    in_cohorts(bench, team_a="research", team_b="research").cpu = 300
    bench.submit("a")
    bench.run()
    first = raised(bench, "a", 500)
    bench.run()
    second = raised(bench, "a", 1000)
    bench.run()
    assert (first.result(), second.result()) == ("", "cohort research has no 500m of CPU to lend to tenant team-a")


class Lent(Cohorts):
    """Member `own`, of *concurrency* attempts, has lent them all to `guest` and asks for them back."""

    def __init__(self, concurrency: int) -> None:
        super().__init__(own="research", guest="research")
        self.concurrency, self.cpu = concurrency, 4000
        self.gone: set[str] = set()
        self.leaving: set[str] = set()
        self.unreachable: set[str] = set()

    def limits(self, tenant: str) -> Limits:
        limits = super().limits(tenant)
        return replace(limits, preemption=RECLAIM) if tenant == "own" else replace(limits, concurrency=0, cpu=0)

    def key(self, uid: str) -> str:
        return "" if uid in self.gone else f"ns/{uid}"

    def run(self, entry: LedgerEntry) -> Run | None:
        leaving, unreachable, key = entry.uid in self.leaving, entry.uid in self.unreachable, self.key(entry.uid)
        run = Run(key=key, priority=0, queued_at=START, leaving=leaving, unreachable=unreachable)
        return run if key else None


def next_leader(bench: Bench) -> None:
    """Let another operator lead, which has heard of a task of the guest alone."""
    bench.restart()
    bench.load()
    bench.submit("z", tenant="guest")


def lent(bench: Bench, *guests: str) -> Lent:
    """Let *guests* run on all that `own` has."""
    tenants = Lent(len(guests))
    bench.know(tenants)
    for uid in guests:
        bench.submit(uid, tenant="guest")
    bench.run()
    assert bench.ledger("guest", "research") == [f"{uid} 1" for uid in guests]
    bench.told.clear()
    return tenants


def claims_of(bench: Bench) -> str:
    """Return the claims that the API server holds."""
    data = bench.api.objects[("configmaps", NAMESPACE, ledger_name("own", "research"))]["data"]
    return str(data.get("preemption.claims", ""))


def gives_way(bench: Bench, uid: str) -> bool:
    return bench.admission.claims.for_whom(uid, 1) is not None


CLAIMED = "o own 250 512 x/1\n"


@pytest.mark.parametrize("reply", ["ok", "lost", "not sent"])
def test_one_gives_way_once_the_claim_stands_whatever_becomes_of_its_write(bench: Bench, reply: str) -> None:
    tenants = lent(bench, "x", "y")
    bench.submit("o", tenant="own")
    bench.loop.settle()
    assert (gives_way(bench, "x"), bench.told) == (False, [])
    bench.step(reply)
    assert gives_way(bench, "x") == (reply == "ok")
    bench.run()
    assert (claims_of(bench), gives_way(bench, "x"), gives_way(bench, "y")) == (CLAIMED, True, False)
    assert "ns/x" in bench.told
    assert "ns/y" not in bench.told
    held_back = bench.admission.held_back("o")
    assert held_back is not None
    assert held_back.message.endswith("an attempt gives way to this one and it starts when the room is free")
    writes = len(bench.api.writes)
    tenants.leaving.add("x")
    bench.loop.within(lambda: bench.admission.limits_changed("own"))
    bench.run()
    assert (claims_of(bench), len(bench.api.writes)) == (CLAIMED, writes)
    bench.submit("z", tenant="guest")
    bench.release("x")
    bench.run()
    assert (bench.ledger("own", "research"), bench.ledger("guest", "research")) == (["o 1"], ["y 1"])
    assert (claims_of(bench), gives_way(bench, "x")) == ("", False)


@pytest.mark.parametrize("reply", ["ok", "lost", "not sent"])
def test_the_next_leader_asks_nobody_else_and_only_for_who_still_waits(bench: Bench, reply: str) -> None:
    tenants = lent(bench, "x", "y")
    bench.submit("o", tenant="own")
    bench.step(reply)
    next_leader(bench)
    bench.run()
    assert not gives_way(bench, "x")
    assert claims_of(bench) == ("" if reply == "not sent" else CLAIMED)
    bench.submit("o", tenant="own")
    bench.run()
    assert (claims_of(bench), gives_way(bench, "x"), gives_way(bench, "y")) == (CLAIMED, True, False)
    assert tenants.leaving == set()


def test_the_next_leader_makes_no_room_for_a_task_that_went_meanwhile(bench: Bench) -> None:
    tenants = lent(bench, "x", "y")
    bench.submit("o", tenant="own")
    bench.run()
    tenants.gone.add("o")
    next_leader(bench)
    bench.run()
    assert (claims_of(bench), gives_way(bench, "x")) == ("", False)


def test_what_becomes_free_meanwhile_is_kept_until_it_is_heard_of_the_task(bench: Bench) -> None:
    tenants = lent(bench, "x", "y")
    bench.submit("o", tenant="own")
    bench.run()
    tenants.leaving.add("x")
    next_leader(bench)
    bench.release("x")
    bench.run()
    assert (bench.ledger("own", "research"), bench.ledger("guest", "research")) == ([], ["y 1"])
    bench.withdraw("o")  # it is suspended
    bench.run()
    assert (claims_of(bench), bench.ledger("guest", "research")) == ("", ["y 1", "z 1"])


def test_who_waits_hears_in_time_that_nobody_gives_way_to_it_any_more(bench: Bench) -> None:
    tenants = lent(bench, "x")
    bench.submit("o", tenant="own")
    bench.run(70)
    assert "an attempt gives way" in message_of(bench, "o")
    bench.told.clear()
    tenants.unreachable = {"x"}
    bench.loop.within(lambda: bench.admission.run_changed("x"))
    bench.run(70)
    assert claims_of(bench) == ""
    assert "gives way" not in message_of(bench, "o")
    assert "ns/o" in bench.told


def test_a_task_that_waits_no_more_gives_the_room_up_even_while_its_claim_is_being_written(bench: Bench) -> None:
    lent(bench, "x")
    bench.submit("o", tenant="own")
    bench.loop.settle()
    bench.withdraw("o")
    bench.run()
    assert (claims_of(bench), gives_way(bench, "x"), "ns/x" in bench.told) == ("", False, False)


def test_two_operators_ask_one_attempt_for_one_task(bench: Bench) -> None:
    lent(bench, "x", "y")
    name = ledger_name("own", "research")
    bench.submit("o", tenant="own")
    bench.loop.settle()
    config = bench.api.objects[("configmaps", NAMESPACE, name)]
    others = "o own 250 512 y/1\n"
    bench.api.put("configmaps", {**config, "data": {**config["data"], "preemption.claims": others}})
    bench.run()
    assert (claims_of(bench), gives_way(bench, "x"), gives_way(bench, "y")) == (others, False, True)


def test_no_attempt_grows_into_room_that_is_made_for_another(bench: Bench) -> None:
    tenants = lent(bench, "x", "y")
    tenants.cpu = 800
    bench.submit("o", tenant="own")
    bench.run()
    grown = raised(bench, "y", 400)
    bench.run()
    assert grown.result() == ""  # 250 leave, and 250 come
    grown = raised(bench, "y", 600)
    bench.run()
    assert grown.result() == "cohort research has no 200m of CPU to lend to tenant guest"
    bench.release("x")
    tenants.leaving.add("x")
    grown = raised(bench, "y", 600)
    bench.step()
    bench.run()
    assert grown.result() == "what becomes free is kept for a task to which others give way"
    assert bench.ledger("own", "research") == ["o 1"]


def test_who_waits_for_a_ledger_that_cannot_be_written_is_told_in_time(bench: Bench) -> None:
    bench.submit("a")
    bench.run()
    asked = raised(bench, "a", 500)
    bench.loop.settle()
    bench.loop.elapsed += RAISE_SECONDS
    bench.loop.settle()
    assert asked.result() == "the ledger could not be written in time"
    bench.run()
    entry = bench.ledgers.entry("a")
    assert entry is not None
    assert entry.size.cpu == 500  # that write was under way


class Counting:
    """A rider that counts the entries there were."""

    key, urgent, lasts = "count.test", False, True

    def __init__(self) -> None:
        self.stands: dict[str, str] = {}

    def text(self, name: str, before: Tenants, after: Tenants) -> str:
        return str(sum(len(entries) for entries in after.values()))

    def take_in(self, name: str, text: str) -> None:
        self.stands[name] = text


def test_a_rider_is_carried_along_in_writes_that_are_made_anyway(bench: Bench) -> None:
    rider, name = Counting(), ledger_name("team-a")
    bench.ledgers.riders.append(rider)
    bench.submit("a")
    bench.step("not sent")
    assert rider.stands == {}
    bench.run()
    assert rider.stands == {name: "1"}
    assert bench.api.objects[("configmaps", NAMESPACE, name)]["data"]["count.test"] == "1"
    bench.restart()
    other = Counting()
    bench.ledgers.riders.append(other)
    bench.submit("b")
    bench.run()
    assert other.stands == {name: "2"}


def test_a_key_of_a_newer_version_outlives_our_writes(bench: Bench) -> None:
    bench.store_ledger("")
    config = bench.api.objects[("configmaps", NAMESPACE, ledger_name("team-a"))]
    bench.api.put("configmaps", {**config, "data": {"attempts": "", "later.v9": "kept"}})
    bench.load()
    bench.submit("a")
    bench.run()
    assert bench.api.objects[("configmaps", NAMESPACE, ledger_name("team-a"))]["data"]["later.v9"] == "kept"


def test_ledgers_write_no_more_bytes_than_etcd_should_keep(bench: Bench) -> None:
    full = [LedgerEntry(uid=f"{n:036d}", attempt=1, generation=1, size=SMALLEST) for n in range(9_000)]
    bench.store_ledger(format_entries(full))
    bench.load()
    for number in range(50):
        bench.release(full[number].uid)
        bench.run(0.25)
    size = len(format_entries(full))
    assert bench.loop.elapsed < 13
    written = len(bench.api.writes) * size
    assert written > BYTES_PER_SECOND * 12  # it is not idle either
    assert written < BYTES_PER_SECOND * (13 + BYTES_AT_ONCE_SECONDS) + size
    bench.run(60)
    assert len(bench.ledger()) == 9_000 - 50


def test_a_ledger_that_others_are_known_to_have_written_is_read_before_it_is_written(bench: Bench) -> None:
    bench.submit("a")
    bench.run()
    config = bench.api.objects["configmaps", NAMESPACE, ledger_name("team-a", "")]
    held = [LedgerEntry(uid=uid, attempt=1, generation=1, size=SMALLEST) for uid in "ab"]
    bench.api.put("configmaps", {**config, "data": {"attempts": format_entries(held)}})
    bench.ledgers.doubt(ledger_name("team-a", ""))
    bench.submit("c")
    bench.run()
    assert bench.ledger() == ["a 1", "b 1", "c 1"]
    assert [write.method for write in bench.api.writes] == ["POST", "PUT"], "none was refused"


def counted(name: str, **labels: str) -> float:
    """Return what a metric says now."""
    return METRICS.registry.get_sample_value(f"longtask_{name}", labels) or 0.0


def test_admissions_and_who_is_held_back_are_counted(limited: Bench) -> None:
    held_back = {"tenant": "counted", "reason": "QuotaExhausted"}
    before = counted("admitted_total", tenant="counted"), counted("held_back_total", **held_back)
    for uid in "abc":
        limited.submit(uid, tenant="counted")
    limited.run(300)
    after = counted("admitted_total", tenant="counted"), counted("held_back_total", **held_back)
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 2]


def test_ledger_writes_and_conflicts_are_counted(bench: Bench) -> None:
    bench.load()
    before = counted("ledger_writes_total"), counted("ledger_conflicts_total")
    bench.store_ledger("z 4 1 250 512\n")
    bench.submit("a")
    bench.run()
    after = counted("ledger_writes_total"), counted("ledger_conflicts_total")
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 1]


class OneOfEach(NoLimits):
    """Each person may have one attempt; nobody knows whose a task is but who submits it."""

    def limits(self, tenant: str) -> Limits:
        return Limits(origin="a test", per_user=1)


def test_a_person_counts_until_the_line_of_the_attempt_leaves(bench: Bench) -> None:
    """Also where the task is gone before, and for whoever leads next."""
    bench.know(OneOfEach())
    bench.submit("a", user="eve")
    bench.submit("of-nobody")
    bench.run()
    bench.submit("b", user="eve")
    bench.run()
    assert bench.ledger() == ["a 1", "of-nobody 1"]
    held_back = bench.admission.held_back("b")
    assert held_back is not None
    assert (held_back.reason, held_back.message.split()[0]) == (QueueReason.USER_LIMIT, "eve")
    bench.restart()
    bench.load()  # as a leader does: when all riders are there
    bench.submit("b", user="eve")
    bench.run()
    assert bench.ledger() == ["a 1", "of-nobody 1"]
    bench.release("a")
    bench.run()
    assert bench.ledger() == ["b 1", "of-nobody 1"]


def test_a_ledger_with_persons_is_filled_as_far_as_their_names_allow(bench: Bench) -> None:
    """Room is kept for the longest name of each that is admitted; what shorter ones leave is used at once."""
    bench.know(OneOfEach())
    full = [LedgerEntry(uid=f"{n:036d}", attempt=1, generation=1, size=SMALLEST) for n in range(MAX_ENTRIES - 10)]
    bench.store_ledger(format_entries(full))
    bench.load()
    for number in range(9):
        bench.submit(f"a{number}", user=f"person-{number}")
    bench.run()
    assert len(bench.ledger()) == MAX_ENTRIES - 10 + 8, "for one more with the longest name there is no room"


def test_who_is_admitted_anew_keeps_nobody_from_what_short_names_leave(bench: Bench) -> None:
    """It fills no place, so the places are all filled though more than these are admitted."""
    bench.know(OneOfEach())
    full = [LedgerEntry(uid=f"{n:036d}", attempt=1, generation=1, size=SMALLEST) for n in range(MAX_ENTRIES - 10)]
    bench.store_ledger(format_entries(full))
    bench.load()
    bench.submit(full[0].uid, generation=2)
    for number in range(9):
        bench.submit(f"a{number}", user=f"person-{number}")
    bench.run()
    assert len(bench.ledger()) == MAX_ENTRIES - 10 + 8
