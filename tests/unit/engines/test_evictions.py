"""Who has to give way, as the engines see it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from longtask_operator.adapters.tasks import observe_task
from longtask_operator.core.ledger_layout import Content, ledger_name
from longtask_operator.core.quota import Limits
from longtask_operator.engines.claims import Claims
from longtask_operator.engines.context import new_caches
from longtask_operator.engines.evictions import Evictions
from longtask_operator.engines.ledgers import Ledgers
from longtask_operator.engines.snapshots import NoLimits
from tests.builders import UID, a_longtask_body, an_entry
from tests.support.contexts import context_on

NAME = ledger_name("team-a", "research")


class Known(NoLimits):
    """All tenants have the same limits; *waiting* are the tasks that have not finished."""

    def __init__(self, limits: Limits) -> None:
        self.all, self.waiting = limits, {"claimant"}

    def limits(self, tenant: str) -> Limits:
        return self.all

    def key(self, uid: str) -> str:
        return f"ns/{uid}" if uid in self.waiting else ""


class Setup:
    """Evictions on caches of their own; *woken* are the keys of the tasks that are looked at."""

    def __init__(self, **limits: Any) -> None:
        nothing: Any = None
        self.caches, self.woken = new_caches(), list[str]()
        context, self.ledgers, self.claims = context_on(self.caches), Ledgers(nothing, "x"), Claims(lambda uid: None)
        self.known = Known(Limits(origin="TenantQuota team-a", **limits))
        self.evictions = Evictions(context, self.ledgers, self.known, self.claims, self.woken.append)

    def live(self, attempt: int = 1) -> None:
        """Let an attempt of the task stand in the ledger of team-a."""
        held = {"team-a": {UID: replace(an_entry(), attempt=attempt)}}
        self.ledgers._set(self.ledgers.ledger(NAME), "1", Content(tenants=held), {})

    def claim(self, tenant: str) -> None:
        """Let attempt 1 of the task be asked to give way to a task of *tenant*."""
        self.claims.take_in(NAME, f"claimant {tenant} 250 512 {UID}/1\n")
        self.claims.tell(NAME, lambda uid: True)

    def put_task(self, name: str, uid: str, tenant: str) -> None:
        self.caches.tasks.put(observe_task(a_longtask_body(status={"tenant": tenant}, name=name, uid=uid)))


def test_a_tenant_on_hold_lets_go_on_what_runs() -> None:
    assert Setup(on_hold=True).evictions.why(UID, "team-a") == ""


def test_everything_of_a_drained_tenant_gives_way() -> None:
    setup = Setup(on_hold=True, draining=True)
    assert setup.evictions.why(UID, "team-a") == "TenantQuota team-a says stopPolicy HoldAndDrain"
    setup.put_task("one", "u1", "team-a")
    setup.put_task("two", "u2", "team-b")
    setup.evictions.limits_changed("team-a")
    assert setup.woken == ["team-a/one"]


def test_nobody_is_looked_at_for_another_change() -> None:
    setup = Setup(on_hold=True)
    setup.put_task("one", "u1", "team-a")
    setup.evictions.limits_changed("team-a")
    assert setup.woken == []


LENT = "gives back what it borrowed: tenant lender needs what it has lent"


@pytest.mark.parametrize(
    ("tenant", "said"), [("team-a", "gives way to a task of this tenant with a higher priority"), ("lender", LENT)]
)
def test_who_gives_way_is_told_to_whom_but_not_to_which_task_of_another_tenant(tenant: str, said: str) -> None:
    setup = Setup()
    setup.live()
    assert setup.evictions.why(UID, "team-a") == ""
    setup.claim(tenant)
    assert setup.evictions.why(UID, "team-a") == said
    assert setup.evictions.why("another", "team-a") == ""


def test_the_next_attempt_of_who_gave_way_need_not_give_way_again() -> None:
    setup = Setup()
    setup.live(attempt=2)
    setup.claim("lender")
    assert setup.evictions.why(UID, "team-a") == ""


def test_nobody_gives_way_to_a_task_that_is_gone() -> None:
    setup = Setup()
    setup.live()
    setup.claim("lender")
    setup.known.waiting.clear()
    assert setup.evictions.why(UID, "team-a") == ""


def test_a_drain_is_said_before_a_claim() -> None:
    setup = Setup(on_hold=True, draining=True)
    setup.live()
    setup.claim("lender")
    assert setup.evictions.why(UID, "team-a") == "TenantQuota team-a says stopPolicy HoldAndDrain"
