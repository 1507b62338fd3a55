"""When a standstill that a report shows is looked at, and what that costs, against a model of the cluster."""

from __future__ import annotations

from functools import partial
from typing import Any

from longtask_operator.api.report import Report
from tests.support.sim_api import Json
from tests.support.sim_story import Story, tell
from tests.support.sim_world import Container

#: More than the 10 s between two writes of progress that the simulated operator has.
TIMEOUT = 15
SPEC: dict[str, Any] = {"noProgressTimeoutSeconds": TIMEOUT, "retry": {"limits": {"noProgress": 0}}}


class Worker:
    """The only worker of *story*, whose clock it takes as its own: second 0 is its first report."""

    def __init__(self, story: Story, spec: dict[str, Any]) -> None:
        self._story, self._sequence = story, 0
        story.operators[0].sight.listens()
        story.begin(spec)
        self.container = self._until_running()
        self._began = story.loop.elapsed

    def _until_running(self) -> Container:
        for _ in range(300):
            self._story.settle()
            for container in self._story.world.containers.values():
                if container.lives:
                    return container
            self._story.natural_move("success") or self._story.pass_time()
        raise AssertionError("nothing runs")

    def report(self, second: float, done: int, message: str = "") -> None:
        """Report in that second; timers before it fire in their time."""
        self.wait(second)
        self._sequence += 1
        report = Report(sequence=self._sequence, done=done, message=message or None)
        book, loop = self._story.operators[0].book, self._story.loop
        loop.call_soon(partial(book.record, self.container.pod, report, loop.now(), task_key="team-a/a"))
        loop.settle()
        self._story.settle()

    def wait(self, second: float) -> None:
        loop = self._story.loop
        while (when := loop.next_timer()) is not None and when <= self._began + second:
            self._story.pass_time()
            self._story.settle()
        loop.elapsed = self._began + second
        self._story.settle()

    @property
    def status(self) -> Json:
        (task,) = self._story.tasks()
        status: Json = task["status"]
        return status

    @property
    def cause(self) -> str | None:
        cause: str | None = self.status["attempts"][-1].get("cause")
        return cause


def test_a_report_that_shows_a_standstill_is_looked_at_at_once() -> None:
    """Also where its progress, written a moment before, may not be written again yet."""

    def story(state: Story) -> None:
        worker = Worker(state, SPEC)
        worker.report(0, 1)
        worker.report(12, 1, "of no avail")
        assert worker.status["progress"]["message"] == "of no avail"
        worker.report(TIMEOUT - 0.1, 1, "not yet")
        assert worker.cause is None
        worker.report(TIMEOUT + 0.1, 1, "now")
        assert worker.cause == "NoProgress"

    tell(story)


def test_a_shorter_time_than_between_two_writes_is_kept_too() -> None:
    def story(state: Story) -> None:
        worker = Worker(state, SPEC | {"noProgressTimeoutSeconds": 3})
        worker.report(0, 1)
        worker.report(3, 1)
        assert worker.cause == "NoProgress"

    tell(story)


def test_progress_that_nobody_has_looked_at_yet_counts() -> None:
    """The controller has an older time then, at which it looks in vain."""

    def story(state: Story) -> None:
        worker = Worker(state, SPEC | {"noProgressTimeoutSeconds": 3})
        worker.report(0, 1)
        worker.report(1, 2)
        worker.report(3.9, 2)
        assert worker.cause is None
        worker.report(4.1, 2)
        assert worker.cause == "NoProgress"

    tell(story)


def test_looks_at_reports_write_nothing_more() -> None:
    """Reports after the time of a standstill, each with progress, are written as often as others."""

    def writes(spec: dict[str, Any]) -> int:
        count = 0

        def story(state: Story) -> None:
            nonlocal count
            worker = Worker(state, spec)
            for second in range(60):
                worker.report(second, second)
            assert worker.cause is None
            count = len(state.api.writes)

        tell(story)
        return count

    assert writes(SPEC | {"noProgressTimeoutSeconds": 2}) == writes({})
