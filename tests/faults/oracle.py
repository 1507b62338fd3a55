"""What a trial is judged by: the end state and the counts of creations, both held against a run without faults.

Times, uids and names made from them differ between two runs of a scenario and are masked; all else must be equal.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from tests.support.auditor_history import Change

Json = dict[str, Any]
FINALIZER = "longtask.dev/accounting"
#: Of a status: measured, or made from what is masked anyway. The peak is lost with the operator that heard of it last.
_MASKED_KEYS = {"uid", "podUid", "podName", "since", "usage", "estimatedStart", "estimatedFinish", "peakMemory"} | {
    "longestStepSeconds"
}
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)")
#: Where the number of an attempt stands in names, sentences and a pod's line.
_NUMBER = re.compile(r"(<uid \d+>-|attempt |^\S+ )\d+(?= |$)")
#: The name of a pod ends with what its Job's controller made up.
_POD = re.compile(r"(<uid \d+>-\d+)-[a-z0-9]{5}\b")
_CREATED = ("LongTask", "Job", "Pod")


def masked(value: Any, words: Mapping[str, str]) -> Any:
    """Return *value* without what differs between two equal runs; each of *words* is replaced by what it maps to."""
    if isinstance(value, dict):
        kept = {key: entry for key, entry in value.items() if key not in _MASKED_KEYS and not key.endswith("Time")}
        found = {masked(key, words): (entry, masked(entry, words)) for key, entry in kept.items()}
        # What holds nothing but times says no more than they do: a report without a count, heard or lost in a crash.
        return {key: after for key, (before, after) in found.items() if after != {} or before == {}}
    if isinstance(value, list):
        return [masked(entry, words) for entry in value]
    if not isinstance(value, str):
        return value
    for word, stands_for in words.items():
        value = value.replace(word, stands_for)
    return _POD.sub(r"\1-<pod>", _TIME.sub("<time>", value))


def state_of(
    tasks: Iterable[Json], jobs: Iterable[Json], pods: Iterable[Json], ledgers: Iterable[str], words: Mapping[str, str]
) -> Json:
    """Return all that stands in a namespace, masked with *words*; of ledgers only lines that begin with one of them."""
    lines = [line for text in ledgers for line in text.splitlines() if line.split()[0] in words]
    found = {
        "tasks": {task["metadata"]["name"]: {"status": task.get("status") or {}, **_meta(task)} for task in tasks},
        "jobs": {job["metadata"]["name"]: {"ended": _conditions(job), **_meta(job)} for job in jobs},
        "pods": sorted(_pod(pod) for pod in pods),
        "ledger": sorted(lines),
    }
    result: Json = masked(found, words)
    return result


def without_numbers(value: Any) -> Any:
    """Return a masked state without the numbers of attempts."""
    if isinstance(value, dict):
        kept = {key: entry for key, entry in value.items() if key not in ("attempt", "number")}
        return {without_numbers(key): without_numbers(entry) for key, entry in kept.items()}
    if isinstance(value, list):
        return [without_numbers(entry) for entry in value]
    return _NUMBER.sub(r"\1<n>", value) if isinstance(value, str) else value


def words_of(uids: Iterable[str], suffix: str, namespace: str) -> dict[str, str]:
    """Return what stands for a trial's namespace, for its tasks' uids, in names too, and their names' *suffix*."""
    whole = {uid: f"<uid {number}>" for number, uid in enumerate(uids, 1)}
    short = {f"-{uid[:6]}-": f"-{word}-" for uid, word in whole.items()}
    return {**whole, **short, suffix: "", namespace: "<namespace>"}


def differences(wanted: Any, found: Any, path: str = "") -> list[str]:
    """Return where two masked states differ, as sentences."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        keys = sorted(set(wanted) | set(found))
        return [line for key in keys for line in differences(wanted.get(key), found.get(key), f"{path}.{key}")]
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        pairs = enumerate(zip(wanted, found, strict=True))
        return [line for number, (a, b) in pairs for line in differences(a, b, f"{path}[{number}]")]
    return [] if wanted == found else [f"{path.lstrip('.')} is {found!r}, without the fault {wanted!r}"]


def creations(history: Iterable[Change]) -> Counter[str]:
    """Count how many objects of each kind were created and went, and how often `Stuck` began, by its reason."""
    counts: Counter[str] = Counter()
    present: set[tuple[str, str, str]] = set()
    warned: dict[str, str] = {}
    for change in history:
        if change.kind == "LongTask":
            began, reason = _stuck(change.body or {})
            counts.update([f"Stuck {reason} began"] if began not in ("", warned.get(change.name)) else [])
            warned[change.name] = began
        key = (change.kind, change.namespace, change.name)
        if change.kind not in _CREATED:
            continue
        if change.body is None and key in present:
            present.discard(key)
            counts[f"{change.kind} deleted"] += 1
        elif change.body is not None and key not in present:
            present.add(key)
            counts[f"{change.kind} created"] += 1
    return counts


def _stuck(task: Json) -> tuple[str, str]:
    """Return since when a LongTask says that it is stuck, and the reason; empty where it does not."""
    conditions = (task.get("status") or {}).get("conditions") or []
    found = next((one for one in conditions if one["type"] == "Stuck" and one["status"] == "True"), None)
    return (f"{found['reason']} {found['lastTransitionTime']}", found["reason"]) if found else ("", "")


def is_ended(job: Json) -> bool:
    """Tell whether a Job is complete or failed."""
    return bool(_conditions(job))


def _meta(body: Json) -> Json:
    meta = body["metadata"]
    return {"deleting": "deletionTimestamp" in meta, "finalizers": meta.get("finalizers") or []}


def _pod(pod: Json) -> str:
    labels = pod["metadata"].get("labels") or {}
    held = FINALIZER in (pod["metadata"].get("finalizers") or [])
    deleting = "deletionTimestamp" in pod["metadata"]
    phase = (pod.get("status") or {}).get("phase")
    return f"{labels.get('longtask.dev/task')} {labels.get('longtask.dev/attempt')} {phase} {held=} {deleting=}"


def _conditions(job: Json) -> list[str]:
    conditions = (job.get("status") or {}).get("conditions") or []
    return sorted(c["type"] for c in conditions if c["status"] == "True" and c["type"] in ("Complete", "Failed"))
