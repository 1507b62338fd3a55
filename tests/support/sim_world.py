"""Everything around the operator in a simulation: Job controller, scheduler, kubelet, garbage collector, users.

It also keeps the truth: which containers really ran and how they really ended. The
invariants compare that with what the operator writes, never with the operator's own word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from longtask_operator.api.quantity import parse_memory
from longtask_operator.api.times import format_time, parse_time
from tests.support.sim_api import Broken, Json, SimApi, copy_of, is_finished

NAMESPACE = "team-a"
OUTCOME = '{"longtask":1,"result":{"lines":7}}'
#: How a task container may end: exit code, reason, termination message.
ENDS: dict[str, tuple[int, str, str]] = {
    "success": (0, "Completed", OUTCOME),
    "plain success": (0, "Completed", ""),
    "error": (1, "Error", "Traceback: no such row"),
    "permanent": (65, "Error", '{"longtask":1,"permanent":true,"message":"bad input"}'),
    "out of memory": (137, "OOMKilled", ""),
}
Move = Callable[[], None]


@dataclass(slots=True)
class Container:
    """The task container of one pod, as it really was."""

    pod: str
    task: str
    attempt: int
    started: bool = False
    ended: str | None = None  #: key of ENDS, or another word
    stopped: bool = False  #: ended because its pod was deleted
    duplicate: bool = False  #: an injected second pod of a Job
    excused: bool = False  #: a user took the object away by force: what it does is not the operator's

    @property
    def lives(self) -> bool:
        """Whether it runs."""
        return self.started and self.ended is None


@dataclass(slots=True)
class World:
    """The cluster around *api*; moves are things that may happen next."""

    clock: Callable[[], datetime]
    api: SimApi = field(init=False)
    containers: dict[str, Container] = field(default_factory=dict)  #: by pod uid
    recorded: dict[tuple[str, int], Json] = field(default_factory=dict)  #: ended attempts by task uid and number
    claims: dict[str, tuple[str, str]] = field(default_factory=dict)  #: key and image of each task that has a key
    strays: set[tuple[str, int]] = field(default_factory=set)  #: attempts whose Job came after their task had gone
    resized: set[str] = field(default_factory=set)  #: tasks whose user asked for another size: that counts
    jobs_seen: set[str] = field(default_factory=set)  #: uids of Jobs that had their pod
    jobs_resumed: set[str] = field(default_factory=set)  #: of those, uids of Jobs that may make another one

    def __post_init__(self) -> None:
        self.api = SimApi(now=self.clock, on_status=self._check_status, on_job=self._check_job)
        self.api.new("namespaces", "", {"metadata": {"name": NAMESPACE, "labels": {}}})

    # What the cluster does by itself.

    def moves(self) -> Iterator[tuple[str, Move]]:
        """Yield all that controllers and nodes may do now, the natural order first."""
        for job in self.api.of("jobs"):
            yield from self._job_moves(job)
        for pod in self.api.of("pods"):
            yield from self._pod_moves(pod)

    def _job_moves(self, job: Json) -> Iterator[tuple[str, Move]]:
        uid, name = job["metadata"]["uid"], job["metadata"]["name"]
        if self.api.find("longtasks", job["metadata"]["ownerReferences"][0]["uid"]) is None:
            yield f"gc {name}", partial(self.api.delete, job, "jobs")
        if is_over(job):
            ttl = timedelta(seconds=job["spec"]["ttlSecondsAfterFinished"])
            if self.clock() > parse_time(job["status"]["finishedAt"]) + ttl:
                yield f"ttl {name}", partial(self.api.delete, job, "jobs")
            return
        pods = self.pods_of(job)
        if job["spec"].get("suspend"):
            living = [pod for pod in pods if not is_terminal(pod) and "deletionTimestamp" not in pod["metadata"]]
            for pod in living:
                yield f"suspend {name}", partial(self.api.delete, pod, "pods")
            yield f"kueue admits {name}", partial(self.kueue_admits, job)
            return
        if uid not in self.jobs_seen:
            yield f"create pod of {name}", partial(self.create_pod, job)
        elif uid in self.jobs_resumed and all(is_terminal(pod) for pod in pods):
            yield f"create pod of {name} again", partial(self.create_pod, job, duplicate=True)
        elif not pods or all(is_terminal(pod) for pod in pods):
            good = any((pod["status"] or {}).get("phase") == "Succeeded" for pod in pods)
            yield f"finish {name}", partial(self.finish_job, job, "Complete" if good else "Failed")

    def _pod_moves(self, pod: Json) -> Iterator[tuple[str, Move]]:
        meta, phase = pod["metadata"], pod["status"]["phase"]
        owners = meta.get("ownerReferences") or []
        deleting = "deletionTimestamp" in meta
        if not deleting and owners and self.api.find("jobs", owners[0]["uid"]) is None:
            yield f"gc {meta['name']}", partial(self.api.delete, pod, "pods")
        if phase in ("Succeeded", "Failed"):
            return
        if "nodeName" not in pod["spec"]:
            if not deleting:
                yield f"schedule {meta['name']}", partial(self.change, pod, spec={"nodeName": "node-1"})
            return
        container = self.containers[meta["uid"]]
        if deleting:
            yield f"stop {meta['name']}", partial(self.end, pod, "stopped")
            if container.started:
                yield f"stop in time {meta['name']}", partial(self.end, pod, "stopped with outcome")
        elif phase == "Pending":
            yield f"start {meta['name']}", partial(self.start, pod)
        else:
            yield from self._resize_moves(pod)
            for how in ENDS:
                yield f"end {meta['name']}: {how}", partial(self.end, pod, how)
            yield f"evict {meta['name']}", partial(self.end, pod, "evicted")

    def _resize_moves(self, pod: Json) -> Iterator[tuple[str, Move]]:
        """Yield what the node may do about a resize that it has not answered: in the end it brings it about."""
        status = pod["status"]
        if pod["spec"]["containers"][0]["resources"] == status["containerStatuses"][0]["resources"]:
            if status.get("conditions"):
                yield f"forget resize {pod['metadata']['name']}", partial(self.resize, pod)
            return
        yield f"resize {pod['metadata']['name']}", partial(self.resize, pod)
        for answer in ("Deferred", "Infeasible"):
            if not status.get("conditions"):
                yield f"{answer} resize {pod['metadata']['name']}", partial(self.resize, pod, answer)

    def pods_of(self, job: Json) -> list[Json]:
        """Return the pods that *job* owns."""
        return [
            pod
            for pod in self.api.of("pods")
            if any(owner["uid"] == job["metadata"]["uid"] for owner in pod["metadata"].get("ownerReferences") or [])
        ]

    def kueue_admits(self, job: Json) -> None:
        """Let a suspended Job go; its controller begins with it."""
        if job["metadata"]["uid"] in self.jobs_seen:
            self.jobs_resumed.add(job["metadata"]["uid"])
        spec = {**job["spec"], "suspend": False}
        self.api.put("jobs", {**job, "spec": spec, "status": {"startTime": format_time(self.clock())}})

    def kueue_takes_back(self, job: Json) -> None:
        """Suspend a Job that was let go."""
        if "suspend" in job["spec"] and not is_over(job):
            self.api.put("jobs", {**job, "spec": {**job["spec"], "suspend": True}, "status": {}})

    def create_pod(self, job: Json, *, duplicate: bool = False) -> None:
        """Create a pod from the Job's template, as the Job controller does."""
        self.jobs_seen.add(job["metadata"]["uid"])
        self.jobs_resumed.discard(job["metadata"]["uid"])
        template, number = copy_of(job["spec"]["template"]), len(self.containers)
        meta = template["metadata"] | {
            "name": f"{job['metadata']['name']}-{number:05d}",
            "ownerReferences": [{"kind": "Job", "uid": job["metadata"]["uid"], "controller": True}],
        }
        spec = {
            "containers": [{key: one[key] for key in ("name", "resources")} for one in template["spec"]["containers"]]
        }
        namespace = job["metadata"]["namespace"]
        pod = self.api.new("pods", namespace, {"metadata": meta, "spec": spec, "status": {"phase": "Pending"}})
        labels = meta["labels"]
        self.containers[pod["metadata"]["uid"]] = Container(
            pod=pod["metadata"]["uid"],
            task=labels["longtask.dev/task-uid"],
            attempt=int(labels["longtask.dev/attempt"]),
            duplicate=duplicate,
        )

    def finish_job(self, job: Json, condition: str) -> None:
        """Set the Job's final condition."""
        status = {"finishedAt": format_time(self.clock()), "conditions": [{"type": condition, "status": "True"}]}
        self.api.put("jobs", {**job, "status": status})

    def change(self, pod: Json, spec: Json | None = None, status: Json | None = None) -> None:
        """Change spec and status of *pod* by keys."""
        self.api.put("pods", {**pod, "spec": pod["spec"] | (spec or {}), "status": pod["status"] | (status or {})})

    def start(self, pod: Json) -> None:
        """Start the task container, unless that must never happen."""
        self._check_start(self.containers[pod["metadata"]["uid"]])
        self.containers[pod["metadata"]["uid"]].started = True
        status = {
            "name": "task",
            "state": {"running": {"startedAt": format_time(self.clock())}},
            "resources": pod["spec"]["containers"][0]["resources"],
        }
        self.change(pod, status={"phase": "Running", "containerStatuses": [status]})

    def resize(self, pod: Json, answer: str = "") -> None:
        """Let the node answer a resize: Infeasible, Deferred, or by bringing it about."""
        asked, (status,) = pod["spec"]["containers"][0]["resources"], pod["status"]["containerStatuses"]
        conditions = [{"type": "PodResizePending", "status": "True", "reason": answer, "message": "no room"}]
        if not answer:
            status = {**status, "resources": asked}
        self.change(pod, status={"containerStatuses": [status], "conditions": conditions if answer else []})

    def end(self, pod: Json, how: str) -> None:
        """End the task container and the pod."""
        container = self.containers[pod["metadata"]["uid"]]
        container.ended, container.stopped = how, "deletionTimestamp" in pod["metadata"]
        code, reason, message = ENDS.get(how, (143, "Error", ""))
        if how == "stopped with outcome":
            code, reason, message = ENDS["success"]
        status: Json = {"phase": "Succeeded" if code == 0 else "Failed"}
        if container.started:
            ended = {"exitCode": code, "reason": reason, "message": message, "finishedAt": format_time(self.clock())}
            known = pod["status"]["containerStatuses"][0]
            status["containerStatuses"] = [{**known, "state": {"terminated": ended}}]
        if how == "evicted":
            status["reason"] = "Evicted"
            status["conditions"] = [{"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"}]
        self.change(pod, status=status)

    # What users do.

    def apply(self, name: str, namespace: str = NAMESPACE, **spec: Any) -> None:
        """Create a LongTask."""
        meta = {"name": name, "generation": 1, "labels": {}, "annotations": {}}
        body = {"metadata": meta, "spec": {"image": "i", **spec}, "status": {"observedGeneration": -1}}
        task = self.api.new("longtasks", namespace, body)
        if key := spec.get("idempotencyKey"):
            self.claims[task["metadata"]["uid"]] = (key, body["spec"]["image"])

    def edit(self, task: Json, **spec: Any) -> None:
        """Change the spec; None takes a field out."""
        wanted = {key: value for key, value in (task["spec"] | spec).items() if value is not None}
        if wanted == task["spec"]:
            return
        if wanted.get("resources") != task["spec"].get("resources"):
            self.resized.add(task["metadata"]["uid"])
        meta = task["metadata"] | {"generation": task["metadata"]["generation"] + 1}
        self.api.put("longtasks", {**task, "metadata": meta, "spec": wanted})

    def orphan(self, job: Json) -> None:
        """Delete the Job and leave its pods without an owner."""
        for pod in self.pods_of(job):
            meta = {key: value for key, value in pod["metadata"].items() if key != "ownerReferences"}
            self.api.put("pods", {**pod, "metadata": meta})
        self.api.delete(job, "jobs")

    def force_delete(self, pod: Json) -> None:
        """Delete the pod without grace: a user's word that its container is gone, whether it is or not."""
        self.containers[pod["metadata"]["uid"]].excused = True
        self.api.delete(pod, "pods", grace=0)

    def vanish(self, pod: Json) -> None:
        """Take the pod's object away, finalizer and all, while its container may run on."""
        container = self.containers[pod["metadata"]["uid"]]
        container.excused = True
        self.api.remove("pods", pod)

    # Invariants.

    def _check_start(self, container: Container) -> None:
        """A container may start only if no other attempt lives, it never ran before, and nothing completed."""
        for other in self.containers.values():
            if other.task != container.task or other.pod == container.pod or other.excused:
                continue
            if other.lives and other.attempt != container.attempt:
                raise Broken(f"attempt {container.attempt} starts while attempt {other.attempt} lives")
            if other.started and other.attempt == container.attempt and not (container.duplicate or other.duplicate):
                raise Broken(f"attempt {container.attempt} runs twice")
        self._check_key(container)
        for (task, number), attempt in self.recorded.items():
            completed = attempt["cause"] == "Completed" and attempt["run"] == self.run_of(container.task)
            if task == container.task and completed and number != container.attempt:
                raise Broken(f"attempt {container.attempt} starts although attempt {number} completed")

    def _check_key(self, container: Container) -> None:
        """Of the tasks with one key one runs, and one that is not redriven does not run what another has finished."""
        if container.task not in self.claims or container.duplicate:
            return
        key, _ = self.claims[container.task]
        rivals = {uid for uid, claim in self.claims.items() if claim[0] == key and uid != container.task}
        for other in self.containers.values():
            strays = {(one.task, one.attempt) for one in (container, other)} & self.strays
            if other.task in rivals and other.lives and not (other.excused or other.duplicate or strays):
                raise Broken(f"task {container.task} starts while task {other.task} with the same key runs")
        for uid in rivals:
            rival = self.api.find("longtasks", uid)
            if rival and is_outcome(rival) and rival["status"]["run"] == 1 and self.run_of(container.task) == 1:
                raise Broken(f"task {container.task} starts although task {uid} with the same key has finished")

    def _check_job(self, job: Json) -> None:
        """No Job is made for an attempt whose end is recorded."""
        uid, attempt = job["metadata"]["ownerReferences"][0]["uid"], job["metadata"]["labels"]["longtask.dev/attempt"]
        if self.api.find("longtasks", uid) is None:
            self.strays.add((uid, int(attempt)))
        if (uid, int(attempt)) in self.recorded:
            raise Broken(f"a Job is created for attempt {attempt}, which is recorded as ended")
        for (task, number), ended in self.recorded.items():
            too_small = parse_memory(ended.get("memory") or 0) >= _memory_of(job)
            again = task == uid and ended["run"] == self.run_of(uid) and uid not in self.resized
            if again and ended["cause"] == "OutOfMemory" and too_small:
                raise Broken(f"attempt {attempt} is no larger than attempt {number}, which ran out of memory")

    def run_of(self, uid: str) -> int:
        """Return the run of a task, 0 if it is gone."""
        task = self.api.find("longtasks", uid)
        return int(((task or {}).get("status") or {}).get("run") or 0)

    def _check_status(self, before: Json, after: Json) -> None:
        uid, old, new = after["metadata"]["uid"], before.get("status") or {}, after["status"]
        for attempt in new.get("attempts") or []:
            if attempt.get("completionTime"):
                self._check_end(uid, attempt)
        ended = [attempt for (task, _), attempt in self.recorded.items() if task == uid]
        if sum((new.get("attemptTotals") or {}).values()) != len(ended):
            raise Broken(f"{len(ended)} attempts ended, counted are {new.get('attemptTotals')}")
        of_run = [attempt for attempt in ended if attempt["run"] == new["run"]]
        if sum((new.get("attemptCounts") or {}).values()) != len(of_run):
            raise Broken(f"{len(of_run)} attempts of run {new['run']} ended, counted are {new.get('attemptCounts')}")
        if is_finished(before) and new["run"] == old["run"] and new["phase"] != old["phase"]:
            raise Broken(f"the phase of a finished run changes: {old['phase']} -> {new['phase']}")

    def _check_end(self, uid: str, attempt: Json) -> None:
        """An end is recorded once, and is what really happened."""
        key = (uid, attempt["number"])
        known = self.recorded.setdefault(key, attempt)
        if (known["cause"], known["completionTime"]) != (attempt["cause"], attempt["completionTime"]):
            raise Broken(f"the recorded end of attempt {attempt['number']} changes: {known} -> {attempt}")
        if known is not attempt:
            return
        pods = [c for c in self.containers.values() if (c.task, c.attempt) == key]
        good = [c for c in pods if c.ended in ("success", "plain success", "stopped with outcome")]
        if attempt["cause"] == "Completed" and not good:
            raise Broken(f"attempt {attempt['number']} is recorded as Completed and was not: {pods}")
        certain = [c for c in good if c.ended != "plain success" and not c.duplicate and not c.excused]
        if attempt["cause"] != "Completed" and certain and len(pods) == 1:
            raise Broken(f"attempt {attempt['number']} completed and is recorded as {attempt['cause']}")
        if any(c.lives and not c.excused and not c.duplicate for c in pods) and len(pods) == 1:
            raise Broken(f"attempt {attempt['number']} is recorded as {attempt['cause']} while it lives")


def _memory_of(job: Json) -> int:
    return parse_memory(job["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"])


def is_outcome(task: Json) -> bool:
    """Return whether the task ended otherwise than by its own cancel or deadline while it waited for another."""
    conditions: list[Json] = task["status"].get("conditions") or []
    admitted: Json = next((c for c in conditions if c["type"] == "Admitted"), {})
    return is_finished(task) and admitted.get("reason") not in ("Duplicate", "KeyConflict")


def is_over(job: Json) -> bool:
    """Return whether the Job is Complete or Failed."""
    return "finishedAt" in job.get("status", {})


def is_terminal(pod: Json) -> bool:
    """Return whether no container of the pod runs or will run."""
    ended = pod["status"]["phase"] in ("Succeeded", "Failed")
    return ended or ("deletionTimestamp" in pod["metadata"] and "nodeName" not in pod["spec"])
