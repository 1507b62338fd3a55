"""Attempts of a task on a real storage, and the part of the operator that decides which checkpoint counts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.integration.worker_support import Received, Reply, ReportServer, ok

UID = "uid-1"


@dataclass
class Ledger:
    """Accepts what the current attempt reports, and refuses every other one."""

    keep: int = 2
    attempt: int = 1
    accepted: list[dict[str, Any]] = field(default_factory=list)  # newest first
    requested: bool = False
    silent: bool = False  # takes reports, but accepts nothing

    def answer(self, received: Received) -> Reply:
        if f"/attempts/{self.attempt}/" not in received.path:
            return Reply(status=409, fields={"stop": True})
        named = received.body.get("checkpoint")
        if named and not self.silent and named not in self.accepted:
            self.accepted = [named, *self.accepted][: self.keep]
        own = self.accepted and f"/{UID}/{self.attempt}/" in self.accepted[0]["uri"]
        echo = {"checkpoint": {"uri": self.accepted[0]["uri"]}} if own else {}
        return ok(checkpointRequested=self.requested, nextReportSeconds=0.1, **echo)

    def take_from_message(self, message: bytes) -> None:
        """Accept what a termination message says, as the operator does when a pod has ended."""
        named = json.loads(message).get("checkpoint") if message else None
        if named and named not in self.accepted:
            self.accepted = [named, *self.accepted][: self.keep]

    def resume(self) -> dict[str, str]:
        if not self.accepted:
            return {}
        newest, *older = self.accepted
        return {
            "LONGTASK_RESUME_URI": newest["uri"],
            "LONGTASK_RESUME_SHA256": newest["sha256"],
            "LONGTASK_RESUME_OLDER": json.dumps([{"uri": o["uri"], "sha256": o["sha256"]} for o in older]),
        }


def attempt_environment(
    server: ReportServer, ledger: Ledger, base: str, extra: Mapping[str, str], interval: float = 0.05
) -> dict[str, str]:
    """What the operator would give the ledger's current attempt, checkpoints below *base*."""
    url = server.url.replace("/attempts/1/", f"/attempts/{ledger.attempt}/")
    return server.environment(
        LONGTASK_UID=UID,
        LONGTASK_REPORT_URL=url,
        LONGTASK_ATTEMPT=str(ledger.attempt),
        LONGTASK_CHECKPOINT_URI=f"{base}{UID}/{ledger.attempt}/",
        LONGTASK_CHECKPOINT_INTERVAL=str(interval),
        LONGTASK_CHECKPOINT_KEEP=str(ledger.keep),
        **ledger.resume(),
        **extra,
    )
