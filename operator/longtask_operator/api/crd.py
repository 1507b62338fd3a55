"""The CustomResourceDefinitions, as plain data; `tools/generate.py` writes them to `crds/`.

What the schema says: types, bounds and enums. What CEL here says: transitions of **status**, and the
length of the name. Every other rule about spec is a policy of the chart, because a rule here would
refuse our own status writes to objects that are older than the rule. Patterns of spec are left to the
policies too: they answer with a sentence instead of a regular expression.
"""

from __future__ import annotations

from typing import Any

from longtask_operator.api.longtask import LongTaskSpec
from longtask_operator.api.names import (
    GROUP,
    LONGTASK_KIND,
    LONGTASK_PLURAL,
    MAX_NAME_LENGTH,
    TENANTQUOTA_KIND,
    TENANTQUOTA_PLURAL,
    VERSION,
)
from longtask_operator.api.schema import Schema, to_structural
from longtask_operator.api.status import LongTaskStatus
from longtask_operator.api.tenantquota import TenantQuotaSpec, TenantQuotaStatus

#: Seen by whoever reads the object before the operator's first visit: kstatus then says InProgress, not Current.
STATUS_DEFAULT: dict[str, Any] = {"observedGeneration": -1}

DESCRIPTION = (
    "LongTask is one unit of work that runs to its end: a container image, its input, its size, and what to do "
    "when an attempt fails. Each attempt is one Job. Follow it with `kubectl get longtasks -w`, wait for its end "
    "with `kubectl wait --for=condition=Finished`, and read the condition Succeeded for the outcome."
)

#: (name, type, JSON path, description, shown only with -o wide)
_COLUMNS = (
    ("Tenant", "string", ".status.tenant", "Tenant the task counts for.", False),
    ("Phase", "string", ".status.phase", "What the task does now.", False),
    ("Progress", "string", ".status.progress.display", "How far the newest attempt is.", False),
    ("Attempt", "integer", ".status.attempt", "Number of the newest attempt.", False),
    ("Age", "date", ".metadata.creationTimestamp", "Time since creation.", False),
    ("Size", "string", ".status.sizing.display", "CPU and memory of the newest attempt.", True),
    ("Reason", "string", ".status.reason", "Why the task is in this phase.", True),
    ("Job", "string", ".status.jobName", "Job of the newest attempt.", True),
)

_SELECTABLE = (".status.phase", ".status.tenant", ".status.deadLettered", ".spec.idempotencyKey")

QUOTA_DESCRIPTION = (
    "TenantQuota says what the tenant of its name may use: attempts at the same time, CPU and memory. Tasks beyond it "
    "wait in order of priority and age. Everything may be changed at any time; lowering a "
    "limit alone stops nothing that runs."
)

_QUOTA_COLUMNS = (
    ("Cohort", "string", ".spec.cohort", "Tenants that lend each other what they do not use.", False),
    ("Admitted", "integer", ".status.admitted", "Attempts that hold quota.", False),
    ("Queued", "integer", ".status.queued", "Tasks that wait for admission.", False),
    ("CPU", "string", ".status.usage.cpu", "CPU that live attempts hold.", False),
    ("Memory", "string", ".status.usage.memory", "Memory that live attempts hold.", False),
    ("Stop", "string", ".spec.stopPolicy", "Whether admission is stopped.", False),
    ("Age", "date", ".metadata.creationTimestamp", "Time since creation.", False),
)

_FINISHED = "conditions.exists(c, c.type == 'Finished' && c.status == 'True')"


def longtask_crd() -> dict[str, Any]:
    """Return the CustomResourceDefinition of LongTask, ready to be written as YAML."""
    # The only kind of this category: with a second one `kubectl get longtask NAME` would be ambiguous.
    names = {"kind": LONGTASK_KIND, "plural": LONGTASK_PLURAL, "shortNames": ["lt"], "categories": ["longtask"]}
    version = {
        "additionalPrinterColumns": [_column(*column) for column in _COLUMNS],
        "selectableFields": [{"jsonPath": path} for path in _SELECTABLE],
        "schema": {"openAPIV3Schema": _root()},
    }
    return _definition("Namespaced", names, version)


def tenantquota_crd() -> dict[str, Any]:
    """Return the CustomResourceDefinition of TenantQuota, ready to be written as YAML."""
    names = {"kind": TENANTQUOTA_KIND, "plural": TENANTQUOTA_PLURAL, "shortNames": ["tq"]}
    version = {
        "additionalPrinterColumns": [_column(*column) for column in _QUOTA_COLUMNS],
        "schema": {"openAPIV3Schema": _quota_root()},
    }
    return _definition("Cluster", names, version)


def _definition(scope: str, names: dict[str, Any], version: dict[str, Any]) -> dict[str, Any]:
    kind, plural = names["kind"], names["plural"]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": scope,
            "names": {**names, "listKind": f"{kind}List", "singular": kind.lower()},
            "versions": [{"name": VERSION, "served": True, "storage": True, "subresources": {"status": {}}, **version}],
        },
    }


def _quota_root() -> Schema:
    return {
        "type": "object",
        "description": QUOTA_DESCRIPTION,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"{GROUP}/{VERSION}."},
            "kind": {"type": "string", "description": f"{TENANTQUOTA_KIND}."},
            "metadata": {"type": "object"},
            "spec": to_structural(TenantQuotaSpec, "spec"),
            "status": {**to_structural(TenantQuotaStatus, "status"), "default": STATUS_DEFAULT},
        },
    }


def _column(name: str, kind: str, path: str, description: str, wide: bool) -> dict[str, Any]:
    column = {"name": name, "type": kind, "jsonPath": path, "description": description}
    return {**column, "priority": 1} if wide else column


def _root() -> Schema:
    return {
        "type": "object",
        "description": DESCRIPTION,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"{GROUP}/{VERSION}."},
            "kind": {"type": "string", "description": f"{LONGTASK_KIND}."},
            # The name stands here only so that the rule below can point at it.
            "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
            "spec": _without_patterns(to_structural(LongTaskSpec, "spec")),
            "status": _task_status(),
        },
        "x-kubernetes-validations": [_name_rule()],
    }


def _without_patterns(schema: Schema) -> Schema:
    """Return *schema* without the word `pattern`; a property of that name would stay."""
    result = {word: value for word, value in schema.items() if word != "pattern"}
    for word in ("items", "additionalProperties"):
        if word in result:
            result[word] = _without_patterns(result[word])
    if "properties" in result:
        result["properties"] = {name: _without_patterns(field) for name, field in result["properties"].items()}
    return result


def _name_rule() -> dict[str, Any]:
    return {
        "rule": f"size(self.metadata.name) <= {MAX_NAME_LENGTH} && !self.metadata.name.contains('.')",
        "message": f"metadata.name must be at most {MAX_NAME_LENGTH} lower-case letters, digits and dashes, without "
        "dots; choose a shorter or simpler name",
        "fieldPath": ".metadata.name",
    }


def _task_status() -> Schema:
    """Return the schema of status. The operator alone writes it, so each part but conditions is owned whole.

    An owner of each single field makes a finished task an eighth larger, and each write of it dearer.
    """
    schema = to_structural(LongTaskStatus, "status")
    parts = {
        name: {**part, "x-kubernetes-map-type": "atomic"} if part["type"] == "object" else part
        for name, part in schema["properties"].items()
    }
    return {
        **schema,
        "properties": parts,
        "default": STATUS_DEFAULT,
        "x-kubernetes-validations": _transition_rules(),
    }


def _transition_rules() -> list[dict[str, Any]]:
    """Rules on status that hold whoever writes it; written with has(), other forms exceed the cost budget.

    They stand at status, which its default keeps from being absent: from the root each takes twice the look-ups.
    """
    return [
        _set_once_rule("tenant", "==", "status.tenant is fixed once set; keep it as it is"),
        _set_once_rule("attempt", ">=", "status.attempt never falls; keep it or raise it"),
        _set_once_rule("run", ">=", "status.run never falls; keep it or raise it"),
        {
            "rule": f"!has(oldSelf.conditions) || !oldSelf.{_FINISHED} || has(self.conditions) && self.{_FINISHED} || "
            "has(self.run) && has(oldSelf.run) && self.run > oldSelf.run",
            "message": "a finished task stays finished; only a new run (status.run raised) may leave Finished",
            "fieldPath": ".conditions",
        },
        {
            "rule": "!has(oldSelf.checkpoint) || !has(self.checkpoint) || "
            "self.checkpoint.attempt >= oldSelf.checkpoint.attempt",
            "message": "status.checkpoint never goes back to that of an older attempt",
            "fieldPath": ".checkpoint",
        },
    ]


def _set_once_rule(field: str, comparison: str, message: str) -> dict[str, Any]:
    """A field that, once there, cannot vanish and changes only as *comparison* allows."""
    return {
        "rule": f"!has(oldSelf.{field}) || has(self.{field}) && self.{field} {comparison} oldSelf.{field}",
        "message": message,
        "fieldPath": f".{field}",
    }
