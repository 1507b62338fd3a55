"""A task that adds up numbers and saves its sum on a claim, whose folder the test reads along."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.stage import Stage
from tests.support.live import Json, await_

PROGRAM = (Path(__file__).parent / "checkpoint_worker.py").read_text()
MOUNT = "file:///var/run/longtask-checkpoint"
QUICK: Json = {"initialSeconds": 1, "factor": 1, "jitterPercent": 0}
NUMBERS, EVERY = 30, 10
TOTAL = sum(range(NUMBERS))


@dataclass(frozen=True, slots=True)
class Summing:
    """A task of this module and the folder behind its claim."""

    stage: Stage
    name: str
    uid: str
    folder: Path
    rests_at: int | None  #: the number with which its first attempt waits to be killed, or to be asked to save

    @classmethod
    def create(cls, stage: Stage, folder: Path, name: str, payload: Json | None = None, **spec: Any) -> Summing:
        checkpoint = {"volumeClaimName": "work", **spec.pop("checkpoint", {})}
        retry = {"limits": {"application": 0, "lost": 0, **spec.pop("limits", {})}, "backoff": QUICK}
        work = {"numbers": NUMBERS, "every": EVERY, **(payload or {})}
        spec = {"command": ["python3", "-c", PROGRAM], **spec}
        made = stage.tasks.create(name, payload=work, checkpoint=checkpoint, retry=retry, **spec)
        return cls(stage, name, made["metadata"]["uid"], folder, work.get("restsAt"))

    def said(self, word: str, attempt: int | None = None) -> list[Json]:
        """Return the lines of the log with that word, of one attempt or of all."""
        log = self.folder / self.uid / "log"
        whole = log.read_text().rpartition("\n")[0] if log.exists() else ""  # the last line may be half written
        lines = [json.loads(line) for line in whole.splitlines()]
        return [line for line in lines if line["word"] == word and attempt in (None, line["attempt"])]

    def until_rests(self) -> None:
        """Wait until the first attempt has come to the number where it rests."""
        did = {"word": "did", "attempt": 1, "number": self.rests_at}
        await_(f"{self.name}: {did}", lambda: did in self.said("did", 1), 150)

    def until(self, what: str, check: Callable[[Json], Any], seconds: float = 150) -> Json:
        return self.stage.tasks.until(self.name, what, check, seconds)

    def finished(self) -> Json:
        return self.stage.tasks.until_finished(self.name, 200)

    def uri(self, attempt: int, number: int) -> str:
        return f"{MOUNT}/{self.uid}/{attempt}/{number:06}.json"

    def file(self, attempt: int, number: int) -> Path:
        return self.folder / self.uid / str(attempt) / f"{number:06}.json"

    def process(self, attempt: int) -> int:
        """Return the worker's process as this machine numbers it."""
        wanted = {f"LONGTASK_UID={self.uid}".encode(), f"LONGTASK_ATTEMPT={attempt}".encode()}
        found = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if wanted <= environment(pid)]
        (worker,) = found
        return worker


def environment(pid: int) -> set[bytes]:
    try:
        return set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
    except OSError:
        return set()


@contextmanager
def claim_of(stage: Stage, folder: Path) -> Iterator[Path]:
    """Let *folder* be behind claim `work` of the stage, which its tasks mount."""
    folder.chmod(0o777)
    size = {"storage": "1Gi"}
    common = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    claimed = {"namespace": stage.namespace, "name": "work"}
    volume = common | {"capacity": size, "hostPath": {"path": str(folder)}, "claimRef": claimed}
    claim = common | {"volumeName": stage.namespace, "resources": {"requests": size}}
    meta = {"name": stage.namespace}
    body = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": meta, "spec": volume}
    stage.client.request("POST", "/api/v1/persistentvolumes", body)
    body = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": claimed, "spec": claim}
    stage.client.request("POST", f"/api/v1/namespaces/{stage.namespace}/persistentvolumeclaims", body)
    yield folder
    stage.client.request("DELETE", f"/api/v1/persistentvolumes/{stage.namespace}")
