"""The end of the log: what the process wrote last, bounded, whatever its streams are."""

from __future__ import annotations

import io
import logging
from contextlib import redirect_stdout
from typing import Any

import pytest

from longtask_worker.log_tail import MAX_WRITES, LogTail
from longtask_worker.outcome import MAX_LOG_TAIL


def stream() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)


@pytest.fixture
def out() -> io.TextIOWrapper:
    return stream()


@pytest.fixture
def tail(out: io.TextIOWrapper) -> LogTail:
    tail = LogTail()
    tail.follow(out, None)
    return tail


def test_what_was_written_to_all_streams_is_kept_in_its_order(out: io.TextIOWrapper, tail: LogTail) -> None:
    err = stream()
    tail.follow(err)
    print("first", file=out)
    print("second", file=err)
    out.writelines(["third", "\n"])
    assert tail.ending_with() == "first\nsecond\nthird\n"
    assert out.buffer.getvalue() == b"first\nthird\n"  # type: ignore[attr-defined]


def test_nothing_written_is_no_tail(tail: LogTail) -> None:
    assert tail.ending_with() is None


def test_logging_that_was_set_up_before_is_seen(out: io.TextIOWrapper) -> None:
    handler, tail = logging.StreamHandler(out), LogTail()
    tail.follow(out)
    handler.emit(logging.makeLogRecord({"msg": "row 7 is bad"}))
    assert tail.ending_with() == "row 7 is bad\n"


def test_what_goes_elsewhere_is_not_of_the_log(out: io.TextIOWrapper, tail: LogTail) -> None:
    with redirect_stdout(io.StringIO()):
        print("captured")
    assert tail.ending_with() is None


def test_only_the_end_is_kept(out: io.TextIOWrapper, tail: LogTail) -> None:
    for number in range(10 * MAX_WRITES):
        print(f"line {number}", file=out)
    out.write("x" * 5000)
    out.write("end")
    assert tail.ending_with() == "x" * (MAX_LOG_TAIL - 3) + "end"


def test_many_short_writes_are_bounded_too(out: io.TextIOWrapper, tail: LogTail) -> None:
    for _ in range(10 * MAX_WRITES):
        out.write(".")
    assert tail.ending_with() == "." * MAX_WRITES


@pytest.mark.parametrize("lines", [1, 500])
def test_a_traceback_is_its_end_once(out: io.TextIOWrapper, tail: LogTail, lines: int) -> None:
    trace = "Traceback\n" + "  in main\n" * lines + "ValueError: no\n"
    print("before", file=out)
    assert tail.ending_with(trace) == ("before\n" + trace)[-MAX_LOG_TAIL:]
    out.write(trace)
    assert tail.ending_with(trace) == ("before\n" + trace)[-MAX_LOG_TAIL:]


def test_what_cannot_be_written_raises_as_ever_and_is_not_kept(out: io.TextIOWrapper, tail: LogTail) -> None:
    odd: Any = b"bytes"
    with pytest.raises(TypeError):
        out.write(odd)
    out.detach()
    with pytest.raises(ValueError, match="detached"):
        out.write("text")
    assert tail.ending_with() is None


def test_a_stream_that_cannot_be_followed_is_left_alone() -> None:
    class Closed:
        __slots__ = ()

        def write(self, text: str) -> int:
            return len(text)

    closed: Any = Closed()
    LogTail().follow(closed)
    assert closed.write("text") == 4
