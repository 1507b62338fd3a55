"""From reports to `status.progress`: merged per attempt, monotonic, mirrored when it is worth a write.

Within an attempt the count never falls: a report that says less than an earlier one
keeps the earlier count. The percent falls only where the worker raises its total.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from longtask_operator.api.report import MAX_WORD, Report
from longtask_operator.api.status import Progress
from longtask_operator.api.times import format_time

N = TypeVar("N", int, float)

#: Reports per second that the leader takes; more live attempts report less often.
REPORTS_PER_SECOND = 50
SHORTEST_INTERVAL = 5
#: A report that changes nothing but its time is worth a write only this many intervals after the last one.
UNCHANGED_INTERVALS = 6
#: Estimates beyond this are noise, and near the end of the calendar.
_LONGEST_ESTIMATE = timedelta(days=365)
#: Least time between two reports from which a rate is computed.
_LEAST_WINDOW = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedReport(Report):
    """All reports of one attempt so far, in one."""

    peak_memory_bytes: int | None = None  #: the largest memory reported
    first_done: int | None = None  #: count of the first report that had one: after a resume it is not 0
    first_time: datetime | None = None  #: when that report came
    checkpoint_sequence: int | None = None  #: of the report that named the checkpoint first


def merge_report(previous: MergedReport | None, new: Report, received: datetime) -> MergedReport | None:
    """Return what is known once *new* has come at *received*, or None if *new* is stale.

    A report is stale when its sequence is not above the last one: requests of one worker
    may overtake each other. What a report leaves out stays as it was said before, the
    message excepted: it is of the moment.
    """
    if previous is None:
        previous = MergedReport(sequence=-1)
    if new.sequence <= previous.sequence:
        return None
    done = _largest(previous.done, new.done)
    total = new.total if new.total is not None else previous.total
    if total is not None and done is not None and done != new.done:
        total = max(total, done)
    is_first = previous.first_done is None and done is not None
    return MergedReport(
        sequence=new.sequence,
        done=done,
        total=total,
        unit=new.unit if new.unit is not None else previous.unit,
        stage=new.stage if new.stage is not None else previous.stage,
        message=new.message,
        memory_bytes=new.memory_bytes if new.memory_bytes is not None else previous.memory_bytes,
        cpu_seconds=_largest(previous.cpu_seconds, new.cpu_seconds),
        peak_memory_bytes=_largest(previous.peak_memory_bytes, new.memory_bytes),
        checkpoint=new.checkpoint or previous.checkpoint,
        checkpoint_sequence=new.sequence if _names_another(previous, new) else previous.checkpoint_sequence,
        resumed_from=new.resumed_from if new.resumed_from is not None else previous.resumed_from,
        first_done=done if is_first else previous.first_done,
        first_time=received if is_first else previous.first_time,
    )


def _names_another(previous: MergedReport, new: Report) -> bool:
    return new.checkpoint is not None and new.checkpoint != previous.checkpoint


def build_progress(report: MergedReport, received: datetime, started: datetime | None, now: datetime) -> Progress:
    """Return what `status.progress` says of a report that came at *received*.

    *started* is when the attempt's container started. The estimate comes from the attempt's
    own mean rate; it is absent while there is none and once it has passed.
    """
    percent = _percent(report.done, report.total)
    finish = _estimate(report, received, started)
    return Progress(
        percent=percent,
        done=report.done,
        total=report.total,
        unit=report.unit,
        stage=report.stage,
        message=report.message,
        display=_display(report, percent),
        estimated_finish=format_time(finish) if finish and finish > now else None,
        last_report_time=format_time(received),
    )


def final_progress(last: Progress | None, done: int | None, total: int | None) -> Progress | None:
    """Return the progress of an attempt that has ended.

    *done* and *total* are those of its termination message and win over *last*, the
    progress from its reports, which may have missed the end. The count does not fall.
    """
    if last is None and done is None:
        return None
    last = last or Progress()
    report = Report(
        sequence=0,
        done=_largest(last.done, done),
        total=total if total is not None else last.total,
        unit=last.unit,
        stage=last.stage,
        message=last.message,
    )
    percent = _percent(report.done, report.total)
    return last.model_copy(
        update={
            "percent": percent,
            "done": report.done,
            "total": report.total,
            "display": _display(report, percent),
            "estimated_finish": None,
        }
    )


def is_worth_mirroring(
    mirrored: Progress | None, current: Progress, last_write: datetime | None, now: datetime, interval_seconds: float
) -> bool:
    """Return whether *current* may be written now for its own sake; *mirrored* is what the status says.

    A first report is always worth it, a change once an interval, and the time of the last
    report alone once in `UNCHANGED_INTERVALS` intervals.
    """
    if mirrored is None:
        return True
    if mirrored == current:
        return False
    interval = timedelta(seconds=interval_seconds)
    if _without_times(mirrored) == _without_times(current):
        interval *= UNCHANGED_INTERVALS
    return last_write is None or now - last_write >= interval


def next_report_seconds(live_attempts: int) -> int:
    """Return the seconds until a worker's next report, so that all together send at most 50 in a second."""
    return max(SHORTEST_INTERVAL, -(-live_attempts // REPORTS_PER_SECOND))


def _largest(first: N | None, second: N | None) -> N | None:
    if first is None or second is None:
        return second if first is None else first
    return max(first, second)


def _percent(done: int | None, total: int | None) -> int | None:
    if done is None or not total:
        return None
    return min(100, done * 100 // total)


def _display(report: Report, percent: int | None) -> str | None:
    """Return the PROGRESS column: the count, else the stage."""
    if report.done is None:
        return report.stage
    if percent is not None:
        return f"{report.done}/{report.total} ({percent}%)"
    return f"{report.done} {report.unit or ''}".rstrip()[:MAX_WORD]


def _estimate(report: MergedReport, received: datetime, started: datetime | None) -> datetime | None:
    if report.done is None or report.total is None or report.done >= report.total:
        return None
    count, window = _measured(report, received, started)
    if count <= 0 or window < _LEAST_WINDOW:
        return None
    seconds = window.total_seconds() * (report.total - report.done) / count
    return received + timedelta(seconds=seconds) if seconds <= _LONGEST_ESTIMATE.total_seconds() else None


def _measured(report: MergedReport, received: datetime, started: datetime | None) -> tuple[int, timedelta]:
    """Return how much was done in which time: since the first report, else since the container's start."""
    done = report.done or 0
    if report.first_done is not None and report.first_time and done > report.first_done:
        return done - report.first_done, received - report.first_time
    return done, received - started if started else timedelta()


def _without_times(progress: Progress) -> Progress:
    times = ("estimated_finish", "last_report_time", "last_progress_time", "longest_step_seconds")
    return progress.model_copy(update=dict.fromkeys(times))
