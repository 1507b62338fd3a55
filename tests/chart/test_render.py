"""What the chart renders: the operator's pod, its permissions, Services, hooks and options."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.chart.rendering import EVERYTHING, NAMESPACE, environment, objects, one, operator_container, render

DIGEST = "sha256:" + "a" * 64
CLUSTER_SCOPED = {
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}


def pod_templates(values: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return (kind/name, pod spec) of everything that makes pods."""
    return [
        (f"{item['kind']}/{item['metadata']['name']}", item["spec"]["template"]["spec"])
        for item in objects(values)
        if item["kind"] in ("Deployment", "Job")
    ]


def test_every_pod_is_hardened() -> None:
    pods = pod_templates(EVERYTHING)
    assert {name for name, _ in pods} == {
        "Deployment/longtask-operator",
        "Job/longtask-test",
        "Job/longtask-release-pods",
    }
    for _, pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 65532
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert set(container["resources"]["limits"]) == {"memory"}


def test_every_pod_can_pull_and_be_placed() -> None:
    values = {
        "image": {"pullSecrets": ["registry"]},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    }
    for _, pod in pod_templates(values):
        assert pod["imagePullSecrets"] == [{"name": "registry"}]
        assert pod["nodeSelector"] == {"disk": "ssd"}
        assert pod["tolerations"] == [{"key": "dedicated", "operator": "Exists"}]


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ({}, "longtask/operator:0.1.0"),
        ({"tag": "1.2"}, "longtask/operator:1.2"),
        ({"registry": "r.example:5000", "repository": "a/b"}, "r.example:5000/a/b:0.1.0"),
        ({"registry": "r.example", "tag": "1.2", "digest": DIGEST}, f"r.example/longtask/operator@{DIGEST}"),
        ({"tag": f"1.2@{DIGEST}"}, f"longtask/operator:1.2@{DIGEST}"),
    ],
)
def test_image_reference(image: dict[str, str], reference: str) -> None:
    assert operator_container({"image": image})["image"] == reference


def test_sidecar_image_takes_the_operators_registry_unless_it_has_its_own() -> None:
    name = "LONGTASK_OPERATOR_SIDECAR_IMAGE"
    assert environment()[name] == "longtask/worker:0.1.0"
    assert environment({"image": {"registry": "r.example"}})[name] == "r.example/longtask/worker:0.1.0"
    values = {"image": {"registry": "r.example"}, "sidecar": {"image": {"registry": "s.example", "tag": "2"}}}
    assert environment(values)[name] == "s.example/longtask/worker:2"


def test_whole_numbers_stay_whole_in_the_environment() -> None:
    """Helm reads numbers as floats and prints large ones as 2.592e+06."""
    values = {
        "attemptRetentionSeconds": 2_592_000,
        "api": {"relistSeconds": 86_400},
        "uninstall": {"timeoutSeconds": 3600},
    }
    assert environment(values)["LONGTASK_OPERATOR_ATTEMPT_RETENTION_SECONDS"] == "2592000"
    assert environment(values)["LONGTASK_OPERATOR_RELIST_SECONDS"] == "86400"
    assert "e+0" not in render(values)


def test_probes_ask_the_http_port() -> None:
    container = operator_container({"metrics": {"port": 9090}})
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {"http": 9090, "reports": 8443}


def test_reports_service_has_no_selector_and_matches_the_url() -> None:
    values = {"reports": {"port": 9443}}
    service = one("Service", "longtask-reports", values)
    assert "selector" not in service["spec"]
    assert service["spec"]["ports"] == [{"name": "reports", "port": 9443, "targetPort": 9443, "protocol": "TCP"}]
    assert environment(values)["LONGTASK_OPERATOR_REPORT_HOST"] == f"longtask-reports.{NAMESPACE}.svc"
    assert environment(values)["LONGTASK_OPERATOR_REPORT_PORT"] == "9443"


def test_names_follow_the_release() -> None:
    rendered = objects(EVERYTHING, release="batch")
    service = next(o for o in rendered if o["kind"] == "Service" and "selector" not in o["spec"])
    deployment = next(o for o in rendered if o["kind"] == "Deployment")
    env = {e["name"]: e.get("value") for e in deployment["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert service["metadata"]["name"] == env["LONGTASK_OPERATOR_REPORT_SERVICE"] == "batch-longtask-reports"
    assert deployment["metadata"]["name"] == "batch-longtask-operator"


def test_selectors_match_the_operators_pods_and_no_others() -> None:
    deployment = one("Deployment", "longtask-operator", EVERYTHING)
    selector = deployment["spec"]["selector"]["matchLabels"]
    assert selector.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    for kind, name in [("Service", "longtask-metrics"), ("PodDisruptionBudget", "longtask-operator")]:
        found = one(kind, name, EVERYTHING)["spec"]["selector"]
        assert found.get("matchLabels", found) == selector
    for job in ("longtask-test", "longtask-release-pods"):
        labels = one("Job", job, EVERYTHING)["spec"]["template"]["metadata"]["labels"]
        assert not selector.items() <= labels.items()


def test_no_object_of_the_chart_looks_like_a_task() -> None:
    """Policies and caches select managed-by=longtask; podLabels and commonLabels cannot forge it."""
    values = {**EVERYTHING, "commonLabels": {"app.kubernetes.io/managed-by": "longtask"}}
    values["podLabels"] = values["commonLabels"]
    assert "app.kubernetes.io/managed-by: longtask" not in render(values).replace(
        "matchLabels: {app.kubernetes.io/managed-by: longtask}", ""
    )


def test_every_object_has_the_labels_and_a_namespace() -> None:
    for item in objects({**EVERYTHING, "extraObjects": [], "commonLabels": {"team": "platform"}}):
        labels = item["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "longtask", item["metadata"]["name"]
        assert labels["helm.sh/chart"] == "longtask-0.1.0"
        assert labels["team"] == "platform"
        theirs = "kube-node-lease" if item["metadata"]["name"] == "longtask-nodes" else NAMESPACE
        assert (item["metadata"].get("namespace") == theirs) is (item["kind"] not in CLUSTER_SCOPED), item["kind"]


def test_no_name_is_given_twice() -> None:
    names = [(o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in objects(EVERYTHING)]
    assert len(names) == len(set(names))


def test_crds_are_kept_unless_told_otherwise() -> None:
    crd = one("CustomResourceDefinition", "longtasks.longtask.dev")
    assert crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    crd = one("CustomResourceDefinition", "longtasks.longtask.dev", {"crds": {"keep": False}})
    assert "helm.sh/resource-policy" not in crd["metadata"].get("annotations", {})
    assert not [o for o in objects({"crds": {"install": False}}) if o["kind"] == "CustomResourceDefinition"]


def rules(kind: str, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = one(kind, name, EVERYTHING)["rules"]
    return found


@pytest.mark.parametrize(
    ("kind", "name"),
    [(o["kind"], o["metadata"]["name"]) for o in objects(EVERYTHING) if o["kind"] in ("Role", "ClusterRole")],
)
def test_no_role_has_a_wildcard_or_can_raise_itself(kind: str, name: str) -> None:
    for rule in rules(kind, name):
        assert "*" not in [*rule["verbs"], *rule.get("resources", []), *rule.get("apiGroups", [])]
        assert not {"bind", "escalate", "impersonate"} & set(rule["verbs"])
        assert not set(rule.get("resources", [])) & {"pods/exec", "serviceaccounts/token", "nodes"}


def test_the_operator_reads_secrets_only_by_name_and_only_in_its_namespace() -> None:
    assert not [rule for rule in rules("ClusterRole", "longtask-operator") if "secrets" in rule.get("resources", [])]
    for rule in rules("Role", "longtask-operator"):
        if "secrets" in rule["resources"]:
            assert rule["verbs"] == ["create"] or rule["resourceNames"] == ["longtask-report-ca"]


def test_of_nodes_the_operator_reads_nothing_but_a_lease_by_its_name() -> None:
    assert rules("Role", "longtask-nodes") == [
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get"]}
    ]


def test_no_aggregated_role_touches_status() -> None:
    for name, kinds in (("longtask-viewer", {"longtasks", "tenantquotas"}), ("longtask-editor", {"longtasks"})):
        assert {resource for rule in rules("ClusterRole", name) for resource in rule["resources"]} == kinds


def test_service_account_can_be_brought() -> None:
    values = {"serviceAccount": {"create": False, "name": "mine"}}
    assert one("Deployment", "longtask-operator", values)["spec"]["template"]["spec"]["serviceAccountName"] == "mine"
    assert one("ClusterRoleBinding", "longtask-operator", values)["subjects"] == [
        {"kind": "ServiceAccount", "name": "mine", "namespace": NAMESPACE}
    ]
    assert not [o for o in objects(values) if o["kind"] == "ServiceAccount" and o["metadata"]["name"] == "mine"]


def test_network_policy_lets_tasks_report_from_every_namespace() -> None:
    policy = one("NetworkPolicy", "longtask-operator", {"networkPolicy": {"enabled": True}})["spec"]
    reports, metrics = policy["ingress"]
    tasks, itself = reports["from"]
    assert tasks == {
        "namespaceSelector": {},
        "podSelector": {"matchLabels": {"app.kubernetes.io/managed-by": "longtask"}},
    }
    assert policy["egress"][2] == {"to": [itself], "ports": [{"port": 8443, "protocol": "TCP"}]}
    assert itself == {"podSelector": policy["podSelector"]}, "it probes its own Service"
    assert [reports["ports"][0]["port"], metrics["ports"][0]["port"]] == [8443, 8080]
    assert "from" not in metrics
    assert policy["policyTypes"] == ["Ingress", "Egress"]


def test_network_policy_lets_the_operator_reach_what_an_administrator_adds() -> None:
    more = [{"to": [{"ipBlock": {"cidr": "10.0.0.9/32"}}], "ports": [{"port": 9000, "protocol": "TCP"}]}]
    policy = one("NetworkPolicy", "longtask-operator", {"networkPolicy": {"enabled": True, "extraEgress": more}})[
        "spec"
    ]
    assert policy["egress"][3:] == more


def test_uninstall_releases_pods_after_the_operator_is_gone() -> None:
    job = one("Job", "longtask-release-pods")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "post-delete"
    container = job["spec"]["template"]["spec"]["containers"][0]
    selector = next(e["value"] for e in container["env"] if e["name"] == "OPERATOR_SELECTOR")
    labels = one("Deployment", "longtask-operator")["spec"]["selector"]["matchLabels"]
    assert dict(pair.split("=") for pair in selector.split(",")) == labels
    assert not [o for o in objects({"uninstall": {"releasePods": False}}) if "release-pods" in o["metadata"]["name"]]


def test_hooks_bring_their_permissions_and_take_them_away() -> None:
    for item in objects():
        annotations = item["metadata"].get("annotations", {})
        if "helm.sh/hook" in annotations:
            assert "hook-succeeded" in annotations["helm.sh/hook-delete-policy"]
            assert (int(annotations.get("helm.sh/hook-weight", 0)) < 0) is (item["kind"] != "Job")


def test_helm_test_can_run_in_a_labelled_namespace() -> None:
    values = {"test": {"namespace": "team-a"}}
    assert one("Role", "longtask-test", values)["metadata"]["namespace"] == "team-a"
    assert one("RoleBinding", "longtask-test", values)["subjects"][0]["namespace"] == NAMESPACE


def test_extra_objects_may_be_templates() -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '{{ .Release.Name }}-x'}"
    assert one("ConfigMap", "longtask-x", {"extraObjects": [text]}) == yaml.safe_load(
        text.replace("{{ .Release.Name }}", "longtask")
    )


def test_user_spread_constraints_get_the_operators_selector() -> None:
    pod = one("Deployment", "longtask-operator", EVERYTHING)["spec"]
    (constraint,) = pod["template"]["spec"]["topologySpreadConstraints"]
    assert constraint["labelSelector"] == {"matchLabels": pod["selector"]["matchLabels"]}
