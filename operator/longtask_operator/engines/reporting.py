"""The leader's side of the progress channel: certificate, server, endpoint."""

from __future__ import annotations

import asyncio

import structlog

from longtask_operator.adapters.certificates import ServingCertificate
from longtask_operator.adapters.errors import ApiError
from longtask_operator.adapters.report_probe import ReportProbe
from longtask_operator.adapters.tokens import TokenVerifier
from longtask_operator.engines.context import Context
from longtask_operator.engines.endpoints import publish_endpoint
from longtask_operator.engines.live_pods import CachedPods
from longtask_operator.engines.report_book import ReportBook
from longtask_operator.engines.report_server import ReportServer
from longtask_operator.engines.sight import Sight
from longtask_operator.settings import Settings

_PUBLISH_SECONDS = 60.0
_RETRY_SECONDS = 2.0
log = structlog.get_logger("longtask.reports")


class Reporting:
    """Takes reports while this replica leads."""

    def __init__(
        self, context: Context, settings: Settings, directory: CachedPods, book: ReportBook, sight: Sight
    ) -> None:
        self._sight = sight
        self._kube, self._settings, self._directory = context.kube, settings, directory
        self.certificate = ServingCertificate(
            context.kube,
            namespace=settings.namespace,
            host=settings.report_host,
            days=settings.report_certificate_days,
        )
        self.certificate.on_use = lambda end: context.metrics.certificate_end.set(end.timestamp())
        self._server = ReportServer(
            port=settings.report_port,
            directory=directory,
            verifier=TokenVerifier(context.kube),
            book=book,
            context=self.certificate.context,
            observe=lambda code, seconds: context.metrics.reported(code),
        )
        sight.probe = ReportProbe(
            settings.report_host, settings.report_port, self.certificate.ca_bundle, self._server.name
        )

    async def prepare(self) -> None:
        """Return once there is a certificate: pods get its CA when they are made."""
        while not self.certificate.is_loaded:
            try:
                await self.certificate.ensure()
            except ApiError as error:
                log.warning("no certificate for the report server yet; trying again", error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
        self._directory.ready = True

    async def lead(self) -> None:
        """Serve, keep the certificate fresh and the endpoint published, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._server.run())
            group.create_task(self.certificate.run(lambda: True))
            group.create_task(self._publish())
            await self._server.listener.ready.wait()
            self._sight.listens()
            group.create_task(self._sight.run())

    async def _publish(self) -> None:
        while True:
            delay = _PUBLISH_SECONDS
            try:
                await publish_endpoint(self._kube, self._settings)
            except ApiError as error:
                log.warning("the report endpoint is not published; trying again", error=str(error))
                delay = _RETRY_SECONDS
            await asyncio.sleep(delay)
