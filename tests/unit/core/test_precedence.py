from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtask_operator.api.reasons import QueueReason
from longtask_operator.core import terms, why_waiting
from longtask_operator.core.precedence import MAKING_ROOM, ROOM_IS_KEPT, HeldBack, first_of, in_order, precedes

LIST = list(QueueReason)
QUOTA = QueueReason.QUOTA_EXHAUSTED


def held_back(reason: QueueReason, *lasting: str) -> HeldBack:
    return HeldBack(reason=reason, message="uses 5 of 5", lasting=lasting or None)


@given(st.lists(st.sampled_from(LIST), min_size=1))
def test_the_first_in_the_list_is_shown_wherever_it_stands(reasons: list[QueueReason]) -> None:
    found = [held_back(reason) for reason in reasons]
    assert first_of(found[0], None, *found[1:]).reason is min(reasons, key=LIST.index)


def test_of_two_with_one_reason_the_one_named_first_is_shown() -> None:
    one, other = held_back(QUOTA), held_back(QUOTA)
    assert first_of(one, other) is one


def test_what_comes_before_is_a_matter_of_the_list_alone() -> None:
    assert [precedes(QUOTA, reason) for reason in LIST].index(True) == LIST.index(QUOTA) + 1


def test_rules_are_asked_in_the_order_of_the_list() -> None:
    assert in_order({reason: str(reason) for reason in reversed(LIST)}) == tuple((r, str(r)) for r in LIST)
    asked = [reason for reason, _ in (*terms.RULES, *why_waiting.RULES)]
    assert asked == [reason for reason in LIST if reason in asked]


@pytest.mark.parametrize(
    ("lasting", "said", "same"),
    [
        (None, "uses 5 of 5", True),
        (None, "uses 4 of 5", False),
        ((" of 5",), "uses 4 of 5", True),
        ((" of 5",), "uses 5 of 6", False),
        (("uses", " of 5"), "of 5", False),
    ],
)
def test_what_was_said_stays_while_what_lasts_of_it_does(
    lasting: tuple[str, ...] | None, said: str, same: bool
) -> None:
    assert held_back(QUOTA, *(lasting or ())).was_said(QUOTA, said) is same
    assert not held_back(QUOTA, *(lasting or ())).was_said(QueueReason.USER_LIMIT, said)


@pytest.mark.parametrize("end", [MAKING_ROOM, ROOM_IS_KEPT])
def test_that_room_is_made_or_kept_is_said_when_it_begins_and_when_it_ends(end: str) -> None:
    plain = held_back(QUOTA, " of 5")
    ending = replace(plain, message=f"{plain.message}; {end}")
    assert ending.was_said(QUOTA, f"uses 4 of 5; {end}")
    assert not ending.was_said(QUOTA, plain.message)
    assert not plain.was_said(QUOTA, ending.message)
