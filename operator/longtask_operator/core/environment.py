"""What a worker finds in its environment.

Everything generated has the prefix `LONGTASK_` and stays under 96 KiB in all. The kubelet
expands `$(X)` in values, so every `$` of ours is doubled: the worker gets each byte as
it was given.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from longtask_operator.api.data import NamedUri
from longtask_operator.api.errors import SpecError
from longtask_operator.api.longtask import EnvVar, LongTask
from longtask_operator.api.names import ANNOTATION_TRACEPARENT, ENV_PREFIX, REPORT_PATH
from longtask_operator.api.report import MAX_CHECKPOINT_URI
from longtask_operator.api.status import OlderCheckpoint
from longtask_operator.api.times import format_time
from longtask_operator.core.checkpoints import (
    DEFAULT_INTERVAL_SECONDS,
    MAX_OLDER,
    Resume,
    keep_of,
    prefix_of,
)
from longtask_operator.core.sizing import Size

MAX_PAYLOAD_BYTES = 16 * 1024
MAX_ENVIRONMENT_BYTES = 96 * 1024

CREDENTIALS_DIR = "/var/run/longtask"
PROGRESS_DIR = "/var/run/longtask-progress"
#: The one writable directory. A second volume costs the control plane 2 to 3 ms of CPU an attempt.
HOME_DIR = "/tmp"

EnvEntry = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFacts:
    """What an attempt's environment says about the attempt itself."""

    tenant: str
    run: int
    number: int
    size: Size
    deadline: datetime | None
    report_base: str  #: https://host:port of the report server
    resume: Resume | None = None  #: what it starts from; None: a fresh start
    queue: str | None = None  #: LocalQueue of Kueue that admits it; None: we did


def compact_json(value: Any) -> str:
    """Return *value* as compact JSON in UTF-8, never `\\u` escapes for printable text."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def build_environment(task: LongTask, facts: AttemptFacts) -> list[EnvEntry]:
    """Return the environment of the task container: ours first, then the user's.

    Raises:
        SpecError: if the payload or the whole is too large, or a name is reserved.
    """
    ours = [_literal(name, value) for name, value in _generated(task, facts).items()]
    users = [_users_entry(index, variable) for index, variable in enumerate(task.spec.env or ())]
    size = sum(len(entry["name"]) + len(str(entry.get("value", "")).encode()) + 2 for entry in ours + users)
    if size > MAX_ENVIRONMENT_BYTES:
        raise SpecError(
            "spec", f"the environment has {size} bytes, at most {MAX_ENVIRONMENT_BYTES} are allowed; pass data by URI"
        )
    return ours + users


def check_environment(task: LongTask) -> None:
    """Raise SpecError where `build_environment` would, whatever the attempt."""
    longest = Size(cpu=10**9, memory=10**15)
    base = "https://" + "x" * 253 + ":65535"
    one = OlderCheckpoint(uri="x" * MAX_CHECKPOINT_URI, sha256="0" * 64)
    facts = AttemptFacts(
        tenant="x" * 63,
        run=10**9,
        number=10**9,
        size=longest,
        deadline=None,
        report_base=base,
        resume=Resume(newest=one, older=(one,) * MAX_OLDER),
    )
    build_environment(task, facts)


def build_report_environment(task: LongTask, facts: AttemptFacts) -> list[EnvEntry]:
    """Return the part of the environment that reporting needs: what the sidecar gets."""
    names = ("NAME", "NAMESPACE", "UID", "ATTEMPT", "REPORT_URL", "TOKEN_FILE", "CA_FILE", "PROGRESS_FILE")
    generated = _generated(task, facts)
    return [
        _literal(ENV_PREFIX + name, generated[ENV_PREFIX + name]) for name in names if ENV_PREFIX + name in generated
    ]


def check_payload(payload: dict[str, Any] | None) -> str:
    """Return the payload as the worker will read it. Raises SpecError where it is over 16 KiB."""
    text = compact_json(payload or {})
    if (size := len(text.encode())) > MAX_PAYLOAD_BYTES:
        raise SpecError(
            "spec.payload",
            f"has {size} bytes as compact JSON, at most {MAX_PAYLOAD_BYTES} are allowed; pass data by URI",
        )
    return text


def _generated(task: LongTask, facts: AttemptFacts) -> dict[str, str]:
    meta, spec = task.metadata, task.spec
    path = REPORT_PATH.format(namespace=meta.namespace, name=meta.name, attempt=facts.number)
    values = {
        "NAME": meta.name,
        "NAMESPACE": meta.namespace,
        "UID": meta.uid,
        "TENANT": facts.tenant,
        "RUN": str(facts.run),
        "ATTEMPT": str(facts.number),
        "PAYLOAD": check_payload(spec.payload),
        "INPUTS": _uris(spec.inputs),
        "OUTPUTS": _uris(spec.outputs),
        "CPU": str(facts.size.cpu),
        "MEMORY": str(facts.size.memory),
        "REPORT_URL": facts.report_base + path,
        "TOKEN_FILE": f"{CREDENTIALS_DIR}/token",
        "CA_FILE": f"{CREDENTIALS_DIR}/ca.crt",
    }
    if facts.deadline:
        values["DEADLINE"] = format_time(facts.deadline)
    if spec.progress_file:
        values["PROGRESS_FILE"] = f"{PROGRESS_DIR}/progress"
    values |= _checkpoints(task, facts)
    environment = {ENV_PREFIX + name: value for name, value in values.items()} | {"HOME": HOME_DIR}
    if trace := meta.annotations.get(ANNOTATION_TRACEPARENT):
        environment["TRACEPARENT"] = trace[:256]
    return environment


def _checkpoints(task: LongTask, facts: AttemptFacts) -> dict[str, str]:
    """Return where to save checkpoints, and what to resume from; nothing for a task without `spec.checkpoint`."""
    spec, resume = task.spec.checkpoint, facts.resume
    if spec is None:
        return {}
    values = {
        "CHECKPOINT_URI": prefix_of(spec, task.metadata.uid, facts.number),
        "CHECKPOINT_INTERVAL": str(spec.interval_seconds or DEFAULT_INTERVAL_SECONDS),
        "CHECKPOINT_KEEP": str(keep_of(spec)),
    }
    if resume:
        values |= {"RESUME_URI": resume.newest.uri, "RESUME_SHA256": resume.newest.sha256}
    if resume and resume.older:
        values["RESUME_OLDER"] = compact_json([{"uri": one.uri, "sha256": one.sha256} for one in resume.older])
    return values


def _literal(name: str, value: str) -> EnvEntry:
    return {"name": name, "value": value.replace("$", "$$")}


def _uris(entries: Sequence[NamedUri] | None) -> str:
    return compact_json([{"name": entry.name, "uri": entry.uri} for entry in entries or ()])


def _users_entry(index: int, variable: EnvVar) -> EnvEntry:
    if variable.name.startswith(ENV_PREFIX):
        raise SpecError(
            f"spec.env[{index}].name", f"{variable.name}: names that start with {ENV_PREFIX} are set by the operator"
        )
    return variable.model_dump(by_alias=True, exclude_none=True)
