"""Whom the attempts of a ledger count for, as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtask_operator.api.identity import LONGEST_NAME, person_of
from longtask_operator.api.names import ANNOTATION_CREATED_BY
from longtask_operator.core.ledger import LONGEST_PERSON
from longtask_operator.core.persons import format_persons, parse_persons

AMPLE = 10**6
UID = "7c9d4f00-0000-4000-8000-{:012d}"
NAMES = st.text(min_size=1).map(lambda name: person_of({ANNOTATION_CREATED_BY: name})).filter(bool)


def test_a_person_has_a_line_and_its_name_may_be_anything() -> None:
    persons = {"u3": "eve", "u1": "eve", "u2": 'Al "the\nman"\u2028 O\'Neill'}
    text = format_persons(persons, AMPLE)
    assert text == 'u2 "Al \\"the\\nman\\"\\u2028 O\'Neill"\nu1 u3 "eve"\n'
    assert parse_persons(text) == persons


@given(st.dictionaries(st.integers(0, 50).map(UID.format), NAMES))
def test_what_is_written_is_read_back_and_no_line_is_longer_than_is_reckoned_with(persons: dict[str, str]) -> None:
    text = format_persons(persons, AMPLE)
    assert parse_persons(text) == persons
    assert text.isascii()
    assert len(text) <= len(persons) * LONGEST_PERSON
    assert len(UID.format(1)) + 1 + LONGEST_NAME + 1 == LONGEST_PERSON


@given(st.dictionaries(st.integers(0, 50).map(UID.format), NAMES), st.integers(-1, 2_000))
def test_what_does_not_fit_is_left_out(persons: dict[str, str], room: int) -> None:
    text = format_persons(persons, room)
    assert len(text) <= max(0, room)
    assert parse_persons(text).items() <= persons.items()
    assert parse_persons(text) == persons or len(text) + LONGEST_PERSON > room


@pytest.mark.parametrize("text", ["u1 eve", "u1", "\n", 'u1 "eve', 'u1 "eve" u2'])
def test_a_broken_line_is_no_person(text: str) -> None:
    with pytest.raises(ValueError, match=r"Expecting|Unterminated|Extra data"):
        parse_persons(text)
