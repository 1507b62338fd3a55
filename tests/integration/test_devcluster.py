"""devcluster brings up what it promises, and leaves nothing behind: on real clusters of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from devcluster import api, base_image, kwok, machine, process
from devcluster.console import Progress
from devcluster.errors import DevclusterError
from devcluster.paths import REPOSITORY, ClusterPaths

REQUIRED = os.environ.get("LONGTASK_REQUIRE_CLUSTER") == "1"
BASE = base_image.IMAGE


def bring_up(name: str, **options: Any) -> api.Cluster:
    try:
        return api.up(f"test-{name}-{os.getpid()}", **options)
    except DevclusterError as problem:
        if REQUIRED:
            raise
        pytest.skip(f"no cluster: {problem}")


@pytest.fixture(scope="module")
def real() -> Iterator[api.Cluster]:
    cluster = bring_up("dc")
    try:
        cluster.load_image(base_image.ensure(Progress()))
        yield cluster
    finally:
        cluster.down()
    assert traces(cluster.paths) == []


def kubectl(cluster: api.Cluster, *arguments: str, stdin: str | None = None) -> str:
    command = [str(cluster.binaries["kubectl"]), f"--kubeconfig={cluster.kubeconfig}", *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done.stdout


def run_python(cluster: api.Cluster, name: str, code: str) -> str:
    """Run Python in a pod to its end and return what it printed."""
    image = [f"--image={BASE}", "--image-pull-policy=Never", "--restart=Never"]
    kubectl(cluster, "run", name, *image, "--", "python3", "-c", code)
    kubectl(cluster, "wait", f"pod/{name}", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=240s")
    return kubectl(cluster, "logs", name)


def eventually(condition: Callable[[], bool], what: str, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def traces(paths: ClusterPaths) -> list[str]:
    """Everything on the machine that belongs to a cluster: processes, mounts, interfaces, rules, cgroups, files."""
    found = [f"process {item.pid}" for item in process.marked(paths)]
    for command in (["mount"], ["ip", "link"], ["iptables-save"], ["ip6tables-save"]):
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        found += [line for line in lines if paths.machine_name in line or str(paths.root) in line]
    found += [str(group) for group in cgroups(paths) if group.exists()]
    # a namespace without a marked process would still be held by a container
    found += [f"container {pid}" for pid in members(paths)]
    return found + [str(path) for path in (paths.root, paths.lock) if path.exists()]


def cgroups(paths: ClusterPaths) -> list[Path]:
    return [hierarchy / paths.machine_name for hierarchy in machine.hierarchies()]


def members(paths: ClusterPaths) -> list[int]:
    return [pid for group in cgroups(paths) for pid in machine.members(group)]


def devcluster(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "devcluster", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


@pytest.mark.e2e
def test_a_job_runs_to_completion_and_its_log_can_be_read(real: api.Cluster) -> None:
    kubectl(real, "create", "job", "hello", f"--image={BASE}", "--", "echo", "it ran")
    kubectl(real, "wait", "job/hello", "--for=condition=Complete", "--timeout=240s")
    assert kubectl(real, "logs", "job/hello") == "it ran\n"


@pytest.mark.e2e
def test_pods_reach_services_by_name(real: api.Cluster) -> None:
    kubectl(real, "create", "namespace", "other")
    kubectl(real, "-n", "other", "wait", "serviceaccount/default", "--for=create", "--timeout=240s")
    server = ["--", "python3", "-m", "http.server", "8000", "--directory", "/etc/ssl"]
    kubectl(real, "-n", "other", "run", "web", f"--image={BASE}", "--image-pull-policy=Never", *server)
    kubectl(real, "-n", "other", "expose", "pod", "web", "--port=80", "--target-port=8000")
    kubectl(real, "-n", "other", "wait", "pod/web", "--for=condition=Ready", "--timeout=240s")
    code = """
import socket, time, urllib.request
def status():
    try:
        return urllib.request.urlopen("http://web.other.svc/", timeout=10).status
    except OSError:
        return 0
deadline = time.monotonic() + 120
while status() != 200:
    assert time.monotonic() < deadline
    time.sleep(0.1)
socket.create_connection(("kubernetes.default", 443), timeout=60).close()
print("reached")
"""
    assert run_python(real, "client", code) == "reached\n"


@pytest.mark.e2e
def test_the_node_has_room_for_fifty_small_tasks_whatever_the_machine_has(real: api.Cluster) -> None:
    node = json.loads(kubectl(real, "get", "node", "node-1", "--output=json"))
    assert node["status"]["allocatable"]["cpu"] == "64"
    assert node["status"]["nodeInfo"]["kubeletVersion"].startswith("v1.36.")


@pytest.mark.e2e
def test_the_machine_keeps_its_own_kernel_settings(real: api.Cluster) -> None:
    inside = process.run(["nsenter", f"--target={real.component_pid('node')}", "--mount", "--", "cat", "/proc/mounts"])
    options = {line.split()[1]: line.split()[3].split(",") for line in inside.splitlines()}
    assert "ro" in options["/proc/sys/kernel"]
    assert "ro" in options["/proc/sys/vm"]


@pytest.mark.e2e
def test_an_image_is_built_from_a_dockerfile_and_runs(real: api.Cluster, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        "ARG BASE\nFROM ${BASE} AS build\nRUN id -u > /built-by\n"
        'FROM ${BASE}\nCOPY --from=build /built-by /\nUSER 65532:65532\nCMD ["cat", "/built-by"]\n'
    )
    archive = tmp_path / "out" / "image.tar"
    options = ["--tag", "test/devcluster:1", "--build-arg", f"BASE={BASE}", "--output", str(archive)]
    built = devcluster("build-image", *options, str(tmp_path))
    assert built.stdout.strip() == str(archive), built.stderr
    loaded = devcluster("load-image", "--name", real.name, str(archive))
    assert "docker.io/test/devcluster:1" in loaded.stdout, loaded.stderr
    kubectl(real, "run", "built", "--image=test/devcluster:1", "--image-pull-policy=Never", "--restart=Never")
    kubectl(real, "wait", "pod/built", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=240s")
    assert kubectl(real, "logs", "built") == "0\n"
    assert not [line for line in Path("/proc/mounts").read_text().splitlines() if "longtask/buildah" in line]


@pytest.mark.e2e
def test_up_repairs_a_cluster_whose_parts_were_killed(real: api.Cluster) -> None:
    kubectl(real, "create", "configmap", "kept")
    for component in ("etcd", "containerd", "kube-scheduler"):
        real.stop_component(component, kill=True)
    assert not api.healthy(real)
    again = api.up(real.name)
    assert again.api_url == real.api_url
    kubectl(again, "get", "configmap", "kept")
    assert run_python(again, "after-repair", "print(1)") == "1\n"
    before = api.describe(real)["components"]
    assert None not in before.values()
    assert api.describe(api.up(real.name))["components"] == before


@pytest.mark.e2e
def test_two_clusters_run_side_by_side_and_one_goes_without_the_other(real: api.Cluster) -> None:
    second = bring_up("dc2")
    try:
        second.load_image(base_image.ensure(Progress()))
        code = "import socket; socket.create_connection(('kubernetes.default.svc', 443), 60); print('up')"
        assert run_python(second, "beside", code) == "up\n"
        assert run_python(real, "beside", code) == "up\n"
        kubectl(second, "run", "stays", f"--image={BASE}", "--image-pull-policy=Never", "--", "sleep", "1000")
        kubectl(second, "wait", "pod/stays", "--for=condition=Ready", "--timeout=240s")
        assert members(second.paths)
    finally:
        second.down()
    assert traces(second.paths) == []
    assert run_python(real, "alone-again", code) == "up\n"


@pytest.mark.e2e
@pytest.mark.parametrize("reached", ["node", "etcd", "kubelet"])
def test_down_cleans_up_after_an_up_that_was_killed(real: api.Cluster, reached: str) -> None:
    """The fixture is only asked for so that a machine that cannot run real pods skips."""
    paths = ClusterPaths.of(f"{real.name}-crash")
    command = [sys.executable, "-m", "devcluster", "up", "--name", paths.root.name]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as starting:
        eventually(lambda: process.recorded(paths, reached) is not None, f"{reached} started")
        starting.send_signal(signal.SIGKILL)
    assert traces(paths)
    api.down(paths.root.name)
    assert traces(paths) == []
    api.down(paths.root.name)  # a second time does no harm


@pytest.fixture(scope="module")
def fake() -> Iterator[api.Cluster]:
    cluster = bring_up("fake", nodes="fake:20")
    try:
        yield cluster
    finally:
        cluster.down()


FINALIZED_JOB = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": "hello"},
    "spec": {
        "template": {
            "metadata": {"finalizers": ["longtask.dev/accounting"]},
            "spec": {
                "restartPolicy": "Never",
                "initContainers": [{"name": "sidecar", "image": "none", "restartPolicy": "Always"}],
                "containers": [{"name": "main", "image": "none"}],
            },
        }
    },
}


@pytest.mark.integration
def test_fake_nodes_complete_a_job_whose_pods_carry_a_finalizer(fake: api.Cluster) -> None:
    assert len(kubectl(fake, "get", "nodes", "--output=name").split()) == 20
    kubectl(fake, "apply", "--filename=-", stdin=json.dumps(FINALIZED_JOB))
    kubectl(fake, "wait", "job/hello", "--for=condition=Complete", "--timeout=240s")
    pod = json.loads(kubectl(fake, "get", "pods", "--selector=job-name=hello", "--output=json"))["items"][0]
    assert pod["status"]["phase"] == "Succeeded"
    assert pod["metadata"]["finalizers"] == ["longtask.dev/accounting"]


@pytest.mark.integration
def test_a_fake_node_that_joins_late_runs_the_pods_it_already_has(fake: api.Cluster) -> None:
    """As when a cluster comes up: the scheduler binds the first pods before kwok has read the nodes."""
    spec = {"nodeName": "late", "restartPolicy": "Never", "containers": [{"name": "main", "image": "none"}]}
    job = {**FINALIZED_JOB, "metadata": {"name": "early"}, "spec": {"template": {"spec": spec}}}
    kubectl(fake, "apply", "--filename=-", stdin=json.dumps(job))
    names = "--selector=job-name=early", "--output=name"
    eventually(lambda: kubectl(fake, "get", "pods", *names) != "", "the pod of the Job exists")
    kubectl(fake, "apply", "--filename=-", stdin=json.dumps(kwok.node("late")))
    try:
        kubectl(fake, "wait", "job/early", "--for=condition=Complete", "--timeout=240s")
    finally:
        kubectl(fake, "delete", "node", "late")


@pytest.mark.integration
def test_a_deleted_fake_pod_ends_first_and_waits_for_its_finalizer(fake: api.Cluster) -> None:
    template = FINALIZED_JOB["spec"]["template"]  # type: ignore[index]
    pod = {**template, "apiVersion": "v1", "kind": "Pod", "metadata": {**template["metadata"], "name": "lone"}}
    kubectl(fake, "apply", "--filename=-", stdin=json.dumps(pod))
    kubectl(fake, "wait", "pod/lone", "--for=jsonpath={.status.phase}=Running", "--timeout=240s")
    kubectl(fake, "delete", "pod", "lone", "--wait=false")
    kubectl(fake, "wait", "pod/lone", "--for=jsonpath={.status.phase}=Failed", "--timeout=240s")
    read = json.loads(kubectl(fake, "get", "pod", "lone", "--output=json"))
    assert read["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 143
    kubectl(fake, "patch", "pod", "lone", "--type=merge", '--patch={"metadata":{"finalizers":null}}')
    eventually(lambda: kubectl(fake, "get", "pods", "--field-selector=metadata.name=lone", "-oname") == "", "pod gone")


@pytest.mark.integration
def test_the_audit_log_names_the_client_of_every_write_and_read(fake: api.Cluster) -> None:
    kubectl(fake, "create", "configmap", "audited")
    kubectl(fake, "get", "configmap", "audited")
    whole, _, _ = fake.audit_log.read_text().rpartition("\n")  # behind it others' writes are being noted
    events = [json.loads(line) for line in whole.splitlines()]
    mine = [event for event in events if event.get("objectRef", {}).get("name") == "audited"]
    assert [event["verb"] for event in mine] == ["create", "get"]
    assert all(event["userAgent"].startswith("kubectl/") for event in mine)
    components = [event for event in events if event["user"]["username"].startswith(("system:kube-", "devcluster:"))]
    assert components  # their writes are kept, their reads would be most of the log
    assert not {event["verb"] for event in components} & {"get", "list", "watch"}


@pytest.mark.integration
def test_service_account_tokens_are_issued_and_recognised(fake: api.Cluster) -> None:
    token = kubectl(fake, "create", "token", "default", "--audience=test").strip()
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview"}
    document = json.dumps({**review, "spec": {"token": token, "audiences": ["test"]}})
    answer = json.loads(kubectl(fake, "create", "--filename=-", "--output=json", stdin=document))
    assert answer["status"]["user"]["username"] == "system:serviceaccount:default:default"
    assert json.loads(kubectl(fake, "get", "--raw", "/openid/v1/jwks"))["keys"][0]["alg"] == "RS256"


@pytest.mark.integration
def test_admission_policies_are_served_in_version_1(fake: api.Cluster) -> None:
    served = kubectl(fake, "api-resources", "--api-group=admissionregistration.k8s.io", "--output=name").split()
    assert "mutatingadmissionpolicies.admissionregistration.k8s.io" in served
    assert "validatingadmissionpolicies.admissionregistration.k8s.io" in served
    version = json.loads(kubectl(fake, "get", "--raw", "/apis/admissionregistration.k8s.io"))["preferredVersion"]
    assert version["version"] == "v1"


@pytest.mark.integration
def test_the_api_server_can_be_stopped_and_started(fake: api.Cluster) -> None:
    fake.stop_component("kube-apiserver", kill=True)
    assert fake.component_pid("kube-apiserver") is None
    status = devcluster("status", "--name", fake.name, "--output", "json")
    assert status.returncode == 1
    assert json.loads(status.stdout)["components"]["kube-apiserver"] is None
    fake.start_component("kube-apiserver")
    assert api.healthy(fake)


def open_files(pid: int) -> Iterator[str]:
    """Yield what the file descriptors of a process stand for; those that it closes meanwhile are left out."""
    for number in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            yield os.readlink(f"/proc/{pid}/fd/{number}")


@pytest.mark.integration
def test_without_real_nodes_everything_listens_on_loopback_only(fake: api.Cluster) -> None:
    inodes = {inode for item in process.marked(fake.paths) for inode in open_files(item.pid)}
    rows = [line.split() for table in ("tcp", "tcp6") for line in Path(f"/proc/net/{table}").read_text().splitlines()]
    listening = [row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in inodes]
    assert len(listening) >= 3
    assert {address.split(":")[0] for address in listening} == {"0100007F"}


@pytest.mark.integration
def test_other_settings_for_a_running_cluster_are_refused(fake: api.Cluster) -> None:
    with pytest.raises(DevclusterError, match=r"other settings.*devcluster down"):
        api.up(fake.name, nodes="none")


@pytest.mark.integration
def test_a_cluster_of_fake_nodes_takes_no_images(fake: api.Cluster) -> None:
    with pytest.raises(DevclusterError, match="--nodes real"):
        fake.load_image("any.tar")
