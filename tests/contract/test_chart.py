"""The chart against the operator's code: settings, names, bounds, CRDs."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from annotated_types import Ge, Gt, Le

from longtask_operator.api import names
from longtask_operator.api.quantity import parse_memory
from longtask_operator.core.input_hint import parse_input_rules
from longtask_operator.settings import ENV_PREFIX, Settings
from tests.chart.rendering import (
    CHART,
    EVERYTHING,
    ROOT,
    SCHEMA,
    environment,
    objects,
    one,
    operator_container,
    render,
    value_at,
)
from tests.support.quantities import NO_QUANTITIES, QUANTITIES

#: Set per pod by the downward API.
DOWNWARD = {"NAMESPACE", "IDENTITY", "POD_IP"}

#: Settings that are quantities, of any type that YAML gives them.
QUANTITY_SETTINGS = ("default_cpu", "default_memory")
#: Chart value of each setting that has one of its own.
VALUE_OF = {
    "log_level": "log.level",
    "log_format": "log.format",
    "lease_name": "lease.name",
    "lease_duration_seconds": "lease.durationSeconds",
    "lease_renew_deadline_seconds": "lease.renewDeadlineSeconds",
    "lease_retry_seconds": "lease.retrySeconds",
    "workers": "workers",
    "api_connections": "api.connections",
    "relist_seconds": "api.relistSeconds",
    "input_wait_seconds": "sizing.inputs.waitSeconds",
    "history_days": "sizing.history.days",
    "history_quantile_percent": "sizing.history.quantilePercent",
    "history_headroom_percent": "sizing.history.headroomPercent",
    "live_threshold_percent": "sizing.live.thresholdPercent",
    "tenants_unlabelled": "tenants.unlabelled",
    "kueue": "kueue.enabled",
    "default_concurrency": "defaultTenantQuota.concurrency",
    "default_cpu": "defaultTenantQuota.cpu",
    "default_memory": "defaultTenantQuota.memory",
    "attempt_retention_seconds": "attemptRetentionSeconds",
    "termination_grace_seconds": "terminationGraceSeconds",
    "start_limit_config_seconds": "startLimits.configSeconds",
    "start_limit_image_seconds": "startLimits.imageSeconds",
    "start_limit_container_seconds": "startLimits.containerSeconds",
    "checkpoint_wait_seconds": "stopping.checkpointWaitSeconds",
    "cancel_wait_seconds": "stopping.cancelWaitSeconds",
    "ephemeral_storage_limit": "ephemeralStorageLimit",
    "image_pull_policy": "task.imagePullPolicy",
    "report_port": "reports.port",
    "report_certificate_days": "reports.certificateDays",
    "progress_interval_seconds": "progress.intervalSeconds",
    "progress_writes_per_second": "progress.writesPerSecond",
    "http_port": "metrics.port",
    "metrics_max_tenants": "metrics.maxTenants",
}
#: Settings whose value the chart composes from several values.
COMPOSED = {
    "created_by",
    "ladder",
    "input_rules",
    "input_uris",
    "copied_labels",
    "sidecar_image",
    "report_host",
    "report_service",
}


def schema_of(path: str) -> dict[str, Any]:
    node = SCHEMA
    for key in path.split("."):
        node = node["properties"][key]
    return node


def test_every_setting_is_an_environment_variable_of_the_operator_and_back() -> None:
    ours = {item["name"] for item in operator_container()["env"] if item["name"].startswith(ENV_PREFIX)}
    assert ours == {f"{ENV_PREFIX}{field.upper()}" for field in Settings.model_fields}


def test_downward_variables_come_from_the_pod() -> None:
    paths = {
        item["name"].removeprefix(ENV_PREFIX): item["valueFrom"]["fieldRef"]["fieldPath"]
        for item in operator_container()["env"]
        if "valueFrom" in item
    }
    assert paths == {"NAMESPACE": "metadata.namespace", "IDENTITY": "metadata.name", "POD_IP": "status.podIP"}


def test_every_setting_has_a_value_or_is_composed() -> None:
    assert set(VALUE_OF) | COMPOSED | {name.lower() for name in DOWNWARD} == set(Settings.model_fields)


def test_the_operator_reads_what_the_chart_gives_and_the_defaults_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    given = Settings().model_dump()
    assert given == Settings.model_construct().model_dump()


@pytest.mark.parametrize("field", QUANTITY_SETTINGS)
def test_the_schema_takes_what_the_operator_reads_as_a_quantity(field: str) -> None:
    schema = schema_of(VALUE_OF[field])
    pattern = schema["pattern"]
    assert schema["minimum"] == 0, "a number is no text that the pattern could judge"
    assert [text for text in QUANTITIES if not re.search(pattern, str(text))] == []
    empty, *others = NO_QUANTITIES
    assert re.search(pattern, empty), "which does not limit"
    assert [text for text in others if re.search(pattern, text)] == []


@pytest.mark.parametrize("field", [field for field in VALUE_OF if field not in QUANTITY_SETTINGS])
def test_the_schema_has_the_bounds_of_the_setting(field: str) -> None:
    schema = schema_of(VALUE_OF[field])
    bounds: dict[str, Any] = {}
    for rule in Settings.model_fields[field].metadata:
        key = {Ge: "minimum", Gt: "exclusiveMinimum", Le: "maximum"}.get(type(rule))
        if key:
            bounds[key] = next(iter(vars_of(rule)))
    shown = {key: schema[key] for key in ("minimum", "exclusiveMinimum", "maximum") if key in schema}
    assert shown == bounds
    choices = getattr(Settings.model_fields[field].annotation, "__args__", None)
    assert schema.get("enum") == (list(choices) if choices else None)


def vars_of(rule: Ge | Gt | Le) -> list[Any]:
    return [getattr(rule, slot) for slot in ("ge", "gt", "le") if hasattr(rule, slot)]


@pytest.mark.parametrize("field", VALUE_OF)
def test_the_value_reaches_its_setting(field: str) -> None:
    path = tuple(VALUE_OF[field].split("."))
    value = value_at(path)
    written = str(value).lower() if isinstance(value, bool) else str(value)
    assert written == environment()[f"{ENV_PREFIX}{field.upper()}"]


def test_the_operator_reads_the_rules_for_inputs_as_they_stand_in_the_values() -> None:
    written = [
        {"image": "r:5000/etl/load", "base": "1500M", "percent": 10000},
        {"image": "*", "base": "256Mi", "percent": 0},
    ]
    text = environment({"sizing": {"inputs": {"rules": written}}})[f"{ENV_PREFIX}INPUT_RULES"]
    read = [{"image": r.image, "base": r.base, "percent": r.percent} for r in parse_input_rules(text)]
    assert read == [rule | {"base": parse_memory(str(rule["base"]))} for rule in written]


def test_crds_of_the_chart_are_the_generated_ones() -> None:
    ours = {path.name: path.read_text() for path in (CHART / "files" / "crds").glob("*.yaml")}
    generated = {path.name: path.read_text() for path in (ROOT / "crds").glob("*.yaml")}
    assert ours, "copy crds/*.yaml to charts/longtask/files/crds/"
    assert ours == generated


def test_rendering_does_not_change_a_crd() -> None:
    """Helm parses and prints them: numbers, long texts and patterns must survive."""
    for path in (ROOT / "crds").glob("*.yaml"):
        crd = yaml.safe_load(path.read_text())
        assert one("CustomResourceDefinition", crd["metadata"]["name"])["spec"] == crd["spec"]


def test_names_in_the_chart_are_those_of_the_code() -> None:
    script = (CHART / "files" / "scripts" / "release_pods.py").read_text()
    assert f'FINALIZER = "{names.FINALIZER}"' in script
    assert f'SELECTOR = "{names.LABEL_MANAGED_BY}={names.MANAGED_BY}"' in script
    smoke = (CHART / "files" / "scripts" / "smoke_test.py").read_text()
    assert f'"{names.API_VERSION}"' in smoke
    assert f"/apis/{names.API_VERSION}/" in smoke
    policy = one("NetworkPolicy", "longtask-operator", EVERYTHING)["spec"]
    assert policy["ingress"][0]["from"][0]["podSelector"] == {"matchLabels": {names.LABEL_MANAGED_BY: names.MANAGED_BY}}


def test_roles_speak_of_our_group_and_plural_only() -> None:
    roles = [o for o in objects(EVERYTHING) if o["kind"] in ("Role", "ClusterRole")]
    ours = [r for role in roles for r in role["rules"] if any("longtask" in g for g in r.get("apiGroups", []))]
    assert {group for rule in ours for group in rule["apiGroups"]} == {names.GROUP}
    plurals = {names.LONGTASK_PLURAL, names.TENANTQUOTA_PLURAL}
    assert {r for rule in ours for r in rule["resources"]} == plurals | {f"{plural}/status" for plural in plurals}


def test_no_finalizer_of_another_name_is_written() -> None:
    assert names.FINALIZER in render()


def test_kubernetes_version_in_the_docs_is_the_charts() -> None:
    wanted = yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"].removeprefix(">=").removesuffix(".0-0")
    assert f"Kubernetes {wanted}" in (ROOT / "docs" / "how-to" / "install.md").read_text()
