"""What a cluster with real pods takes from the machine: an interface, three firewall rules, a cgroup; and gives back.

Everything carries the cluster's machine name, so it is found again without any record.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv4Network
from pathlib import Path

from devcluster import node, process
from devcluster.errors import DevclusterError
from devcluster.paths import ClusterPaths, state_root
from devcluster.plan import POD_CIDR, Plan
from devcluster.process import run

_CGROUPS = Path("/sys/fs/cgroup")
_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
_INTERFACES = Path("/sys/class/net")


@contextmanager
def network_lock() -> Iterator[None]:
    """One choice of addresses at a time."""
    with process.lock(state_root() / ".network.lock"):
        yield


def networks_in_use() -> list[IPv4Network]:
    """Every network that the machine has a route to, except the default."""
    if not shutil.which("ip"):
        return []
    return parse_routes(run(["ip", "-json", "-4", "route", "show", "table", "all"]))


def parse_routes(text: str) -> list[IPv4Network]:
    """Destinations in the JSON that `ip route` prints."""
    destinations = [route.get("dst", "default") for route in json.loads(text or "[]")]
    return [IPv4Network(destination, strict=False) for destination in destinations if destination != "default"]


def connect(paths: ClusterPaths, plan: Plan) -> None:
    """Link the node's network namespace with the machine and let its pods reach what the machine reaches."""
    link, inside = paths.machine_name, node.inside(paths)
    holder = process.recorded(paths, node.HOLDER)
    assert holder is not None
    run(["ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", str(holder.pid)])
    run(["ip", "address", "add", f"{plan.gateway}/30", "dev", link])
    run(["ip", "link", "set", link, "up"])
    for words in (
        f"ip link set lo up\nip address add {plan.host}/30 dev eth0\nip link set eth0 up\n"
        f"ip route add default via {plan.gateway}\nsysctl -qw net.ipv4.ip_forward=1\n"
        f"iptables -w -t nat -A POSTROUTING -s {POD_CIDR} -o eth0 -j MASQUERADE"
    ).splitlines():
        run([*inside, *words.split()])
    _open_the_way(link, plan)


def _open_the_way(link: str, plan: Plan) -> None:
    if _FORWARDING.read_text().strip() == "0":
        _forwarding_mark().write_text("0")
        _FORWARDING.write_text("1")
    tagged = ["-m", "comment", "--comment", link]
    for direction in ("-i", "-o"):
        run(["iptables", "-w", "-I", "FORWARD", direction, link, *tagged, "-j", "ACCEPT"])
    source = ["-s", f"{plan.host}/32", "!", "-o", link]
    run(["iptables", "-w", "-t", "nat", "-I", "POSTROUTING", *source, *tagged, "-j", "MASQUERADE"])


def _forwarding_mark() -> Path:
    return state_root() / ".ip_forward-was-off"


def create_cgroup(paths: ClusterPaths) -> None:
    """Make the cgroup below which the kubelet puts its pods, in every hierarchy."""
    for hierarchy in hierarchies():
        group = hierarchy / paths.machine_name
        group.mkdir(exist_ok=True)
        if (hierarchy / "cpuset.cpus").exists() and not (hierarchy / "cgroup.controllers").exists():
            # a new cpuset of the first version is empty, and an empty one takes no process
            for setting in ("cpuset.cpus", "cpuset.mems"):
                (group / setting).write_text((hierarchy / setting).read_text())
        if (hierarchy / "cgroup.controllers").exists():
            _delegate(hierarchy)
            _delegate(group)


def _delegate(group: Path) -> None:
    for controller in (group / "cgroup.controllers").read_text().split():
        with suppress(OSError):  # one that cannot be delegated is missed by the kubelet, which says so
            (group / "cgroup.subtree_control").write_text(f"+{controller}")


def hierarchies() -> list[Path]:
    """Folders at which a cgroup hierarchy is mounted: one for version 2, one per controller for version 1."""
    if (_CGROUPS / "cgroup.controllers").exists():
        return [_CGROUPS]
    if not _CGROUPS.is_dir():
        return []
    found = {folder.resolve() for folder in _CGROUPS.iterdir() if folder.is_dir()}
    return sorted(folder for folder in found if (folder / "cgroup.procs").exists())


def remove(paths: ClusterPaths) -> None:
    """Kill the cluster's containers and give everything back; does nothing where there is nothing."""
    _remove_cgroup(paths)
    _remove_interface(paths.machine_name)
    if _firewall_readable():
        _remove_rules(paths.machine_name)
    _restore_forwarding()


def _remove_interface(name: str) -> None:
    interface = _INTERFACES / name
    if interface.exists():
        # The kernel is about to delete it too, together with the node's namespace: who is second fails, which is fine.
        run(["ip", "link", "delete", name], check=False)
        process.wait_for(lambda: not interface.exists(), 10, f"The interface {name} is there; it did not go")


def _firewall_readable() -> bool:
    return shutil.which("iptables-save") is not None and os.geteuid() == 0


def _remove_rules(comment: str) -> None:
    for command in removals(run(["iptables-save"]), comment):
        run(command)


def removals(saved: str, comment: str) -> list[list[str]]:
    """Commands that delete the rules with that comment out of the text of iptables-save."""
    commands = []
    table = ""
    for line in saved.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith("-A ") and comment in line:
            commands.append(["iptables", "-w", "-t", table, "-D", *shlex.split(line)[1:]])
    return commands


def _restore_forwarding() -> None:
    mark = _forwarding_mark()
    # a bridge is Docker's or a virtual machine's, which by now may rely on it
    others = [*_INTERFACES.glob("ltdc-*"), *_INTERFACES.glob("*/bridge")]
    if mark.exists() and not others:
        _FORWARDING.write_text(mark.read_text())
        mark.unlink()


def _remove_cgroup(paths: ClusterPaths) -> None:
    groups = [hierarchy / paths.machine_name for hierarchy in hierarchies()]
    deadline = time.monotonic() + 30
    while left := [group for group in groups if group.exists()]:
        for group in left:
            _kill_members(group)
            _remove_folders(group)
        if time.monotonic() > deadline:
            raise DevclusterError(f"The cgroup {left[0]} cannot be removed; look at the processes in it.")
        time.sleep(0.02)


def _kill_members(group: Path) -> None:
    for pid in members(group):
        if member := process.read_stat(Path(f"/proc/{pid}/stat")):
            member.signal(signal.SIGKILL)


def members(group: Path) -> list[int]:
    """Ids of the processes in a cgroup and below; a cgroup that goes away meanwhile has none."""
    found: list[int] = []
    for folder in _folders(group):
        with suppress(OSError):
            found += map(int, (folder / "cgroup.procs").read_text().split())
    return found


def _folders(group: Path) -> list[Path]:
    # unlike Path.rglob, os.walk passes over what vanishes while it looks
    return [Path(folder) for folder, _, _ in os.walk(group)]


def _remove_folders(group: Path) -> None:
    for folder in sorted(_folders(group), reverse=True):
        with suppress(OSError):  # still in use for a moment: the next round removes it
            folder.rmdir()
