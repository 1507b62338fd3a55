"""What the policies on spec let through and what they refuse, on the real API server."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from longtask_operator.api.longtask import parse_longtask
from tests.support.rules import (
    ROOT,
    Api,
    ControlPlane,
    a_longtask,
    accepted,
    installed,
    refused,
    rendered_policies,
    running,
    stored,
)

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def api(control_plane: ControlPlane) -> Iterator[Api]:
    with installed(control_plane, "policies") as api:
        yield api


def test_the_controller_manager_finds_no_type_error_in_a_policy(api: Api) -> None:
    policies = [d["metadata"]["name"] for d in rendered_policies() if d["kind"] == "ValidatingAdmissionPolicy"]

    def checked() -> list[Any]:
        return [api.get(f"validatingadmissionpolicy/{name}").get("status", {}).get("typeChecking") for name in policies]

    api.until("types checked", lambda: None not in checked())
    assert [answer for answer in checked() if answer.get("expressionWarnings")] == []


class TestSpec:
    def test_everything_at_its_largest_is_accepted_and_fits_the_cost_budget(self, api: Api) -> None:
        label, names = "x" * 63, range(64)
        env = [{"name": f"V{i}", "value": "v" * 8000} for i in names]
        env[0] = {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s" * 253, "key": "k" * 253}}}  # type: ignore[dict-item]
        data = [{"name": f"{'n' * 60}{i}", "uri": "s3://" + "u" * 2043} for i in range(16)]
        spec = {
            "image": "registry.example/" + "a" * 400,
            "command": ["c" * 100] * 64,
            "args": ["a" * 100] * 256,
            "env": env,
            "payload": {"list": [1] * 8180},
            "inputs": data,
            "outputs": data,
            "tolerations": [{"key": f"{label}.example/{i}", "operator": "Exists"} for i in range(16)],
            "nodeSelector": {f"{label}.example/{i}": label for i in range(16)},
            "redrive": "r" * 253,
        }

        assert accepted(api.create(a_longtask("largest", api.namespace, **spec), "--dry-run=server"))

    @pytest.mark.parametrize(
        "file", sorted((ROOT / "worker-image/examples").rglob("*.yaml")), ids=lambda f: f.parent.name
    )
    def test_the_examples_are_accepted(self, api: Api, file: Any) -> None:
        documents = [d for d in yaml.safe_load_all(file.read_text()) if d and d["kind"] == "LongTask"]
        for document in documents:
            document["metadata"]["namespace"] = api.namespace
            assert accepted(api.create(document, "--dry-run=server"))

    @pytest.mark.parametrize(
        "spec",
        [
            {"image": "busybox"},
            {"image": "localhost:5000/a/b_c/d:v1.2-x@sha256:" + "0" * 64},
            {"image": "[::1]:5000/app"},
            {"image": "app", "env": [{"name": "EMPTY", "value": ""}, {"name": "_a1", "value": "x\ny"}]},
            {"image": "app", "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "a.b", "key": "k_.-"}}}]},
            {"image": "app", "payload": {}},
            {"image": "app", "payload": {"": [None, {"deep": [[[[1.5]]]]}], "emoji 👩‍🚀": "$(X) $$ \u0001"}},
            {"image": "app", "inputs": [], "outputs": [], "env": [], "tolerations": [], "nodeSelector": {}},
            {"image": "app", "outputs": [{"name": "9", "uri": "git+https://host/x?y=z#%20"}]},
            {"image": "app", "resources": {}},
            {"image": "app", "resources": {"maxCpu": 2, "maxMemory": "4096Mi", "growth": "Never"}},
            {"image": "app", "resources": {"cpu": "250m", "memory": "2Gi", "maxCpu": "250m", "maxMemory": "2Gi"}},
            {"image": "app", "resources": {"cpu": 1}},
            {"image": "app", "resources": {"cpu": "0.25", "memory": "1024Mi"}},
            {"image": "app", "resources": {"cpu": "1000m", "memory": 2147483648}},
            {"image": "app", "resources": {"memory": "8Gi"}},
            {"image": "app", "serviceAccountName": "default"},
            {"image": "app", "tolerations": [{"key": "disk", "value": ""}, {"key": "a.b/C_d", "operator": "Equal"}]},
            {"image": "app", "tolerations": [{"key": "x", "effect": "NoExecute", "tolerationSeconds": 0}]},
            {"image": "app", "nodeSelector": {"kubernetes.io/arch": "amd64", "empty": ""}},
            {"image": "app", "priority": -1000, "suspend": True, "cancel": False, "redrive": "", "runAsUser": 1},
            {"image": "app", "retry": {"limits": {"application": 0}, "backoff": {"jitterPercent": 0}}},
            {"image": "app", "deadlineSeconds": 31536000, "ttlSecondsAfterFinished": 0, "progressFile": True},
        ],
        ids=lambda spec: json.dumps(spec)[:60],
    )
    def test_accepted_and_understood_by_the_operator(self, api: Api, spec: dict[str, Any]) -> None:
        task = {**a_longtask("good", api.namespace), "spec": spec}

        answer = api.create(task, "--dry-run=server", "-o", "json")

        assert accepted(answer)
        assert parse_longtask(json.loads(answer.stdout)).spec.image == spec["image"]

    def test_every_rung_of_the_ladder_is_accepted(self, api: Api) -> None:
        ladder = yaml.safe_load((ROOT / "charts/longtask/values.yaml").read_text())["ladder"]
        pairs = [(cpu, memory) for cpu, memories in ladder.items() for memory in memories]
        items = [
            a_longtask(f"rung-{i}", api.namespace, resources={"cpu": cpu, "memory": memory})
            for i, (cpu, memory) in enumerate(pairs)
        ]

        answer = api.create({"apiVersion": "v1", "kind": "List", "items": items}, "--dry-run=server")

        assert accepted(answer)
        assert answer.stdout.count("created") == len(pairs)

    def test_a_generated_name_is_fine(self, api: Api) -> None:
        task = a_longtask("", api.namespace)
        task["metadata"] = {"namespace": api.namespace, "generateName": "word-count-"}

        assert accepted(api.create(task))


def compact(payload: dict[str, Any]) -> int:
    """Return the size of *payload* as the operator measures it, in bytes."""
    return len(json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode())


def filled(payload: dict[str, Any], size: int) -> dict[str, Any]:
    """Return *payload* with one more key that brings it to exactly *size* bytes."""
    return {**payload, "~": "x" * (size - compact({**payload, "~": ""}))}


#: Signs that JSON, Go and the policy write differently: quotes, escapes, control, invisible and wide characters.
SIGNS = ['"', "\\", "\n", "\t", "\x00", "\x07", "\x0b", "\x1f", "\x7f", "\x85", "\xa0", "ü", "\u200d", "\ufeff", "😀"]
SIGNS += ["\U000e0001", ", ", ": ", "}", "\\u1234", "\\x7f", "a b", "1.500000"]


class TestPayload:
    @pytest.mark.parametrize("seed", range(6))
    def test_the_limit_is_exact_to_the_byte(self, api: Api, seed: int) -> None:
        chance = random.Random(seed)
        text = ["".join(chance.choices(SIGNS, k=chance.randint(0, 40))) for _ in range(40)]
        payload: dict[str, Any] = {
            f"{i}{t}": [t, i, -i, None, True, {"x": t, "y": [], "z": {}}] for i, t in enumerate(text)
        }
        assert 6_000 < compact(payload) < 16_000  # the filler brings it to the limit

        at_limit = a_longtask("payload", api.namespace, payload=filled(payload, 16_384))
        beyond = a_longtask("payload", api.namespace, payload=filled(payload, 16_385))

        assert accepted(api.create(at_limit, "--dry-run=server"))
        assert refused(api.create(beyond, "--dry-run=server"), "spec.payload: about 16385 bytes as compact JSON")

    def test_floats_are_never_overstated(self, api: Api) -> None:
        values = [0.5, 1.25, -1e-7, 2.5e-8, 1.5e300, 123456.789, 0.1, 1e21, -2.2250738585072014e-308]
        payload = {"weights": values * 180}
        assert 8_000 < compact(payload) < 16_384

        assert accepted(api.create(a_longtask("floats", api.namespace, payload=payload), "--dry-run=server"))

    def test_many_floats_are_refused_all_the_same(self, api: Api) -> None:
        task = a_longtask("floats", api.namespace, payload={"weights": [0.5] * 5_000})

        assert refused(api.create(task, "--dry-run=server"), "spec.payload: about 20")

    @pytest.mark.parametrize(
        "payload", [{"l": [1] * 300_000}, {str(i): i for i in range(50_000)}, {"x": "\n" * 500_000}]
    )
    def test_huge_payloads_get_the_same_sentence(self, api: Api, payload: dict[str, Any]) -> None:
        answer = api.create(a_longtask("huge", api.namespace, payload=payload), "--dry-run=server")

        assert refused(answer, "at most 16384 are allowed; put the data in a file and name it in spec.inputs")


def accepts(api: Api, task: dict[str, Any], says: str) -> bool | None:
    """Tell whether *task* is accepted, False only where the refusal *says* so."""
    answer = api.create(task, "--dry-run=server")
    return True if answer.returncode == 0 else False if says in answer.stderr else None


class TestTightenedRules:
    @pytest.fixture
    def older(self, api: Api) -> Iterator[str]:
        """A task that the rules of today would refuse: its size is gone from the ladder."""
        task = stored(api, "older", resources={"cpu": "4"})
        again = a_longtask("other", api.namespace, resources={"cpu": "4"})
        self._apply(api, "ladder.4=null", "ladder.2=null", "ladder.1=null", "ladder.500m=null")
        api.until("ladder tightened", lambda: "or leave cpu out" in api.create(again, "--dry-run=server").stderr)
        yield task
        self._apply(api)
        api.until("ladder restored", lambda: api.create(again, "--dry-run=server").returncode == 0)

    @staticmethod
    def _apply(api: Api, *settings: str) -> None:
        documents = {"apiVersion": "v1", "kind": "List", "items": rendered_policies(*settings)}
        api.run("apply", "-f", "-", document=documents, check=True)

    def test_the_operator_still_writes_to_an_older_task(self, api: Api, older: str) -> None:
        assert accepted(api.status("older", running()))
        assert accepted(api.patch(older, {"metadata": {"labels": {"a": "b"}, "finalizers": ["example.com/x"]}}))
        assert accepted(api.patch(older, {"metadata": {"finalizers": None}}))

    def test_its_owner_can_still_steer_it(self, api: Api, older: str) -> None:
        assert accepted(api.status("older", running()))

        assert accepted(api.patch(older, {"spec": {"suspend": True}}))
        assert accepted(api.patch(older, {"spec": {"cancel": True}}))

    def test_a_changed_size_meets_the_new_rule(self, api: Api, older: str) -> None:
        answer = api.patch(older, {"spec": {"resources": {"cpu": "2"}}})

        assert refused(
            answer, "spec.resources.cpu: 2 is not a size of this cluster; choose one of 250m, or leave cpu out"
        )


class TestServiceAccounts:
    def test_the_namespace_can_allow_names(self, api: Api) -> None:
        task = a_longtask("sa", api.namespace, serviceAccountName="builder")
        assert refused(api.create(task, "--dry-run=server"), "spec.serviceAccountName: 'builder' is not allowed")

        note = "longtask.dev/allowed-service-accounts=reader, builder"
        api.run("annotate", "--overwrite", "namespace", api.namespace, note, check=True)
        api.until("annotation seen", lambda: api.create(task, "--dry-run=server").returncode == 0)
        api.run("annotate", "namespace", api.namespace, "longtask.dev/allowed-service-accounts-", check=True)
        api.until("annotation gone", lambda: "is not allowed" in api.create(task, "--dry-run=server").stderr)

    @pytest.mark.parametrize(("settings", "allowed"), [(["serviceAccounts.allowed={a,b}"], True), ([], False)])
    def test_the_chart_can_allow_names(self, api: Api, settings: list[str], allowed: bool) -> None:
        task = a_longtask("sa", api.namespace, serviceAccountName="b")
        documents = {"apiVersion": "v1", "kind": "List", "items": rendered_policies(*settings)}
        api.run("apply", "-f", "-", document=documents, check=True)

        api.until(f"allowed: {allowed}", lambda: accepts(api, task, "is not allowed") is allowed)


class TestKueue:
    @pytest.fixture
    def allowed(self, api: Api) -> Iterator[None]:
        task = a_longtask("queued", api.namespace, queueName="gpu.queue-1")
        for settings, works in (["kueue.enabled=true"], True), ([], False):
            documents = {"apiVersion": "v1", "kind": "List", "items": rendered_policies(*settings)}
            api.run("apply", "-f", "-", document=documents, check=True)
            api.until(f"accepted: {works}", lambda w=works: accepts(api, task, "spec.queueName") is w)
            if works:
                yield

    def test_a_queue_has_the_name_of_a_local_queue(self, api: Api, allowed: None) -> None:
        for name in ("Gpu", "gpu_queue", "-gpu", "gpu.", "team/gpu"):
            answer = api.create(a_longtask("queued", api.namespace, queueName=name), "--dry-run=server")
            assert refused(answer, "spec.queueName cannot be the name of a LocalQueue; write for example gpu-queue")


def test_a_second_installation_works_like_the_first(control_plane: ControlPlane) -> None:
    """With the values in a ConfigMap named by paramKind an API server refused every task after the first removal.

    Stands last, because it removes the policies.
    """
    for _ in range(2):
        with installed(control_plane, "policies-again") as again:
            assert accepted(again.create(a_longtask("x", again.namespace, resources={"cpu": 1}), "--dry-run=server"))
