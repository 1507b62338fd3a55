"""Whether a running attempt is silent or gets no further, and when that ends it.

Two things, with a budget each. Silence: no report for `heartbeatTimeoutSeconds`. No progress: reports went on
for `noProgressTimeoutSeconds` in which no work did, and for three times the task's own longest step,
since some work comes in large pieces. Without these fields nothing is ever ended, only warned of
(`core/warnings.py`).

A clock starts anew wherever we could not know: with the container, with the leader, when reports came through
again, or a node was back. While nobody is heard, or the node is lost, none runs. Who could not report for a while
is given the time that a worker takes to come back.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from longtask_operator.api.longtask import LongTaskSpec
from longtask_operator.api.reasons import Cause
from longtask_operator.api.times import format_time
from longtask_operator.core.current import CurrentAttempt, Observed
from longtask_operator.core.observe import PodView
from longtask_operator.core.signs import Signs, latest

#: Reports that may go missing, at the pace that we ask for, before silence counts.
MISSING_REPORTS = 3
#: A worker whose reports failed tries again within this: the SDK waits 30 s and half of that at most.
COMES_BACK = timedelta(seconds=60)
#: A task is given so many times its own longest step.
OWN_STEPS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A running attempt that can be judged now, and since when its clocks run."""

    pod: PodView
    signs: Signs | None  #: None: it never reported
    silent_since: datetime
    may_return_until: datetime  #: silent until then, it may merely wait after reports that could not come through
    still_since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The attempt is to end by *cause*; *said* is the sentence that people read."""

    cause: Cause
    said: str
    watched: Watched
    due: datetime  #: when it had to end


def watch(seen: Observed, attempt: CurrentAttempt) -> Watched | None:
    """Return the running attempt with its clocks, or None while it cannot be judged."""
    pod = attempt.pods[0] if attempt.pods else None
    hearing, signs = seen.hearing_since, seen.signs
    if pod is None or pod.running_since is None or hearing is None or attempt.stop:
        return None
    if pod.phase != "Running" or pod.ended or pod.deleted_at or pod.node_lost_at:
        return None
    if signs and signs.pod_uid != pod.uid:
        return None
    interrupted = latest(hearing, pod.node_back_at) or hearing
    start = max(pod.running_since, interrupted)
    silent_since = max(start, signs.last_report) if signs else start
    return Watched(
        pod=pod,
        signs=signs,
        silent_since=silent_since,
        may_return_until=interrupted + COMES_BACK if silent_since == interrupted else silent_since,
        still_since=max(start, latest(signs.first_report, signs.last_progress) or start) if signs else start,
    )


def judge_life(seen: Observed, attempt: CurrentAttempt) -> Verdict | None:
    """Return why the attempt is to end, or None while it may go on."""
    spec, watched = seen.task.spec, watch(seen, attempt)
    if watched is None:
        return None
    silence = _silence_limit(spec, seen.report_interval)
    if silence and seen.now >= (due := _silent_until(watched, silence)):
        return Verdict(cause=Cause.HEARTBEAT_LOST, said=_said_silent(spec, watched, silence), watched=watched, due=due)
    if stands_still(watched, limit := _still_limit(spec, watched)):
        return Verdict(cause=Cause.NO_PROGRESS, said=_said_still(spec, watched, limit), watched=watched, due=seen.now)
    return None


def judged_next(seen: Observed, attempt: CurrentAttempt) -> datetime | None:
    """Return when silence would end the attempt; a standstill is judged when a report shows it (`still_at`)."""
    watched, silence = watch(seen, attempt), _silence_limit(seen.task.spec, seen.report_interval)
    return _silent_until(watched, silence) if watched and silence else None


def still_at(seen: Observed, attempt: CurrentAttempt) -> datetime | None:
    """Return from when on a report without progress would end the attempt; without a report nothing does then."""
    watched = watch(seen, attempt)
    limit = _still_limit(seen.task.spec, watched) if watched else None
    return watched.still_since + limit if watched and limit else None


def stands_still(watched: Watched, limit: timedelta | None) -> bool:
    """Return whether reports went on for *limit* without progress; silence is another matter."""
    return bool(limit and watched.signs and watched.signs.last_report - watched.still_since >= limit)


def _silent_until(watched: Watched, limit: timedelta) -> datetime:
    return max(watched.silent_since + limit, watched.may_return_until)


def _silence_limit(spec: LongTaskSpec, interval: float) -> timedelta | None:
    """Return the silence that ends an attempt: as asked for, but never what our own pace makes normal."""
    if not spec.heartbeat_timeout_seconds:
        return None
    return timedelta(seconds=max(spec.heartbeat_timeout_seconds, MISSING_REPORTS * interval))


def _still_limit(spec: LongTaskSpec, watched: Watched) -> timedelta | None:
    if not spec.no_progress_timeout_seconds:
        return None
    own = watched.signs.longest_step if watched.signs else timedelta()
    return max(timedelta(seconds=spec.no_progress_timeout_seconds), OWN_STEPS * own)


def _said_silent(spec: LongTaskSpec, watched: Watched, limit: timedelta) -> str:
    asked = f"heartbeatTimeoutSeconds ({spec.heartbeat_timeout_seconds})"
    if watched.signs:
        return f"no report for {_seconds(limit)} since {format_time(watched.silent_since)}; {asked}"
    advice = "report with the SDK, or set progressFile, or take the field away"
    return f"no report at all since {format_time(watched.silent_since)}; {asked} needs a program that reports: {advice}"


def _said_still(spec: LongTaskSpec, watched: Watched, limit: timedelta | None) -> str:
    own = watched.signs.longest_step if watched.signs else timedelta()
    asked = f"noProgressTimeoutSeconds ({spec.no_progress_timeout_seconds})"
    step = f", its longest step took {_seconds(own)}" if own else ""
    return f"reports without progress since {format_time(watched.still_since)}; {asked}{step}"


def _seconds(span: timedelta) -> str:
    return f"{span.total_seconds():.0f} s"
