from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtask_operator.api.text import printable, shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Grüße 🎉\n\tend", "Grüße 🎉\n\tend"),
        ("\x1b[31mred\x1b[0m", " [31mred [0m"),
        ("\x00 \x07\r\x7f\x9b2J", "     " + " 2J"),
    ],
)
def test_what_a_terminal_would_obey_is_a_space(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text())
def test_only_line_breaks_and_tabs_are_left_of_control_characters(text: str) -> None:
    shown = printable(text)
    assert len(shown) == len(text)
    assert not [one for one in shown if (ord(one) < 32 or 127 <= ord(one) < 160) and one not in "\n\t"]
    assert printable(shown) == shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("lots", "'lots'"),
        ("a\n\x1b[1m", r"'a\n\x1b[1m'"),
        (7, "7"),
        (True, "true"),
        (None, "null"),
        ({"a": [1]}, '{"a": [1]}'),
    ],
)
def test_a_value_is_named_in_one_line(value: Any, text: str) -> None:
    assert shown(value) == text


def test_of_a_long_value_the_beginning_is_shown() -> None:
    assert shown("x" * 100) == f"'{'x' * 59}…"
