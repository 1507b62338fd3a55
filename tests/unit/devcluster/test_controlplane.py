from pathlib import Path

from devcluster import components, controlplane, plan
from devcluster.paths import ClusterPaths
from devcluster.plan import Spec

PATHS = ClusterPaths(root=Path("/state/x"))


def flags(arguments: list[str]) -> dict[str, str]:
    return {name: value for name, _, value in (argument.partition("=") for argument in arguments)}


def test_the_api_server_binds_and_advertises_the_clusters_own_address_only() -> None:
    for spec in (Spec(), Spec(nodes="none")):
        chosen = plan.choose(spec)
        api = flags(controlplane.api_server(PATHS, chosen))
        assert api["--bind-address"] == api["--advertise-address"] == chosen.host
        assert api["--authorization-mode"] == "Node,RBAC"


def test_without_real_nodes_no_endpoint_is_published() -> None:
    assert "--endpoint-reconciler-type=none" in controlplane.api_server(PATHS, plan.choose(Spec(nodes="none")))
    assert "--endpoint-reconciler-type=none" not in controlplane.api_server(PATHS, plan.choose(Spec()))


def test_history_is_only_kept_when_asked_for() -> None:
    kept = controlplane.api_server(PATHS, plan.choose(Spec(nodes="none", keep_history=True)))
    assert "--etcd-compaction-interval=0" in kept
    assert "--etcd-compaction-interval=0" not in controlplane.api_server(PATHS, plan.choose(Spec(nodes="none")))


def test_an_audit_policy_of_ones_own_replaces_ours(tmp_path: Path) -> None:
    own = tmp_path / "policy.yaml"
    own.touch()
    chosen = plan.choose(Spec(nodes="none", audit_policy=str(own)))
    assert flags(controlplane.api_server(PATHS, chosen))["--audit-policy-file"] == str(own)


def test_our_audit_policy_keeps_all_writes() -> None:
    silent = [rule for rule in controlplane.audit_policy()["rules"] if rule["level"] == "None"]
    assert all("nonResourceURLs" in rule or set(rule["verbs"]) == {"get", "list", "watch"} for rule in silent)
    assert controlplane.audit_policy()["rules"][-1] == {"level": "Metadata"}


def test_only_what_the_nodes_need_is_built() -> None:
    assert "kubelet" not in components.tools_for("none")
    assert "kwok" not in components.tools_for("real")
    assert set(components.tools_for("fake:3")) == {*components.tools_for("none"), "kwok"}
    assert not {"helm", "kubeconform"} & {*components.tools_for("real"), *components.tools_for("fake:1")}


def test_every_component_starts_after_what_it_needs() -> None:
    order = components.components(plan.choose(Spec()))
    assert order[0] == "node"
    assert order.index("etcd") < order.index("kube-apiserver") < order.index("kubelet")
    assert order.index("containerd") < order.index("kubelet")
