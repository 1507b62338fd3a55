"""A crash, a lost answer or a false failure at the writes of every scenario: no promise is ever broken.

CI meets each write of every scenario once, of one long story those that are its own, plants each bug once and lets
operators that all lead play some rounds; `make test-faults` runs all trials. All of it shares two control planes, which
come up once.
"""

from __future__ import annotations

import ast
import inspect
import os
import random
from collections.abc import Iterator
from typing import Any

import pytest

from devcluster.errors import DevclusterError
from tests.faults.beside import LoopThread
from tests.faults.ground import Ground, stand_all
from tests.faults.late import LATE, NO_BUG, Late, find_late
from tests.faults.mutants import MUTANTS
from tests.faults.planted import PLANTED, Planted, find_all
from tests.faults.rivals import AT_ONCE, WAYS, Round, batches, play_rounds
from tests.faults.scenarios import SCENARIOS
from tests.faults.suite import MODES, Report, between_two, of_the_first_attempt, plan, sweep
from tests.support import auditor, auditor_editions, auditor_quota

pytestmark = [pytest.mark.integration, pytest.mark.timeout(2700)]
#: Of all trials, so many parts of one are run here; each write at least once.
SHARE = 0.0
#: Control planes side by side.
GROUNDS = 2
SEED = 1
#: Faults that must have met a write. The write of a release may be shared with the next one, so some meet none.
LEAST_TRIALS, UNMET = 250, 0.02
#: Scenarios in which a tenant's entries go from ledger to ledger, and the moves of each, by part of the ledgers' names:
#: the new one, which is written first, and the old one.
MOVES = {
    "cohort-join": [("ledger-cohort-", "ledger-tenant-"), ("ledger-tenant-", "ledger-cohort-")],
    "cohort-move": [("-after", "-before")],
}
#: Long stories of which the writes before the first attempt and after it are those of others.
FIRST_ATTEMPT_ONLY = {"falls-silent"}
#: Of operators that lead at once.
ROUNDS = 20
BLIND = "blind-ledger-write"
Arena = LoopThread[list[Ground]]


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    try:
        with LoopThread(lambda: stand_all(GROUNDS, tmp_path_factory.mktemp("faults"))) as found:
            yield found
    except DevclusterError as error:
        if os.environ.get("LONGTASK_REQUIRE_CLUSTER") == "1":
            raise
        pytest.skip(f"no cluster: {error}")


@pytest.fixture(scope="module")
def findings(arena: Arena, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Run the sweep."""
    with (tmp_path_factory.mktemp("sweep") / "trials.jsonl").open("w") as out:
        found = Report(out, SEED)
        arena.run(sweep(arena.value, SCENARIOS.values(), _choose, found))
    return found


def _choose(scenario: Any, wanted: Any) -> Any:
    chosen = plan(len(wanted.writes), MODES, SHARE, random.Random(f"{SEED} {scenario.name}"))
    if scenario.name in FIRST_ATTEMPT_ONLY:
        return of_the_first_attempt(wanted.writes, chosen)
    moving = between_two(wanted) if scenario.name in MOVES else []
    met = {(one.k, one.mode) for one in moving}
    return [*(one for one in chosen if (one.k, one.mode) not in met), *moving]


def test_no_promise_is_broken(findings: Report) -> None:
    broken = {f"{v.scenario} {v.k} {v.mode}": [v.write, *v.violations] for v in findings.failed}
    assert broken == {}


def test_enough_faults_met_a_write(findings: Report) -> None:
    met = [verdict for verdict in findings.verdicts if verdict.fired]
    assert len(met) >= LEAST_TRIALS
    assert {verdict.scenario for verdict in met} == set(SCENARIOS)
    assert len(findings.unfired) <= len(findings.verdicts) * UNMET, [f"{v.scenario} {v.k}" for v in findings.unfired]


def test_each_move_between_ledgers_was_cut_short(findings: Report) -> None:
    """The operator was killed after the new ledger's write, and its successor wrote the old one."""
    for name, moves in MOVES.items():
        cut = [v.between for v in findings.verdicts if v.scenario == name and v.fired and v.between]
        for new, old in moves:
            assert [one for one in cut if new in one[0] and old in one[1]], f"{name}: no kill between {new} and {old}"


@pytest.fixture(scope="module")
def said(arena: Arena) -> dict[Planted, list[str]]:
    """Plant every bug and return what the auditors say of each."""
    return arena.run(find_all(arena.value, PLANTED))


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: f"{planted.mutant}-{planted.rule}")
def test_a_planted_bug_is_found(planted: Planted, said: dict[Planted, list[str]]) -> None:
    assert [line for line in said[planted] if line.startswith(planted.rule)], said[planted]


def test_the_auditors_find_nothing_where_no_bug_is_planted(arena: Arena) -> None:
    stories = {planted.scenario.name: planted for planted in PLANTED}
    found = arena.run(find_all(arena.value, stories.values(), really=False))
    assert {planted.scenario.name: lines for planted, lines in found.items() if lines} == {}


def test_each_rule_has_a_planted_bug() -> None:
    source = "".join(map(inspect.getsource, (auditor, auditor_quota, auditor_editions)))
    named = {
        node.value
        for call in ast.walk(ast.parse(source))
        if isinstance(call, ast.Call)
        for node in [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "rule")]
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier()
    }
    rules = {name for name in named if name[0].isupper() and name not in ("LongTask", "Job", "Pod", "Lost")}
    assert rules == {planted.rule.partition(":")[0] for planted in (*PLANTED, *LATE)}
    assert {planted.mutant for planted in (*PLANTED, *LATE)} == set(MUTANTS) - {BLIND}


@pytest.fixture(scope="module")
def said_of_the_late(arena: Arena) -> dict[Late, list[str]]:
    """Let an operator hear of a changed quota from the ledger alone, with each of its bugs and with none."""
    return arena.run(find_late(arena.value, [*NO_BUG, *LATE]))


def test_who_hears_of_no_change_of_a_quota_finds_out_from_the_ledger(said_of_the_late: dict[Late, list[str]]) -> None:
    assert [said_of_the_late[story] for story in NO_BUG] == [[], []]


@pytest.mark.parametrize("late", LATE, ids=lambda late: f"{late.mutant}-{late.rule}")
def test_who_does_not_is_found_out(late: Late, said_of_the_late: dict[Late, list[str]]) -> None:
    assert [line for line in said_of_the_late[late] if line.startswith(late.rule)], said_of_the_late[late]


@pytest.fixture(scope="module")
def all_rounds(arena: Arena) -> list[Round]:
    """Let operators that lead at once play some rounds, and some without the ledger's precondition."""
    true, planted = batches(ROUNDS, SEED), batches(AT_ONCE, SEED, first=ROUNDS + 1, mutant=BLIND)
    return arena.run(play_rounds(arena.value, [*true, *planted]))


@pytest.fixture(scope="module")
def rounds(all_rounds: list[Round]) -> list[Round]:
    return [found for found in all_rounds if not found.mutant]


def test_operators_that_lead_at_once_exceed_no_quota(rounds: list[Round]) -> None:
    assert {found.number: found.violations for found in rounds if found.violations} == {}
    assert len(rounds) == ROUNDS


def test_they_did_meet(rounds: list[Round]) -> None:
    """Each round had two operators that wrote its ledgers, and each tenant all that its quota gives."""
    assert [found.number for found in rounds if found.ledger_writers < 2] == []
    alone = [found for found in rounds if not found.lends]
    assert [found.most for found in alone] == [found.quotas for found in alone]
    assert [found.number for found in rounds if found.way == "leases" and not found.conflicts] == []


def test_tenants_lent_and_moved_and_their_quotas_changed_meanwhile(rounds: list[Round]) -> None:
    lending = [found for found in rounds if found.lends]
    assert [found.number for found in lending if not found.edits] == []
    assert {found.way for found in lending if found.moves} == set(WAYS)
    assert sum(found.borrowed for found in lending)


def test_limits_of_each_person_were_among_them(rounds: list[Round]) -> None:
    assert {found.way for found in rounds if found.personal} == set(WAYS)


def test_without_the_ledgers_precondition_promises_are_broken(all_rounds: list[Round]) -> None:
    broken = {line.partition(":")[0] for found in all_rounds if found.mutant for line in found.violations}
    assert broken & {"QuotaExceeded", "EarlyRelease", "LedgerFirst"}
