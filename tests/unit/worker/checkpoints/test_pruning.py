"""What may be deleted, and what never: the examples first, then a world of attempts, lost answers and zombies."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import example, given, settings
from hypothesis import strategies as st

from longtask_worker.checkpoints import Checkpoint
from longtask_worker.checkpoints.book import Book
from longtask_worker.checkpoints.layout import MANIFEST, Prefix, Reference, Slot
from longtask_worker.checkpoints.place import Place
from longtask_worker.checkpoints.pruning import kept_slots, select_garbage
from longtask_worker.stopping import StopFlag
from tests.support.memory_storage import MemoryStorage

ROOT = "mem://ckpt/u/"
PREFIX = Prefix(root=ROOT, attempt=3)


def ref(attempt: int, number: int) -> Reference:
    return Reference(uri=f"{ROOT}{attempt}/{number}/{MANIFEST}", sha256="0" * 64, size_bytes=1)


def slot(attempt: int, number: int) -> Slot:
    return Slot(attempt=attempt, number=number)


def test_the_newest_accepted_stay_and_those_that_may_have_been() -> None:
    accepted = [ref(3, 5), ref(3, 2), ref(2, 8), ref(1, 1)]
    reported = [ref(3, number) for number in range(1, 8)]
    assert kept_slots(PREFIX, accepted, [], 2) == {slot(3, 5), slot(3, 2)}
    assert kept_slots(PREFIX, accepted, reported, 2) == {slot(3, 5), slot(3, 2), slot(3, 4)}
    assert kept_slots(PREFIX, accepted, reported, 1) == {slot(3, 5)}
    assert kept_slots(PREFIX, accepted, reported, 9) == {*(slot(3, n) for n in range(1, 6)), slot(2, 8), slot(1, 1)}


def test_only_older_ones_of_this_task_go() -> None:
    stays = [
        "3/5/manifest.json",  # accepted
        "3/6/part-00000",  # newer: on its way
        "4/1/manifest.json",  # a newer attempt's: we are the zombie
        "2/8/manifest.json",  # kept
        "notes.txt",
        "x/1/manifest.json",
    ]
    goes = ["3/4/manifest.json", "3/4/part-00000", "2/7/part-00000", "1/1/manifest.json", "1/1/.part-00000.ab"]
    uris = [ROOT + below for below in (*stays, *goes)] + ["mem://ckpt/other/1/1/manifest.json"]
    kept = {slot(3, 5), slot(2, 8)}
    assert list(select_garbage(PREFIX, uris, slot(3, 5), kept)) == [ROOT + below for below in goes]


def test_a_checkpoint_of_another_place_is_none_of_ours() -> None:
    elsewhere = Reference(uri="mem://old/u/2/1/manifest.json", sha256="0" * 64)
    assert kept_slots(PREFIX, [ref(3, 1), elsewhere], [], 2) == {slot(3, 1)}


@dataclass
class Attempt:
    """A worker; it may be a zombie long since."""

    checkpoint: Checkpoint
    book: Book
    stop: StopFlag = field(default_factory=StopFlag)
    saved: int = 0
    echo: str | None = None  # an answer on its way


@dataclass
class World:
    """The operator of the contract, its storage, and all workers it ever started."""

    keep: int
    storage: MemoryStorage = field(default_factory=MemoryStorage)
    accepted: list[Reference] = field(default_factory=list)  # what stands in the status, newest first
    workers: list[Attempt] = field(default_factory=list)

    def start(self) -> None:
        number = len(self.workers) + 1
        stop, book = StopFlag(), Book(self.accepted)
        place = Place(prefix=Prefix(root=ROOT, attempt=number), keep=self.keep)
        checkpoint = Checkpoint(place, book, stop, storage=lambda _uri: self.storage, clock=lambda: 0.0)
        newest = checkpoint.load()
        assert checkpoint.resumed_from == (self.accepted[0].uri if self.accepted else None)
        assert (newest is None) == (not self.accepted)
        self.workers.append(Attempt(checkpoint=checkpoint, book=book, stop=stop))

    def save(self, worker: Attempt) -> None:
        worker.saved += 1
        worker.checkpoint.save([self.workers.index(worker), worker.saved])

    def report(self, worker: Attempt) -> None:
        """The answer is under way until `answer`; the next one may overtake it, so it is lost."""
        named = worker.book.to_report()
        if worker is not self.workers[-1]:
            return  # 409: nothing of a zombie is accepted
        if named and named not in self.accepted:
            self.accepted = [named, *self.accepted][: self.keep]
        worker.echo = self.accepted[0].uri if self.accepted else None

    def answer(self, worker: Attempt) -> None:
        if worker.echo:
            worker.book.accept(worker.echo)

    def check(self) -> None:
        for reference in self.accepted:
            assert reference.uri in self.storage.objects, "the operator offers what a worker deleted"


WORDS = ["save", "save", "save", "report", "slow report", "slow report", "late answer", "start"]
STEPS = st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from([0, 0, 0, 0, 1, 2])), min_size=20, max_size=60)
LOST_ANSWER = [("save", 0), ("slow report", 0), ("save", 0), ("report", 0), ("save", 0)]


@settings(max_examples=60, deadline=None)
@example(steps=LOST_ANSWER, keep=2)
@given(steps=STEPS, keep=st.integers(min_value=1, max_value=3))
def test_whatever_the_operator_may_offer_is_there(steps: list[tuple[str, int]], keep: int) -> None:
    world = World(keep=keep)
    world.start()
    for step, age in steps:
        worker = world.workers[max(len(world.workers) - 1 - age, 0)]
        if step == "start":
            world.start()
        elif step == "save":
            world.save(worker)
        if step in ("report", "slow report"):
            world.report(worker)
        if step in ("report", "late answer"):
            world.answer(worker)
        world.check()


def test_little_is_left_of_many() -> None:
    world = World(keep=2)
    for _ in range(4):
        world.start()
        for _ in range(5):
            world.save(world.workers[-1])
            world.report(world.workers[-1])
            world.answer(world.workers[-1])
        world.save(world.workers[-1])  # one that is never reported
    assert len(world.storage.objects) <= 4
