"""Why Jobs have no pod, as the API server's own sentences: only Events of the Job controller say so.

A list of Events costs the API server as much as the namespace has Events, of whatever they are. So one list answers for
all Jobs of a namespace, and the next one follows after a while that grows with what the last one took.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from longtask_operator.adapters.kube import Json, resource_path
from longtask_operator.core.observe import JobView
from longtask_operator.core.refusal import sentence_of
from longtask_operator.engines.context import Context
from longtask_operator.engines.pacing import WriteBudget

#: Seconds between two lists of a namespace at least, and how many times as long as the last one took.
_REST_SECONDS, _REST_SHARE = 1.0, 20.0
#: Of all namespaces.
_LISTS_PER_SECOND = 5.0
_WANTED = {"fieldSelector": "regarding.kind=Job,reason=FailedCreate"}


@dataclass(slots=True)
class _Answers:
    """What the last list of a namespace said."""

    notes: Mapping[str, str] = field(default_factory=dict)  #: by uid of the Job
    good_until: float = float("-inf")  #: loop time


def _now() -> float:
    return asyncio.get_running_loop().time()


class RefusedPods:
    """Looks for refusals on behalf of everybody."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._budget: WriteBudget | None = None
        self._answers: dict[str, _Answers] = {}

    async def why(self, job: JobView) -> str:
        """Return why *job* was refused a pod, empty if it was not as far as is known: ask again. Raises ApiError."""
        answers, begun = self._answers.get(job.namespace) or _Answers(), _now()
        if begun >= answers.good_until and self._may_list():
            self._forget_older(begun)
            self._answers[job.namespace] = answers
            answers.good_until = float("inf")  # until it is there: everybody else takes the last one
            try:
                answers.notes = await self._list(job.namespace)
            finally:
                answers.good_until = _now() + max(_REST_SECONDS, _REST_SHARE * (_now() - begun))
        return answers.notes.get(job.uid, "")

    def _forget_older(self, now: float) -> None:
        """Drop answers that nobody may rest on any more: namespaces come and go."""
        self._answers = {name: answers for name, answers in self._answers.items() if now < answers.good_until}

    def _may_list(self) -> bool:
        self._budget = self._budget or WriteBudget(_LISTS_PER_SECOND, _now)
        return self._budget.take()

    async def _list(self, namespace: str) -> dict[str, str]:
        path, newest = resource_path("events.k8s.io/v1", "events", namespace), dict[str, tuple[int, str]]()
        async for page in self._context.kube.list_pages(path, _WANTED):
            for event in page["items"]:
                self._take_in(namespace, event, newest)
        return {uid: sentence_of(note) for uid, (_, note) in newest.items()}

    def _take_in(self, namespace: str, event: Json, newest: dict[str, tuple[int, str]]) -> None:
        """Keep what *event* says, if it is the newest of a Job of ours."""
        about, version = event.get("regarding") or {}, int(event["metadata"]["resourceVersion"])
        ours = self._context.caches.jobs.get(namespace, about.get("name") or "")
        if ours and ours.uid == about.get("uid") and version > newest.get(ours.uid, (-1, ""))[0]:
            newest[ours.uid] = (version, str(event.get("note") or ""))
