from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from longtask_operator.adapters.errors import Unavailable
from longtask_operator.engines import refused_pods
from longtask_operator.engines.context import new_caches
from longtask_operator.engines.refused_pods import RefusedPods
from tests.builders import a_job

REFUSED = 'Error creating: pods "a" is forbidden: exceeded quota'


class Events:
    """Stands for context and client: a namespace's Events, and how often they were listed."""

    def __init__(self, *items: dict[str, Any], fails: bool = False) -> None:
        self.kube, self.caches, self.lists = self, new_caches(), 0
        self._items, self._fails = items, fails

    async def list_pages(self, path: str, params: Mapping[str, str]) -> AsyncIterator[dict[str, Any]]:
        self.lists += 1
        await asyncio.sleep(0)
        if self._fails:
            raise Unavailable(0, "ConnectionLost", path)
        yield {"items": list(self._items)}


def event(job: Any, version: int, note: str, **about: str) -> dict[str, Any]:
    regarding = {"name": job.name, "uid": job.uid, **about}
    return {"metadata": {"resourceVersion": str(version)}, "regarding": regarding, "note": note}


def why(events: Any, *jobs: Any) -> list[Any]:
    async def ask() -> list[Any]:
        refused = RefusedPods(events)
        return [
            *await asyncio.gather(*(refused.why(job) for job in jobs), return_exceptions=True),
            *[await refused.why(job) for job in jobs],
        ]

    return asyncio.run(ask())


JOBS = [a_job(name=f"job-{number}", uid=f"job-uid-{number}") for number in range(3)]


def test_one_list_answers_for_all_jobs_of_a_namespace() -> None:
    events = Events(event(JOBS[0], 7, REFUSED), event(JOBS[2], 8, REFUSED))
    for job in JOBS:
        events.caches.jobs.put(job)
    first, second = why(events, *JOBS)[:3], why(events, *JOBS)[3:]
    assert [bool(answer) for answer in first] == [True, False, False], "who came while it was under way asks again"
    assert [bool(answer) for answer in second] == [True, False, True]
    assert "exceeded quota" in second[0]
    assert events.lists == 2, "one for each of the two"


def test_the_newest_event_counts_and_only_those_of_our_jobs() -> None:
    events = Events(
        event(JOBS[0], 9, "Error creating: new"),
        event(JOBS[0], 8, "Error creating: old"),
        event(JOBS[1], 10, REFUSED, uid="another"),
        event(JOBS[2], 11, REFUSED),
    )
    for job in JOBS[:2]:
        events.caches.jobs.put(job)
    assert [("new" in answer, bool(answer)) for answer in why(events, *JOBS)[3:]] == [
        (True, True),
        (False, False),
        (False, False),
    ]


def test_a_list_that_fails_is_not_repeated_at_once() -> None:
    events = Events(fails=True)
    answers = why(events, *JOBS)
    assert isinstance(answers[0], Unavailable)
    assert answers[1:] == [""] * 5
    assert events.lists == 1


@pytest.mark.parametrize("namespaces", [20])
def test_many_namespaces_share_a_pace(namespaces: int) -> None:
    events = Events()
    why(events, *(a_job(name=f"job-{n}", uid=f"uid-{n}", namespace=f"team-{n}") for n in range(namespaces)))
    assert events.lists == 5


def test_namespaces_that_nobody_asks_about_any_more_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    now, events = [0.0], Events()
    monkeypatch.setattr(refused_pods, "_now", lambda: now[0])

    async def ask() -> int:
        refused = RefusedPods(events)
        for number in range(100):
            now[0] += 10
            await refused.why(a_job(namespace=f"team-{number}"))
        return len(refused._answers)

    assert asyncio.run(ask()) == 1
