"""The leader's side of the progress channel: certificate, server, endpoint."""

from __future__ import annotations

import asyncio

from longtask_operator.engines.context import Context
from longtask_operator.engines.live_pods import CachedPods
from longtask_operator.engines.report_book import ReportBook
from longtask_operator.settings import Settings


class Reporting:
    """Takes reports while this replica leads."""

    def __init__(self, context: Context, settings: Settings, directory: CachedPods, book: ReportBook) -> None:
        self._context, self._settings, self._directory, self._book = context, settings, directory, book

    def ca_bundle(self) -> str:
        """Return the CA certificates, PEM, that workers trust."""
        return ""

    async def lead(self) -> None:
        """Serve until cancelled."""
        await asyncio.Event().wait()
