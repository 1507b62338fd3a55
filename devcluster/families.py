"""Which programs exist, in which pinned Go module each lives, and how its version is stamped and recognised."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from devcluster.errors import DevclusterError
from devcluster.paths import GO_MODULES

_BASE = "k8s.io/component-base/version"


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Programs that come from one Go module and are built from one go.mod in tools/gomod."""

    name: str
    module: str  # its required version is the family's version; empty for a program of our own
    tools: Mapping[str, str]  # program → package
    stamp: tuple[str, ...] = ()  # linker flags; {version}, {major} and {minor} are filled in
    ask: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # arguments that print the version; --version
    tags: str = ""  # build tags, comma-separated

    @property
    def folder(self) -> Path:
        """Where go.mod and go.sum lie."""
        return GO_MODULES / self.name

    def version(self) -> str:
        """Version required by go.mod, with its v; raises DevclusterError when go.mod does not require the module."""
        if not self.module:
            return "v1"
        return required_version((self.folder / "go.mod").read_text(), self.module)

    def key(self) -> str:
        """Cache key: the version, and a digest of everything else that decides what is built."""
        sources = sorted([*self.folder.glob("go.*"), *self.folder.glob("*.go")])
        digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources))
        digest.update("\0".join(self.linker_flags()).encode() + self.tags.encode())
        return f"{self.name}-{self.version()}-{digest.hexdigest()[:10]}"

    def linker_flags(self) -> list[str]:
        """No symbol table, and the version where the program keeps it."""
        version = self.version()
        major, minor = [*version.lstrip("v").split("."), "0"][:2]
        return ["-s", "-w", *(flag.format(version=version, major=major, minor=minor) for flag in self.stamp)]

    def question(self, tool: str) -> tuple[str, ...]:
        """Arguments that make a program print its version."""
        return self.ask.get(tool, ("--version",))


def required_version(go_mod: str, module: str) -> str:
    """Version of a module in the text of a go.mod."""
    found = re.search(rf"^(?:require)?\s*{re.escape(module)} (v\S+)", go_mod, re.MULTILINE)
    if not found:
        raise DevclusterError(f"go.mod does not require {module}; restore it from version control.")
    return found.group(1)


def states_version(output: str, version: str) -> bool:
    """Whether a program's answer names exactly that version, with or without the v."""
    return re.search(rf"(?<![\d.]){re.escape(version.lstrip('v'))}(?![\d.]*\d|-)", output) is not None


_KUBERNETES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl")

FAMILIES = (
    Family(
        name="kubernetes",
        module="k8s.io/kubernetes",
        tools={tool: f"k8s.io/kubernetes/cmd/{tool}" for tool in _KUBERNETES},
        stamp=(
            f"-X {_BASE}.gitVersion={{version}}",
            f"-X {_BASE}.gitMajor={{major}}",
            f"-X {_BASE}.gitMinor={{minor}}",
        ),
        ask={"kubectl": ("version", "--client")},
    ),
    Family(
        name="etcd",
        module="go.etcd.io/etcd/server/v3",
        tools={"etcd": "go.etcd.io/etcd/server/v3", "etcdctl": "go.etcd.io/etcd/etcdctl/v3"},
        ask={"etcdctl": ("version",)},
    ),
    Family(
        name="coredns",
        module="github.com/coredns/coredns",
        tools={"coredns": "."},
        ask={"coredns": ("-version",)},
    ),
    Family(name="kwok", module="sigs.k8s.io/kwok", tools={"kwok": "sigs.k8s.io/kwok/cmd/kwok"}),
    Family(
        name="helm",
        module="helm.sh/helm/v4",
        tools={"helm": "helm.sh/helm/v4/cmd/helm"},
        stamp=("-X helm.sh/helm/v4/internal/version.version={version}",),
        ask={"helm": ("version", "--short")},
    ),
    Family(
        name="kubeconform",
        module="github.com/yannh/kubeconform",
        tools={"kubeconform": "github.com/yannh/kubeconform/cmd/kubeconform"},
        stamp=("-X main.version={version}",),
        ask={"kubeconform": ("-v",)},
    ),
    Family(
        name="versitygw",
        module="github.com/versity/versitygw",
        tools={"versitygw": "github.com/versity/versitygw/cmd/versitygw"},
        stamp=("-X main.Version={version}",),
    ),
    Family(
        name="prometheus",
        module="github.com/prometheus/prometheus",
        tools={"promtool": "github.com/prometheus/prometheus/cmd/promtool"},
        stamp=("-X github.com/prometheus/common/version.Version={version}",),
        tags="remove_all_sd",  # without the SDKs of all clouds, which rules do not need
    ),
    Family(name="pause", module="", tools={"pause": "."}),
)
TOOLS = {tool: family for family in FAMILIES for tool in family.tools}


def family_of(tool: str) -> Family:
    """The family that has a program; raises DevclusterError for an unknown one."""
    if tool not in TOOLS:
        raise DevclusterError(f"There is no program {tool!r}; known are {', '.join(sorted(TOOLS))}.")
    return TOOLS[tool]
