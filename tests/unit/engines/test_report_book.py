from __future__ import annotations

from datetime import UTC, datetime

from longtask_operator.api.report import Report, SavedCheckpoint
from longtask_operator.engines.report_book import ReportBook

NOW = datetime(2026, 1, 31, 8, 0, tzinfo=UTC)


def test_reports_of_a_pod_are_merged_and_the_task_is_woken() -> None:
    woken: list[str] = []
    book = ReportBook(woken.append)
    assert book.record("p", Report(sequence=1, done=5, memory_bytes=9), NOW, task_key="ns/a")
    assert book.record("p", Report(sequence=2, done=3, memory_bytes=4), NOW, task_key="ns/a")
    latest = book.latest("p")
    assert latest is not None
    assert (latest[0].done, latest[0].sequence, latest[1]) == (5, 2, NOW)
    assert book.peak_memory("p") == 9
    assert woken == ["ns/a", "ns/a"]


def test_a_stale_report_changes_nothing_and_wakes_nobody() -> None:
    woken: list[str] = []
    book = ReportBook(woken.append)
    book.record("p", Report(sequence=2, done=5), NOW, task_key="ns/a")
    assert not book.record("p", Report(sequence=1, done=7), NOW, task_key="ns/a")
    assert book.latest("p") is not None
    assert woken == ["ns/a"]


def test_pods_do_not_mix_and_a_pod_that_is_gone_is_forgotten() -> None:
    book = ReportBook()
    book.record("p", Report(sequence=9, done=9), NOW)
    book.record("q", Report(sequence=1, done=1), NOW)
    book.forget("p")
    book.forget("p")
    assert book.latest("p") is None
    assert book.peak_memory("p") is None
    assert len(book) == 1


def test_the_book_is_bounded_and_drops_the_stalest_page() -> None:
    book = ReportBook(max_pages=2)
    for sequence, pod in enumerate(("a", "b", "a", "c")):
        book.record(pod, Report(sequence=sequence), NOW)
    assert len(book) == 2
    assert book.latest("b") is None
    assert book.latest("a") is not None


def test_a_new_checkpoint_is_told_of_once() -> None:
    told: list[str] = []
    book = ReportBook()
    book.on_checkpoint = told.append
    first, second = (SavedCheckpoint(uri=f"s3://b/{n}", sha256="ab" * 32) for n in (1, 2))
    for sequence, checkpoint in enumerate((None, first, first, None, second), start=1):
        book.record("p", Report(sequence=sequence, checkpoint=checkpoint), NOW, task_key="ns/a")
    assert told == ["ns/a", "ns/a"]
    latest = book.latest("p")
    assert latest is not None
    assert (latest[0].checkpoint, latest[0].checkpoint_sequence) == (second, 5)


def test_a_report_near_the_memory_of_the_pod_is_told_of_at_once() -> None:
    told: list[str] = []
    book = ReportBook()
    book.on_alarm = told.append
    for sequence, (used, alarm) in enumerate([(79, 80), (80, 80), (90, None), (None, 80)]):
        book.record("pod", Report(sequence=sequence, memory_bytes=used), NOW, task_key="ns/a", alarm=alarm)
    assert told == ["ns/a"]
