"""What a cluster is: what was asked for, and the addresses chosen for it. Written once, before anything starts."""

from __future__ import annotations

import dataclasses
import json
import random
import re
import socket
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from devcluster.errors import DevclusterError
from devcluster.paths import ClusterPaths

SERVICE_CIDR = "10.96.0.0/16"
DNS_IP = "10.96.0.10"
API_SERVICE_IP = "10.96.0.1"
# Every cluster with real pods has its own network namespace: the same pod network in all of them never meets.
POD_CIDR = "10.244.0.0/16"
NODE_NAME = "node-1"
LOOPBACK = "127.0.0.1"
# Below the ports that Linux hands out for outgoing connections, so nobody takes one between choice and use.
PORTS = range(20_000, 30_000)
UPLINKS = IPv4Network("10.213.0.0/16")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """Which nodes a cluster has: `real` (one, with pods), `none`, or `fake:N` (N of kwok)."""

    kind: str
    count: int

    @classmethod
    def parse(cls, text: str) -> Nodes:
        """Read `real`, `none` or `fake:N`; raises DevclusterError for anything else."""
        if text in ("real", "none"):
            return cls(kind=text, count=int(text == "real"))
        kind, _, number = text.partition(":")
        if kind == "fake" and number.isdigit() and 1 <= int(number) <= 10_000:
            return cls(kind=kind, count=int(number))
        raise DevclusterError(f"Nodes cannot be {text!r}; use real, none or fake:N with N from 1 to 10000.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What the user asked for; two runs of `up` with the same one mean the same cluster."""

    name: str = "longtask"
    nodes: str = "real"
    audit_policy: str | None = None  # path of a policy of one's own
    keep_history: bool = False  # etcd keeps every revision, for tests that judge by it

    def validate(self) -> Nodes:
        """The parsed nodes; raises DevclusterError for an impossible name, nodes or audit policy."""
        if not _NAME.fullmatch(self.name):
            raise DevclusterError(
                f"{self.name!r} cannot name a cluster; use up to 40 lower-case letters, digits and dashes."
            )
        if self.audit_policy and not Path(self.audit_policy).is_file():
            raise DevclusterError(f"There is no audit policy at {self.audit_policy}; give the path of a file.")
        return Nodes.parse(self.nodes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A spec with the addresses chosen for it."""

    spec: Spec
    host: str  # address at which the machine reaches the cluster
    gateway: str  # address at which the cluster reaches the machine
    api_port: int
    etcd_port: int
    peer_port: int
    kwok_port: int

    @property
    def nodes(self) -> Nodes:
        """The parsed nodes of the spec."""
        return Nodes.parse(self.spec.nodes)

    @property
    def real(self) -> bool:
        """Whether the cluster runs real pods, in its own network namespace."""
        return self.nodes.kind == "real"

    @property
    def api_url(self) -> str:
        """Base URL of the API server."""
        return f"https://{self.host}:{self.api_port}"

    @property
    def etcd_url(self) -> str:
        """Client URL of etcd, without TLS."""
        return f"http://{self.host}:{self.etcd_port}"

    def to_json(self) -> str:
        """The plan as it is stored."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read a stored plan; raises ValueError or TypeError when another version wrote it."""
        values = json.loads(text)
        return cls(**{**values, "spec": Spec(**values["spec"])})

    @property
    def ports(self) -> set[int]:
        """Its ports on loopback; none where it has a network of its own."""
        return set() if self.real else {self.api_port, self.etcd_port, self.peer_port, self.kwok_port}


def load(paths: ClusterPaths) -> Plan | None:
    """The stored plan of a cluster; None when there is none that can be read."""
    try:
        return Plan.from_json(paths.plan.read_text())
    except (OSError, ValueError, TypeError, KeyError):
        return None


def promised_ports(root: Path) -> set[int]:
    """Ports of every cluster below *root* that has a plan: one that is coming up does not listen on its own yet."""
    plans = [load(ClusterPaths(root=path.parent)) for path in root.glob("*/cluster.json")]
    return {port for plan in plans if plan for port in plan.ports}


def choose(
    spec: Spec, uplinks_in_use: Iterable[IPv4Network] = (), ports_promised: Collection[int] = frozenset()
) -> Plan:
    """Pick free ports on loopback, or, with real pods, a free uplink network and the usual ports behind it."""
    if spec.validate().kind == "real":
        gateway, host = choose_uplink(uplinks_in_use).hosts()
        return Plan(
            spec=spec, host=str(host), gateway=str(gateway), api_port=6443, etcd_port=2379, peer_port=2380, kwok_port=0
        )
    api, etcd, peer, kwok = choose_ports(4, lambda port: port not in ports_promised and port_is_free(port))
    return Plan(
        spec=spec, host=LOOPBACK, gateway=LOOPBACK, api_port=api, etcd_port=etcd, peer_port=peer, kwok_port=kwok
    )


def choose_uplink(in_use: Iterable[IPv4Network]) -> IPv4Network:
    """A network of two addresses that overlaps none in use; raises DevclusterError when all are taken."""
    taken = list(in_use)
    for candidate in UPLINKS.subnets(new_prefix=30):
        if not any(candidate.overlaps(network) for network in taken):
            return candidate
    raise DevclusterError(f"No address pair is free in {UPLINKS}; end a cluster with `python -m devcluster down`.")


def choose_ports(count: int, free: Callable[[int], bool] | None = None) -> list[int]:
    """Distinct free ports; random, so that clusters of two users that start at once hardly meet."""
    is_free = free or port_is_free
    chosen: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        if is_free(port):
            chosen.append(port)
        if len(chosen) == count:
            return chosen
    raise DevclusterError(f"No {count} ports are free between {PORTS.start} and {PORTS.stop - 1}; end some clusters.")


def port_is_free(port: int) -> bool:
    """Whether a server could listen there on loopback now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((str(IPv4Address(LOOPBACK)), port))
        except OSError:
            return False
    return True
