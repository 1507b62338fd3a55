"""A cluster with LongTask on it: which one, its images, the chart. Used by the demo and by the tests.

The cluster is the one of KUBECONFIG (and CONTEXT) if given, else kind or k3d if Docker
answers, else a devcluster of our own. Every step is repeatable; a second run uses caches.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from devcluster import api as devcluster  # noqa: E402
from devcluster.console import Progress  # noqa: E402
from devcluster.paths import cache_root  # noqa: E402

VERSION = "0.1.0"
NAMESPACE = "longtask-system"
RELEASE = "longtask"
BASE = "localhost/longtask-base:bookworm"
_BUILD = ROOT / "build" / "images"


class StackError(Exception):
    """What is wrong and what to do, in a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image of this repository."""

    name: str
    dockerfile: str
    sources: tuple[str, ...]  #: what its content depends on
    wheels: tuple[str, ...]  #: arguments of prepare_wheels
    parent: str = ""  #: build argument=image it is built on

    @property
    def tag(self) -> str:
        """Full name, as manifests and the chart have it."""
        return f"longtask/{self.name}:{VERSION}"


_WORKER_SOURCES = (
    "worker-image/Dockerfile",
    "worker-image/longtask_worker",
    "worker-image/sidecar",
    "worker-image/pyproject.toml",
)
IMAGES = (
    Image(
        name="operator",
        dockerfile="operator/Dockerfile",
        sources=("operator", "pyproject.toml", "worker-image/pip.lock"),
        wheels=("--project", ".", "--lock", "operator/requirements.lock"),
    ),
    Image(
        name="worker",
        dockerfile="worker-image/Dockerfile",
        sources=_WORKER_SOURCES,
        wheels=("--project", "worker-image"),
    ),
    Image(
        name="examples",
        dockerfile="worker-image/examples/Dockerfile",
        sources=("worker-image",),
        wheels=("--project", "worker-image/examples", "--lock", "worker-image/examples/requirements.lock"),
        parent="WORKER=longtask/worker:" + VERSION,
    ),
    Image(
        name="parquetsum",
        dockerfile="worker-image/examples/parquetsum/Dockerfile",
        sources=(*_WORKER_SOURCES, "worker-image/examples/parquetsum"),
        wheels=(
            "--project",
            "worker-image/examples/parquetsum",
            "--lock",
            "worker-image/examples/parquetsum/requirements.lock",
        ),
        parent="WORKER=longtask/worker:" + VERSION,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The cluster to work on. *kind*: devcluster, kind, k3d or given."""

    kind: str
    name: str
    kubeconfig: Path
    context: str = ""


def choose_target(progress: Progress, environ: Mapping[str, str] = os.environ, *, name: str = "longtask") -> Target:
    """Return the cluster to use, brought up if it is ours. Raises StackError or DevclusterError."""
    if given := environ.get("KUBECONFIG"):
        return _given(Path(given.split(os.pathsep)[0]), environ.get("CONTEXT", ""))
    if environ.get("CONTEXT"):
        return _given(Path.home() / ".kube" / "config", environ["CONTEXT"])
    if _docker_answers():
        for kind in ("kind", "k3d"):
            if shutil.which(kind):
                return _container_cluster(kind, name)
    cluster = devcluster.up(name, nodes="real", progress=progress)
    return Target(kind="devcluster", name=name, kubeconfig=cluster.kubeconfig)


def has_other_cluster(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether a cluster that is not ours would be used."""
    given = bool(environ.get("KUBECONFIG") or environ.get("CONTEXT"))
    return given or (_docker_answers() and any(shutil.which(kind) for kind in ("kind", "k3d")))


def kubectl_command(target: Target) -> list[str]:
    """Return the kubectl command line for *target*."""
    program = shutil.which("kubectl") or "kubectl"
    if target.kind == "devcluster" and (cluster := devcluster.get(target.name)):
        program = str(cluster.binaries.get("kubectl", program))
    return [program, "--kubeconfig", str(target.kubeconfig), *(["--context", target.context] if target.context else [])]


def ensure_images(
    target: Target, progress: Progress, names: Iterable[str] = ("operator", "worker", "examples")
) -> dict[str, str]:
    """Build what changed, bring it to the cluster, and return the digest of each image's sources."""
    wanted = [image for image in IMAGES if image.name in set(names)]
    progress.expect(len(wanted) + 1)
    with progress.step("Base image of the images (Debian)"):
        if not _docker_answers():
            _devcluster("base-image", quiet=True)
    digests = {}
    for image in wanted:
        digest = source_digest(image)
        with progress.step(f"Image {image.tag}"):
            archive = _build(image, digest)
            _bring(target, image, archive, digest)
        digests[image.name] = digest
    return digests


def install_chart(target: Target, progress: Progress, digests: Mapping[str, str], *settings: str) -> None:
    """Install or upgrade the chart and wait until the operator is ready and tasks are taken. Raises StackError."""
    progress.expect(2)
    helm = Path(sys.executable).with_name("helm")
    command = [str(helm), "upgrade", "--install", RELEASE, str(ROOT / "charts" / "longtask")]
    command += ["--namespace", NAMESPACE, "--create-namespace", "--wait", "--timeout", "180s"]
    command += ["--kubeconfig", str(target.kubeconfig), *(["--kube-context", target.context] if target.context else [])]
    # The tag stays, so the digest of the sources is what makes a changed image roll out.
    command += ["--set-string", f"podAnnotations.longtask\\.dev/sources={digests['operator']}"]
    if registry := os.environ.get("REGISTRY"):
        command += ["--set", f"image.registry={registry}"]
    for setting in settings:
        command += ["--set", setting]
    with progress.step("Helm chart longtask"):
        _run(command)
    with progress.step("API server takes tasks"):
        _await_new_kind(target)


#: Policies take effect within seconds; one that then still does not write who created a task is switched off.
_POLICIES_AT_WORK = 15.0


def _await_new_kind(target: Target, seconds: float = 120) -> None:
    """Wait until tasks are taken. The mutating policies look for new kinds once a minute, and answer 503 until then."""
    probe = {"apiVersion": "longtask.dev/v1alpha1", "kind": "LongTask", "metadata": {"name": "probe"}}
    body = json.dumps({**probe, "spec": {"image": "longtask/worker"}})
    command = [
        *kubectl_command(target),
        "create",
        "--dry-run=server",
        "--namespace",
        NAMESPACE,
        "-o",
        "json",
        "-f",
        "-",
    ]
    began = time.monotonic()
    while True:
        done = subprocess.run(command, input=body, text=True, capture_output=True, check=False)
        waited = time.monotonic() - began
        if "ServiceUnavailable" in done.stderr or "Kind=LongTask not found" in done.stderr:
            if waited > seconds:
                raise StackError(
                    f"the API server takes no LongTask, {waited:.0f} s after the installation: {done.stderr}"
                )
        elif done.returncode or "longtask.dev/created-by" in done.stdout or waited > _POLICIES_AT_WORK:
            return
        time.sleep(0.5)


def source_digest(image: Image) -> str:
    """Return a digest of all files that *image* is made of."""
    found = hashlib.sha256(image.dockerfile.encode())
    listed = _run(
        ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", "--", *image.sources, image.dockerfile]
    )
    for name in sorted(set(listed.splitlines())):
        path = ROOT / name
        if path.is_file():
            found.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()[:12]


def _given(kubeconfig: Path, context: str) -> Target:
    if not kubeconfig.exists():
        raise StackError(
            f"{kubeconfig} does not exist; set KUBECONFIG to a kubeconfig, or unset it to get a cluster here."
        )
    for candidate in kubeconfig.parent.parent.glob("*"):
        cluster = devcluster.get(candidate.name) if candidate.is_dir() else None
        if cluster and cluster.kubeconfig.resolve() == kubeconfig.resolve():
            return Target(kind="devcluster", name=candidate.name, kubeconfig=kubeconfig, context=context)
    name = context or _run(["kubectl", "--kubeconfig", str(kubeconfig), "config", "current-context"]).strip()
    for kind in ("kind", "k3d"):
        if name.startswith(f"{kind}-"):
            return Target(kind=kind, name=name.removeprefix(f"{kind}-"), kubeconfig=kubeconfig, context=name)
    return Target(kind="given", name=name, kubeconfig=kubeconfig, context=name)


def _container_cluster(kind: str, name: str) -> Target:
    kubeconfig = cache_root() / f"{kind}-{name}.kubeconfig"
    kubeconfig.parent.mkdir(parents=True, exist_ok=True)
    if kind == "kind":
        if name not in _run(["kind", "get", "clusters"]).split():
            _run(["kind", "create", "cluster", "--name", name])
        kubeconfig.write_text(_run(["kind", "get", "kubeconfig", "--name", name]))
    else:
        if not any(item["name"] == name for item in json.loads(_run(["k3d", "cluster", "list", "-o", "json"]))):
            _run(["k3d", "cluster", "create", name, "--wait"])
        kubeconfig.write_text(_run(["k3d", "kubeconfig", "get", name]))
    return Target(kind=kind, name=name, kubeconfig=kubeconfig)


def _build(image: Image, digest: str) -> Path:
    """Return the archive of *image*, built unless it is in the cache; one process builds, others wait for it."""
    archive = cache_root() / "images" / f"{image.name}-{digest}.tar"
    archive.parent.mkdir(parents=True, exist_ok=True)
    with archive.with_name(f"{image.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not archive.exists():
            _build_now(image, archive)
    return archive


def _build_now(image: Image, archive: Path) -> None:
    context = _BUILD / image.name
    _run(
        [
            sys.executable,
            str(ROOT / "worker-image" / "prepare_wheels.py"),
            *image.wheels,
            "--out",
            str(context / "wheels"),
        ],
        cwd=ROOT,
    )
    command = ["build-image", "--tag", image.tag, "--file", str(ROOT / image.dockerfile)]
    if image.parent:
        command += ["--build-arg", image.parent]
        parent = next(other for other in IMAGES if other.name == "worker")
        command += ["--from-archive", str(_build(parent, source_digest(parent)))]
    elif not _docker_answers():
        command += ["--build-arg", f"BASE={BASE}"]
    for old in archive.parent.glob(f"{image.name}-*.tar"):
        old.unlink()
    unfinished = archive.with_suffix(".part")
    _devcluster(*command, "--output", str(unfinished), str(context), quiet=True)
    unfinished.rename(archive)


def _bring(target: Target, image: Image, archive: Path, digest: str) -> None:
    if target.kind == "kind":
        _run(["kind", "load", "image-archive", str(archive), "--name", target.name])
    elif target.kind == "k3d":
        _run(["k3d", "image", "import", str(archive), "--cluster", target.name])
    elif target.kind == "devcluster":
        _load_into_devcluster(target, image, archive, digest)
    else:
        _push(image, archive)


def _load_into_devcluster(target: Target, image: Image, archive: Path, digest: str) -> None:
    cluster = devcluster.get(target.name)
    if cluster is None:
        raise StackError(f"devcluster {target.name} is gone; run `python -m devcluster up --name {target.name}`.")
    stamp = cluster.paths.root / f"loaded-{image.name}"
    if not stamp.exists() or stamp.read_text() != digest:
        _devcluster("load-image", "--name", target.name, str(archive), quiet=True)
        stamp.write_text(digest)


def _push(image: Image, archive: Path) -> None:
    registry = os.environ.get("REGISTRY")
    if not registry:
        raise StackError("This cluster is not ours: set REGISTRY=<registry that it pulls from>, and log in to it.")
    tool = shutil.which("skopeo")
    if not tool:
        raise StackError("skopeo is needed to push images to REGISTRY; install it.")
    _run([tool, "copy", f"docker-archive:{archive}", f"docker://{registry}/{image.tag}"])


def _docker_answers() -> bool:
    if not shutil.which("docker"):
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=20).returncode == 0


def _devcluster(*arguments: str, quiet: bool = False) -> None:
    _run([sys.executable, "-m", "devcluster", *arguments], cwd=ROOT, show=not quiet)


def _run(command: list[str], *, cwd: Path | None = None, show: bool = False) -> str:
    """Return what *command* prints. Programs beside our Python (uv, helm) are found first. Raises StackError."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(
        command,
        cwd=cwd,
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=None if show else subprocess.PIPE,
        env={**os.environ, "PATH": path},
    )
    if done.returncode:
        tail = "\n".join((done.stdout + (done.stderr or "")).splitlines()[-25:])
        raise StackError(f"failed with {done.returncode}: {' '.join(command)}\n{tail}")
    return done.stdout
