"""What a ledger lists, and when it admits."""

from __future__ import annotations

import pytest

from longtask_operator.core.editions import (
    NO_QUOTA,
    Agreed,
    Listed,
    agree,
    edition_of,
    format_listing,
    parse_listing,
    to_ask,
)

FIRST, SECOND = edition_of("5f0c9a3e-1111", 1), edition_of("5f0c9a3e-1111", 2)
STANDS, NEWER, JOINS = Listed(edition=FIRST), Listed(edition=SECOND), Listed(edition=FIRST, joining=True)


def test_an_edition_names_object_and_generation() -> None:
    assert (FIRST, SECOND) == ("5f0c9a3e/1", "5f0c9a3e/2")
    assert edition_of("another0-2222", 1) != FIRST


def test_where_they_agree_nobody_is_asked_for() -> None:
    assert to_ask({"x": STANDS}, {"x": FIRST}) == set()
    assert agree({"x": STANDS}, {"x": FIRST}, (), ()) == Agreed(listing={"x": STANDS}, admits=True)


@pytest.mark.parametrize(
    ("listing", "known"),
    [
        ({"x": STANDS}, {"x": SECOND}),
        ({"x": NEWER}, {"x": FIRST}),
        ({"x": STANDS}, {"x": NO_QUOTA}),
        ({"x": STANDS}, {}),
        ({}, {"x": FIRST}),
        ({"x": JOINS}, {"x": FIRST}),
    ],
)
def test_whatever_differs_is_asked_for_and_nobody_is_admitted_before(
    listing: dict[str, Listed], known: dict[str, str]
) -> None:
    assert to_ask({**listing, "y": STANDS}, {**known, "y": FIRST}) == {"x"}
    assert not agree(listing, known, (), ()).admits


def test_another_edition_counts_once_the_api_server_has_said_it() -> None:
    assert agree({"x": STANDS}, {"x": SECOND}, {"x"}, ()) == Agreed(listing={"x": NEWER}, admits=True)
    assert agree({"x": STANDS}, {}, {"x"}, ()) == Agreed(listing={}, admits=True)


def test_who_is_new_joins_first() -> None:
    assert agree({}, {"x": FIRST}, {"x"}, ()) == Agreed(listing={"x": JOINS}, admits=False)


def test_who_joins_is_admitted_to_once_nobody_else_lists_it() -> None:
    assert agree({"x": JOINS}, {"x": FIRST}, {"x"}, {"x"}) == Agreed(listing={"x": JOINS}, admits=False)
    assert agree({"x": JOINS}, {"x": SECOND}, {"x"}, ()) == Agreed(listing={"x": NEWER}, admits=True)
    assert agree({"x": JOINS}, {}, {"x"}, ()) == Agreed(listing={}, admits=True)


def test_a_listing_is_read_as_it_was_written() -> None:
    listing = {"b": JOINS, "a": Listed(edition=NO_QUOTA)}
    text = format_listing(listing)
    assert text == "a -\nb 5f0c9a3e/1 joining\n"
    assert parse_listing(text) == listing


@pytest.mark.parametrize("text", ["", "a\n", "a 5f0c9a3e/1 later\n", "a 5f0c9a3e/1 joining twice\n"])
def test_of_what_cannot_be_read_all_join_anew(text: str) -> None:
    assert parse_listing(text) == {}
