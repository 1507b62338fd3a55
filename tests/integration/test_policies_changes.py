"""What may change when, and who is remembered as the creator, on the real API server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.support.rules import (
    ALICE,
    ASSIGNER,
    GITOPS,
    ROOT,
    Api,
    ControlPlane,
    Result,
    a_longtask,
    accepted,
    condition,
    finished,
    installed,
    refused,
    rendered_policies,
    running,
    stored,
)

pytestmark = pytest.mark.integration

CREATED_BY, SUBMITTED_BY = "longtask.dev/created-by", "longtask.dev/submitted-by"
SETTINGS = ("kueue.enabled=true", f"trustedSubmitters={{{GITOPS}}}")


@pytest.fixture(scope="module")
def api(control_plane: ControlPlane) -> Iterator[Api]:
    with installed(control_plane, "policies-changes", *SETTINGS) as api:
        yield api


FREE = {
    "suspend": True,
    "cancel": True,
    "redrive": "2",
    "priority": 7,
    "deadlineSeconds": 60,
    "ttlSecondsAfterFinished": 60,
}
FROZEN: dict[str, Any] = {
    "image": "registry.example/app:2",
    "command": ["other"],
    "args": ["other"],
    "env": [{"name": "A", "value": "2"}],
    "payload": {"rows": 1},
    "inputs": [{"name": "a", "uri": "s3://b/2"}],
    "outputs": [{"name": "a", "uri": "s3://b/2"}],
    "resources": {"cpu": "2"},
    "retry": {"limits": {"application": 9}},
    "attemptTimeoutSeconds": 99,
    "startTimeoutSeconds": 99,
    "heartbeatTimeoutSeconds": 99,
    "noProgressTimeoutSeconds": 99,
    "checkpoint": {"uri": "s3://b/other/"},
    "progressFile": True,
    "runAsUser": 2000,
    "serviceAccountName": "default",
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "disk", "operator": "Exists"}],
    "queueName": "gpu-queue",
}
FIXED = {"idempotencyKey": "order-4711"}
SENTENCE = "frozen until the task is Finished; take the change back, cancel the task first, or create another LongTask"


class TestFreeze:
    def test_the_lists_above_name_every_field_of_spec(self, api: Api) -> None:
        crd = yaml.safe_load((ROOT / "crds/longtasks.yaml").read_text())
        schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]

        assert FREE.keys() | FROZEN.keys() | FIXED.keys() == schema["properties"]["spec"]["properties"].keys()

    def test_before_the_first_admission_everything_may_change(self, api: Api) -> None:
        task = stored(api, "queued")
        assert accepted(api.status("queued", {"observedGeneration": 1, "run": 1, "attempt": 0}))

        assert accepted(api.patch(task, {"spec": FROZEN}))

    @pytest.mark.parametrize("field", sorted(FROZEN))
    def test_a_running_task_keeps_its_spec(self, api: Api, field: str) -> None:
        task = stored(api, "running", payload={"lines": 1})
        assert accepted(api.status("running", running()))
        said = "resources.cpu" if field == "resources" else field

        assert refused(api.patch(task, {"spec": {field: FROZEN[field]}}), f"spec.{said}: {SENTENCE}")

    def test_ceilings_of_growth_may_change_and_the_size_may_not(self, api: Api) -> None:
        task = stored(api, "growing", resources={"memory": "1Gi", "maxMemory": "2Gi"})
        assert accepted(api.status("growing", running()))

        assert accepted(api.patch(task, {"spec": {"resources": {"maxMemory": "4Gi", "maxCpu": "2"}}}))
        assert accepted(api.patch(task, {"spec": {"resources": {"maxMemory": None}}}))
        assert refused(
            api.patch(task, {"spec": {"resources": {"memory": "2Gi"}}}), f"spec.resources.memory: {SENTENCE}"
        )
        assert refused(api.patch(task, {"spec": {"resources": {"growth": "Never"}}}), "spec.resources.growth: frozen")
        assert refused(api.patch(task, {"spec": {"resources": None}}), f"spec.resources.memory: {SENTENCE}")

    def test_ceilings_may_be_set_where_no_size_was_asked_for(self, api: Api) -> None:
        task = stored(api, "auto")
        assert accepted(api.status("auto", running()))

        assert accepted(api.patch(task, {"spec": {"resources": {"maxMemory": "4Gi"}}}))
        assert refused(api.patch(task, {"spec": {"resources": {"maxMemory": "3G"}}}), "maxMemory: 3G is not a size")
        assert accepted(api.patch(task, {"spec": {"resources": None}}))

    @pytest.mark.parametrize("field", sorted(FREE))
    def test_a_running_task_can_be_steered(self, api: Api, field: str) -> None:
        task = stored(api, "steered", payload={"lines": 1})
        assert accepted(api.status("steered", running()))

        assert accepted(api.patch(task, {"spec": {field: FREE[field]}}))

    def test_a_renamed_payload_key_is_refused(self, api: Api) -> None:
        task = stored(api, "renamed", payload={"lines": 1})
        assert accepted(api.status("renamed", running()))

        renamed = [{"op": "move", "from": "/spec/payload/lines", "path": "/spec/payload/rows"}]

        assert refused(api.patch(task, renamed, kind="json"), f"spec.payload: {SENTENCE}")

    def test_a_removed_field_is_refused(self, api: Api) -> None:
        task = stored(api, "removed", args=["x"])
        assert accepted(api.status("removed", running()))

        assert refused(api.patch(task, {"spec": {"args": None}}), f"spec.args: {SENTENCE}")

    def test_the_same_spec_again_is_fine(self, api: Api) -> None:
        stored(api, "again", args=["x"], resources={"cpu": 1})
        assert accepted(api.status("again", running()))

        assert accepted(
            api.run("apply", "-f", "-", document=a_longtask("again", api.namespace, args=["x"], resources={"cpu": 1}))
        )

    def test_a_finished_task_takes_any_spec(self, api: Api) -> None:
        task = stored(api, "finished")
        assert accepted(api.status("finished", finished()))

        assert accepted(api.patch(task, {"spec": FROZEN}))

    @pytest.mark.parametrize("key", ["another", None])
    @pytest.mark.parametrize("status", [None, running(), finished()], ids=["new", "running", "finished"])
    def test_the_idempotency_key_never_changes(self, api: Api, status: dict[str, Any] | None, key: str | None) -> None:
        task = stored(api, "keyed", **FIXED)
        assert status is None or accepted(api.status("keyed", status))

        says = "spec.idempotencyKey never changes; take the change back, or create another LongTask"
        assert refused(api.patch(task, {"spec": {"idempotencyKey": key}}), says)

    def test_a_task_without_an_idempotency_key_gets_none(self, api: Api) -> None:
        assert refused(api.patch(stored(api, "keyless"), {"spec": FIXED}), "spec.idempotencyKey never changes")

    def test_a_new_run_freezes_at_its_own_first_attempt(self, api: Api) -> None:
        task = stored(api, "redriven")
        for status in (finished(), {**running(run=2), "attempts": [{"number": 1, "run": 1, "generation": 1}]}):
            assert accepted(api.status("redriven", status))
        assert accepted(api.patch(task, {"spec": {"args": ["before"]}}))

        assert accepted(api.status("redriven", running(run=2, attempt=2)))

        assert refused(api.patch(task, {"spec": {"args": ["after"]}}), f"spec.args: {SENTENCE}")

    @pytest.mark.parametrize("run", [1, 2])
    def test_an_attempt_of_which_nothing_ran_freezes_nothing(self, api: Api, run: int) -> None:
        """Its number counts, and who was told to ask for less must be able to."""
        task = stored(api, "given-up", resources={"cpu": "2", "memory": "4Gi"})
        ended = {"number": 1, "run": 1, "generation": 1}
        before: dict[str, Any] = {} if run == 1 else {"attempts": [ended]}
        conditions = [condition("Finished", "False"), condition("Admitted", "False")]
        waits = {"observedGeneration": 1, "run": run, "attempt": run, "conditions": conditions, **before}
        assert accepted(api.status("given-up", waits))

        assert accepted(api.patch(task, {"spec": {"resources": {"cpu": "1", "memory": "2Gi"}, "args": ["less"]}}))

        attempts = [*before.get("attempts", ()), {"number": run + 1, "run": run, "generation": 2}]
        assert accepted(api.status("given-up", {**waits, "attempt": run + 1, "attempts": attempts}))
        assert refused(api.patch(task, {"spec": {"args": ["more"]}}), f"spec.args: {SENTENCE}")

    def test_an_admission_freezes_also_without_a_record_of_its_attempt(self, api: Api) -> None:
        task = stored(api, "admitted")
        conditions = [condition("Finished", "False"), condition("Admitted", "True")]
        assert accepted(api.status("admitted", {"observedGeneration": 1, "attempt": 1, "conditions": conditions}))

        assert refused(api.patch(task, {"spec": {"args": ["x"]}}), f"spec.args: {SENTENCE}")


class TestCreatedBy:
    def creator(self, api: Api, task: str) -> str | None:
        creator: str | None = api.get(task)["metadata"].get("annotations", {}).get(CREATED_BY)
        return creator

    def test_the_api_server_writes_it(self, api: Api) -> None:
        assert self.creator(api, stored(api, "mine", user=ALICE)) == ALICE

    def test_a_forged_value_never_lands(self, api: Api) -> None:
        api.run("-n", api.namespace, "delete", "longtask", "forged", "--ignore-not-found")
        task = a_longtask("forged", api.namespace)
        task["metadata"]["annotations"] = {CREATED_BY: "mallory", "other": "kept"}

        assert accepted(api.create(task, user=ALICE))

        assert api.get("longtask/forged")["metadata"]["annotations"] == {CREATED_BY: ALICE, "other": "kept"}

    @pytest.mark.parametrize(
        "annotations", [{CREATED_BY: "mallory"}, {CREATED_BY: None}, None], ids=["changed", "removed", "all removed"]
    )
    def test_a_later_change_is_undone(self, api: Api, annotations: dict[str, Any] | None) -> None:
        task = stored(api, "mine", user=ALICE)

        assert accepted(api.patch(task, {"metadata": {"annotations": annotations}}, user=ASSIGNER))

        assert self.creator(api, task) == ALICE

    def test_replace_without_the_annotation_works(self, api: Api) -> None:
        task = stored(api, "mine", user=ALICE)

        assert accepted(
            api.run("replace", "-f", "-", document=a_longtask("mine", api.namespace, args=["x"]), user=ASSIGNER)
        )

        assert self.creator(api, task) == ALICE

    def test_server_side_apply_by_another_keeps_it(self, api: Api) -> None:
        task = stored(api, "mine", user=ALICE)
        document = a_longtask("mine", api.namespace, priority=3)

        assert accepted(
            api.run("apply", "--server-side", "--force-conflicts", "-f", "-", document=document, user=ASSIGNER)
        )

        assert self.creator(api, task) == ALICE

    def test_a_task_older_than_the_policies_gets_none(self, api: Api) -> None:
        task = stored(api, "older", user=ALICE)
        bindings = {
            d["kind"]: d
            for d in rendered_policies()
            if "Binding" in d["kind"] and "created-by" in d["metadata"]["name"]
        }
        both = {"apiVersion": "v1", "kind": "List", "items": [*bindings.values()]}
        api.run("delete", "-f", "-", document=both, check=True)
        api.until("made as if before the policies", lambda: self._changes(api, task, None))
        # One after the other: where one writes the creator, nothing shows whether the other is back to refuse it.
        forged = a_longtask("probe", api.namespace)
        forged["metadata"]["annotations"] = {CREATED_BY: "mallory"}
        probe = "create", "--dry-run=server", "-o", "json", "-f", "-"
        api.run("apply", "-f", "-", document=bindings["ValidatingAdmissionPolicyBinding"], check=True)
        api.until("refused again", lambda: f"{CREATED_BY} must be" in api.run(*probe, document=forged).stderr)
        api.run("apply", "-f", "-", document=bindings["MutatingAdmissionPolicyBinding"], check=True)
        api.until("written again", lambda: api.run(*probe, document=forged).returncode == 0)

        for value in ("mallory", ALICE):
            assert not self._changes(api, task, value)
        assert accepted(api.patch(task, {"metadata": {"labels": {"a": "b"}}}))

    def _changes(self, api: Api, task: str, value: str | None) -> bool:
        """Try to set the creator to *value*; tell whether it came to that."""
        api.patch(task, {"metadata": {"annotations": {CREATED_BY: value}}})
        return self.creator(api, task) == value


class TestSubmittedBy:
    """A ServiceAccount that the chart trusts says for whom it submits; nobody else can say so."""

    SENTENCE = "longtask.dev/submitted-by may be set, changed or removed only by the ServiceAccounts in the chart's"

    def submit(self, api: Api, person: str, user: str) -> Result:
        api.run("-n", api.namespace, "delete", "longtask", "for-alice", "--ignore-not-found", check=True)
        task = a_longtask("for-alice", api.namespace)
        task["metadata"]["annotations"] = {SUBMITTED_BY: person}
        return api.create(task, user=user)

    def test_a_trusted_submitter_names_a_person_and_stays_its_creator(self, api: Api) -> None:
        assert accepted(self.submit(api, ALICE, GITOPS))

        assert api.get("longtask/for-alice")["metadata"]["annotations"] == {CREATED_BY: GITOPS, SUBMITTED_BY: ALICE}

    def test_it_may_correct_and_remove_the_name(self, api: Api) -> None:
        assert accepted(self.submit(api, "alise", GITOPS))

        for person in (ALICE, None):
            patch = {"metadata": {"annotations": {SUBMITTED_BY: person}}}
            assert accepted(api.patch("longtask/for-alice", patch, user=GITOPS))

    @pytest.mark.parametrize("user", [ALICE, "", "system:serviceaccount:kueue-system:default"])
    def test_nobody_else_names_one_not_even_themselves(self, api: Api, user: str) -> None:
        assert refused(self.submit(api, ALICE, user), self.SENTENCE)

    @pytest.mark.parametrize("person", ["mallory", None, ""], ids=["changed", "removed", "empty"])
    def test_nobody_else_changes_the_name_afterwards(self, api: Api, person: str | None) -> None:
        assert accepted(self.submit(api, ALICE, GITOPS))

        patch = {"metadata": {"annotations": {SUBMITTED_BY: person}}}
        assert refused(api.patch("longtask/for-alice", patch, user=ALICE), self.SENTENCE)
        api.patch("longtask/for-alice", patch, "--subresource=status", user=ALICE)
        assert api.get("longtask/for-alice")["metadata"]["annotations"][SUBMITTED_BY] == ALICE

    def test_nobody_else_adds_one_to_a_task_of_a_trusted_submitter(self, api: Api) -> None:
        task = stored(api, "of-gitops", user=GITOPS)

        patch = {"metadata": {"annotations": {SUBMITTED_BY: "mallory"}}}
        assert refused(api.patch(task, patch, user=ALICE), self.SENTENCE)

    def test_everything_else_of_it_may_change(self, api: Api) -> None:
        assert accepted(self.submit(api, ALICE, GITOPS))

        change = {"metadata": {"labels": {"a": "b"}}, "spec": {"suspend": True}}
        assert accepted(api.patch("longtask/for-alice", change, user=ASSIGNER))

    @pytest.mark.parametrize("name", ["", "system:serviceaccount:a:b", "x" * 254], ids=["empty", "account", "long"])
    def test_a_person_is_no_service_account(self, api: Api, name: str) -> None:
        assert refused(self.submit(api, name, GITOPS), "longtask.dev/submitted-by names a person by the user name")


class TestCreatedByBelow136:
    """The chart's switch createdBy.mode=Validate, for API servers that know no MutatingAdmissionPolicy."""

    @pytest.fixture(scope="class")
    @classmethod
    def validating(cls, api: Api) -> Iterator[Api]:
        binding = "mutatingadmissionpolicybinding/longtask-created-by"
        api.run("delete", binding, check=True)
        api.until("no longer written", lambda: cls.created(api) == [])
        yield api
        documents = [d for d in rendered_policies() if d["kind"] == "MutatingAdmissionPolicyBinding"]
        api.run("apply", "-f", "-", document=documents[0], check=True)
        api.until("written again", lambda: cls.created(api) == [CREATED_BY])

    @staticmethod
    def created(api: Api) -> list[str] | None:
        """Return the annotations of a new task, None when it was not taken."""
        answer = api.create(a_longtask("probe", api.namespace), "--dry-run=server", "-o", "json")
        return [*json.loads(answer.stdout)["metadata"].get("annotations", {})] if answer.returncode == 0 else None

    def test_it_renders_no_mutating_policy(self) -> None:
        kinds = {document["kind"] for document in rendered_policies("createdBy.mode=Validate")}

        assert not {kind for kind in kinds if kind.startswith("Mutating")}

    def test_a_wrong_value_is_refused(self, validating: Api) -> None:
        task = a_longtask("forged", validating.namespace)
        task["metadata"]["annotations"] = {CREATED_BY: "mallory"}

        answer = validating.create(task, "--dry-run=server", user=ALICE)

        assert refused(answer, "longtask.dev/created-by must be your own user name, 'alice'; set it so or leave it out")

    def test_ones_own_value_stays(self, validating: Api) -> None:
        validating.run("-n", validating.namespace, "delete", "longtask", "own", "--ignore-not-found")
        task = a_longtask("own", validating.namespace)
        task["metadata"]["annotations"] = {CREATED_BY: ALICE}
        assert accepted(validating.create(task, user=ALICE))

        for value in ("mallory", None):
            patch = {"metadata": {"annotations": {CREATED_BY: value}}}
            answer = validating.patch("longtask/own", patch, user=ASSIGNER)
            assert refused(answer, "longtask.dev/created-by never changes; set it to 'alice' as stored")

    def test_none_is_let_through_and_stays_none(self, validating: Api) -> None:
        task = stored(validating, "none", user=ALICE)

        answer = validating.patch(task, {"metadata": {"annotations": {CREATED_BY: ALICE}}}, user=ALICE)

        assert refused(answer, "longtask.dev/created-by never changes; leave it out")
