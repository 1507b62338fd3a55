from __future__ import annotations

from longtask_operator.api.reasons import ConditionType as T
from longtask_operator.api.status import LongTaskStatus
from longtask_operator.core.conditions import FALSE, TRUE, UNKNOWN, Wanted, find_condition, is_true, with_conditions
from tests.builders import at, wire

BEFORE = with_conditions([], [Wanted(type=T.READY, status=TRUE, reason="Accepted")], generation=1, now=at(0))


def test_a_new_condition_has_its_time() -> None:
    (condition,) = BEFORE
    assert condition.model_dump(by_alias=True) == {
        "type": "Ready",
        "status": "True",
        "reason": "Accepted",
        "message": "",
        "observedGeneration": 1,
        "lastTransitionTime": wire(0),
    }


def test_the_time_stays_while_the_status_stays() -> None:
    wanted = Wanted(type=T.READY, status=TRUE, reason="Finished", message="other words")
    (condition,) = with_conditions(BEFORE, [wanted], generation=2, now=at(60))
    assert (condition.last_transition_time, condition.reason, condition.observed_generation) == (wire(0), "Finished", 2)


def test_a_condition_that_says_the_same_is_the_same() -> None:
    wanted = Wanted(type=T.READY, status=TRUE, reason="Accepted")
    (condition,) = with_conditions(BEFORE, [wanted], generation=1, now=at(60))
    assert condition is BEFORE[0]
    (condition,) = with_conditions(BEFORE, [wanted], generation=2, now=at(60))
    assert condition.observed_generation == 2


def test_the_time_moves_when_the_status_flips() -> None:
    (condition,) = with_conditions(
        BEFORE, [Wanted(type=T.READY, status=FALSE, reason="Failed")], generation=1, now=at(60)
    )
    assert condition.last_transition_time == wire(60)


def test_what_is_not_wanted_any_more_goes() -> None:
    wanted = Wanted(type=T.FINISHED, status=UNKNOWN, reason="Queued")
    assert [condition.type for condition in with_conditions(BEFORE, [wanted], generation=1, now=at(1))] == ["Finished"]


def test_a_message_is_bounded() -> None:
    wanted = Wanted(type=T.READY, status=TRUE, reason="r", message="x" * 5000)
    assert len(with_conditions([], [wanted], generation=1, now=at(0))[0].message) == 1024


def test_looking_up() -> None:
    status = LongTaskStatus(conditions=BEFORE)
    assert is_true(status, T.READY)
    assert not is_true(status, T.FINISHED)
    assert find_condition(LongTaskStatus(), T.READY) is None
