"""What two tasks with one key are compared by."""

from __future__ import annotations

from typing import Any

import pytest

from longtask_operator.api.keys import NOT_COMPARED, claim_of, differences, fingerprint
from longtask_operator.api.longtask import LongTaskSpec
from tests.builders import FINISHED, a_longtask_body, wire

SPEC: dict[str, Any] = {"image": "i", "args": ["x"], "payload": {"b": 1, "a": 2}, "idempotencyKey": "k"}


def test_a_task_without_a_key_claims_nothing() -> None:
    assert claim_of(a_longtask_body()) is None


def test_every_field_that_is_not_compared_is_one_of_spec() -> None:
    assert {field.alias or name for name, field in LongTaskSpec.model_fields.items()} >= NOT_COMPARED


@pytest.mark.parametrize(
    "same",
    [
        {"suspend": True},
        {"cancel": True},
        {"redrive": "2"},
        {"priority": 3},
        {"deadlineSeconds": 60},
        {"ttlSecondsAfterFinished": 60},
        {"resources": {"maxCpu": "2", "maxMemory": "8Gi"}},
        {"payload": {"a": 2, "b": 1}},
    ],
)
def test_when_and_how_urgently_does_not_count(same: dict[str, Any]) -> None:
    assert fingerprint(SPEC | same) == fingerprint(SPEC)
    assert differences(SPEC | same, SPEC) == []


@pytest.mark.parametrize(
    "other", [{"image": "j"}, {"args": []}, {"resources": {"cpu": "1", "maxCpu": "2"}}, {"env": []}]
)
def test_what_runs_counts_and_is_named(other: dict[str, Any]) -> None:
    assert fingerprint(SPEC | other) != fingerprint(SPEC)
    assert differences(SPEC | other, SPEC) == sorted(other)


@pytest.mark.parametrize(("one", "other"), [(1, True), (0, False), (1, 1.0)])
def test_values_that_only_python_takes_for_equal_differ(one: Any, other: Any) -> None:
    spec, twin = SPEC | {"payload": {"n": [one]}}, SPEC | {"payload": {"n": [other]}}
    assert fingerprint(spec) != fingerprint(twin)
    assert differences(spec, twin) == ["payload"]


def test_the_claim_says_whether_the_run_has_begun_and_ended() -> None:
    fresh, done = claim_of(a_longtask_body(SPEC)), claim_of(a_longtask_body(SPEC, FINISHED))
    assert fresh
    assert done
    assert (fresh.begun, fresh.finished_at, fresh.created) == (False, "", wire(0))
    assert (done.begun, done.finished_at, done.run) == (True, wire(5), 1)


def test_attempts_of_an_earlier_run_do_not_begin_this_one() -> None:
    claim = claim_of(a_longtask_body(SPEC, FINISHED | {"run": 2, "conditions": [], "runStartTime": wire(9)}))
    assert claim
    assert (claim.begun, claim.run_start, claim.finished_at) == (False, wire(9), "")


def test_the_claim_says_whose_outcome_a_finished_task_has() -> None:
    other = {"duplicateOf": {"name": "a", "uid": "1"}}
    claims = [claim_of(a_longtask_body(SPEC, status)) for status in (FINISHED, FINISHED | other, other)]
    assert [claim and claim.taken_from for claim in claims] == ["", "1", ""]
