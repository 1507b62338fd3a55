"""Publishes the leader behind the reports Service, which has no selector."""

from __future__ import annotations

import ipaddress

import structlog

from longtask_operator.adapters.errors import AlreadyExists, Conflict, NotFound
from longtask_operator.adapters.kube import Json, Kube, resource_path
from longtask_operator.api.names import LABEL_MANAGED_BY, MANAGED_BY
from longtask_operator.settings import Settings

#: Name of the Service's port; an EndpointSlice is joined to it by this name.
PORT_NAME = "reports"
_TRIES = 5

log = structlog.get_logger("longtask.reports")


async def publish_endpoint(kube: Kube, settings: Settings) -> bool:
    """Make the Service lead here; return whether a write was needed.

    An operator on a loopback address runs beside the cluster and has nothing to publish.

    Raises:
        ApiError: as the client does; call again.
    """
    if ipaddress.ip_address(settings.pod_ip).is_loopback:
        log.info("not published: workers reach the report server directly", pod_ip=settings.pod_ip)
        return False
    collection = resource_path("discovery.k8s.io/v1", "endpointslices", settings.namespace)
    wanted = build_slice(settings.report_service, settings.pod_ip, settings.report_port)
    for _ in range(_TRIES):
        try:
            try:
                found = await kube.get(f"{collection}/{settings.report_service}")
            except NotFound:
                await kube.create(collection, wanted)
                return True
            if _is_same(found, wanted):
                return False
            labels = (found["metadata"].get("labels") or {}) | wanted["metadata"]["labels"]
            await kube.replace(
                f"{collection}/{settings.report_service}",
                found | wanted | {"metadata": found["metadata"] | {"labels": labels}},
            )
            return True
        except (AlreadyExists, Conflict):
            continue
    raise Conflict(409, "Conflict", f"EndpointSlice {settings.report_service} changes faster than it can be written")


def build_slice(service: str, address: str, port: int) -> Json:
    """Return the EndpointSlice that leads *service* to one address."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": service,
            "labels": {
                "kubernetes.io/service-name": service,
                "endpointslice.kubernetes.io/managed-by": MANAGED_BY,
                LABEL_MANAGED_BY: MANAGED_BY,
            },
        },
        "addressType": f"IPv{ipaddress.ip_address(address).version}",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True, "serving": True, "terminating": False}}],
        "ports": [{"name": PORT_NAME, "port": port, "protocol": "TCP"}],
    }


def _is_same(found: Json, wanted: Json) -> bool:
    labels = found["metadata"].get("labels") or {}
    return all(found.get(key) == wanted[key] for key in ("addressType", "endpoints", "ports")) and all(
        labels.get(key) == value for key, value in wanted["metadata"]["labels"].items()
    )
