"""Two that lead and know TenantQuotas of different age: nothing is admitted by one that is older than a ledger's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.sim_rivals import COHORT_LEDGER, HOME, LONE_LEDGER, Ground, Rival, RivalStory, grounds
from tests.support.sim_story import story_settings

UNREADABLE = "?"
LABELS = {"app.kubernetes.io/component": "ledger", "app.kubernetes.io/managed-by": "longtask"}
TestRivalStory = RivalStory.TestCase
TestRivalStory.settings = story_settings(60)


@pytest.fixture
def ground() -> Iterator[Ground]:
    yield from grounds()


def test_a_limit_that_the_other_has_lowered_is_not_used_up(ground: Ground) -> None:
    ahead, behind = ground.rivals
    ground.quota("x", 2)
    ground.run()
    for rival in (ahead, behind):
        rival.hear()
    ground.come("x")
    ground.run()
    ground.quota("x", 1)
    ahead.hear()
    ground.run()
    ground.come("x")
    ground.run()
    assert len(ground.held("x")) == 1


def test_a_tenant_that_moved_is_not_admitted_where_it_was(ground: Ground) -> None:
    ahead, behind = ground.rivals
    ground.quota("x", 1)
    for rival in (ahead, behind):
        rival.hear()
    ground.run()
    uid = ground.come("x", behind)
    ground.run()
    assert ground.held("x") == {uid}
    ground.end(uid)
    ground.run()
    ground.quota("x", 1, cohort="c")
    ahead.hear()
    ground.come("x", behind)
    ground.come("x", ahead)
    ground.run(ahead)
    ground.run(behind)
    assert len(ground.held("x")) == 1


def editions_of(ground: Ground, ledger: str) -> str:
    data: dict[str, str] = ground.api.objects.get(("configmaps", HOME, ledger), {}).get("data", {})
    return data.get("quota.editions", "")


def test_a_tenant_is_listed_before_it_is_admitted_and_that_costs_nothing_later(ground: Ground) -> None:
    rival = ground.rivals[0]
    ground.come("x", rival)
    ground.run()
    assert [write.method for write in ground.api.writes] == ["POST", "PUT"]
    assert editions_of(ground, f"{LONE_LEDGER}x") == "x -\n"
    ground.quota("x", 3)
    rival.hear()
    ground.run()
    assert editions_of(ground, f"{LONE_LEDGER}x") == "x 00000002/1\n", "at once, though nobody waits"
    asked = len(ground.requests_of(rival))
    for _ in range(2):
        ground.come("x", rival)
        ground.run()
    assert [write.method for write in ground.api.writes] == ["POST", "PUT", "PUT", "PUT", "PUT"]
    assert [request.method for request in ground.requests_of(rival)[asked:]] == ["PUT", "PUT"], "nobody is asked"


def test_a_quota_stands_once_nobody_can_be_admitted_by_an_older_one(ground: Ground) -> None:
    rival = ground.rivals[0]
    stands = rival.editions.stands
    ground.quota("x", 2)
    rival.hear()
    assert not stands("x"), "it has no ledger here: another may have made one"
    ground.run()
    assert stands("x"), "it has no ledger: whoever makes one asks first"
    ground.come("x", rival)
    ground.run()
    assert stands("x")
    ground.quota("x", 1, cohort="c")
    rival.hear()
    found = [stands("x")]
    while ground.step(rival):
        found.append(stands("x"))
    assert found == sorted(found)
    assert (found[0], found[-1]) == (False, True)
    assert editions_of(ground, f"{LONE_LEDGER}x") == ""


def test_a_quota_does_not_stand_while_another_admits_by_an_older_one_to_a_ledger_that_it_has_made(
    ground: Ground,
) -> None:
    """Who leads as well reads no ledger that it does not need; it promised by an observedGeneration what was not so."""
    ahead, behind = ground.rivals
    ground.quota("x", 5)
    for rival in ground.rivals:
        rival.hear()
    ground.run()
    ground.come("x", behind)
    ground.run()
    ground.quota("x", 1)
    ahead.hear()
    said = [ahead.editions.stands("x")]
    while ground.step(ahead):
        said.append(ahead.editions.stands("x"))
    assert (said[0], said[-1]) == (False, True)
    ground.come("x", behind)
    ground.run()
    assert len(ground.held("x")) == 1


def test_many_quotas_without_ledgers_cost_one_list(ground: Ground) -> None:
    rival = ground.rivals[0]
    ground.run()
    asked = len(ground.requests_of(rival))
    for number in range(20):
        ground.quota(f"t{number}", 1, cohort="c" if number < 5 else "")
    while rival.hear():
        pass
    ground.run()
    assert [str(request.method) for request in ground.requests_of(rival)[asked:]] == ["GET"]
    assert all(rival.editions.stands(f"t{number}") for number in range(20))


def x_borrows(ground: Ground) -> tuple[Rival, list[str]]:
    """Let one operator alone admit two tasks of x, one of them by what y of its cohort lends; return both."""
    rival, other = ground.rivals
    other.stop(ground.api)
    ground.rivals.remove(other)
    ground.quota("x", 1, cohort="c")
    ground.quota("y", 1, cohort="c")
    while rival.hear():
        pass
    borrowed = sorted([ground.come("x"), ground.come("x")])
    ground.run()
    assert ground.held("x") == set(borrowed)
    return rival, borrowed


@pytest.mark.parametrize("restarted", [False, True])
def test_a_tenant_stays_in_its_cohort_while_its_quota_does_not_say_where_it_belongs(
    ground: Ground, restarted: bool
) -> None:
    """What it has borrowed counts there on; it starts nothing."""
    rival, borrowed = x_borrows(ground)
    ground.quota("x", 1, cohort=UNREADABLE)
    if restarted:
        rival = ground.restart(rival)
    rival.hear()
    ground.run()
    waits = {ground.come("x"), ground.come("y")}
    ground.run()
    assert set(ground.judge.lines[f"{COHORT_LEDGER}c"]["x"]) == {f"{uid} 1" for uid in borrowed}
    assert not ground.held("y"), "the quotas of the cohort are used up"
    ground.end(borrowed[0])
    ground.run()
    assert ground.held("y") < waits
    assert ground.held("y")
    assert ground.held("x") == {borrowed[1]}, "it is on hold"
    ground.quota("x", 1)
    rival.hear()
    ground.run()
    assert f"{LONE_LEDGER}x" in ground.judge.lines
    assert not ground.judge.lines[f"{COHORT_LEDGER}c"].get("x")


@pytest.mark.parametrize("restarted", [False, True])
def test_what_a_tenant_has_counts_in_its_cohort_while_its_amount_cannot_be_read(
    ground: Ground, restarted: bool
) -> None:
    """All of it, for it may be borrowed; the others have their own quotas and no more."""
    rival, borrowed = x_borrows(ground)
    ground.quota("x", None, cohort="c")
    if restarted:
        rival = ground.restart(rival)
    rival.hear()
    ground.run()
    ground.come("x")
    waits = ground.come("y")
    ground.run()
    assert not ground.held("y")
    for uid in borrowed:
        assert not ground.held("y"), "what the other has left may be borrowed"
        ground.end(uid)
        ground.run()
    assert ground.held("y") == {waits}
    assert not ground.held("x"), "it is on hold"
    ground.quota("x", 1, cohort="c")
    rival.hear()
    ground.run()
    assert len(ground.held("x")) == 1


def test_in_the_middle_of_a_move_it_is_where_it_may_be_admitted(ground: Ground) -> None:
    """So whoever leads next finds the same."""
    rival = ground.rivals[0]
    ground.quota("x", 1, cohort="c")
    rival.hear()
    uid = ground.come("x", rival)
    ground.run()
    ground.quota("x", 1, cohort="d")
    rival.hear()
    while "x" not in editions_of(ground, f"{COHORT_LEDGER}d"):
        assert ground.step(rival)
    assert "joining" in editions_of(ground, f"{COHORT_LEDGER}d")
    ground.quota("x", 1, cohort=UNREADABLE)
    rival.hear()
    ground.restart(ground.rivals[1])
    ground.run()
    homes = [one.quotas.ledger_of("x") for one in ground.rivals]
    assert homes == [f"{COHORT_LEDGER}c"] * 2
    assert ground.held("x") == {uid}
    assert "x" not in editions_of(ground, f"{COHORT_LEDGER}d")


def test_two_that_know_different_homes_of_a_tenant_agree_on_one(ground: Ground) -> None:
    """One heard of the cohort before it could not be read, the other came later; neither finds a ledger."""
    one, other = ground.rivals
    ground.run()
    ground.quota("x", 1, cohort="d")
    one.hear()
    ground.quota("x", 1, cohort=UNREADABLE)
    one.hear()
    other.inbox.popleft()
    other.hear()
    assert one.quotas.ledger_of("x") != other.quotas.ledger_of("x")
    ground.come("x")
    ground.run()
    assert one.quotas.ledger_of("x") == other.quotas.ledger_of("x")
    assert [name for name in ground.judge.listed if "x" in editions_of(ground, name)] == [one.quotas.ledger_of("x")]


def test_a_ledger_of_an_older_version_is_gone_by_once_its_tenants_have_joined(ground: Ground) -> None:
    body = {"metadata": {"name": f"{LONE_LEDGER}x", "labels": LABELS}, "data": {"attempts": "u9 1 1 250 512\n"}}
    ground.judge.stood.add("u9 1")
    ground.api.new("configmaps", HOME, body)
    ground.quota("x", 2)
    ground.rivals[0].hear()
    ground.come("x", ground.rivals[0])
    ground.run()
    assert len(ground.held("x")) == 2
    assert editions_of(ground, f"{LONE_LEDGER}x") == "x 00000001/1\n"


@pytest.mark.parametrize("reply", ["lost", "ok"])
def test_nobody_is_admitted_while_the_quotas_cannot_be_read(ground: Ground, reply: str) -> None:
    rival = ground.rivals[0]
    ground.run()
    ground.come("x", rival)
    ground.loop.settle()
    assert str(rival.requests[0].request).startswith("GET")
    for _ in range(2):
        ground.step(rival, reply)
    assert (ground.held("x"), ground.api.writes == []) == (set(), True)
    ground.run()
    assert len(ground.held("x")) == 1


def test_many_tenants_that_come_at_once_share_the_look_at_all_ledgers(ground: Ground) -> None:
    rival = ground.rivals[0]
    ground.run()
    before = len(ground.requests_of(rival))
    for number in range(20):
        ground.come(f"t{number}", rival)
    ground.run()
    requests = [str(request) for request in ground.requests_of(rival)[before:]]
    assert sum(request.endswith("/configmaps") and request.startswith("GET") for request in requests) == 1
    assert sum(request.startswith("POST") for request in requests) == 20


def test_whom_an_attempt_counts_for_is_known_to_who_never_heard_of_its_task(ground: Ground) -> None:
    one, other = ground.rivals
    ground.quota("x", 5, per_user=1)  # its uid is of an odd number, and tasks of odd numbers are of one person
    for rival in (one, other):
        rival.hear()
    ground.run()
    of_nobody, first = ground.come("x"), ground.come("x", one)
    ground.run(one)
    ground.come("x", other)
    second = ground.come("x", other)
    ground.run()
    assert first in ground.held("x")
    assert of_nobody in ground.held("x")
    assert second not in ground.held("x")
    ground.end(first)
    ground.run()
    assert second in ground.held("x")
