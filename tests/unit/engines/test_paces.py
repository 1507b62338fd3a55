from __future__ import annotations

from typing import Any

import pytest

from longtask_operator.adapters.tasks import observe_task
from longtask_operator.core.estimate import MOST_SAMPLES
from longtask_operator.core.ledger import LedgerEntry
from longtask_operator.core.ledger_layout import Content, ledger_name
from longtask_operator.engines import paces as paces_module
from longtask_operator.engines.ledgers import Ledgers
from longtask_operator.engines.paces import Paces
from tests.builders import FINISHED, SMALLEST, a_longtask_body, at, wire


def some_paces(live: int = 2, kueues: int = 0) -> Paces:
    nothing: Any = None
    ledgers = Ledgers(nothing, "longtask-system")
    entries = {
        f"u{n}": LedgerEntry(uid=f"u{n}", attempt=1, generation=1, size=SMALLEST, handed_over=n >= live)
        for n in range(live + kueues)
    }
    ledgers._set(ledgers.ledger(ledger_name("team-a")), "1", Content(tenants={"team-a": entries}), {})
    return Paces(ledgers, lambda: at(100))


def records(count: int, **status: Any) -> list[Any]:
    return [observe_task(a_longtask_body(status=FINISHED | status, name=f"t{n}")) for n in range(count)]


def test_a_restart_learns_from_the_tasks_that_are_there() -> None:
    paces = some_paces()
    paces.read(records(7))
    pace = paces.of("team-a")
    assert pace is not None
    assert (pace.samples, pace.live, pace.quick) == (7, 2, 4.0)


def test_an_attempt_takes_its_place_from_its_admission_until_its_end_is_known() -> None:
    """It ran for 4 of the 30 seconds for which nobody else could have its place."""
    paces = some_paces()
    [record] = records(1)
    for _ in range(7):
        paces.attempt_ended("team-a", record.parse().status.attempts[-1], at(70))
    pace = paces.of("team-a")
    assert pace is not None
    assert pace.quick == 30


def test_whom_kueue_admits_makes_no_room_for_who_waits_here() -> None:
    for live, expected in ((2, 2), (0, None)):
        paces = some_paces(live, kueues=10)
        paces.read(records(7))
        pace = paces.of("team-a")
        assert (pace and pace.live) == expected


def test_more_live_than_may_since_a_quota_was_lowered_are_not_replaced() -> None:
    paces = some_paces(10)
    paces.read(records(7))
    assert [pace and pace.live for pace in (paces.of("team-a", 2), paces.of("team-a", 20))] == [2, 10]


def test_no_more_is_remembered_than_is_used() -> None:
    paces = some_paces()
    paces.read(records(100))
    pace = paces.of("team-a")
    assert pace is not None
    assert pace.samples == MOST_SAMPLES


def test_unfinished_tasks_and_other_tenants_say_nothing() -> None:
    paces = some_paces()
    paces.read(records(7, phase="Running"))
    paces.read(records(7, tenant="team-b"))
    assert paces.of("team-a") is None


def test_a_restart_learns_from_the_newest_of_each_tenant() -> None:
    def finished(number: int, took: int, tenant: str) -> Any:
        attempts = [{"number": 1, "run": 1, "generation": 1, "startTime": wire(0), "completionTime": wire(took)}]
        status = FINISHED | {"tenant": tenant, "attempts": attempts}
        return observe_task(a_longtask_body(status=status, name=f"{tenant}-{number}", resourceVersion=str(number)))

    paces = some_paces()
    old = [finished(number, 1, "team-a") for number in range(100, 200)]
    new = [finished(number, 60, "team-a") for number in range(200, 240)]
    paces.read([*new[::2], *old, *new[1::2], *(finished(number, 30, "team-b") for number in range(5))])
    pace = paces.of("team-a")
    assert pace is not None
    assert (pace.samples, pace.quick) == (MOST_SAMPLES, 60)
    assert list(paces._seconds["team-b"]) == [30] * 5


def test_of_many_tenants_the_newest_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paces_module, "_MOST_READ", 3)
    paces = some_paces()
    paces.read(
        observe_task(a_longtask_body(status=FINISHED | {"tenant": f"t{n}"}, name=f"t{n}", resourceVersion=str(n)))
        for n in range(10)
    )
    assert sorted(paces._seconds) == ["t7", "t8", "t9"]
