"""The one real node: containerd, kubelet, kube-proxy and CoreDNS in a network and a mount namespace of its own.

All that a node leaves on a machine (interfaces, firewall rules, mounts, files below /run and /var) exists only in these
namespaces and ends with them. A process that sleeps, the holder, keeps them open.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from devcluster import process
from devcluster.errors import DevclusterError
from devcluster.paths import ClusterPaths
from devcluster.plan import API_SERVICE_IP, DNS_IP, NODE_NAME, POD_CIDR, Plan

HOLDER = "node"
PAUSE_IMAGE = "localhost/pause:1"
CPUS = 64  # advertised, whatever the machine has: limits are CPU time, so many small tasks just run slower
# Folders of the machine that node programs write to, although no flag tells them to.
_SHADOWED = (
    "/run/containerd",
    "/run/netns",
    "/var/lib/cni",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
)
# The kubelet sets kernel and vm sysctls, which belong to the whole machine. It may not, and finds them set as it wants.
_READ_ONLY = ("/proc/sys/kernel", "/proc/sys/vm")
_SYSCTLS = {
    "kernel/keys/root_maxbytes": 25_000_000,
    "kernel/keys/root_maxkeys": 1_000_000,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
}
_SYSTEMD_RESOLVER = Path("/run/systemd/resolve/resolv.conf")


def write_files(paths: ClusterPaths, plan: Plan) -> None:
    """Write the configuration of everything on the node."""
    for folder in _SHADOWED:
        _shadow(paths, folder).mkdir(parents=True)
    _write_cpus(paths.node / "cpus")
    for name, value in _SYSCTLS.items():
        _sysctl(paths, name).parent.mkdir(parents=True, exist_ok=True)
        _sysctl(paths, name).write_text(f"{value}\n")
    (paths.node / "no-numa").mkdir()
    (paths.node / "cni").mkdir()
    (paths.node / "cni" / "10-devcluster.conflist").write_text(cni_config(paths))
    (paths.node / "containerd.toml").write_text(containerd_config(paths))
    write_kubelet_config(paths, plan)
    (paths.node / "Corefile").write_text(corefile(paths, resolver_file()))


def write_kubelet_config(paths: ClusterPaths, plan: Plan, changes: Mapping[str, Any] | None = None) -> None:
    """Write what the kubelet reads when it starts."""
    (paths.node / "kubelet.json").write_text(kubelet_config(paths, plan, changes))


def _shadow(paths: ClusterPaths, folder: str) -> Path:
    return paths.node / "root" / folder.lstrip("/")


def _sysctl(paths: ClusterPaths, name: str) -> Path:
    return paths.node / "sysctl" / name


def _write_cpus(folder: Path) -> None:
    """A processor listing as in /sys/devices/system/cpu, which is where the kubelet counts.

    Without topology files it only counts; with them it would also pin pods to processors that do not exist.
    """
    for number in range(CPUS):
        (folder / f"cpu{number}").mkdir(parents=True)
    (folder / "online").write_text(f"0-{CPUS - 1}\n")


def holder(paths: ClusterPaths) -> list[str]:
    """Command of the holder: enter new namespaces, hide the machine's folders, sleep."""
    return ["unshare", "--net", "--mount", "--propagation", "slave", "/bin/sh", "-c", mounts(paths)]


def mounts(paths: ClusterPaths) -> str:
    """Shell text that arranges the mounts and then sleeps; the last file tells that all is in place."""
    binds = {folder: _shadow(paths, folder) for folder in _SHADOWED}
    binds |= {"/sys/devices/system/cpu": paths.node / "cpus", "/sys/devices/system/node": paths.node / "no-numa"}
    lines = ["set -e", f"mkdir -p {' '.join(_SHADOWED)}"]
    lines += [f"[ ! -d {folder} ] || mount --bind {source} {folder}" for folder, source in binds.items()]
    lines += [f"mount --bind {path} {path}; mount -o remount,ro,bind {path}" for path in _READ_ONLY]
    lines += [f"mount --bind {_sysctl(paths, name)} /proc/sys/{name}" for name in _SYSCTLS]
    return "\n".join([*lines, f"touch {namespaces_ready(paths)}", "exec sleep infinity"])


def namespaces_ready(paths: ClusterPaths) -> Path:
    """File that exists once the holder has arranged its mounts."""
    return paths.node / "ready"


def inside(paths: ClusterPaths) -> list[str]:
    """Prefix that runs a command in the node's namespaces and keeps its pid."""
    process_of_holder = process.recorded(paths, HOLDER)
    if process_of_holder is None:
        raise DevclusterError(
            "The node's namespaces are gone; run `python -m devcluster up` to bring the cluster back."
        )
    return ["nsenter", f"--target={process_of_holder.pid}", "--net", "--mount", "--"]


def reaches_services(paths: ClusterPaths) -> bool:
    """Whether kube-proxy leads from the node and its pods to the API server and the name service."""
    return leads_to_services(process.run([*inside(paths), "iptables-save", "-t", "nat"]))


def leads_to_services(rules: str) -> bool:
    """The same of the text of iptables-save: a service without endpoints has no rule there."""
    return all(f"-d {address}/32 " in rules for address in (API_SERVICE_IP, DNS_IP))


def arguments(paths: ClusterPaths, plan: Plan, component: str) -> list[str]:
    """Arguments of a component that only a node has."""
    match component:
        case "containerd":
            return ["--config", str(paths.node / "containerd.toml")]
        case "coredns":
            return ["-conf", str(paths.node / "Corefile"), "-quiet"]
        case "kubelet":
            return [
                f"--config={paths.node / 'kubelet.json'}",
                f"--kubeconfig={paths.component_kubeconfig(NODE_NAME)}",
                f"--hostname-override={NODE_NAME}",
                f"--node-ip={plan.host}",
            ]
        case _:
            return [
                f"--kubeconfig={paths.component_kubeconfig('kube-proxy')}",
                f"--hostname-override={NODE_NAME}",
                "--proxy-mode=iptables",
                f"--cluster-cidr={POD_CIDR}",
                # zero leaves the machine's connection tracking as it is
                "--conntrack-max-per-core=0",
                "--conntrack-tcp-timeout-established=0",
                "--conntrack-tcp-timeout-close-wait=0",
            ]


def containerd_config(paths: ClusterPaths) -> str:
    """Configuration of containerd: everything below the cluster's folder, cgroups without systemd."""
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    return f"""version = 2
root = "{paths.node}/containerd"
state = "/run/containerd/state"
[debug]
  level = "warn"
[grpc]
  address = "{paths.containerd_socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{paths.node}/opt"
[{cri}]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  tolerate_missing_hugetlb_controller = true
  disable_apparmor = true
  [{cri}.cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{paths.node}/cni"
  [{cri}.containerd]
    default_runtime_name = "runc"
    [{cri}.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [{cri}.containerd.runtimes.runc.options]
        SystemdCgroup = false
"""


def cni_config(paths: ClusterPaths) -> str:
    """A routed link per pod: unlike on a bridge, traffic between pods always passes kube-proxy's rules."""
    ranges = [[{"subnet": POD_CIDR}]]
    ipam = {"type": "host-local", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}], "dataDir": f"{paths.node}/ipam"}
    plugins = [{"type": "ptp", "ipam": ipam}, {"type": "portmap", "capabilities": {"portMappings": True}}]
    return json.dumps({"cniVersion": "0.4.0", "name": "devcluster", "plugins": plugins}, indent=2)


def kubelet_config(paths: ClusterPaths, plan: Plan, changes: Mapping[str, Any] | None = None) -> str:
    """Configuration of the kubelet, with *changes* to its fields; its pods live below a cgroup of this cluster."""
    config = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": plan.host,
        "healthzPort": 0,
        "tlsCertFile": str(paths.pki / "kubelet.crt"),
        "tlsPrivateKeyFile": str(paths.pki / "kubelet.key"),
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(paths.pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{paths.machine_name}",
        "failCgroupV1": False,
        "failSwapOn": False,
        # lets the kubelet go on where a container or a virtual machine forbids it a sysctl or an OOM score
        "featureGates": {"KubeletInUserNamespace": True},
        "containerRuntimeEndpoint": f"unix://{paths.containerd_socket}",
        "clusterDNS": [DNS_IP],
        "clusterDomain": "cluster.local",
        "resolvConf": str(resolver_file()),
        "volumePluginDir": str(paths.node / "volume-plugins"),
        # a development machine is often nearly full
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "maxPods": 250,
        "serializeImagePulls": False,
        "kubeAPIQPS": 200,
        "kubeAPIBurst": 400,
        **(changes or {}),
    }
    return json.dumps(config, indent=2)


def corefile(paths: ClusterPaths, resolver: Path) -> str:
    """Configuration of CoreDNS: the cluster's names, and the machine's resolver for the rest if it can be reached."""
    forward = f"    forward . {resolver}\n" if reachable_resolver(resolver.read_text()) else ""
    return f""".:53 {{
    errors
    health
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        kubeconfig {paths.component_kubeconfig("coredns")}
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 5
    }}
{forward}    cache 5
}}
"""


def resolver_file() -> Path:
    """The file with the machine's name servers; where systemd answers on loopback, the one behind it."""
    return _SYSTEMD_RESOLVER if _SYSTEMD_RESOLVER.exists() else Path("/etc/resolv.conf")


def reachable_resolver(text: str) -> bool:
    """Whether a resolv.conf names a server that also another network namespace reaches."""
    servers = [line.split()[1] for line in text.splitlines() if line.startswith("nameserver ")]
    return any(not server.startswith(("127.", "::1")) for server in servers)
