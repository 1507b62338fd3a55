from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtask_operator.api.report import SavedCheckpoint
from longtask_operator.api.status import LongTaskStatus, Result
from longtask_operator.core.outcome import (
    MAX_RESULT_BYTES,
    MAX_RESULT_DEPTH,
    Outcome,
    log_tail,
    parse_outcome,
    parse_progress_line,
)


def outcome(**fields: Any) -> Outcome | None:
    return parse_outcome(json.dumps({"longtask": 1, **fields}))


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


class TestOutcomes:
    def test_all_that_a_worker_may_say(self) -> None:
        said = outcome(result={"rows": 3}, permanent=True, message="why", done=3, total=4)
        assert said == Outcome(result=Result(value={"rows": 3}), permanent=True, message="why", done=3, total=4)

    def test_the_last_checkpoint(self) -> None:
        said = {"uri": "s3://b/manifest.json", "sha256": "ab" * 32, "sizeBytes": 7}
        saved = SavedCheckpoint(uri="s3://b/manifest.json", sha256="ab" * 32, size_bytes=7)
        assert outcome(checkpoint=said) == Outcome(checkpoint=saved)

    @pytest.mark.parametrize("said", [None, "s3://b/manifest.json", {}, {"uri": "s3://b/m", "sha256": "short"}])
    def test_a_malformed_checkpoint_costs_nothing_else(self, said: Any) -> None:
        assert outcome(checkpoint=said, permanent=True, done=3) == Outcome(permanent=True, done=3)

    @pytest.mark.parametrize(
        ("said", "read"), [("s3://b/m", "s3://b/m"), ("", ""), (None, None), (7, None), ("\n", None)]
    )
    def test_what_the_work_went_on_from(self, said: Any, read: str | None) -> None:
        assert outcome(resumedFrom=said, done=3) == Outcome(resumed_from=read, done=3)

    def test_nothing_but_the_mark(self) -> None:
        assert outcome() == Outcome()

    def test_a_result_elsewhere(self) -> None:
        said = outcome(uri="s3://b/k", sha256="ab", sizeBytes=7, result={"not": "this"})
        assert said == Outcome(result=Result(uri="s3://b/k", sha256="ab", size_bytes=7))

    @pytest.mark.parametrize("result", [0, False, "", [], {}, [None], {"a": None}, 2.5, "ü€😀"])
    def test_every_json_value_but_null_is_a_result(self, result: Any) -> None:
        assert outcome(result=result) == Outcome(result=Result(value=result))

    def test_null_is_no_result(self) -> None:
        assert outcome(result=None) == Outcome()

    @pytest.mark.parametrize(
        "text",
        [
            *("", "Traceback…", "[1]", '"longtask"', '{"longtask": 2}', '{"longtask": 1', '{"result": 1}', "{" * 3000),
            '{"longtask": 1, "result": ' + "[" * 2000,
        ],
    )
    def test_anything_else_is_a_log_tail(self, text: str) -> None:
        assert parse_outcome(text) is None

    @pytest.mark.parametrize("count", [-1, 2**63, 1.5, "7", True, None])
    def test_a_count_that_is_none_is_ignored(self, count: Any) -> None:
        assert outcome(done=count, total=count) == Outcome()

    @pytest.mark.parametrize("permanent", ["true", 1, None])
    def test_only_true_is_permanent(self, permanent: Any) -> None:
        assert outcome(permanent=permanent) == Outcome()

    @pytest.mark.parametrize(
        ("result", "why"),
        [
            ("x" * MAX_RESULT_BYTES, f"more than {MAX_RESULT_BYTES}; write it to a uri"),
            (2**64, "64-bit"),
            ("\ud800", "surrogates"),
            (nested(MAX_RESULT_DEPTH + 1), f"nested deeper than {MAX_RESULT_DEPTH} levels"),
            (nested(400), "not kept"),
        ],
        ids=["large", "integer", "half-a-pair", "deep", "very-deep"],
    )
    def test_a_result_that_cannot_be_kept_is_named_and_not_an_error(self, result: Any, why: str) -> None:
        said = outcome(result=result)
        assert said is not None
        assert said.result is None
        assert why in said.message

    def test_the_workers_own_message_stands_before_ours(self) -> None:
        assert outcome(result=2**64, message="mine") == Outcome(message="mine")

    def test_half_a_pair_in_a_message_is_replaced(self) -> None:
        assert outcome(message="a\ud800b", uri="s3://\ud800") == Outcome(result=Result(uri="s3://?"), message="a?b")

    def test_a_terminal_obeys_nothing_of_its_words(self) -> None:
        said = outcome(message="\x1b[2Jgone", logTail="row 1\n\x1b]0;title\x07")
        assert said == Outcome(message=" [2Jgone", log_tail="row 1\n ]0;title")

    @given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=20))
    def test_whatever_a_worker_leaves_can_be_written_into_a_status(self, result: Any) -> None:
        said = parse_outcome(json.dumps({"longtask": 1, "result": result, "message": str(result)}))
        assert said is not None
        status = LongTaskStatus(result=said.result).model_dump(by_alias=True, exclude_none=True, mode="json")
        again = orjson.loads(orjson.dumps({"status": status, "message": said.message}))
        assert again["status"] == status

    @given(st.text(max_size=200))
    def test_no_text_is_an_error(self, text: str) -> None:
        parse_outcome(text)
        parse_outcome('{"longtask":1,' + text)
        log_tail(text)
        parse_progress_line(text)


class TestLogTails:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [("", None), ("\n \x00", None), ("last line\n", "last line"), ("a" * 3000, "a" * 2048)],
    )
    def test_the_end_of_a_log(self, text: str, expected: str | None) -> None:
        assert log_tail(text) == expected

    def test_a_terminal_obeys_none_of_it(self) -> None:
        assert log_tail("10 %\r20 %\n\x1b[31mred\x9b2J\n") == "10 % 20 %\n [31mred 2J"

    def test_a_character_is_never_cut(self) -> None:
        tail = log_tail("ü" * 2000 + "x")
        assert tail == "ü" * 1023 + "x"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("7/9", (7, 9)), ("7/9 still at it", (7, 9)), ("", None), ("7", None), ("a/b", None), ("-1/3", None)],
)
def test_a_line_of_the_progress_file(text: str, expected: tuple[int, int] | None) -> None:
    assert parse_progress_line(text) == expected
