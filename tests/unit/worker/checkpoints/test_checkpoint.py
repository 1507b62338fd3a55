"""`task.checkpoint` as a task sees it, on a storage in memory and a clock that stands still."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from longtask_worker.checkpoints import Checkpoint
from longtask_worker.checkpoints.book import Book
from longtask_worker.checkpoints.layout import Prefix, Reference
from longtask_worker.checkpoints.place import Place
from longtask_worker.errors import Cancelled, CheckpointError, MissingExtraError, StorageError, TransferError
from longtask_worker.stopping import CANCELLED, SUPERSEDED, TERMINATED, StopFlag
from tests.support.memory_storage import MemoryStorage

ROOT = "mem://ckpt/u/"


@dataclass
class Bench:
    """An attempt with everything it touches."""

    attempt: int = 1
    resume: tuple[Reference, ...] = ()
    storage: MemoryStorage = field(default_factory=MemoryStorage)
    stop: StopFlag = field(default_factory=StopFlag)
    now: float = 0.0

    def __post_init__(self) -> None:
        self.book = Book(self.resume)
        place = Place(prefix=Prefix(root=ROOT, attempt=self.attempt), interval=60)
        self.checkpoint = Checkpoint(
            place, self.book, self.stop, storage=lambda _uri: self.storage, clock=lambda: self.now
        )

    def accept(self) -> Reference:
        reference = self.book.to_report()
        assert reference is not None
        self.book.accept(reference.uri)
        return reference

    def next(self, *accepted: Reference) -> Bench:
        return Bench(attempt=self.attempt + 1, resume=accepted, storage=self.storage)


def test_the_next_attempt_goes_on_from_the_accepted_one() -> None:
    first = Bench()
    assert first.checkpoint.load(default=0) == 0
    assert first.checkpoint.resumed_from is None
    first.checkpoint.save({"row": 5})
    accepted = first.accept()
    first.checkpoint.save({"row": 9})  # never accepted
    second = first.next(accepted)
    assert second.checkpoint.load(default=0) == {"row": 5}
    assert second.checkpoint.resumed_from == accepted.uri


def test_it_is_reported_until_it_is_accepted() -> None:
    bench = Bench()
    assert bench.book.to_report() is None
    uri = bench.checkpoint.save(1)
    for _ in range(3):
        named = bench.book.to_report()
        assert named is not None
        assert named.fields() == {"uri": uri, "sha256": named.sha256, "sizeBytes": 1}
    bench.book.accept("mem://another")
    assert bench.book.to_report() is not None
    bench.book.accept(str(uri))
    assert bench.book.to_report() is None
    bench.checkpoint.save(2)
    assert bench.book.to_report() is not None


def test_an_echo_of_an_older_one_accepts_that_one_only() -> None:
    bench = Bench()
    first = bench.checkpoint.save(1)
    bench.book.to_report()
    second = bench.checkpoint.save(2)
    bench.book.to_report()
    bench.book.accept(str(second))
    bench.book.accept(str(first))
    accepted = bench.book.accepted_here()
    assert accepted is not None
    assert accepted.uri == second


def test_save_if_due_waits_for_its_interval_and_asks_for_the_value_only_then() -> None:
    bench, asked = Bench(), []

    def value() -> int:
        asked.append(bench.now)
        return 7

    for now in (0.0, 58.9, 59.0, 60.0, 117.9, 118.0):
        bench.now = now
        assert bench.checkpoint.save_if_due(value) == (now in (59.0, 118.0))
    assert asked == [59.0, 118.0]
    assert len(bench.storage.objects) == 2


def test_a_request_makes_it_due_once() -> None:
    bench = Bench()
    bench.checkpoint.heed_request(True)
    assert bench.checkpoint.requested
    assert bench.checkpoint.save_if_due(1)
    bench.checkpoint.heed_request(True)
    assert not bench.checkpoint.save_if_due(2)


def test_a_request_calls_back_in_a_thread_of_its_own() -> None:
    bench, done = Bench(), threading.Event()

    def save() -> None:
        assert threading.current_thread().name == "longtask-checkpoint"
        bench.checkpoint.save("state")
        done.set()

    bench.checkpoint.on_request(save)
    bench.checkpoint.heed_request(True)
    bench.checkpoint.heed_request(True)
    assert done.wait(10)
    assert len(bench.storage.objects) == 1
    assert not bench.checkpoint.requested


@pytest.mark.parametrize("reason", [TERMINATED, CANCELLED])
def test_being_asked_to_stop_makes_it_due_once(reason: str) -> None:
    bench = Bench()
    bench.stop.set(reason)
    assert bench.checkpoint.save_if_due(1)
    assert not bench.checkpoint.save_if_due(2)
    bench.checkpoint.save(3)
    assert len(bench.storage.objects) == 2


@pytest.mark.parametrize("first", [None, TERMINATED, CANCELLED])
def test_a_superseded_worker_publishes_nothing(first: str | None) -> None:
    bench = Bench()
    if first:
        bench.stop.set(first)
    bench.stop.set(SUPERSEDED)
    with pytest.raises(Cancelled):
        bench.checkpoint.save(1)
    with pytest.raises(Cancelled):
        bench.checkpoint.save_if_due(1)
    assert bench.storage.objects == {}


def test_a_worker_that_is_superseded_while_it_saves_leaves_no_manifest() -> None:
    bench = Bench()
    bench.storage.watch = lambda _when, _verb, _uri: bench.stop.set(SUPERSEDED)
    with pytest.raises(Cancelled):
        bench.checkpoint.save(b"x" * 100)
    assert list(bench.storage.objects) == [ROOT + "1/1/part-00000"]
    assert bench.book.latest is None


def test_a_storage_that_fails_does_not_end_the_loop_but_a_save_says_so() -> None:
    bench = Bench(now=0.0)

    def fail(_when: str, _verb: str, _uri: str) -> None:
        raise TransferError("down")

    bench.storage.watch = fail
    bench.now = 60.0
    assert not bench.checkpoint.save_if_due(1)
    with pytest.raises(TransferError):
        bench.checkpoint.save(1)
    assert bench.book.to_report() is None
    bench.storage.watch = lambda _when, _verb, _uri: None
    bench.now = 89.0
    assert not bench.checkpoint.save_if_due(1)
    bench.now = 90.0
    assert bench.checkpoint.save_if_due(1)


def test_a_write_whose_answer_is_lost_is_no_checkpoint_and_in_nobodys_way() -> None:
    bench, lost = Bench(), []

    def lose(when: str, _verb: str, uri: str) -> None:
        if when == "after" and not lost:
            lost.append(uri)
            raise TransferError("the answer is lost")

    bench.storage.watch = lose
    with pytest.raises(TransferError):
        bench.checkpoint.save(1)
    assert bench.book.to_report() is None
    assert bench.checkpoint.save(2) == ROOT + "1/2/manifest.json"
    assert bench.next(bench.accept()).checkpoint.load() == 2


def test_a_mistake_of_the_program_is_not_swallowed() -> None:
    bench = Bench(now=0.0)
    bench.now = 60.0
    with pytest.raises(CheckpointError):
        bench.checkpoint.save_if_due(object())
    with pytest.raises(ZeroDivisionError):
        bench.checkpoint.save_if_due(lambda: 1 // 0)


def test_torn_ones_are_skipped_for_the_newest_whole_one(capsys: pytest.CaptureFixture[str]) -> None:
    first, accepted = Bench(), []
    for value in (1, 2, 3):
        first.checkpoint.save(value)
        accepted.insert(0, first.accept())
    del first.storage.objects[accepted[0].uri]
    first.storage.objects[accepted[1].uri] += b" "
    second = first.next(*accepted)
    assert second.checkpoint.load() == 1
    assert second.checkpoint.resumed_from == second.checkpoint.went_on_from(works=False) == accepted[2].uri
    assert capsys.readouterr().err.count("skipped") == 2
    del first.storage.objects[accepted[2].uri]
    third = first.next(*accepted)
    assert third.checkpoint.load(default="fresh") == "fresh"
    assert (third.checkpoint.resumed_from, third.checkpoint.went_on_from(works=False)) == (None, "")
    assert "from the beginning" in capsys.readouterr().err


def test_what_the_work_goes_on_from_is_open_until_it_loads_or_works() -> None:
    first = Bench()
    first.checkpoint.save(1)
    second = first.next(first.accept())
    assert second.checkpoint.went_on_from(works=False) is None
    assert second.checkpoint.went_on_from(works=True) == ""
    second.checkpoint.load()
    assert second.checkpoint.went_on_from(works=True) == second.checkpoint.resumed_from


def test_who_was_given_nothing_has_nothing_to_say_of_it() -> None:
    first = Bench()
    first.checkpoint.load()
    assert first.checkpoint.went_on_from(works=True) is None


def test_a_storage_that_cannot_be_asked_is_no_reason_to_start_anew() -> None:
    first = Bench()
    first.checkpoint.save(1)
    accepted = first.accept()

    class Down(MemoryStorage):
        def read(self, uri: str, limit: int) -> bytes:
            raise StorageError("forbidden")

    second = Bench(attempt=2, resume=(accepted,), storage=Down())
    with pytest.raises(StorageError):
        second.checkpoint.load(default=0)


def test_pruning_waits_for_the_echo_and_its_failure_is_noted(capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench()
    for value in range(4):
        bench.checkpoint.save(value)
        bench.book.to_report()
    assert len(bench.storage.objects) == 4
    bench.accept()

    def fail(_when: str, verb: str, _uri: str) -> None:
        if verb == "delete":
            raise StorageError("forbidden")

    bench.storage.watch = fail
    assert bench.checkpoint.save(4)
    assert "not deleted" in capsys.readouterr().err
    bench.storage.watch = lambda _when, _verb, _uri: None
    bench.checkpoint.save(5)
    # 4 is accepted; 3 was reported and might be; 5 and 6 are newer
    assert sorted(uri[len(ROOT) :] for uri in bench.storage.objects) == [f"1/{n}/manifest.json" for n in (3, 4, 5, 6)]


def test_a_manifest_goes_before_its_parts() -> None:
    bench, deleted = Bench(), []
    bench.storage.watch = lambda when, verb, uri: deleted.append(uri) if (when, verb) == ("after", "delete") else None
    for _ in range(3):
        bench.checkpoint.save(b"data")
        bench.accept()
    bench.checkpoint.save(b"data")
    assert [uri[len(ROOT) :] for uri in deleted] == ["1/1/manifest.json", "1/1/part-00000"]


def test_without_a_place_nothing_is_saved_and_nothing_fails(tmp_path: Path) -> None:
    checkpoint = Checkpoint()
    assert not checkpoint.enabled
    assert checkpoint.save({"a": 1}) is None
    assert not checkpoint.save_if_due(1)
    assert checkpoint.load(default=5) == 5
    with pytest.raises(CheckpointError):
        checkpoint.save({1: 2})


def test_s3_without_boto3_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from longtask_worker.storage import s3

    s3._storage_of.cache_clear()
    monkeypatch.setitem(sys.modules, "boto3", None)
    place = Place(prefix=Prefix(root="s3://b/u/", attempt=1))
    with pytest.raises(MissingExtraError, match=r"longtask-worker\[s3\]"):
        Checkpoint(place).save(1)
    resume = (Reference(uri="s3://b/u/1/1/manifest.json", sha256="0" * 64),)
    with pytest.raises(MissingExtraError):
        Checkpoint(place, Book(resume)).load()
