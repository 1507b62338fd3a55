import json
import tomllib
from pathlib import Path

import pytest

from devcluster import node, plan
from devcluster.paths import ClusterPaths
from devcluster.plan import Spec

PATHS = ClusterPaths(root=Path("/state/x"))
PLAN = plan.choose(Spec())


def test_containerd_keeps_everything_below_the_cluster_or_in_hidden_folders() -> None:
    config = tomllib.loads(node.containerd_config(PATHS))
    assert config["root"] == "/state/x/node/containerd"
    assert config["state"].startswith("/run/containerd/")
    assert config["plugins"]["io.containerd.internal.v1.opt"]["path"].startswith("/state/x/")
    cri = config["plugins"]["io.containerd.grpc.v1.cri"]
    assert cri["sandbox_image"] == node.PAUSE_IMAGE
    assert cri["containerd"]["runtimes"]["runc"]["options"]["SystemdCgroup"] is False


def test_the_kubelets_pods_live_below_the_clusters_own_cgroup() -> None:
    config = json.loads(node.kubelet_config(PATHS, PLAN))
    assert config["cgroupRoot"] == f"/{PATHS.machine_name}"
    assert config["address"] == PLAN.host
    assert config["authorization"] == {"mode": "Webhook"}


def test_the_kubelets_configuration_may_be_changed_and_is_its_own_again_without_changes() -> None:
    usual = json.loads(node.kubelet_config(PATHS, PLAN))
    changed = json.loads(node.kubelet_config(PATHS, PLAN, {"maxPods": 7}))
    assert changed == {**usual, "maxPods": 7}
    assert json.loads(node.kubelet_config(PATHS, PLAN, {})) == usual


def test_pods_are_routed_not_bridged() -> None:
    plugins = json.loads(node.cni_config(PATHS))["plugins"]
    assert [plugin["type"] for plugin in plugins] == ["ptp", "portmap"]


@pytest.mark.parametrize(
    ("text", "reachable"),
    [
        ("nameserver 192.0.2.1\n", True),
        ("nameserver 127.0.0.53\noptions edns0\n", False),
        ("nameserver 127.0.0.53\nnameserver 192.0.2.1\n", True),
        ("search example.org\n", False),
        ("nameserver ::1\n", False),
        ("", False),
    ],
)
def test_a_resolver_on_loopback_cannot_be_asked_from_the_node(text: str, reachable: bool) -> None:
    assert node.reachable_resolver(text) is reachable


def test_foreign_names_are_only_forwarded_where_somebody_answers(tmp_path: Path) -> None:
    resolver = tmp_path / "resolv.conf"
    resolver.write_text("nameserver 192.0.2.1\n")
    assert f"forward . {resolver}" in node.corefile(PATHS, resolver)
    resolver.write_text("nameserver 127.0.0.1\n")
    assert "forward" not in node.corefile(PATHS, resolver)


def test_services_are_reached_once_kube_proxy_knows_where_both_of_the_cluster_are() -> None:
    api, dns = (f"-A KUBE-SERVICES -d {ip}/32 -p tcp -m tcp -j KUBE-SVC-X" for ip in ("10.96.0.1", "10.96.0.10"))
    assert node.leads_to_services(f"{api}\n{dns}\n")
    for rules in ("", api, dns):
        assert not node.leads_to_services(f"*nat\n{rules}\nCOMMIT\n")


def test_the_processor_listing_counts_without_a_topology(tmp_path: Path) -> None:
    """With topology files the kubelet would pin its cgroup to processors that the machine does not have."""
    paths = ClusterPaths(root=tmp_path)
    node.write_files(paths, PLAN)
    listed = sorted((paths.node / "cpus").glob("cpu[0-9]*"))
    assert len(listed) == node.CPUS
    assert not any(list(folder.iterdir()) for folder in listed)


def test_the_holder_hides_the_machines_folders_before_it_sleeps() -> None:
    lines = node.mounts(PATHS).splitlines()
    assert lines[0] == "set -e"
    assert lines[-1] == "exec sleep infinity"
    assert any("mount --bind /state/x/node/root/var/lib/kubelet /var/lib/kubelet" in line for line in lines)
    assert any("remount,ro,bind /proc/sys/kernel" in line for line in lines)


def test_the_kubelet_finds_the_machines_sysctls_as_it_wants_them_and_changes_none(tmp_path: Path) -> None:
    paths = ClusterPaths(root=tmp_path)
    node.write_files(paths, PLAN)
    for name, value in (("kernel/panic", "10"), ("kernel/panic_on_oops", "1"), ("vm/overcommit_memory", "1")):
        wanted = paths.node / "sysctl" / name
        assert wanted.read_text().strip() == value
        assert f"mount --bind {wanted} /proc/sys/{name}" in node.mounts(paths)
