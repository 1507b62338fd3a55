from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtask_operator.api.report import Report
from longtask_operator.api.status import Progress
from longtask_operator.core.progress import (
    REPORTS_PER_SECOND,
    SHORTEST_INTERVAL,
    UNCHANGED_INTERVALS,
    MergedReport,
    build_progress,
    final_progress,
    is_worth_mirroring,
    merge_report,
    next_report_seconds,
)

START = datetime(2026, 1, 31, 8, 0, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def merged(*reports: Report, every: float = 10) -> MergedReport:
    known: MergedReport | None = None
    for index, report in enumerate(reports):
        known = merge_report(known, report, after(index * every)) or known
    assert known is not None
    return known


def shown(*reports: Report, started: datetime | None = None, now: datetime = START) -> Progress:
    known = merged(*reports)
    received = after((len(reports) - 1) * 10)
    return build_progress(known, received, started, max(now, received))


class TestMerging:
    def test_an_overtaken_or_repeated_report_is_stale(self) -> None:
        known = merged(Report(sequence=5, done=50))
        assert merge_report(known, Report(sequence=4, done=90), START) is None
        assert merge_report(known, Report(sequence=5, done=90), START) is None

    def test_the_count_never_falls(self) -> None:
        assert merged(Report(sequence=1, done=50), Report(sequence=2, done=10)).done == 50

    def test_a_count_that_starts_again_with_a_smaller_total_stays_whole(self) -> None:
        known = merged(Report(sequence=1, done=1000, total=1000), Report(sequence=2, done=3, total=50))
        assert (known.done, known.total) == (1000, 1000)

    def test_the_last_word_on_what_the_work_went_on_from_stays(self) -> None:
        words = (None, "s3://b/2", None, "", None)
        reports = [Report(sequence=number, resumed_from=word) for number, word in enumerate(words, 1)]
        assert [merged(*reports[:count]).resumed_from for count in range(1, 6)] == [
            None,
            "s3://b/2",
            "s3://b/2",
            "",
            "",
        ]

    def test_what_a_report_leaves_out_stays_but_its_message_does_not(self) -> None:
        known = merged(
            Report(sequence=1, done=1, total=9, unit="rows", stage="a", message="old", memory_bytes=7, cpu_seconds=2.0),
            Report(sequence=2),
        )
        assert (known.done, known.total, known.unit, known.stage) == (1, 9, "rows", "a")
        assert (known.memory_bytes, known.cpu_seconds, known.message) == (7, 2.0, None)

    def test_memory_is_as_last_said_and_its_peak_is_kept(self) -> None:
        known = merged(*(Report(sequence=n, memory_bytes=size) for n, size in enumerate((5, 9, 3))))
        assert (known.memory_bytes, known.peak_memory_bytes) == (3, 9)

    @given(
        st.lists(
            st.builds(
                Report,
                sequence=st.integers(0, 30),
                done=st.none() | st.integers(0, 2**63 - 1),
                total=st.none() | st.integers(0, 2**63 - 1),
                memory_bytes=st.none() | st.integers(0, 2**63 - 1),
            ),
            max_size=20,
        )
    )
    def test_whatever_comes_progress_is_monotonic_and_fits_the_status(self, reports: list[Report]) -> None:
        known: MergedReport | None = None
        for index, report in enumerate(reports):
            new = merge_report(known, report, after(index))
            if new is None:
                continue
            if known is not None:
                assert new.sequence > known.sequence
                assert (new.done or 0) >= (known.done or 0)
                assert (new.peak_memory_bytes or 0) >= (known.peak_memory_bytes or 0)
            progress = build_progress(new, after(index), START, after(index))
            assert progress.percent is None or 0 <= progress.percent <= 100
            assert len(progress.display or "") <= 63
            known = new

    @given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 1000)), max_size=20))
    def test_with_one_total_the_percent_never_falls(self, said: list[tuple[int, int]]) -> None:
        known: MergedReport | None = None
        percent = 0
        for sequence, done in said:
            known = merge_report(known, Report(sequence=sequence, done=done, total=1000), START) or known
            assert known is not None
            now = build_progress(known, START, None, START).percent or 0
            assert now >= percent
            percent = now


class TestShowing:
    @pytest.mark.parametrize(
        ("report", "percent", "display"),
        [
            pytest.param(Report(sequence=1, done=420, total=1000), 42, "420/1000 (42%)", id="share"),
            pytest.param(Report(sequence=1, done=999, total=1000), 99, "999/1000 (99%)", id="rounded-down"),
            pytest.param(Report(sequence=1, done=50, total=40), 100, "50/40 (100%)", id="more-than-all"),
            pytest.param(Report(sequence=1, done=420, unit="lines"), None, "420 lines", id="no-total"),
            pytest.param(Report(sequence=1, done=7), None, "7", id="bare-count"),
            pytest.param(Report(sequence=1, done=0, total=0, unit="rows"), None, "0 rows", id="nothing-to-do"),
            pytest.param(Report(sequence=1, stage="loading"), None, "loading", id="stage-only"),
            pytest.param(Report(sequence=1, total=10), None, None, id="total-only"),
            pytest.param(Report(sequence=1, done=2**63 - 1, unit="u" * 63), None, f"{2**63 - 1} {'u' * 43}", id="cut"),
        ],
    )
    def test_the_column(self, report: Report, percent: int | None, display: str | None) -> None:
        progress = shown(report)
        assert (progress.percent, progress.display) == (percent, display)

    def test_words_and_time_of_the_report_are_shown(self) -> None:
        progress = shown(Report(sequence=1, unit="lines", stage="parsing", message="hello"))
        assert (progress.unit, progress.stage, progress.message) == ("lines", "parsing", "hello")
        assert progress.last_report_time == "2026-01-31T08:00:00Z"

    def test_the_estimate_counts_from_the_first_report_so_a_resumed_attempt_is_not_flattered(self) -> None:
        first, second = Report(sequence=1, done=500, total=1000), Report(sequence=2, done=510, total=1000)
        assert shown(first, second).estimated_finish == "2026-01-31T08:08:20Z"  # 490 left at 1/s, at 08:00:10

    def test_after_one_report_the_estimate_counts_from_the_containers_start(self) -> None:
        progress = shown(Report(sequence=1, done=10, total=100), started=after(-10))
        assert progress.estimated_finish == "2026-01-31T08:01:30Z"

    @pytest.mark.parametrize(
        "reports",
        [
            pytest.param([Report(sequence=1, done=10, total=100)], id="no-rate-yet"),
            pytest.param([Report(sequence=1, done=0, total=9), Report(sequence=2, done=0)], id="no-progress"),
            pytest.param([Report(sequence=1, done=1), Report(sequence=2, done=5)], id="no-total"),
            pytest.param([Report(sequence=1, done=1, total=9), Report(sequence=2, done=9)], id="all-done"),
            pytest.param([Report(sequence=1, done=0, total=2**62), Report(sequence=2, done=1)], id="beyond-a-year"),
        ],
    )
    def test_without_a_basis_there_is_no_estimate(self, reports: list[Report]) -> None:
        assert shown(*reports).estimated_finish is None

    def test_an_estimate_that_has_passed_is_not_shown(self) -> None:
        reports = Report(sequence=1, done=0, total=4), Report(sequence=2, done=2)
        assert shown(*reports).estimated_finish == "2026-01-31T08:00:20Z"
        assert shown(*reports, now=after(60)).estimated_finish is None


class TestEnd:
    def test_the_termination_message_wins_over_the_last_report(self) -> None:
        last = shown(Report(sequence=1, done=0, total=1000, unit="lines"), Report(sequence=2, done=900, stage="b"))
        end = final_progress(last, 1000, 1000)
        assert end is not None
        assert (end.percent, end.display, end.unit, end.stage) == (100, "1000/1000 (100%)", "lines", "b")
        assert last.estimated_finish is not None
        assert end.estimated_finish is None
        assert end.last_report_time == last.last_report_time

    def test_a_task_that_never_reported_still_shows_its_end(self) -> None:
        end = final_progress(None, 5, None)
        assert end is not None
        assert (end.done, end.display, end.last_report_time) == (5, "5", None)

    def test_without_a_count_the_last_report_stands(self) -> None:
        last = shown(Report(sequence=1, done=4, total=8))
        assert final_progress(last, None, None) == last
        assert final_progress(None, None, None) is None

    def test_the_count_does_not_fall_at_the_end(self) -> None:
        end = final_progress(shown(Report(sequence=1, done=9, total=10)), 3, 10)
        assert end is not None
        assert end.done == 9


class TestMirroring:
    OLD = Progress(done=1, total=10, last_report_time="2026-01-31T08:00:00Z")
    NEW = Progress(done=2, total=10, last_report_time="2026-01-31T08:00:05Z")
    SAME = Progress(done=1, total=10, last_report_time="2026-01-31T08:00:05Z")

    def test_the_first_report_is_written_at_once(self) -> None:
        assert is_worth_mirroring(None, self.NEW, START, START, 10)

    def test_what_stands_already_is_not_written_again(self) -> None:
        assert not is_worth_mirroring(self.OLD, self.OLD, None, after(3600), 10)

    def test_a_change_is_written_once_an_interval(self) -> None:
        assert not is_worth_mirroring(self.OLD, self.NEW, START, after(9.9), 10)
        assert is_worth_mirroring(self.OLD, self.NEW, START, after(10), 10)
        assert is_worth_mirroring(self.OLD, self.NEW, None, START, 10)

    def test_the_time_alone_is_written_rarely(self) -> None:
        assert not is_worth_mirroring(self.OLD, self.SAME, START, after(10 * UNCHANGED_INTERVALS - 1), 10)
        assert is_worth_mirroring(self.OLD, self.SAME, START, after(10 * UNCHANGED_INTERVALS), 10)


@pytest.mark.parametrize(("live", "seconds"), [(0, 5), (1, 5), (100, 5), (250, 5), (251, 6), (1000, 20), (10_000, 200)])
def test_workers_report_less_often_the_more_there_are(live: int, seconds: int) -> None:
    assert next_report_seconds(live) == seconds


@given(st.integers(0, 10**6))
def test_the_server_is_never_asked_more_often_than_it_may_be(live: int) -> None:
    assert next_report_seconds(live) >= SHORTEST_INTERVAL
    assert live / next_report_seconds(live) <= REPORTS_PER_SECOND
