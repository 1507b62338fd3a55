"""Tenants that come and go leave nothing behind, and whoever comes back, or knows them still, is admitted as ever."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from longtask_operator.adapters.errors import Forbidden
from longtask_operator.engines.housekeeping import IDLE_SECONDS, Housekeeping
from tests.support.sim_operator import SimKube
from tests.support.sim_rivals import COHORT_LEDGER, HOME, LONE_LEDGER, Ground, Rival, grounds

LEDGER = f"{LONE_LEDGER}x"
SPENT = "budgets.spent"


@pytest.fixture
def ground() -> Iterator[Ground]:
    yield from grounds()


class Remembered:
    """Something that remembers tenants, with *tenants* so far."""

    def __init__(self, *tenants: str) -> None:
        self.known = [*tenants]

    def tenants(self) -> list[str]:
        return self.known

    def forget(self, tenant: str) -> None:
        self.known.remove(tenant)


def come_and_go(ground: Ground, tenant: str = "x") -> None:
    uid = ground.come(tenant, ground.rivals[0])
    ground.run()
    assert ground.held(tenant) == {uid}
    ground.end(uid)
    ground.run()


def tidy(ground: Ground, rival: Rival | None = None) -> None:
    (rival or ground.rivals[0]).tidy()
    ground.run(seconds=1)


def ledgers(ground: Ground) -> list[str]:
    return [body["metadata"]["name"] for body in ground.api.of("configmaps")]


def let_wait(ground: Ground, seconds: float, *memories: Remembered) -> Housekeeping:
    """Return a housekeeping that waits so long, in the place of the first rival's."""
    rival = ground.rivals[0]
    parts = (rival.context, rival.ledgers, rival.admission, rival.quotas)
    rival.housekeeping = Housekeeping(*parts, memories=memories, idle_seconds=seconds)
    return rival.housekeeping


class TestLedgers:
    def test_one_in_which_nothing_stands_goes(self, ground: Ground) -> None:
        come_and_go(ground)
        assert ledgers(ground) == [LEDGER]
        tidy(ground)
        assert ledgers(ground) == []

    def test_nothing_of_it_is_remembered(self, ground: Ground) -> None:
        come_and_go(ground)
        rival = ground.rivals[0]
        for _ in range(2):  # the first leaves a note that there is none
            tidy(ground)
        assert rival.ledgers.names() == []
        admission = rival.admission
        engines: list[Any] = [*rival.ledgers.riders, rival.ledgers, admission, admission._snapshots, admission._room]
        kept = [(one, name) for one in engines for name in _fields_of(one) if _names(getattr(one, name))]
        assert kept == []

    def test_not_before_its_time(self, ground: Ground) -> None:
        come_and_go(ground)
        let_wait(ground, IDLE_SECONDS)
        tidy(ground)
        ground.loop.elapsed += IDLE_SECONDS - 10
        tidy(ground)
        assert ledgers(ground) == [LEDGER]
        ground.loop.elapsed += 20
        tidy(ground)
        assert ledgers(ground) == []

    def test_the_time_begins_anew_with_each_attempt(self, ground: Ground) -> None:
        let_wait(ground, IDLE_SECONDS)
        for _ in range(3):
            uid = ground.come("x", ground.rivals[0])
            ground.run()
            tidy(ground)  # as the rounds of every minute do
            ground.end(uid)
            ground.run()
            tidy(ground)
            ground.loop.elapsed += IDLE_SECONDS / 2
        tidy(ground)
        assert ledgers(ground) == [LEDGER]

    def test_the_next_task_finds_or_makes_one(self, ground: Ground) -> None:
        come_and_go(ground)
        tidy(ground)
        come_and_go(ground)
        assert ledgers(ground) == [LEDGER]

    def test_one_that_holds_an_attempt_stays(self, ground: Ground) -> None:
        ground.come("x")
        ground.run()
        tidy(ground)
        assert ledgers(ground) == [LEDGER]

    def test_one_of_a_tenant_with_a_quota_stays(self, ground: Ground) -> None:
        ground.quota("x", 2)
        ground.rivals[0].hear()
        come_and_go(ground)
        tidy(ground)
        assert ledgers(ground) == [LEDGER]
        ground.no_quota("x")
        ground.rivals[0].hear()
        ground.run()
        tidy(ground)
        assert ledgers(ground) == []

    def test_one_of_a_cohort_stays_while_a_quota_names_it(self, ground: Ground) -> None:
        ground.quota("x", 2, cohort="c")
        ground.rivals[0].hear()
        come_and_go(ground)
        tidy(ground)
        assert ledgers(ground) == [f"{COHORT_LEDGER}c"]
        ground.quota("x", 2)
        ground.rivals[0].hear()
        ground.run()
        tidy(ground)
        assert f"{COHORT_LEDGER}c" not in ledgers(ground)

    @pytest.mark.parametrize("key", [SPENT, "of.a.later.version"])
    def test_one_that_carries_what_must_last_stays(self, ground: Ground, key: str) -> None:
        come_and_go(ground)
        body = ground.api.objects["configmaps", HOME, LEDGER]
        ground.api.put("configmaps", {**body, "data": {**body["data"], key: "something"}})
        ground.restart(ground.rivals[0])
        ground.run()
        tidy(ground)
        assert ledgers(ground) == [LEDGER]


class TestTwoLeaders:
    def test_one_that_the_other_has_written_stays(self, ground: Ground) -> None:
        come_and_go(ground)
        first, second = ground.rivals
        ground.restart(second)
        ground.run()
        uid = ground.come("x", ground.rivals[1])
        ground.run(ground.rivals[1])
        tidy(ground, first)
        assert ground.held("x") == {uid}
        assert first.ledgers.entry(uid) is not None

    def test_the_other_admits_to_one_that_it_knows_and_is_gone(self, ground: Ground) -> None:
        come_and_go(ground)
        second = ground.restart(ground.rivals[1])
        ground.run()
        assert second.ledgers.ledger(LEDGER).version
        tidy(ground)
        assert ledgers(ground) == []
        uid = ground.come("x", second)
        ground.run(second)
        assert ground.held("x") == {uid}

    def test_a_lost_answer_is_asked_for_again(self, ground: Ground) -> None:
        come_and_go(ground)
        rival = ground.rivals[0]
        rival.tidy()
        ground.step(rival)
        ground.step(rival, "lost")
        assert (ledgers(ground), rival.ledgers.names()) == ([], [LEDGER])
        for _ in range(2):
            tidy(ground)
        assert rival.ledgers.names() == []

    @pytest.mark.parametrize("executed", [False, True])
    def test_who_leads_after_a_crash_in_the_midst_admits(self, ground: Ground, executed: bool) -> None:
        come_and_go(ground)
        ground.rivals[0].tidy()
        if executed:
            ground.step(ground.rivals[0])
        next_one = ground.restart(ground.rivals[0])
        ground.run()
        assert ledgers(ground) == ([] if executed else [LEDGER])
        uid = ground.come("x", next_one)
        ground.run()
        assert ground.held("x") == {uid}
        ground.end(uid)
        ground.run()
        tidy(ground)
        assert ledgers(ground) == []

    def test_a_deletion_that_arrives_after_the_next_leader_has_written_does_nothing(self, ground: Ground) -> None:
        come_and_go(ground)
        ground.rivals[0].tidy()
        (deletion,) = ground.rivals[0].requests
        next_one = ground.restart(ground.rivals[0])
        ground.run()
        uid = ground.come("x", next_one)
        ground.run()
        deletion.execute(ground.api)
        assert ground.held("x") == {uid}

    def test_who_comes_during_the_deletion_is_admitted(self, ground: Ground) -> None:
        come_and_go(ground)
        ground.rivals[0].tidy()
        uid = ground.come("x", ground.rivals[0])
        ground.run()
        assert ground.held("x") == {uid}


def test_who_may_not_delete_says_so_once(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: Any, **__: Any) -> None:
        raise Forbidden(403, "Forbidden", "configmaps is forbidden")

    come_and_go(ground)
    monkeypatch.setattr(SimKube, "delete", refuse)
    with capture_logs() as logs:
        for _ in range(3):
            tidy(ground)
    assert [entry["log_level"] for entry in logs] == ["warning"]
    assert "may not delete" in logs[0]["event"]
    assert ledgers(ground) == [LEDGER]


class TestTenants:
    def test_those_of_which_nothing_is_left_are_forgotten(self, ground: Ground) -> None:
        ground.quota("y", 1)
        ground.rivals[0].hear()
        memory = Remembered("x", "y")
        let_wait(ground, 0, memory)
        tidy(ground)
        assert memory.known == ["y"]

    def test_not_before_their_time(self, ground: Ground) -> None:
        memory = Remembered("x")
        let_wait(ground, IDLE_SECONDS, memory)
        tidy(ground)
        ground.loop.elapsed += IDLE_SECONDS - 10
        tidy(ground)
        assert memory.known == ["x"]
        ground.loop.elapsed += 20
        tidy(ground)
        assert memory.known == []

    def test_those_with_an_attempt_are_not(self, ground: Ground) -> None:
        ground.come("x")
        ground.run()
        memory = Remembered("x")
        let_wait(ground, 0, memory)
        tidy(ground)
        assert memory.known == ["x"]

    def test_those_whose_task_waits_are_not(self, ground: Ground) -> None:
        ground.quota("x", 0)
        ground.rivals[0].hear()
        ground.come("x")
        ground.run()
        ground.no_quota("x")  # of which nobody hears
        memory = Remembered("x")
        let_wait(ground, 0, memory)
        tidy(ground)
        assert memory.known == ["x"]


def _fields_of(engine: Any) -> list[str]:
    return [*getattr(type(engine), "__slots__", ()), *getattr(engine, "__dict__", ())]


def _names(value: Any) -> bool:
    """Return whether something is kept by the name of the ledger or the tenant."""
    keys = value if isinstance(value, dict | set | list) else ()
    return any(key in (LEDGER, "x") or (isinstance(key, tuple) and LEDGER in key) for key in keys)
