"""A model of the API server for simulations: objects, resourceVersions, deletion with finalizers, watch events.

Only what the operator relies on is modelled. Real API servers are used by the integration
tests; this one exists to put faults and races between any two requests.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson

from longtask_operator.adapters.errors import AlreadyExists, Conflict, NotFound
from longtask_operator.api.status import LongTaskStatus
from longtask_operator.api.times import format_time

Json = dict[str, Any]
Key = tuple[str, str, str]  #: plural, namespace, name
Watcher = Callable[[str, str, Json], None]  #: plural, type of the event, object

_PATH = re.compile(
    r"^/apis?/(?:[a-z0-9.]+/)?v1[a-z0-9]*(?:/namespaces/(?P<ns>[^/]+))?/(?P<plural>[a-z]+)"
    r"(?:/(?P<name>[^/]+))?(?:/(?P<sub>[a-z]+))?$"
)
MAX_STATUS_BYTES = 32 * 1024


class Broken(AssertionError):  # noqa: N818 - what is broken is a promise
    """An invariant does not hold."""


def copy_of(body: Json) -> Json:
    """Return *body* as it looks after a trip over the wire."""
    copied: Json = orjson.loads(orjson.dumps(body))
    return copied


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it was sent."""

    method: str
    path: str
    body: Any = None

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(slots=True)
class SimApi:
    """Objects by key. *now* is the cluster's clock."""

    now: Callable[[], datetime]
    objects: dict[Key, Json] = field(default_factory=dict)
    watchers: list[Watcher] = field(default_factory=list)
    on_status: Callable[[Json, Json], None] = lambda before, after: None
    on_job: Callable[[Json], None] = lambda job: None
    on_resize: Callable[[Json], None] = lambda pod: None
    version: int = 100
    writes: list[Request] = field(default_factory=list)
    broken: Broken | None = None
    gone: set[Key] = field(default_factory=set)  #: what was there once
    _uids: int = 0

    def of(self, plural: str) -> list[Json]:
        """Return all objects of a kind."""
        return [body for key, body in self.objects.items() if key[0] == plural]

    def find(self, plural: str, uid: str) -> Json | None:
        """Return the object of that uid, or None."""
        return next((body for body in self.of(plural) if body["metadata"]["uid"] == uid), None)

    def handle(self, request: Request) -> Json:
        """Execute *request*; return the answer's body. Raises ApiError."""
        match = _PATH.match(request.path)
        assert match, request
        plural, namespace, name = match["plural"], match["ns"] or "", match["name"] or ""
        key = (plural, namespace, name)
        if request.method == "GET":
            return self._get(key) if name else self._list(plural)
        self.writes.append(request)
        if request.method == "POST":
            return self._post(plural, namespace, copy_of(request.body))
        before = self._get(key)
        if request.method == "DELETE":
            wanted = request.body["preconditions"]["uid"]
            if before["metadata"]["uid"] != wanted:
                raise Conflict(409, "Conflict", "uid differs")
            self._check_version(before, {"metadata": request.body["preconditions"]})
            self.delete(before, plural, request.body.get("gracePeriodSeconds", 30))
            return {}
        if request.method == "PUT":
            self._check_version(before, request.body)
            return self.put(plural, copy_of(request.body) | {"metadata": before["metadata"]})
        patch = _from_json_patch(request.body) if isinstance(request.body, list) else copy_of(request.body)
        return self._patch(plural, before, patch, match["sub"])

    def is_second_create(self, request: Request) -> bool:
        """Return whether *request* creates what was there before and is gone."""
        match = _PATH.match(request.path)
        assert match, request
        key = (match["plural"], match["ns"], (request.body or {}).get("metadata", {}).get("name"))
        return request.method == "POST" and key in self.gone

    def put(self, plural: str, body: Json) -> Json:
        """Store *body* as a new version, tell the watchers, and drop it if nothing holds it any more."""
        self.version += 1
        meta = body["metadata"] = {**body["metadata"], "resourceVersion": str(self.version)}
        key = (plural, meta.get("namespace", ""), meta["name"])
        is_new = key not in self.objects
        self.objects[key] = body
        self._emit(plural, "ADDED" if is_new else "MODIFIED", body)
        if meta.get("deletionTimestamp") and not meta.get("finalizers") and not self._is_running(body):
            self.remove(plural, body)
        return copy_of(body)

    def new(self, plural: str, namespace: str, body: Json) -> Json:
        """Store a new object with a uid of its own."""
        self._uids += 1
        meta = {
            "namespace": namespace,
            "uid": f"{self._uids:06x}-{plural}",
            "creationTimestamp": format_time(self.now()),
            **body["metadata"],
        }
        return self.put(plural, {**body, "metadata": meta})

    def remove(self, plural: str, body: Json) -> None:
        """Take the object away at once, whatever holds it."""
        meta = body["metadata"]
        self.version += 1
        key = (plural, meta.get("namespace", ""), meta["name"])
        gone = self.objects.pop(key)
        self.gone.add(key)
        last = {**gone, "metadata": {**gone["metadata"], "resourceVersion": str(self.version)}}
        self._emit(plural, "DELETED", last)

    def delete(self, body: Json, plural: str, grace: int = 30) -> None:
        """Delete as the API server does: pods that have a node go after their grace, the rest at once."""
        meta = body["metadata"]
        if plural != "pods":
            self.remove(plural, body)
            return
        if meta.get("deletionTimestamp") and grace:
            return
        running = self._is_running(body) and grace > 0
        ends = self.now() + timedelta(seconds=grace if running else 0)
        change = {"deletionTimestamp": format_time(ends), "deletionGracePeriodSeconds": grace if running else 0}
        self.put(plural, {**body, "metadata": {**meta, **change}})

    @staticmethod
    def _is_running(body: Json) -> bool:
        """Whether a kubelet still has to confirm the end of a pod."""
        forced = body["metadata"].get("deletionGracePeriodSeconds") == 0 and "deletionTimestamp" in body["metadata"]
        phase = (body.get("status") or {}).get("phase")
        return bool((body.get("spec") or {}).get("nodeName")) and phase not in ("Succeeded", "Failed") and not forced

    def _get(self, key: Key) -> Json:
        if key not in self.objects:
            raise NotFound(404, "NotFound", "/".join(key))
        return copy_of(self.objects[key])

    def _list(self, plural: str) -> Json:
        return {
            "metadata": {"resourceVersion": str(self.version)},
            "items": [copy_of(body) for body in self.of(plural)],
        }

    def _post(self, plural: str, namespace: str, body: Json) -> Json:
        if (plural, namespace, body["metadata"]["name"]) in self.objects:
            raise AlreadyExists(409, "AlreadyExists", body["metadata"]["name"])
        if plural == "jobs":
            self.on_job(body)
        return self.new(plural, namespace, body)

    def _patch(self, plural: str, before: Json, patch: Json, sub: str | None) -> Json:
        self._check_version(before, patch)
        patch["metadata"].pop("resourceVersion", None)
        if patch["metadata"].get("uid", before["metadata"]["uid"]) != before["metadata"]["uid"]:
            raise Conflict(409, "Conflict", "uid differs")
        if dropped := patch["metadata"].pop(DROPPED, None):
            kept = [name for name in before["metadata"].get("finalizers") or [] if name not in dropped]
            patch["metadata"]["finalizers"] = kept
        after = merged(before, patch)
        if sub == "status":
            after = {**before, "status": after["status"]}
            check_status(before, after)
            self.on_status(before, after)
        if sub == "resize":
            self.on_resize(after)
        return self.put(plural, after)

    @staticmethod
    def _check_version(before: Json, body: Json) -> None:
        wanted = body.get("metadata", {}).get("resourceVersion")
        if wanted is not None and wanted != before["metadata"]["resourceVersion"]:
            raise Conflict(409, "Conflict", "the object has been modified")

    def _emit(self, plural: str, kind: str, body: Json) -> None:
        for watcher in self.watchers:
            watcher(plural, kind, copy_of(body))


#: Key of a strategic merge patch that takes finalizers away.
DROPPED = "$deleteFromPrimitiveList/finalizers"


def merged(before: Any, patch: Any) -> Any:
    """Return *before* changed by a merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(before) if isinstance(before, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def _from_json_patch(operations: list[Json]) -> Json:
    """Return the one JSON patch that the operator sends, a test of the version and a whole status, as a patch."""
    test, add = operations
    assert (test["op"], test["path"], add["op"], add["path"]) == ("test", "/metadata/resourceVersion", "add", "/status")
    return {"metadata": {"resourceVersion": test["value"]}, "status": copy_of(add["value"])}


def check_status(before: Json, after: Json) -> None:
    """Raise Broken where the schema or a transition rule of the CRD would refuse the status."""
    old, new = before.get("status") or {}, after["status"]
    LongTaskStatus.model_validate(new)
    if len(orjson.dumps(new)) > MAX_STATUS_BYTES:
        raise Broken("the status is larger than 32 KiB")
    for name in ("attempt", "run"):
        if new.get(name, -1) < old.get(name, -1):
            raise Broken(f"status.{name} falls: {old.get(name)} -> {new.get(name)}")
    if old.get("tenant") and new.get("tenant") != old["tenant"]:
        raise Broken("status.tenant changes")
    if is_finished(before) and not is_finished(after) and not new["run"] > old["run"]:
        raise Broken(f"Finished is left without a new run: {old['phase']} -> {new['phase']}")


def is_finished(task: Json) -> bool:
    """Return whether the condition Finished is True."""
    conditions = (task.get("status") or {}).get("conditions") or []
    return any(c["type"] == "Finished" and c["status"] == "True" for c in conditions)
