"""The same with the SDK, on a claim: attempt 1 saves again and again, attempt 2 once, and waits for a signal.

The test sends this file's text as the container's program. A stubborn attempt 1 hears nothing of a stop.
"""

import signal
import time

from longtask_worker import Task, run


def main(task: Task) -> dict[str, int]:
    go_on: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, _frame: go_on.append(number))
    number = task.checkpoint.load(default=0)
    task.report(number, message=f"attempt {task.attempt}")
    task.checkpoint.save(number + 1)
    while not go_on:
        time.sleep(task.payload["pause"])
        if task.attempt == 1:
            number += 1
            work(task, number)
    return {"attempt": task.attempt}


def work(task: Task, number: int) -> None:
    try:
        task.report(number, message="attempt 1")
        task.checkpoint.save(number + 1)
        task.raise_if_cancelled()
    except BaseException:
        if not task.payload["stubborn"]:
            raise


run(main)
