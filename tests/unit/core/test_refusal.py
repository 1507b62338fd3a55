"""How long a refusal is waited for, and in whose words it is told."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtask_operator.core.refusal import (
    FIRST_WAIT,
    LAST_WAIT,
    Refusal,
    Refused,
    is_answer,
    next_refusal,
    says_the_same,
    sentence_of,
)
from tests.builders import at

QUOTA = (
    'pods "wordcount-7c9d4f-1-{}" is forbidden: exceeded quota: q, requested: pods=1, used: pods={}, limited: pods=3'
)
#: As the Job controller told it on a real cluster.
POD_SECURITY = (
    'Error creating: pods "a-1" is forbidden: violates PodSecurity "restricted:latest": host namespaces (hostPID=true)'
)


def refused(generation: int = 1) -> Refused:
    return Refused(attempt=1, generation=generation, of_pod=True, message="no")


def in_a_row(count: int) -> list[Refusal]:
    found: list[Refusal] = []
    for _ in range(count):
        found.append(next_refusal(found[-1] if found else None, refused(), now=at(0), jitter=0.5))
    return found


def test_each_in_a_row_is_waited_for_twice_as_long_up_to_a_minute() -> None:
    waits = [refusal.until - at(0) for refusal in in_a_row(8)]
    assert waits[0] == FIRST_WAIT
    assert all(later == min(LAST_WAIT, earlier * 2) for earlier, later in pairwise(waits))
    assert waits[-1] == LAST_WAIT == timedelta(minutes=1)


def test_another_spec_begins_anew() -> None:
    assert next_refusal(in_a_row(5)[-1], refused(generation=2), now=at(0), jitter=0.5).in_a_row == 1


@given(count=st.integers(1, 10_000), jitter=st.floats(0, 1, exclude_max=True))
def test_no_wait_is_longer_than_the_last_and_its_jitter(count: int, jitter: float) -> None:
    before = Refusal(attempt=1, generation=1, of_pod=False, message="", in_a_row=count, until=at(0))
    wait = next_refusal(before, refused(), now=at(0), jitter=jitter).until - at(0)
    assert FIRST_WAIT < wait <= LAST_WAIT * 1.2


@pytest.mark.parametrize("preface", ["", "Error creating: ", "(combined from similar events): Error creating: "])
def test_the_sentence_of_an_event_is_that_of_the_api_server(preface: str) -> None:
    assert sentence_of(preface + QUOTA.format("abcde", 3)) == QUOTA.format("abcde", 3)


def test_names_of_pods_and_numbers_make_no_other_refusal() -> None:
    assert says_the_same(QUOTA.format("abcde", 3), QUOTA.format("fghij", 12))
    assert not says_the_same(QUOTA.format("abcde", 3), 'pods "x" is forbidden: violates PodSecurity "restricted:v1.36"')


@pytest.mark.parametrize(
    "said",
    [
        QUOTA.format("abcde", 3),
        sentence_of(POD_SECURITY),
        'Pod "wordcount-1" is invalid: spec.containers[0].image: Required value',
        'admission webhook "policy.example" denied the request: no such registry',
    ],
)
def test_what_the_api_server_refuses_is_an_answer(said: str) -> None:
    assert is_answer(said)


@pytest.mark.parametrize(
    "said",
    [
        "Timeout: request did not complete within requested timeout - context deadline exceeded",
        "Internal error occurred: resource quota evaluation timed out",
        'Operation cannot be fulfilled on resourcequotas "q": the object has been modified',
        "etcdserver: request timed out",
        'Post "https://10.0.0.1:443/api/v1/namespaces/team-a/pods": dial tcp 10.0.0.1:443: connect: connection refused',
        "",
    ],
)
def test_a_fault_on_the_way_is_none(said: str) -> None:
    assert not is_answer(said)
