from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtask_operator.api.quantity import MEBIBYTE
from longtask_operator.api.reasons import SizeSource
from longtask_operator.api.status import LongTaskStatus
from longtask_operator.core.attempt_size import Suggestion, choose_size
from longtask_operator.core.input_hint import (
    InputRule,
    InputSize,
    fall_through,
    hint_from,
    parse_input_rules,
    parse_places,
    rule_for,
    why_not_asked,
)
from longtask_operator.core.sizing import Size
from tests.builders import LADDER, at

RULE = InputRule(image="r/import", base=256 * MEBIBYTE, percent=150)
PAST = Suggestion(memory=1, source=SizeSource.HISTORY, message="the past")


def known(size: int, name: str = "orders") -> InputSize:
    return InputSize(name=name, size=size)


def test_rules_are_read_in_their_order() -> None:
    assert parse_input_rules("r/import=256Mi+150%; r/*=1Gi+0%;") == (
        RULE, InputRule(image="r/*", base=1024 * MEBIBYTE, percent=0)
    )  # fmt: skip
    assert parse_input_rules("") == ()


@pytest.mark.parametrize(
    "text",
    [
        "r/import",
        "=1Gi+5%",
        "r=1Gi",
        "r=1Gi+5",
        "r=1Gi+-5%",
        "r=1Gi+%",
        "r=+5%",
        "r=much+5%",
        "r*x=1Gi+5%",
        "r=1+10001%",
    ],
)
def test_a_rule_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"input rules|quantity"):
        parse_input_rules(text)


@pytest.mark.parametrize(
    ("image", "base"),
    [
        ("r:5000/etl/load:2", 1),
        ("r:5000/etl/load@sha256:abc", 1),
        ("r:5000/etl/loader:2", 2),
        ("r:5000/etl/", 2),
        ("r:5000/etl", None),
        (None, None),
    ],
)
def test_the_first_rule_for_an_image_counts(image: str | None, base: int | None) -> None:
    rules = parse_input_rules("r:5000/etl/load=1+0%;r:5000/etl/*=2+0%;r:5000/etl/load=3+0%")
    found = rule_for(image, rules)
    assert (found.base if found else None) == base


def test_a_hint_says_what_it_comes_from() -> None:
    hint = hint_from([known(100 * MEBIBYTE), known(400 * MEBIBYTE, "prices")], RULE)
    assert (hint.memory, hint.source) == (1006 * MEBIBYTE, SizeSource.INPUT_HINT)
    assert hint.message == "2 inputs of 500Mi; the rule for r/import gives 256Mi and 150 % of that"


def test_one_unknown_size_leaves_no_hint_and_says_why() -> None:
    hint = hint_from([known(1), InputSize(name="prices", size=None, why="nobody knows")], RULE)
    assert (hint.memory, hint.message) == (None, "the size of input prices is not known: nobody knows")


def test_what_is_not_known_falls_through_to_the_next_source_and_is_told() -> None:
    unknown = hint_from([InputSize(name="prices", size=None, why="nobody knows")], RULE)
    told = fall_through(unknown, PAST)
    assert told
    assert (told.memory, told.source) == (1, SizeSource.HISTORY)
    assert told.message == "the past; the size of input prices is not known: nobody knows"
    assert told.asked is None
    owed = fall_through(hint_from([InputSize(name="a", size=None, why="later")], RULE, at(3)), PAST)
    assert owed
    assert owed.asked == at(3)
    assert fall_through(unknown, None) == unknown
    assert fall_through(None, PAST) == PAST
    assert fall_through(None, None) is None
    assert fall_through(hint_from([known(5)], RULE), PAST) == hint_from([known(5)], RULE)


def test_places_are_buckets_and_folders() -> None:
    assert parse_places(" s3://a/, s3://b/{tenant}/x/ ,") == ("s3://a/", "s3://b/{tenant}/x/")
    for text in ("s3://a", "s3://", "s3:///x/", "file:///x/", "s3://a/b", "s3://a/{user}/", "s3://a/ b/"):
        with pytest.raises(ValueError, match="input places"):
            parse_places(text)


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("s3://shared/a/b", ""),
        ("s3://data/team-a/x", ""),
        ("s3://data/team-b/x", "names no place that it is in"),
        ("s3://data/team-ab/x", "names no place that it is in"),
        ("s3://sharedx/a", "names no place that it is in"),
        ("s3://data/team-a/../team-b/x", "does not name one object"),
        ("s3://data/team-a/./x", "does not name one object"),
        ("s3://data/team-a//x", "does not name one object"),
        ("s3://shared/folder/", "does not name one object"),
        ("s3://shared/", "does not name one object"),
        ("file:///data/x", "sees objects of S3 only"),
        ("https://host/x", "sees objects of S3 only"),
    ],
)
def test_the_store_is_asked_only_for_objects_in_places_of_the_tenant(uri: str, why: str) -> None:
    found = why_not_asked(uri, "team-a", ("s3://data/{tenant}/", "s3://shared/"))
    assert found.endswith(why) if why else found == ""


rules = st.builds(InputRule, image=st.just("r/*"), base=st.integers(0, 2**36), percent=st.integers(0, 10_000))
sizes = st.lists(st.integers(0, 2**50), min_size=1, max_size=16)


def rung(inputs: list[int], rule: InputRule) -> Size:
    hint = hint_from([known(size) for size in inputs], rule)
    return choose_size(None, LongTaskStatus(), LADDER, hint).size


@given(rules, sizes, st.integers(0, 2**50), st.integers(0, 15))
def test_a_larger_input_never_gets_a_smaller_size(rule: InputRule, inputs: list[int], more: int, which: int) -> None:
    larger = list(inputs)
    larger[which % len(inputs)] += more
    assert rung(larger, rule).covers(rung(inputs, rule))
    assert rung([*inputs, more], rule).covers(rung(inputs, rule))


@given(rules, sizes)
def test_a_size_has_what_the_rule_says_or_is_the_largest(rule: InputRule, inputs: list[int]) -> None:
    found, total = rung(inputs, rule), sum(inputs)
    largest = max(size.memory for size in LADDER)
    assert found.memory * 100 >= rule.base * 100 + total * rule.percent or found.memory == largest
