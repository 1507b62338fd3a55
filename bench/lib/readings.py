"""What is read from the machine and from the API server's audit log."""

from __future__ import annotations

import json
import os
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Json = dict[str, Any]
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
    """Return where the audit log ends now."""
    return audit_log.stat().st_size


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


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return count, median, 99th percentile and largest of *values*, rounded to 2 places."""
    ordered = sorted(values)
    return {
        "count": len(ordered),
        "p50": round(statistics.median(ordered), 2),
        "p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 2),
        "max": round(ordered[-1], 2),
    }
