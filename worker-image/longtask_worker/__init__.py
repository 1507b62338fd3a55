"""LongTask's worker SDK: the task is a function that gets its context.

    from longtask_worker import Task, run

    def main(task: Task) -> dict:
        for row in task.track(rows, unit="lines"):
            task.raise_if_cancelled()
        return {"rows": len(rows)}

    run(main)

Names are loaded at first use: the sidecar lives in this package too, in 32 MiB, and
must not pay for the rest.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longtask_worker.entrypoint import run as run
    from longtask_worker.errors import Cancelled as Cancelled
    from longtask_worker.errors import PermanentError as PermanentError
    from longtask_worker.errors import ResultError as ResultError
    from longtask_worker.outcome import Result as Result
    from longtask_worker.task import Task as Task

__version__ = "0.1.0"
__all__ = ["Cancelled", "PermanentError", "Result", "ResultError", "Task", "run"]

_HOMES = {
    "Cancelled": "errors",
    "PermanentError": "errors",
    "Result": "outcome",
    "ResultError": "errors",
    "Task": "task",
    "run": "entrypoint",
}


def __getattr__(name: str) -> object:
    """Load a public name from its module; AttributeError for any other."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
