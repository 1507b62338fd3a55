"""Takes workers' reports: who asks, whether it may, what it says, in this order of cost.

No answer but a confirmed 409 and `cancel` stops a worker, so when in doubt the answer is
503: the worker goes on and asks again.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol

import orjson
import structlog
from aiohttp import web

from longtask_operator.adapters.tokens import PodIdentity, TokenRejected, TokenUnavailable
from longtask_operator.api.report import MAX_BODY_BYTES, PROBE_PATH, Report, ReportError, build_answer, parse_report
from longtask_operator.core.checkpoints import told_to
from longtask_operator.core.progress import next_report_seconds
from longtask_operator.core.report_access import Access, LivePod, LiveTask, ReportPath, decide_access
from longtask_operator.engines.report_book import ReportBook
from longtask_operator.engines.report_listener import Listener
from longtask_operator.engines.report_rates import ReportRates

__all__ = ["LivePod", "LivePods", "LiveTask", "ReportServer", "Verifier"]

_PATH = re.compile(
    r"/v1/namespaces/(?P<namespace>[a-z0-9-]{1,63})/longtasks/(?P<name>[a-z0-9-]{1,63})"
    r"/attempts/(?P<attempt>[1-9][0-9]{0,9})/report"
)
_BODY_SECONDS = 2.0
_CONFIRM_SECONDS = 3.0
_RETRY_SOON = 2
_RETRY_LATER = 5

log = structlog.get_logger("longtask.reports")
#: Called after each request with the HTTP code and the seconds it took.
Observer = Callable[[int, float], None]


class LivePods(Protocol):
    """What the caches know."""

    def is_synced(self) -> bool:
        """Return whether the caches are warm and this replica leads."""
        ...

    def pod_of(self, uid: str) -> LivePod | None:
        """Return the pod of that uid, or None while it is not known."""
        ...

    def task_of(self, namespace: str, name: str) -> LiveTask | None:
        """Return the task, or None if there is none."""
        ...

    def live_attempts(self) -> int:
        """Return how many attempts are live in all."""
        ...

    async def confirm_newer_attempt(self, namespace: str, name: str, attempt: int) -> bool:
        """Ask the API server whether the task is beyond *attempt*; False when it cannot tell."""
        ...


class Verifier(Protocol):
    """Checks tokens: `adapters.tokens.TokenVerifier`."""

    async def verify(self, token: str) -> PodIdentity:
        """Return the token's pod. Raises TokenRejected or TokenUnavailable."""
        ...


class _Refusal(Exception):  # noqa: N818 - an answer, not an error
    def __init__(self, status: int, message: str, *, retry_after: int | None = None, **body: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body = body or {"error": message}
        self.headers = {"Retry-After": str(retry_after)} if retry_after else {}


class ReportServer:
    """HTTPS server for reports; *context* holds its certificate (`ServingCertificate.context`)."""

    def __init__(
        self,
        *,
        port: int,
        directory: LivePods,
        verifier: Verifier,
        book: ReportBook,
        context: ssl.SSLContext,
        observe: Observer = lambda code, seconds: None,
    ) -> None:
        self._directory, self._verifier, self._book = directory, verifier, book
        self._observe = observe
        self._rates = ReportRates()
        self.name = secrets.token_hex(8)  #: of this very server, by which a probe knows it
        self.listener = Listener(self.handle, context, port=port)

    async def run(self) -> None:
        """Serve until cancelled. Raises OSError if the port is taken."""
        await self.listener.run()

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """Return the answer to one request; the connection is closed after it."""
        started, headers = time.perf_counter(), {"Connection": "close"}
        if request.path == PROBE_PATH and request.method == "GET":
            return _answer(200, {"server": self.name}, headers)
        try:
            status, body = 200, await self._take(request)
        except _Refusal as refusal:
            status, body = refusal.status, refusal.body
            headers |= refusal.headers
        except Exception as error:
            log.exception("report not handled", error=str(error))
            status, body = 503, {"error": "the operator failed; try again"}
            headers["Retry-After"] = str(_RETRY_LATER)
        self._observe(status, time.perf_counter() - started)
        return _answer(status, body, headers)

    async def _take(self, request: web.BaseRequest) -> dict[str, Any]:
        path = _parse_path(request)
        if (request.content_length or 0) > MAX_BODY_BYTES:
            raise _Refusal(413, f"a report has at most {MAX_BODY_BYTES} bytes")
        if not self._directory.is_synced():
            raise _Refusal(503, "the operator is starting", retry_after=_RETRY_LATER)
        task, pod = await self._admit(path, _bearer_token(request))
        report = _parse(await _read_body(request))
        key, alarm = f"{path.namespace}/{path.name}", task.memory_alarm_bytes
        self._book.record(pod.uid, report, datetime.now(UTC), task_key=key, alarm=alarm)
        return build_answer(
            cancel=task.cancel_requested,
            deadline=task.deadline,
            next_report_seconds=next_report_seconds(self._directory.live_attempts()),
            memory_limit_bytes=task.memory_limit_bytes,
            checkpoint_requested=task.checkpoint_requested,
            checkpoint_uri=told_to(path.attempt, task.checkpoint),
        )

    async def _admit(self, path: ReportPath, token: str) -> tuple[LiveTask, LivePod]:
        """Return task and pod of a sender that may report, else raise the refusal."""
        rejected: TokenRejected | None = None
        try:
            sender = await self._verifier.verify(token)
        except TokenUnavailable as error:
            raise _Refusal(503, str(error), retry_after=error.retry_after) from None
        except TokenRejected as error:
            if error.identity is None:
                raise _Refusal(401, str(error)) from None
            sender, rejected = error.identity, error
        if not self._rates.allow(sender.pod_uid):
            raise _Refusal(429, "too many reports", retry_after=_RETRY_SOON)
        pod = self._directory.pod_of(sender.pod_uid)
        task = self._directory.task_of(path.namespace, path.name)
        access = decide_access(path, sender.namespace, pod, task)
        if access is Access.OUTDATED:
            await self._stop_if_confirmed(path)
        if rejected:
            raise _Refusal(401, str(rejected))
        if access is not Access.TAKE or task is None or pod is None:
            raise _refusal_of(access)
        return task, pod

    async def _stop_if_confirmed(self, path: ReportPath) -> None:
        try:
            async with asyncio.timeout(_CONFIRM_SECONDS):
                confirmed = await self._directory.confirm_newer_attempt(path.namespace, path.name, path.attempt)
        except TimeoutError:
            confirmed = False
        if confirmed:
            raise _Refusal(409, "a newer attempt runs", stop=True)


def _answer(status: int, body: dict[str, Any], headers: dict[str, str]) -> web.Response:
    response = web.Response(body=orjson.dumps(body), status=status, headers=headers, content_type="application/json")
    response.force_close()
    return response


def _refusal_of(access: Access) -> _Refusal:
    if access is Access.NO_TASK:
        return _Refusal(404, "no such task")
    if access is Access.FOREIGN:
        return _Refusal(403, "this is not the attempt's pod")
    return _Refusal(503, "the pod or the attempt is not known yet", retry_after=_RETRY_SOON)


def _parse_path(request: web.BaseRequest) -> ReportPath:
    match = _PATH.fullmatch(request.path)
    if match is None:
        raise _Refusal(404, "no such path")
    if request.method != "POST":
        raise _Refusal(405, "reports are sent with POST")
    return ReportPath(namespace=match["namespace"], name=match["name"], attempt=int(match["attempt"]))


def _bearer_token(request: web.BaseRequest) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise _Refusal(401, "a bearer token is needed")
    return token.strip()


async def _read_body(request: web.BaseRequest) -> bytes:
    """Return the body, never reading more than its limit."""
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise _Refusal(413, f"a report has at most {MAX_BODY_BYTES} bytes")
    except TimeoutError:
        raise _Refusal(408, "the body did not arrive in time") from None
    return bytes(body)


def _parse(body: bytes) -> Report:
    try:
        return parse_report(body)
    except ReportError as error:
        raise _Refusal(400, str(error), field=error.field, error=error.message) from None
