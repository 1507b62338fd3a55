"""Planted bugs, by name: each breaks one promise, and a sweep that does not find it proves nothing.

They live in the memory of a forked operator only; no code of the operator knows of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from longtask_operator.adapters.kube import Kube
from longtask_operator.core.ledger_layout import Content, format_ledger
from longtask_operator.core.quota import UNLIMITED
from longtask_operator.engines import admission_loop
from longtask_operator.engines.admission_loop import AdmissionLoop
from longtask_operator.engines.apply import Applier
from longtask_operator.engines.ledgers import Ledgers


def ignores_quota() -> None:
    """Admit whoever waits, whatever the quota says."""
    plan = admission_loop.plan_admissions

    def everybody(queue: Any, snapshot: Any, **more: Any) -> Any:
        return plan(queue, replace(snapshot, limits=UNLIMITED), **more)

    admission_loop.plan_admissions = everybody


def job_twice() -> None:
    """Make a second Job for an attempt, as a name that is not derived from the attempt would."""
    create = Applier._create_job

    async def twice(self: Applier, action: Any, seen: Any) -> None:
        await create(self, action, seen)
        meta = seen.task.metadata
        path = f"/apis/batch/v1/namespaces/{meta.namespace}/jobs"
        name = f"{meta.name}-{meta.uid[:6]}-{action.entry.attempt}"
        body = await self.context.kube.get(f"{path}/{name}")
        for key in ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"):
            body["metadata"].pop(key, None)
        body["metadata"]["name"] = f"{name}-b"
        body["spec"].pop("selector", None)
        for labels in (body["metadata"]["labels"], body["spec"]["template"]["metadata"]["labels"]):
            for key in [key for key in labels if "controller-uid" in key or "job-name" in key]:
                del labels[key]
        body.pop("status", None)
        await self.context.kube.create(path, body)

    Applier._create_job = twice  # type: ignore[method-assign]


def early_release() -> None:
    """Give the place in the ledger back as soon as the Job stands."""
    create = Applier._create_job

    async def released(self: Applier, action: Any, seen: Any) -> None:
        await create(self, action, seen)
        self.admission.release(action.tenant, action.entry.uid, action.entry.attempt)

    Applier._create_job = released  # type: ignore[method-assign]
    AdmissionLoop.keep = lambda self, tenant, entry: None  # type: ignore[method-assign]


def no_reservation() -> None:
    """Change the ledger in memory only: a Job is made before its entry stands."""

    async def write(self: Any, name: str, tenants: Any) -> bool:
        ledger = self.ledger(name)
        if tenants == ledger.tenants:
            return False
        content = Content(tenants=tenants, further=ledger.content.further)
        self._set(ledger, ledger.version, content, format_ledger(name, content))
        return True

    Ledgers.write = write  # type: ignore[method-assign]


def forgotten_finalizer() -> None:
    """Never let go of a pod."""

    async def nothing(self: Applier, pod: Any) -> None:
        return

    Applier._release_pod = nothing  # type: ignore[method-assign]


def blind_ledger_write() -> None:
    """Write the ledger without its version: of two operators the later one wins."""
    replace_it = Kube.replace

    async def blindly(self: Kube, path: str, body: Any) -> Any:
        if "/configmaps/" in path:
            body = {**body, "metadata": {k: v for k, v in body["metadata"].items() if k != "resourceVersion"}}
        return await replace_it(self, path, body)

    Kube.replace = blindly  # type: ignore[method-assign]


MUTANTS: dict[str, Callable[[], None]] = {
    "ignores-quota": ignores_quota,
    "job-twice": job_twice,
    "early-release": early_release,
    "no-reservation": no_reservation,
    "forgotten-finalizer": forgotten_finalizer,
    "blind-ledger-write": blind_ledger_write,
}


def plant(name: str) -> None:
    """Plant the bug called *name* into this process; none for an empty name. Raises KeyError for an unknown one."""
    if name:
        MUTANTS[name]()
