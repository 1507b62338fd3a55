"""/metrics, /healthz and /readyz.

Healthy means that the event loop turns and no engine has ended. Ready means that the caches
were filled and have heard from the API server lately; a replica that only stands by is ready.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from longtask_operator.adapters.metrics import Metrics

#: Returns why not, or an empty string.
Check = Callable[[], str]


async def serve_http(port: int, metrics: Metrics, healthy: Check, ready: Check) -> web.AppRunner:
    """Start the server and return its runner; the caller cleans it up. Raises OSError if the port is taken."""

    async def exposition(_: web.Request) -> web.Response:
        return web.Response(
            body=metrics.exposition(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )

    def probe(check: Check) -> Callable[[web.Request], object]:
        async def answer(_: web.Request) -> web.Response:
            why_not = check()
            return web.Response(text=(why_not or "ok") + "\n", status=503 if why_not else 200)

        return answer

    app = web.Application()
    app.add_routes(
        [
            web.get("/metrics", exposition),
            web.get("/healthz", probe(healthy)),  # type: ignore[arg-type]
            web.get("/readyz", probe(ready)),  # type: ignore[arg-type]
        ]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", port, backlog=64).start()
    return runner
