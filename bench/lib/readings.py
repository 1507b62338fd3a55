"""What is read from the machine and from the API server's audit log."""

from __future__ import annotations

import json
import os
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

Json = dict[str, Any]
_LOOK_BACK = 1 << 16
_WRITES = ("create", "update", "patch", "delete")


def rss_mib(pid: int) -> float:
    """Return the resident memory of a process in MiB."""
    return _status(pid, "VmRSS")


def peak_rss_mib(pid: int) -> float:
    """Return the largest resident memory that a process had so far, in MiB."""
    return _status(pid, "VmHWM")


def _status(pid: int, key: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key):
            return round(int(line.split()[1]) / 1024, 1)
    return 0.0


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds that a process has used, with its ended children's."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def per_task(before: dict[str, float], after: dict[str, float], tasks: int) -> dict[str, float]:
    """Return CPU milliseconds per task of each part, and of all together."""
    used = {name: (after[name] - before[name]) / tasks * 1000 for name in after if name in before}
    used["all"] = sum(used.values())
    return {name: round(value, 2) for name, value in used.items()}


def audit_position(audit_log: Path) -> int:
    """Return where the last whole line of the audit log ends now: the API server may be in the midst of one."""
    with audit_log.open("rb") as log:
        end = log.seek(0, os.SEEK_END)
        while end:
            begin = max(0, end - _LOOK_BACK)
            log.seek(begin)
            if found := log.read(end - begin).rfind(b"\n") + 1:
                return begin + found
            end = begin
    return 0


def writes_of_operator(audit_log: Path, since: int = 0) -> Counter[str]:
    """Return the operator's writes after position *since* by verb and resource; renewals of its Lease left out."""
    counts: Counter[str] = Counter()
    for event in operator_requests(audit_log, since):
        reference = event.get("objectRef") or {}
        parts = (event["verb"], reference.get("resource"), reference.get("subresource"))
        counts["/".join(part for part in parts if part)] += 1
    return counts


def operator_requests(audit_log: Path, since: int = 0) -> list[Json]:
    """Return the operator's writes after position *since* as the audit log has them; of its Lease left out."""
    return [
        event
        for event in audit_events(audit_log, since)
        if "longtask-operator" in (event.get("userAgent") or "")
        and event["verb"] in _WRITES
        and (event.get("objectRef") or {}).get("resource") != "leases"
    ]


def audit_events(audit_log: Path, since: int = 0) -> Iterable[dict[str, Any]]:
    """Yield the finished requests in the audit log after position *since*."""
    with audit_log.open("rb") as lines:
        lines.seek(since)
        for line in lines:
            if line.endswith(b"\n"):
                event: dict[str, Any] = json.loads(line)
                if event.get("stage") == "ResponseComplete":
                    yield event


def path_of_tasks(audit_log: Path, since: int = 0) -> dict[str, float]:
    """Return the median milliseconds of each part of the way from a task to its Job, as the API server saw it.

    A Job belongs to the last ledger that was written before it: right where few are admitted at once.
    """
    created: dict[str, _Span] = {}
    jobs: dict[str, _Span] = {}
    ledgers: list[_Span] = []
    for event in audit_events(audit_log, since):
        reference, span = event.get("objectRef") or {}, _Span.of(event)
        what, name = (event["verb"], reference.get("resource"), reference.get("subresource")), reference.get("name", "")
        if what == ("create", "longtasks", None):
            created[name] = span
        elif what == ("create", "jobs", None):
            jobs[name.rsplit("-", 2)[0]] = span
        elif what[1:] == ("configmaps", None) and what[0] in _WRITES:
            ledgers.append(span)
    parts: dict[str, list[float]] = {}
    for name in created.keys() & jobs.keys():
        task, job = created[name], jobs[name]
        written = [span for span in ledgers if task.end <= span.end <= job.begin]
        if written:
            ledger = max(written, key=lambda span: span.end)
            moments = (task.begin, task.end, ledger.begin, ledger.end, job.begin, job.end)
            for part, begin, end in zip(_PARTS, moments, moments[1:], strict=False):
                parts.setdefault(part, []).append((end - begin) * 1000)
    return {part: round(statistics.median(values), 2) for part, values in parts.items()}


_PARTS = ("create task", "until ledger", "write ledger", "until Job", "create Job")


class _Span(NamedTuple):
    """Begin and end of a request, in seconds."""

    begin: float
    end: float

    @classmethod
    def of(cls, event: Json) -> _Span:
        first, last = event["requestReceivedTimestamp"], event["stageTimestamp"]
        return cls(datetime.fromisoformat(first).timestamp(), datetime.fromisoformat(last).timestamp())


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return count, median, 99th percentile and largest of *values*, rounded to 2 places."""
    ordered = sorted(values)
    return {
        "count": len(ordered),
        "p50": round(statistics.median(ordered), 2),
        "p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 2),
        "max": round(ordered[-1], 2),
    }
