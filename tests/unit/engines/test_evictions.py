"""Who has to give way, as the engines see it."""

from __future__ import annotations

from typing import Any

from longtask_operator.adapters.tasks import observe_task
from longtask_operator.core.quota import Limits
from longtask_operator.engines.context import new_caches
from longtask_operator.engines.evictions import Evictions
from longtask_operator.engines.ledgers import Ledgers
from tests.builders import UID, a_longtask_body
from tests.support.contexts import context_on


class Setup:
    """Evictions on caches of their own; *woken* are the keys of the tasks that are looked at."""

    def __init__(self, **limits: Any) -> None:
        nothing: Any = None
        self.caches, self.woken = new_caches(), list[str]()
        context = context_on(self.caches)
        known = Limits(origin="TenantQuota team-a", **limits)
        self.evictions = Evictions(context, Ledgers(nothing, "x"), lambda tenant: known, self.woken.append)

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
