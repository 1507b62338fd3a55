from ipaddress import IPv4Network
from pathlib import Path

import pytest

from devcluster import plan
from devcluster.errors import DevclusterError
from devcluster.paths import ClusterPaths
from devcluster.plan import Nodes, Plan, Spec


@pytest.mark.parametrize(
    ("text", "kind", "count"),
    [("real", "real", 1), ("none", "none", 0), ("fake:1", "fake", 1), ("fake:5000", "fake", 5000)],
)
def test_nodes_are_read(text: str, kind: str, count: int) -> None:
    assert Nodes.parse(text) == Nodes(kind=kind, count=count)


@pytest.mark.parametrize("text", ["", "fake", "fake:", "fake:0", "fake:-1", "fake:x", "fake:10001", "Real", "real:1"])
def test_impossible_nodes_are_refused_with_what_is_possible(text: str) -> None:
    with pytest.raises(DevclusterError, match="use real, none or fake:N"):
        Nodes.parse(text)


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a-", "a/b", "..", "a" * 41])
def test_a_name_that_could_leave_the_state_folder_is_refused(name: str) -> None:
    with pytest.raises(DevclusterError, match="cannot name a cluster"):
        Spec(name=name).validate()


def test_a_missing_audit_policy_is_named(tmp_path: Path) -> None:
    with pytest.raises(DevclusterError, match=r"no audit policy at .*nothing\.yaml"):
        Spec(audit_policy=str(tmp_path / "nothing.yaml")).validate()


def test_a_cluster_without_real_nodes_stays_on_loopback_with_ports_of_its_own() -> None:
    chosen = plan.choose(Spec(nodes="none"))
    assert chosen.host == "127.0.0.1"
    assert len({chosen.api_port, chosen.etcd_port, chosen.peer_port, chosen.kwok_port}) == 4
    assert chosen.api_url == f"https://127.0.0.1:{chosen.api_port}"


def test_a_real_cluster_takes_the_first_free_pair_of_addresses() -> None:
    chosen = plan.choose(Spec(), [IPv4Network("10.213.0.0/30"), IPv4Network("10.213.0.6/32")])
    assert (chosen.gateway, chosen.host, chosen.api_port) == ("10.213.0.9", "10.213.0.10", 6443)


def test_no_free_pair_says_what_to_do() -> None:
    with pytest.raises(DevclusterError, match="devcluster down"):
        plan.choose(Spec(), [IPv4Network("10.0.0.0/8")])


def test_only_free_ports_are_chosen_and_none_twice() -> None:
    free = {20_001, 20_500, 29_999}
    assert set(plan.choose_ports(3, free.__contains__)) == free
    with pytest.raises(DevclusterError, match="No 4 ports are free"):
        plan.choose_ports(4, free.__contains__)


def test_a_cluster_that_is_coming_up_keeps_its_ports_though_it_does_not_listen_yet(tmp_path: Path) -> None:
    for name, cluster in (("first", plan.choose(Spec(nodes="none"))), ("real", plan.choose(Spec()))):
        paths = ClusterPaths(root=tmp_path / name)
        paths.root.mkdir()
        paths.plan.write_text(cluster.to_json())
    promised = plan.promised_ports(tmp_path)
    first = plan.load(ClusterPaths(root=tmp_path / "first"))
    assert first
    assert promised == {first.api_port, first.etcd_port, first.peer_port, first.kwok_port}
    nearly_all = set(plan.PORTS) - promised - set(range(20_000, 20_012))
    second = plan.choose(Spec(nodes="none"), ports_promised=promised | nearly_all)
    assert not second.ports & promised


def test_ports_lie_below_those_of_outgoing_connections() -> None:
    assert plan.PORTS.stop <= 32_768


def test_a_plan_survives_its_file(tmp_path: Path) -> None:
    paths = ClusterPaths(root=tmp_path)
    written = plan.choose(Spec(name="x", nodes="fake:3", keep_history=True))
    paths.plan.write_text(written.to_json())
    assert plan.load(paths) == written


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"spec": {"colour": "red"}}'])
def test_a_plan_of_another_version_counts_as_none(tmp_path: Path, content: str) -> None:
    paths = ClusterPaths(root=tmp_path)
    paths.plan.write_text(content)
    assert plan.load(paths) is None


def test_real_is_what_has_a_network_of_its_own() -> None:
    common = {"host": "h", "gateway": "g", "api_port": 1, "etcd_port": 2, "peer_port": 3, "kwok_port": 4}
    assert Plan(spec=Spec(), **common).real  # type: ignore[arg-type]
    assert not Plan(spec=Spec(nodes="fake:2"), **common).real  # type: ignore[arg-type]
