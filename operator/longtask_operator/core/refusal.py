"""A refusal of the cluster as it is remembered: what was refused, in whose words, and how long to wait."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

#: The first wait and the longest; each refusal in a row doubles it.
FIRST_WAIT, LAST_WAIT = timedelta(seconds=2), timedelta(seconds=60)
JITTER_PERCENT = 20
_MAX_DOUBLINGS = 10
_MAX_MESSAGE = 900
#: How the Event of a Job's controller begins, before the API server's own sentence.
_PREFACE = re.compile(r"^(\(combined from similar events\): )?(Error creating: )?")
#: How the API server, a policy or a webhook says no. All else is a fault on the way, which the controller tries again.
_ANSWERS = re.compile(r" is forbidden: | is invalid: | denied the request")
#: Names and numbers that differ from one refusal to the next though the reason is the same.
_CHANGING = re.compile(r'"[^"]*"|[0-9]+')


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The cluster did not take the Job, or the pod, of an attempt."""

    attempt: int
    generation: int  #: of the spec that it was made from; another may be taken
    of_pod: bool
    message: str  #: the API server's own sentence
    in_a_row: int  #: how often, this time included
    until: datetime  #: nothing is asked for again before


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """What the cluster answered: *of_pod* where it took the Job and refuses its pod."""

    attempt: int
    generation: int
    of_pod: bool
    message: str


def next_refusal(before: Refusal | None, refused: Refused, *, now: datetime, jitter: float) -> Refusal:
    """Return the refusal that follows *before*; *jitter* in [0, 1), 0.5 gives the wait without it."""
    in_a_row = before.in_a_row + 1 if before and before.generation == refused.generation else 1
    wait = min(LAST_WAIT, FIRST_WAIT * 2 ** min(in_a_row - 1, _MAX_DOUBLINGS))
    wait *= 1 + (2 * jitter - 1) * JITTER_PERCENT / 100
    return Refusal(
        attempt=refused.attempt,
        generation=refused.generation,
        of_pod=refused.of_pod,
        message=refused.message[:_MAX_MESSAGE],
        in_a_row=in_a_row,
        until=now + wait,
    )


def sentence_of(event_message: str) -> str:
    """Return what the API server said, from the Event of a controller."""
    return _PREFACE.sub("", event_message).strip()


def is_answer(said: str) -> bool:
    """Return whether a controller that made nothing was refused, and not cut off: a time-out, a lost connection."""
    return _ANSWERS.search(said) is not None


def says_the_same(one: str, other: str) -> bool:
    """Return whether two refusals have one reason: only names in quotes and numbers differ."""
    return _CHANGING.sub("", one) == _CHANGING.sub("", other)
