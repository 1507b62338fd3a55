"""LongTask's worker SDK: the task is a function that gets its context.

    from longtask_worker import Task, run

    def main(task: Task) -> dict:
        for row in task.track(rows, unit="lines"):
            task.raise_if_cancelled()
        return {"rows": len(rows)}

    run(main)

Standard library only: any image can use it by copying one wheel. S3 needs the extra `s3` (boto3).
"""

from __future__ import annotations

from longtask_worker.entrypoint import run
from longtask_worker.errors import Cancelled, CheckpointError, PermanentError, ResultError, StorageError
from longtask_worker.outcome import Result
from longtask_worker.task import Task

__version__ = "0.1.0"
__all__ = [
    "Cancelled",
    "CheckpointError",
    "PermanentError",
    "Result",
    "ResultError",
    "StorageError",
    "Task",
    "run",
]
