"""Stories of tasks that save checkpoints: their workers, zombies among them, report to any operator that still answers.

The truth is what each container saved, in its own order. What stands in the status must be one of those, never an
older one than before, and never of another attempt than the one that was current when it was accepted.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from longtask_operator.api.report import Report, SavedCheckpoint
from longtask_operator.core.checkpoints import told_to
from longtask_operator.core.report_access import Access, ReportPath, decide_access
from tests.support.sim_api import Broken, Json
from tests.support.sim_operator import SimOperator
from tests.support.sim_story import Story, index
from tests.support.sim_world import ENDS, NAMESPACE, Container

PLACE = "s3://bucket/ckpt"
SAVES: dict[str, Any] = {"checkpoint": {"uri": f"{PLACE}/", "keep": 2}, "retry": {"backoff": {"initialSeconds": 1}}}
SPECS: list[dict[str, Any]] = [
    SAVES,
    SAVES,
    SAVES | {"checkpoint": {"uri": PLACE, "keep": 1}},
    SAVES | {"checkpoint": {"uri": PLACE, "onRedrive": "Discard"}},
]


@dataclass(slots=True)
class Saved:
    """What the worker of one container saved and said; the number of a checkpoint is its place in the order."""

    container: Container
    prefix: str
    count: int = 0
    told: str | None = None  #: what an operator said that stands
    reports: list[Report] = field(default_factory=list)

    def save(self, resumed_from: str | None = None) -> Report:
        """Return a report that offers another checkpoint, and says what the work went on from."""
        self.count += 1
        uri = f"{self.prefix}{self.count}/manifest.json"
        saved = SavedCheckpoint(uri=uri, sha256=f"{self.count:064x}", size_bytes=self.count)
        self.reports.append(Report(sequence=1000 + self.count, checkpoint=saved, resumed_from=resumed_from))
        return self.reports[-1]


class CheckpointStory(Story):
    """Stories of tasks with checkpoints."""

    def __init__(self) -> None:
        super().__init__()
        self.saved: dict[str, Saved] = {}  #: by pod uid
        self.accepted = 0
        self.resumed = 0
        self.given: dict[tuple[str, int], list[str]] = {}  #: manifests that an attempt of a task was given
        self.shown = 0  #: times that a status says what an attempt went on from
        before_status, before_job = self.api.on_status, self.api.on_job

        def on_status(before: Json, after: Json) -> None:
            before_status(before, after)
            self.check_checkpoint(before, after)
            self.check_resumed(after)

        def on_job(job: Json) -> None:
            before_job(job)
            self.check_resume(job)

        self.api.on_status, self.api.on_job = on_status, on_job

    @initialize(spec=st.sampled_from(SPECS), steps=st.integers(0, 12), end=st.sampled_from(list(ENDS)))
    def begin(self, spec: dict[str, Any], steps: int = 0, end: str = "success") -> None:
        self.world.apply("a", **spec)
        self.advance(steps, end)

    @rule(number=index, operator=index, again=st.booleans())
    def save(self, number: int, operator: int = 0, again: bool = False) -> None:
        """A worker offers a checkpoint; with *again* a report of its past arrives only now."""
        alive = [one for one in self.world.containers.values() if one.started and (one.ended is None or one.excused)]
        container = self.pick(alive, number)
        if container is None:
            return
        prefix = f"{PLACE}/{container.task}/{container.attempt}/"
        worker = self.saved.setdefault(container.pod, Saved(container, prefix))
        past = self.pick(worker.reports, number) if again else None
        given = self.given.get((container.task, container.attempt), [])
        said = self.pick([*given, "", None, f"{prefix}1/manifest.json"], number)
        self.send(worker, past or worker.save(said), self.pick(self.operators, operator))

    @rule(number=index, operator=index)
    def steal(self, number: int, operator: int = 0) -> None:
        """A worker names what another one saved, or might save, as its own."""
        worker = self.pick(list(self.saved.values()), number)
        others = [one for one in self.saved.values() if worker and one.container.attempt != worker.container.attempt]
        other = self.pick(others, operator)
        if other is None:
            return
        uri = f"{other.prefix}{other.count + 1}/manifest.json"
        saved = SavedCheckpoint(uri=uri, sha256="0" * 64)
        self.send(worker, Report(sequence=9000 + number, checkpoint=saved), self.pick(self.operators, operator))

    def send(self, worker: Saved, report: Report, operator: SimOperator | None) -> None:
        """Hand *report* to an operator as the report server does, and keep what it says that stands."""
        task = self.api.find("longtasks", worker.container.task)
        if operator is None or task is None:
            return
        name = task["metadata"]["name"]
        pod = operator.directory.pod_of(worker.container.pod)
        known = operator.directory.task_of(NAMESPACE, name)
        path = ReportPath(namespace=NAMESPACE, name=name, attempt=worker.container.attempt)
        if known is None or decide_access(path, NAMESPACE, pod, known) is not Access.TAKE:
            return
        record = partial(operator.book.record, worker.container.pod, report, self.loop.now())
        self.loop.call_soon(partial(record, task_key=f"{NAMESPACE}/{name}"))
        self.loop.settle()
        worker.told = told_to(worker.container.attempt, known.checkpoint) or worker.told

    def check_checkpoint(self, before: Json, after: Json) -> None:
        """What stands is what a worker of the current attempt saved, and it never goes backwards."""
        uid, old, new = after["metadata"]["uid"], before.get("status") or {}, after["status"]
        was, now = old.get("checkpoint"), new.get("checkpoint")
        if was == now:
            return
        if now is None:
            discards = before["spec"].get("checkpoint", {}).get("onRedrive") == "Discard"
            if not (discards and new["run"] > old["run"]):
                raise Broken(f"a checkpoint is forgotten: {was}")
            return
        self.accepted += 1
        if now["attempt"] != new["attempt"]:
            raise Broken(f"attempt {new['attempt']} is current and a checkpoint is accepted of {now['attempt']}")
        if not now["uri"].startswith(f"{PLACE}/{uid}/{now['attempt']}/"):
            raise Broken(f"the checkpoint of attempt {now['attempt']} lies elsewhere: {now['uri']}")
        savers = [
            one for one in self.saved.values() if (one.container.task, one.container.attempt) == (uid, now["attempt"])
        ]
        known = {report.checkpoint.uri for one in savers for report in one.reports if report.checkpoint}
        if now["uri"] not in known:
            raise Broken(f"nobody saved {now['uri']}")
        if was and place_of(now) <= place_of(was):
            raise Broken(f"the checkpoint goes backwards: {was} -> {now}")
        kept = [now["uri"], *(one["uri"] for one in now.get("older") or [])]
        if len(kept) > after["spec"]["checkpoint"].get("keep", 2) or len(set(kept)) < len(kept):
            raise Broken(f"not what is to be kept: {kept}")

    def check_resumed(self, after: Json) -> None:
        """An attempt is said to have gone on from what it was given, or from nothing, whatever its worker says."""
        for attempt in after["status"].get("attempts") or []:
            went_on, given = attempt.get("resumedFrom"), self.given.get((after["metadata"]["uid"], attempt["number"]))
            if went_on is not None and went_on not in (given or []):
                raise Broken(f"attempt {attempt['number']} was given {given} and is said to go on from {went_on}")
            self.shown += went_on is not None

    def check_resume(self, job: Json) -> None:
        """A Job gets what stands, so it gets what any worker was told, or a newer one."""
        task = self.api.find("longtasks", job["metadata"]["ownerReferences"][0]["uid"])
        if task is None:
            return
        env = job["spec"]["template"]["spec"]["containers"][0]["env"]
        values = {entry["name"]: entry.get("value") for entry in env}
        given = values.get("LONGTASK_RESUME_URI")
        older = json.loads(values.get("LONGTASK_RESUME_OLDER") or "[]")
        attempt = int(job["metadata"]["labels"]["longtask.dev/attempt"])
        self.given[task["metadata"]["uid"], attempt] = [*filter(None, [given]), *(one["uri"] for one in older)]
        stands = (task["status"].get("checkpoint") or {}).get("uri")
        if given != stands:
            raise Broken(f"an attempt is to start from {given}, and {stands} stands")
        self.resumed += given is not None

    def check_rest(self) -> None:
        super().check_rest()
        for worker in self.saved.values():
            task = self.api.find("longtasks", worker.container.task)
            if not task or not worker.told or task["spec"]["checkpoint"].get("onRedrive") == "Discard":
                continue
            stands = task["status"].get("checkpoint")
            if stands is None or place_of(stands) < (worker.container.attempt, number_of(worker.told)):
                raise Broken(f"a worker was told of {worker.told}, and at the end {stands} stands")


def number_of(uri: str) -> int:
    return int(uri.split("/")[-2])


def place_of(checkpoint: Json) -> tuple[int, int]:
    """Return the order of a checkpoint among all of its task."""
    return checkpoint["attempt"], number_of(checkpoint["uri"])


def tell_saving(story: Callable[[CheckpointStory], None]) -> None:
    """Tell *story* of tasks with checkpoints to its end."""
    from tests.support.sim_story import tell

    tell(story, CheckpointStory)
