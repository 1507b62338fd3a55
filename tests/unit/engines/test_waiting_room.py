"""The refresh of places: a queue of any length lets others run, and only what changed noticeably is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta

import pytest

from longtask_operator.api.reasons import QueueReason
from longtask_operator.api.status import Queue
from longtask_operator.core.ledger import LedgerEntry
from longtask_operator.core.precedence import HeldBack
from longtask_operator.core.queueing import Candidate
from longtask_operator.engines.waiting_room import REFRESH_SECONDS, REFRESH_WRITES, WaitingRoom
from tests.builders import SMALLEST, START
from tests.support.sim_operator import METRICS, VirtualLoop

TENANT, OTHER = "team-a", "team-b"


class Bench:
    """A room in which *count* tasks wait that were told so."""

    def __init__(self, count: int) -> None:
        self.loop, self.told, self.turn = VirtualLoop(), list[str](), 0
        self.looks: Counter[int] = Counter()  #: by turn of the loop
        self.during: dict[int, str] = {}  #: look -> uid of who leaves just then
        self.reasons: dict[str, QueueReason] = {}  #: why somebody waits, if not behind others
        self.limit = 1  #: which the sentence of everybody names
        self.each_takes = 0.0  #: seconds that pass meanwhile
        self.room = WaitingRoom(METRICS, self.told.append, lambda tenant: self.explain)
        for number in range(count):
            self.enter(self.candidate(number))
        self.tell()
        self.told.clear()
        self.looks.clear()

    def candidate(self, number: int, tenant: str = TENANT, priority: int = 0) -> Candidate:
        entry = LedgerEntry(uid=f"u{number:05d}", attempt=1, generation=1, size=SMALLEST)
        queued_at = START + timedelta(seconds=number)
        key = f"ns/u{number:05d}"
        return Candidate(key=key, tenant=tenant, priority=priority, queued_at=queued_at, entry=entry)

    def explain(self, candidate: Candidate) -> HeldBack:
        self.looks[self.turn] += 1
        position = self.room.of(candidate.tenant).position(candidate.entry.uid)
        if uid := self.during.get(self.looks.total()):
            self.room.leave(uid)
            self.loop.elapsed += self.each_takes
        reason = self.reasons.get(candidate.entry.uid, QueueReason.BEHIND_OTHERS)
        return HeldBack(reason=reason, message=f"uses 1 of {self.limit}", position=position)

    def refresh(self) -> None:
        """Let the time of a refresh pass; every turn of the loop is counted."""

        def count() -> None:
            self.turn += 1
            if self.turn < 50:
                self.loop.call_soon(count)

        self.loop.elapsed += REFRESH_SECONDS
        self.loop.call_soon(count)
        self.loop.settle()

    def tell_others(self, count: int) -> None:
        """Let *count* tasks of another tenant wait that were told so."""
        for number in range(2_000, 2_000 + count):
            self.enter(self.candidate(number, OTHER))
        self.tell(OTHER)
        self.told.clear()

    def enter(self, candidate: Candidate) -> None:
        self.loop.within(lambda: self.room.enter(candidate))

    def leave(self, uid: str) -> None:
        self.loop.within(lambda: self.room.leave(uid))

    def tell(self, tenant: str = TENANT) -> None:
        self.loop.within(lambda: self.room.tell(tenant))

    def look_at_all(self) -> bool:
        return self.loop.within(lambda: self.room.look_at_all(TENANT))

    def close(self) -> None:
        self.loop.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    with closing(Bench(1_000)) as bench:
        yield bench


def test_a_long_queue_is_looked_at_in_several_turns_of_the_loop(bench: Bench) -> None:
    bench.leave("u00999")
    bench.refresh()
    assert bench.looks.total() == 999
    assert max(bench.looks.values()) <= 250
    assert bench.told == []


def test_who_noticeably_moved_is_told_the_first_ones_first(bench: Bench) -> None:
    for number in range(500):
        bench.leave(f"u{number:05d}")
    bench.refresh()
    assert bench.told == [f"ns/u{number:05d}" for number in range(500, 500 + REFRESH_WRITES)]


def test_the_rest_is_told_a_minute_later_and_then_nobody(bench: Bench) -> None:
    for number in range(500):
        bench.leave(f"u{number:05d}")
    bench.refresh()
    bench.refresh()
    assert bench.told == [f"ns/u{number:05d}" for number in range(500, 1_000)]
    looks = bench.looks.total()
    bench.refresh()
    assert bench.looks.total() == looks
    assert len(bench.told) == 500


def test_all_tenants_share_what_may_be_told_in_a_minute_and_take_turns(bench: Bench) -> None:
    bench.tell_others(200)
    for number in [*range(500), *range(2_000, 2_100)]:
        bench.leave(f"u{number:05d}")
    bench.refresh()
    mine = [f"ns/u{number:05d}" for number in range(500, 1_000)]
    theirs = [f"ns/u{number:05d}" for number in range(2_100, 2_200)]
    assert bench.told == mine[:REFRESH_WRITES]
    bench.refresh()
    assert bench.told[REFRESH_WRITES:] == theirs + mine[REFRESH_WRITES:]
    bench.refresh()  # of those that the budget did not reach
    assert len(bench.told) == 600
    looks = bench.looks.total()
    bench.refresh()
    assert bench.looks.total() == looks


def test_a_queue_whose_first_ones_move_all_the_time_tells_the_others_too(bench: Bench) -> None:
    """What was said of an old limit is corrected, 300 a minute, however fast the queue moves."""
    bench.limit = 2
    assert bench.look_at_all()
    bench.tell()
    for minute in range(4):
        for number in range(100 * minute, 100 * minute + 100):
            bench.leave(f"u{number:05d}")
        bench.refresh()
    assert {f"ns/u{number:05d}" for number in range(400, 1_000)} <= {*bench.told}


def test_another_reason_that_a_later_look_finds_is_counted_once(bench: Bench) -> None:
    def counted() -> float:
        labels = {"tenant": TENANT, "reason": "Reserved"}
        return METRICS.registry.get_sample_value("longtask_held_back_total", labels) or 0.0

    before = counted()
    bench.reasons["u00500"] = QueueReason.RESERVED
    for uid in ("u00998", "u00999"):
        bench.leave(uid)
        bench.refresh()
    assert (bench.told, counted() - before) == (["ns/u00500"], 1)


def test_a_place_that_was_told_along_with_a_reason_is_what_later_ones_are_compared_with(bench: Bench) -> None:
    """From 501 to 441, which is told for the reason's sake, to 530: the last step is one by a fifth."""
    bench.reasons["u00500"] = QueueReason.RESERVED
    for number in range(60):
        bench.leave(f"u{number:05d}")
    bench.refresh()
    assert "ns/u00500" in bench.told
    bench.told.clear()
    for number in range(1_000, 1_089):
        bench.enter(bench.candidate(number, priority=1))
    bench.tell()
    for _ in range(3):
        bench.refresh()
    assert "ns/u00500" in bench.told


def test_a_place_that_a_status_showed_meanwhile_is_what_later_ones_are_compared_with(bench: Bench) -> None:
    """Its task was looked at for another reason, while places were computed or guessed otherwise."""
    told = HeldBack(reason=QueueReason.BEHIND_OTHERS, message="uses 1 of 1", position=300)
    assert bench.room.shown(bench.candidate(500), told, None) is told
    bench.leave("u00999")
    bench.refresh()
    assert bench.told == ["ns/u00500"]


def test_what_a_status_goes_on_showing_is_what_later_places_are_compared_with(bench: Bench) -> None:
    """It shows 601 and was about to show 501, which is not noticeable; 471 is, to who reads the status."""
    said = Queue(reason="BehindOthers", message="uses 1 of 1", position=601)
    found = HeldBack(reason=QueueReason.BEHIND_OTHERS, message="uses 1 of 1", position=501)
    assert bench.room.shown(bench.candidate(500), found, said) is found
    for number in range(30):
        bench.leave(f"u{number:05d}")
    bench.refresh()
    assert "ns/u00500" in bench.told


def test_a_reason_that_only_a_status_has_shown_is_known_to_have_been_told(bench: Bench) -> None:
    """Its task was looked at for something else while it held, and now it holds no more."""
    found = HeldBack(reason=QueueReason.RESERVED, message="kept for another", position=501)
    bench.room.shown(bench.candidate(500), found, None)
    bench.leave("u00999")
    bench.refresh()
    assert bench.told == ["ns/u00500"]


def test_after_a_change_of_limits_places_are_those_of_the_new_order(bench: Bench) -> None:
    """Also where everybody has another reason, so that nobody has to be told a place later."""
    for number in range(1_000, 1_010):
        bench.enter(bench.candidate(number, priority=1))
    bench.tell()
    bench.refresh()
    waiting = bench.room.of(TENANT)
    assert waiting.position("u01000") == 1
    waiting.queue.set_max_priority(0)
    bench.reasons = dict.fromkeys(waiting.queue.uids(), QueueReason.QUOTA_EXHAUSTED)
    bench.look_at_all()
    bench.tell()
    assert [waiting.position(uid) for uid in ("u00000", "u01000")] == [1, 1_001]


class TestWhoComes:
    """Who comes before others has a place that was not computed when it was told, and the others have new ones."""

    def test_a_newcomer_that_passes_others_hears_its_place(self, bench: Bench) -> None:
        bench.enter(bench.candidate(1_000))
        bench.tell()
        first = bench.candidate(1_001, priority=1)
        bench.enter(first)
        bench.tell()
        assert bench.told == ["ns/u01000", first.key]
        bench.refresh()
        assert bench.told[2] == first.key
        assert bench.room.of(TENANT).position(first.entry.uid) == 1

    def test_those_that_are_passed_hear_it(self, bench: Bench) -> None:
        for number in range(1_000, 1_010):
            bench.enter(bench.candidate(number, priority=1))
        bench.tell()
        bench.refresh()
        assert bench.told[-50:] == [f"ns/u{number:05d}" for number in range(50)]

    def test_who_gets_another_priority_hears_its_new_place(self, bench: Bench) -> None:
        bench.loop.elapsed += 2  # so that places are computed
        bench.enter(bench.candidate(999, priority=1))
        bench.tell()
        assert bench.told == []
        bench.refresh()
        assert bench.told[0] == "ns/u00999"
        assert bench.room.of(TENANT).position("u00999") == 1

    def test_who_comes_last_changes_nothing(self, bench: Bench) -> None:
        for number in range(1_000, 1_100):
            bench.enter(bench.candidate(number))
            bench.tell()
        told, looks = len(bench.told), bench.looks.total()
        bench.refresh()
        assert (len(bench.told), bench.looks.total()) == (told, looks)
        assert bench.room.of(TENANT).position("u01050") == 1_051


def test_who_leaves_meanwhile_is_passed_over(bench: Bench) -> None:
    bench.during[10] = "u00600"
    for number in range(400):
        bench.leave(f"u{number:05d}")
    bench.refresh()
    assert "ns/u00600" not in bench.told
    assert len(bench.told) == REFRESH_WRITES


def test_a_refresh_that_begins_before_the_last_is_over_follows_it(bench: Bench) -> None:
    bench.leave("u00999")
    bench.during[300], bench.each_takes = "u00998", 2 * REFRESH_SECONDS
    bench.refresh()
    assert bench.looks.total() == 998 + 998
    assert max(bench.looks.values()) <= 250


class TestOtherLimits:
    """What was said may name the old ones; that is corrected like a place, so many a minute."""

    def change(self, bench: Bench) -> None:
        bench.limit += 1
        assert bench.look_at_all()
        bench.tell()

    def test_all_are_told_again_within_the_budget_the_first_ones_first(self, bench: Bench) -> None:
        self.change(bench)
        assert bench.told == []
        for count in (300, 600, 900, 1_000, 1_000):
            bench.refresh()
            assert bench.told == [f"ns/u{number:05d}" for number in range(count)]
        looks = bench.looks.total()
        bench.refresh()
        assert bench.looks.total() == looks

    def test_another_reason_is_told_at_once_and_once(self, bench: Bench) -> None:
        bench.reasons["u00007"] = QueueReason.NEVER_FITS
        self.change(bench)
        assert bench.told == ["ns/u00007"]
        for _ in range(5):
            bench.refresh()
        assert len(bench.told) == len(set(bench.told)) == 1_000

    def test_who_was_not_told_yet_hears_it_once(self, bench: Bench) -> None:
        bench.enter(bench.candidate(2_000))
        self.change(bench)
        assert bench.told == ["ns/u02000"]
        for _ in range(5):
            bench.refresh()
        assert Counter(bench.told)["ns/u02000"] == 1

    def test_who_was_told_nothing_of_them_is_told_nothing(self, bench: Bench) -> None:
        bench.limit -= 1
        self.change(bench)
        bench.refresh()
        assert bench.told == []

    def test_who_left_is_forgotten(self, bench: Bench) -> None:
        self.change(bench)
        bench.leave("u00000")
        bench.refresh()
        assert bench.told[0] == "ns/u00001"


@pytest.fixture
def lone() -> Iterator[Bench]:
    """A room in which one task waits."""
    with closing(Bench(1)) as bench:
        yield bench


@pytest.fixture
def taken_out(lone: Bench) -> Candidate:
    """The only task of a room, which a plan has taken out of its queue."""
    candidate = lone.candidate(0)
    lone.room.of(TENANT).queue.remove(candidate.entry.uid)
    lone.room.take_out(candidate)
    return candidate


class TestTenantsThatGo:
    def test_one_of_which_nobody_waits_is_forgotten(self, lone: Bench) -> None:
        for number in (1, 2):
            lone.enter(lone.candidate(number))
        for number in range(3):
            assert lone.room.tenants() == [TENANT]
            lone.leave(f"u{number:05d}")
        assert lone.room.tenants() == []

    def test_one_whose_last_task_is_being_admitted_is_not(self, lone: Bench, taken_out: Candidate) -> None:
        assert lone.room.tenants() == [TENANT]
        lone.loop.within(lambda: lone.room.admitted(taken_out))
        assert lone.room.tenants() == []

    def test_one_whose_last_task_is_dismissed_is(self, lone: Bench, taken_out: Candidate) -> None:
        lone.loop.within(lambda: lone.room.dismiss(taken_out))
        assert lone.room.tenants() == []

    def test_a_task_that_is_put_anew_keeps_its_place(self, lone: Bench) -> None:
        lone.enter(lone.candidate(0, priority=1))
        assert (lone.room.tenants(), lone.room.of(TENANT).told) == ([TENANT], {"u00000": 1})
