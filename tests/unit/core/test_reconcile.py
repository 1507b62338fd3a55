from __future__ import annotations

from typing import Any

from longtask_operator.core.decision import ReleaseEntry
from longtask_operator.core.reconcile import LETTING_GO, reconcile
from tests.builders import FINISHED, POLICY, a_longtask, an_entry, at, seen


def finished(spec: dict[str, Any] | None = None) -> Any:
    return a_longtask(spec, FINISHED)


class TestSettled:
    def test_a_ttl_is_looked_at_again_also_while_the_ledger_still_lets_go(self) -> None:
        decision = reconcile(seen(finished({"ttlSecondsAfterFinished": 60}), entry=an_entry()), POLICY)
        assert decision.then == (ReleaseEntry(uid=an_entry().uid, attempt=1, tenant="team-a"),)
        assert decision.again_at == at(65)

    def test_a_ttl_that_has_passed_waits_for_the_ledger(self) -> None:
        decision = reconcile(seen(finished({"ttlSecondsAfterFinished": 1}), entry=an_entry()), POLICY)
        assert decision.again_at == at(10) + LETTING_GO
