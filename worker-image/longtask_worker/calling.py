"""Calls the task's function and turns every way it can end into an Outcome."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from importlib import import_module
from typing import Any

from longtask_worker import exit_codes
from longtask_worker.errors import Cancelled, PermanentError, UsageError
from longtask_worker.outcome import Outcome
from longtask_worker.stopping import CANCELLED, SUPERSEDED, TERMINATED
from longtask_worker.task import Task

Main = Callable[[Task], Any]

_STOPPED = {
    CANCELLED: Outcome(exit_code=exit_codes.CANCELLED, message="cancelled"),
    SUPERSEDED: Outcome(exit_code=exit_codes.SUPERSEDED, message="superseded by a newer attempt"),
    TERMINATED: Outcome(exit_code=exit_codes.TERMINATED, message="terminated (SIGTERM)"),
}


def call(load: Callable[[], Main], task: Task, hand_over: Callable[[object, Task], object]) -> Outcome:
    """Return how the function that *load* finds ended; *hand_over* makes its result one that can be left inline.

    Raises nothing; a traceback goes to stderr.
    """
    try:
        return Outcome(result=hand_over(load()(task), task))
    except Cancelled as stopped:
        return outcome_of_stop(stopped.reason)
    except KeyboardInterrupt:
        return Outcome(exit_code=exit_codes.CANCELLED, message="interrupted")
    except SystemExit as left:
        return _outcome_of_exit(left.code)
    except UsageError as error:
        return Outcome(exit_code=exit_codes.USAGE, message=str(error), permanent=True)
    except BaseException as error:
        traceback.print_exc()
        return _outcome_of_error(error)


def outcome_of_stop(reason: str) -> Outcome:
    """Return the outcome of a function that stopped because of *reason*."""
    return _STOPPED.get(reason, _STOPPED[CANCELLED])


def load_function(target: str) -> Main:
    """Return the function that `module:function` names; UsageError if there is none."""
    module, colon, name = target.partition(":")
    if not (module and colon and name):
        raise UsageError(f"{target!r} is not module:function")
    function = getattr(import_module(module), name, None)
    if not callable(function):
        raise UsageError(f"module {module} has no function {name}")
    return function  # type: ignore[no-any-return]


def _outcome_of_exit(code: str | int | None) -> Outcome:
    """A function that calls sys.exit chooses its own exit code."""
    if code is None or isinstance(code, int):
        status = (code or 0) & 0xFF
        return Outcome(exit_code=status, message=f"the task called sys.exit({code})" if status else None)
    return Outcome(exit_code=exit_codes.APPLICATION, message=str(code))


def _outcome_of_error(error: BaseException) -> Outcome:
    summary = "".join(traceback.format_exception_only(type(error), error)).strip()
    permanent = isinstance(error, PermanentError)
    code = exit_codes.PERMANENT if permanent else exit_codes.APPLICATION
    message = str(error) if permanent and str(error) else summary
    log_tail = "".join(traceback.format_exception(error))
    return Outcome(exit_code=code, message=message, permanent=permanent, log_tail=log_tail)
