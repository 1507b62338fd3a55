"""Every way a function can end has one outcome."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from longtask_worker.calling import call, load_function, outcome_of_stop
from longtask_worker.environment import Info
from longtask_worker.errors import Cancelled, PermanentError, UsageError
from longtask_worker.outcome import Outcome
from longtask_worker.results import hand_over
from longtask_worker.task import Task


def outcome_of(function: Callable[[Task], Any]) -> Outcome:
    return call(lambda: function, Task(Info()), hand_over)


def raising(error: BaseException) -> Callable[[Task], Any]:
    def main(_task: Task) -> None:
        raise error

    return main


def test_what_it_returns_is_the_result() -> None:
    assert outcome_of(lambda task: {"attempt": task.attempt}) == Outcome(result={"attempt": 1})


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("bad row"), Outcome(exit_code=1, message="ValueError: bad row")),
        (KeyError("x"), Outcome(exit_code=1, message="KeyError: 'x'")),
        (MemoryError(), Outcome(exit_code=1, message="MemoryError")),
        (PermanentError("no such column"), Outcome(exit_code=65, message="no such column", permanent=True)),
        (Cancelled("cancelled"), Outcome(exit_code=130, message="cancelled")),
        (Cancelled("terminated"), Outcome(exit_code=143, message="terminated (SIGTERM)")),
        (Cancelled("superseded"), Outcome(exit_code=79, message="superseded by a newer attempt")),
        (KeyboardInterrupt(), Outcome(exit_code=130, message="interrupted")),
        (SystemExit(), Outcome()),
        (SystemExit(0), Outcome()),
        (SystemExit(7), Outcome(exit_code=7, message="the task called sys.exit(7)")),
        (SystemExit("no input"), Outcome(exit_code=1, message="no input")),
        (GeneratorExit(), Outcome(exit_code=1, message="GeneratorExit")),
    ],
)
def test_what_it_raises_is_the_exit_code(error: BaseException, expected: Outcome) -> None:
    assert replace(outcome_of(raising(error)), log_tail=None) == expected


def test_the_end_of_the_log_goes_with_what_went_wrong() -> None:
    log_tail = outcome_of(raising(ValueError("bad row"))).log_tail or ""
    assert log_tail.startswith("Traceback (most recent call last):")
    assert log_tail.endswith("ValueError: bad row\n")
    assert outcome_of(raising(SystemExit(7))).log_tail is None


def test_permanent_error_without_words_is_named() -> None:
    assert "PermanentError" in str(outcome_of(raising(PermanentError())).message)


def test_a_result_that_cannot_be_handed_over_fails_for_good() -> None:
    outcome = outcome_of(lambda _task: "x" * 5000)
    assert (outcome.exit_code, outcome.permanent, outcome.result) == (65, True, None)
    assert "Result(uri=" in str(outcome.message)


def test_the_traceback_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    outcome_of(raising(ValueError("bad row")))
    captured = capsys.readouterr()
    assert "ValueError: bad row" in captured.err
    assert "in main" in captured.err
    assert captured.out == ""


def test_except_exception_does_not_swallow_a_stop() -> None:
    def main(_task: Task) -> None:
        try:
            raise Cancelled
        except Exception:
            raise AssertionError from None

    assert outcome_of(main).exit_code == 130


def test_an_unknown_reason_counts_as_cancelled() -> None:
    assert outcome_of_stop("?").exit_code == 130


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("json", "module:function"),
        ("json:", "module:function"),
        (":x", "module:function"),
        ("json:nix", "no function"),
        ("json:__name__", "no function"),
    ],
)
def test_a_wrong_target_is_a_usage_error(target: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        load_function(target)
    assert call(lambda: load_function(target), Task(Info()), hand_over).exit_code == 2


def test_a_module_that_cannot_be_imported_is_the_programs_error() -> None:
    outcome = call(lambda: load_function("no_such_module:main"), Task(Info()), hand_over)
    assert (outcome.exit_code, outcome.permanent) == (1, False)
    assert "no_such_module" in str(outcome.message)


def test_load_function() -> None:
    assert load_function("sys:getrefcount") == sys.getrefcount
