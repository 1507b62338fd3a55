from __future__ import annotations

from typing import Any

from longtask_operator.core.ledger import LedgerEntry
from longtask_operator.core.ledger_layout import Content, Tenants, ledger_name
from longtask_operator.core.quota import Amounts
from longtask_operator.core.sizing import Size
from longtask_operator.engines.ledgers import Ledgers

SIZE = Size(cpu=500, memory=1 << 30)
OLD, NEW = ledger_name("team-a"), ledger_name("team-a", "research")


def entry(uid: str, attempt: int = 1, *, handed_over: bool = False) -> LedgerEntry:
    return LedgerEntry(uid=uid, attempt=attempt, generation=1, size=SIZE, handed_over=handed_over)


def held(*entries: LedgerEntry) -> Tenants:
    return {"team-a": {one.uid: one for one in entries}} if entries else {}


def written(*ledgers: tuple[str, Tenants]) -> Ledgers:
    nothing: Any = None
    found = Ledgers(nothing, "longtask-system")
    for name, tenants in ledgers:
        put(found, name, tenants)
    return found


def put(ledgers: Ledgers, name: str, tenants: Tenants) -> None:
    """Let a ledger hold *tenants* as `Ledgers.write` does."""
    ledgers._set(ledgers.ledger(name), "1", Content(tenants=tenants), {})


def test_what_a_tenant_holds_is_summed_once_until_its_entries_change() -> None:
    """It is asked for at every look at a task of a tenant with a budget: 3 ms each time at 10,000 attempts."""
    ledgers = written((OLD, held(entry("a"), entry("b"), entry("k", handed_over=True))))
    before = ledgers.usage("team-a")
    assert before == Amounts(concurrency=2, cpu=1000, memory=2 << 30)
    put(ledgers, ledger_name("team-b"), {"team-b": {"x": entry("x")}})
    assert ledgers.usage("team-a") is before
    put(ledgers, OLD, held(entry("a")))
    assert ledgers.usage("team-a") == Amounts(concurrency=1, cpu=500, memory=1 << 30)


def test_an_attempt_that_stands_in_two_ledgers_in_the_middle_of_a_move_is_counted_once() -> None:
    ledgers = written((OLD, held(entry("a"), entry("b"))), (NEW, held(entry("a"))))
    assert ledgers.usage("team-a").concurrency == 2
    put(ledgers, NEW, held(entry("a"), entry("b")))
    put(ledgers, OLD, held())
    assert (ledgers.usage("team-a").concurrency, sorted(ledgers.entries_of("team-a"))) == (2, ["a", "b"])
    assert ledgers.tenants() == ["team-a"]


def test_of_a_tenant_that_holds_nothing_any_more_nothing_is_known() -> None:
    ledgers = written((OLD, held(entry("a"))))
    put(ledgers, OLD, held())
    assert (ledgers.usage("team-a"), ledgers.entries_of("team-a"), ledgers.tenants()) == (Amounts(), {}, [])
