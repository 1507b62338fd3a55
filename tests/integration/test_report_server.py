"""Who may report and what is answered: real tokens from a real API server, over real TLS."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from longtask_operator.adapters.authority import renewed
from longtask_operator.adapters.kube import Kube, resource_path
from longtask_operator.adapters.report_probe import ReportProbe
from longtask_operator.adapters.signing_keys import SigningKeys
from longtask_operator.api.report import MAX_BODY_BYTES
from longtask_operator.core.report_access import LiveTask
from longtask_operator.engines.report_rates import BURST
from longtask_worker.transport import Channel
from longtask_worker.wire import build_report
from tests.integration.reports_support import TASK, TASK_UID, World, a_namespace, a_world

pytestmark = pytest.mark.integration


@pytest.fixture
async def world(control_plane: Any) -> AsyncIterator[World]:
    async with a_world(control_plane.kubeconfig) as world:
        yield world


class TestTheLeadersOwnProbe:
    async def test_comes_through_as_a_report_would_and_counts_as_none(self, world: World) -> None:
        probe = ReportProbe("localhost", world.port, world.certificate.ca_bundle, world.server.name)
        assert [await probe() for _ in range(2)] == ["", ""]
        assert world.codes == []

    async def test_another_replica_is_not_the_one_to_reach(self, world: World) -> None:
        probe = ReportProbe("localhost", world.port, world.certificate.ca_bundle, "another")
        assert await probe() == "another server answers"

    async def test_says_why_it_fails(self, world: World) -> None:
        other = renewed(None, host="localhost", serving_days=1, now=datetime.now(UTC)).bundle
        with socket.create_server(("127.0.0.1", 0)) as mute:
            closed = mute.getsockname()[1]
        ours = world.certificate.ca_bundle
        assert "CERTIFICATE_VERIFY_FAILED" in await ReportProbe("localhost", world.port, lambda: other, "")()
        assert "ConnectionRefusedError" in await ReportProbe("localhost", closed, ours, "")()
        assert "gaierror" in await ReportProbe("nowhere.invalid", world.port, ours, "")()

    async def test_a_server_that_does_not_answer_is_waited_for_as_workers_do(self, world: World) -> None:
        with socket.create_server(("127.0.0.1", 0)) as mute:
            probe = ReportProbe("localhost", mute.getsockname()[1], world.certificate.ca_bundle, "")
            first = asyncio.create_task(probe())
            await asyncio.sleep(0)
            assert await probe() == "the last probe has no answer yet"
            assert "timed out" in await first


class TestTheAttemptsOwnPod:
    async def test_is_answered_and_its_report_is_kept(self, world: World) -> None:
        pod = await world.a_pod()
        task = LiveTask(
            uid=TASK_UID,
            attempt=1,
            cancel_requested=True,
            deadline=datetime(2026, 1, 31, 8, tzinfo=UTC),
            memory_limit_bytes=2**30,
        )
        world.directory.tasks[world.namespace, TASK] = task
        woken: list[str] = []
        world.book.on_report = woken.append
        answer = await world.post(await world.token(pod), data=b'{"sequence": 3, "done": 42, "total": 100}')
        assert answer.status == 200
        assert answer.body == {
            "cancel": True,
            "deadline": "2026-01-31T08:00:00Z",
            "nextReportSeconds": 5,
            "checkpointRequested": False,
            "memoryLimitBytes": 2**30,
        }
        assert answer.headers["Connection"] == "close"
        latest = world.book.latest(pod.uid)
        assert latest is not None
        assert (latest[0].done, latest[0].total) == (42, 100)
        assert woken == [f"{world.namespace}/{TASK}"]
        assert world.codes == [200]

    async def test_sends_with_the_sdk(self, world: World, tmp_path: Path) -> None:
        pod = await world.a_pod()
        (tmp_path / "token").write_text(await world.token(pod))
        (tmp_path / "ca.crt").write_text(world.certificate.ca_bundle())
        channel = Channel(world.url(), str(tmp_path / "token"), str(tmp_path / "ca.crt"))
        facts = {"done": 5, "total": 9, "unit": "lines", "message": "Grüße 🎉", "memoryBytes": 7, "cpuSeconds": 0.5}
        answer = await asyncio.to_thread(channel.post, build_report(1, facts), 60.0)
        assert (answer.status, answer.interval, answer.cancel) == (200, 5, False)
        latest = world.book.latest(pod.uid)
        assert latest is not None
        assert (latest[0].done, latest[0].message) == (5, "Grüße 🎉")

    async def test_a_late_report_is_answered_but_does_not_count(self, world: World) -> None:
        pod = await world.a_pod()
        token = await world.token(pod)
        await world.post(token, data=b'{"sequence": 2, "done": 9}')
        assert (await world.post(token, data=b'{"sequence": 1, "done": 3}')).status == 200
        latest = world.book.latest(pod.uid)
        assert latest is not None
        assert latest[0].done == 9

    async def test_is_asked_to_wait_when_it_asks_too_often(self, world: World) -> None:
        token = await world.token(await world.a_pod())
        answers = [await world.post(token) for _ in range(int(BURST))]
        assert [answer.status for answer in answers] == [200] * int(BURST)
        more = await asyncio.gather(*(world.post(token) for _ in range(2 * int(BURST))))
        refused = [answer for answer in more if answer.status == 429]
        assert refused
        assert all(int(answer.headers["Retry-After"]) > 0 for answer in refused)


class TestEveryoneElse:
    async def test_without_a_token(self, world: World) -> None:
        assert (await world.post(None)).status == 401

    @pytest.mark.parametrize("token", ["", "nothing", "a.b.c", "é", "x" * 8000, "{}", "..", "🎉"])
    async def test_with_junk_for_a_token(self, world: World, token: str) -> None:
        assert (await world.post(token)).status == 401

    async def test_with_another_scheme(self, world: World) -> None:
        assert (await world.post(None, headers={"Authorization": "Basic YTpi"})).status == 401

    async def test_with_a_changed_token(self, world: World) -> None:
        pod = await world.a_pod()
        head, claims, signature = (await world.token(pod)).split(".")
        data = json.loads(base64.urlsafe_b64decode(claims + "=="))
        data["kubernetes.io"]["pod"]["uid"] = (await world.a_pod()).uid
        forged = base64.urlsafe_b64encode(json.dumps(data).encode()).decode().rstrip("=")
        assert (await world.post(f"{head}.{forged}.{signature}")).status == 401
        nothing = base64.urlsafe_b64encode(b'{"alg": "none"}').decode().rstrip("=")
        assert (await world.post(f"{nothing}.{claims}.")).status == 401

    @pytest.mark.parametrize("audience", ["https://kubernetes.default.svc.cluster.local", "longtask-other"])
    async def test_with_a_token_for_another_audience(self, world: World, audience: str) -> None:
        assert (await world.post(await world.token(await world.a_pod(), audience=audience))).status == 401

    async def test_with_a_token_that_is_bound_to_no_pod(self, world: World) -> None:
        assert (await world.post(await world.token(None))).status == 401

    async def test_the_pod_of_another_task(self, world: World) -> None:
        other = await world.a_pod(task="other")
        world.directory.tasks[world.namespace, "other"] = LiveTask(uid=TASK_UID, attempt=1)
        assert (await world.post(await world.token(other))).status == 403
        assert (await world.post(await world.token(other), world.url(name="other"))).status == 200

    async def test_the_pod_of_another_attempt(self, world: World) -> None:
        token = await world.token(await world.a_pod(attempt=2))
        assert (await world.post(token, world.url(1))).status == 403
        assert (await world.post(token, world.url(3))).status == 403
        assert (await world.post(token, world.url(2))).status == 200

    async def test_a_pod_of_another_namespace(self, world: World) -> None:
        async with a_namespace(world.kube) as elsewhere:
            pod = await world.a_pod(namespace=elsewhere)
            token = await world.token(pod)
            assert (await world.post(token)).status == 403
            assert (await world.post(token, world.url(name="no-such"))).status == 403

    async def test_a_pod_that_has_ended(self, world: World) -> None:
        pod = await world.a_pod()
        world.directory.pods[pod.uid] = replace(pod, is_live=False)
        assert (await world.post(await world.token(pod))).status == 403

    async def test_a_pod_of_a_task_that_is_gone(self, world: World) -> None:
        token = await world.token(await world.a_pod())
        world.directory.tasks.clear()
        assert (await world.post(token)).status == 404

    async def test_a_pod_of_an_earlier_task_of_that_name(self, world: World) -> None:
        token = await world.token(await world.a_pod())
        world.directory.tasks[world.namespace, TASK] = LiveTask(uid="another", attempt=9)
        world.directory.newer_confirmed = True
        assert (await world.post(token)).status == 403

    async def test_nothing_of_it_is_kept(self, world: World) -> None:
        pod = await world.a_pod(attempt=2)
        await world.post(await world.token(pod), world.url(1))
        assert len(world.book) == 0


class TestAnOlderAttempt:
    async def test_is_stopped_once_the_api_server_confirmed_a_newer_one(self, world: World) -> None:
        token = await world.token(await world.a_pod())
        world.directory.tasks[world.namespace, TASK] = LiveTask(uid=TASK_UID, attempt=2)
        world.directory.newer_confirmed = True
        answer = await world.post(token)
        assert (answer.status, answer.body) == (409, {"stop": True})

    async def test_goes_on_while_only_the_cache_says_so(self, world: World) -> None:
        token = await world.token(await world.a_pod())
        world.directory.tasks[world.namespace, TASK] = LiveTask(uid=TASK_UID, attempt=2)
        answer = await world.post(token)
        assert (answer.status, "stop" in answer.body) == (503, False)
        assert world.directory.asked_to_confirm == 1

    async def test_is_stopped_also_when_its_pod_object_is_gone(self, world: World) -> None:
        pod = await world.a_pod()
        token = await world.token(pod)
        await world.delete_pod(pod)
        await world.until_refused(token)
        del world.directory.pods[pod.uid]
        world.directory.tasks[world.namespace, TASK] = LiveTask(uid=TASK_UID, attempt=2)
        world.directory.newer_confirmed = True
        answer = await world.post(token)
        assert (answer.status, answer.body) == (409, {"stop": True})

    async def test_a_stranger_is_not_told(self, world: World) -> None:
        world.directory.tasks[world.namespace, TASK] = LiveTask(uid=TASK_UID, attempt=2)
        world.directory.newer_confirmed = True
        assert (await world.post("a.b.c")).status == 401
        assert world.directory.asked_to_confirm == 0


class TestADeletedPod:
    async def test_is_refused_when_its_token_was_never_seen(self, world: World) -> None:
        pod = await world.a_pod(known=False)
        token = await world.token(pod)
        await world.delete_pod(pod)
        await world.until_refused(token)
        assert (await world.post(token)).status == 401

    async def test_is_no_longer_taken_when_its_token_was_seen(self, world: World) -> None:
        pod = await world.a_pod()
        token = await world.token(pod)
        assert (await world.post(token)).status == 200
        await world.delete_pod(pod)
        del world.directory.pods[pod.uid]
        assert (await world.post(token)).status == 503


class TestAColdCache:
    async def test_a_pod_that_is_not_known_yet_is_asked_to_come_back(self, world: World) -> None:
        pod = await world.a_pod(known=False)
        token = await world.token(pod)
        answer = await world.post(token)
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) > 0
        world.directory.pods[pod.uid] = pod
        assert (await world.post(token)).status == 200

    async def test_before_the_caches_are_synced_everyone_is_asked_to_come_back(self, world: World) -> None:
        world.directory.synced = False
        for token in (await world.token(await world.a_pod()), "junk", None):
            answer = await world.post(token)
            assert answer.status == 503
            assert int(answer.headers["Retry-After"]) > 0


class TestTheApiServerIsAway:
    async def test_known_tokens_go_on_and_new_ones_wait(self, world: World, control_plane: Any) -> None:
        known, new = await world.token(await world.a_pod()), await world.token(await world.a_pod())
        assert (await world.post(known)).status == 200
        await asyncio.to_thread(control_plane.stop_component, "kube-apiserver", kill=True)
        try:
            assert (await world.post(known)).status == 200
            answer = await world.post(new)
            assert answer.status == 503
            assert int(answer.headers["Retry-After"]) > 0
            assert (await world.post("a.b.c")).status == 401
        finally:
            await asyncio.to_thread(control_plane.start_component, "kube-apiserver")
        async with asyncio.timeout(60):
            while (answer := await world.post(new)).status == 503:  # noqa: ASYNC110 - as workers do
                await asyncio.sleep(int(answer.headers["Retry-After"]))
        assert answer.status == 200


class Reviewer(Kube):
    """Acts as a user who may create TokenReviews and nothing else."""

    def _headers(self, content_type: str | None = None) -> dict[str, str]:
        return super()._headers(content_type) | {"Impersonate-User": "reports-reviewer"}


async def test_the_keys_of_the_api_server_are_read_so_that_garbage_costs_it_nothing(world: World) -> None:
    head = (await world.token(await world.a_pod())).partition(".")[0]
    key_id = json.loads(base64.urlsafe_b64decode(head + "=="))["kid"]
    keys = SigningKeys(world.kube)
    assert await keys.find(key_id) is not None
    assert not keys.are_refused


async def until_reviewer(kube: Kube, *, may: bool) -> None:
    """Wait until the API server has taken up what the reviewer may do: that follows the change by a moment."""
    asked = {"group": "authentication.k8s.io", "resource": "tokenreviews", "verb": "create"}
    body = {"spec": {"user": "reports-reviewer", "resourceAttributes": asked}}
    path = resource_path("authorization.k8s.io/v1", "subjectaccessreviews")
    async with asyncio.timeout(60):
        while (await kube.create(path, body))["status"]["allowed"] is not may:  # noqa: ASYNC110 - it changes there
            await asyncio.sleep(0.05)


class TestKeysThatAreNotShown:
    @pytest.fixture
    async def world(self, control_plane: Any) -> AsyncIterator[World]:
        async with a_world(control_plane.kubeconfig, verifier_kube=Reviewer) as world:
            yield world

    @pytest.fixture
    async def reviewer(self, world: World) -> AsyncIterator[None]:
        path = resource_path("rbac.authorization.k8s.io/v1", "clusterrolebindings")
        body = {
            "metadata": {"name": "reports-reviewer"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "system:auth-delegator",
            },
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "reports-reviewer"}],
        }
        made = await world.kube.create(path, body)
        await until_reviewer(world.kube, may=True)
        yield
        await world.kube.delete(f"{path}/reports-reviewer", uid=made["metadata"]["uid"])
        await until_reviewer(world.kube, may=False)

    async def test_every_new_token_is_reviewed_instead(self, world: World, reviewer: None) -> None:
        pod = await world.a_pod()
        assert (await world.post(await world.token(pod))).status == 200
        assert (await world.post(await world.token(pod, audience="other"))).status == 401
        assert (await world.post(await world.token(None))).status == 401
        head, claims, _ = (await world.token(pod)).split(".")
        assert (await world.post(f"{head}.{claims}.c2lnbmVkIGJ5IG5vYm9keQ")).status == 401
        assert (await world.post("a.b.c")).status == 401

    async def test_without_the_permission_nobody_is_called_a_liar(self, world: World) -> None:
        answer = await world.post(await world.token(await world.a_pod()))
        assert (answer.status, int(answer.headers["Retry-After"]) > 0) == (503, True)


class TestRequests:
    @pytest.mark.parametrize(
        ("data", "field"),
        [
            (b"", "body"),
            (b"{", "body"),
            (b"[]", "body"),
            (b"{}", "sequence"),
            (b'{"sequence": 1, "done": -5}', "done"),
            (b'{"sequence": 1, "unit": 7}', "unit"),
        ],
    )
    async def test_the_malformed_field_is_named(self, world: World, data: bytes, field: str) -> None:
        answer = await world.post(await world.token(await world.a_pod()), data=data)
        assert (answer.status, answer.body["field"]) == (400, field)

    async def test_a_body_at_its_limit_is_read_and_one_beyond_it_is_not(self, world: World) -> None:
        token = await world.token(await world.a_pod())
        full = b'{"sequence": 1}'.ljust(MAX_BODY_BYTES)
        assert (await world.post(token, data=full)).status == 200
        assert (await world.post(token, data=full + b" ")).status == 413

    async def test_an_endless_body_ends_at_the_limit(self, world: World) -> None:
        sent = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal sent
            while True:
                sent += 4096
                yield b" " * 4096

        answer = await world.post(await world.token(await world.a_pod()), data=endless())
        assert answer.status == 413
        assert sent < 64 * 2**20

    async def test_a_compressed_body_is_not_unpacked(self, world: World) -> None:
        answer = await world.post(
            await world.token(await world.a_pod()), data=b"\x1f\x8b", headers={"Content-Encoding": "gzip"}
        )
        assert answer.status == 400

    @pytest.mark.parametrize(
        "path",
        [
            "/",
            "/healthz",
            "/v1/namespaces/n/longtasks/t/attempts/1",
            "/v1/namespaces/n/longtasks/t/attempts/0/report",
            "/v1/namespaces/n/longtasks/t/attempts/one/report",
            "/v1/namespaces/n/longtasks/../attempts/1/report",
            "/v1/namespaces/~/longtasks/t/attempts/1/report",
            "/v1/namespaces/n/longtasks/t/attempts/1/report/",
        ],
    )
    async def test_no_other_path_leads_anywhere(self, world: World, path: str) -> None:
        token = await world.token(await world.a_pod())
        assert (await world.post(token, f"https://127.0.0.1:{world.port}{path}")).status == 404

    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
    async def test_reports_are_posted(self, world: World, method: str) -> None:
        assert (await world.post(None, method=method)).status == 405
