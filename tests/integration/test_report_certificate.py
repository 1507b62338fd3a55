"""The report server's certificate and address: one Secret and one EndpointSlice, whoever leads."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509

from longtask_operator.adapters.certificates import SECRET, ServingCertificate
from longtask_operator.adapters.kube import Json, Kube, load_credentials, resource_path
from longtask_operator.engines import report_listener
from longtask_operator.engines.endpoints import publish_endpoint
from longtask_operator.settings import Settings
from tests.integration.reports_support import World, a_namespace, a_world

pytestmark = pytest.mark.integration


@pytest.fixture
async def kube(control_plane: Any) -> AsyncIterator[Kube]:
    async with Kube(load_credentials({"KUBECONFIG": str(control_plane.kubeconfig)})) as kube:
        yield kube


@pytest.fixture
async def namespace(kube: Kube) -> AsyncIterator[str]:
    async with a_namespace(kube) as namespace:
        yield namespace


def certificate(kube: Kube, namespace: str, *, later: timedelta = timedelta()) -> ServingCertificate:
    now = datetime.now(UTC) + later
    return ServingCertificate(kube, namespace=namespace, host="localhost", days=365, now=lambda: now)


def secret_path(namespace: str) -> str:
    return resource_path("v1", "secrets", namespace, SECRET)


class TestCertificate:
    async def test_replicas_that_start_together_end_with_one_authority(self, kube: Kube, namespace: str) -> None:
        replicas = [certificate(kube, namespace) for _ in range(5)]
        await asyncio.gather(*(replica.ensure() for replica in replicas))
        assert len({replica.ca_bundle() for replica in replicas}) == 1

    async def test_a_replica_that_does_not_lead_reads_and_never_writes(self, kube: Kube, namespace: str) -> None:
        follower = certificate(kube, namespace)
        assert not await follower.load()
        assert not follower.is_loaded
        with pytest.raises(RuntimeError):
            follower.ca_bundle()
        leader = certificate(kube, namespace)
        await leader.ensure()
        before = await kube.get(secret_path(namespace))
        late = certificate(kube, namespace, later=timedelta(days=300))
        assert await late.load()
        assert await follower.load()
        assert follower.ca_bundle() == late.ca_bundle() == leader.ca_bundle()
        assert await kube.get(secret_path(namespace)) == before

    async def test_what_is_fresh_is_not_written_again(self, kube: Kube, namespace: str) -> None:
        await certificate(kube, namespace).ensure()
        before = await kube.get(secret_path(namespace))
        await certificate(kube, namespace).ensure()
        assert await kube.get(secret_path(namespace)) == before

    async def test_replicas_that_renew_together_end_with_one_certificate(self, kube: Kube, namespace: str) -> None:
        await certificate(kube, namespace).ensure()
        replicas = [certificate(kube, namespace, later=timedelta(days=2000)) for _ in range(5)]
        await asyncio.gather(*(replica.ensure() for replica in replicas))
        assert len({replica.ca_bundle() for replica in replicas}) == 1
        assert replicas[0].ca_bundle().count("BEGIN CERTIFICATE") == 2

    @pytest.mark.parametrize("damage", [{"tls.crt": "anVuaw=="}, {"ca.key": ""}, {"ca.crt": "!"}])
    async def test_a_damaged_secret_is_made_anew(self, kube: Kube, namespace: str, damage: dict[str, str]) -> None:
        first = certificate(kube, namespace)
        await first.ensure()
        secret = await kube.get(secret_path(namespace))
        data = {name: base64.b64encode(b"!").decode() if value == "!" else value for name, value in damage.items()}
        await kube.replace(secret_path(namespace), secret | {"data": secret["data"] | data})
        second = certificate(kube, namespace)
        assert not await second.load()
        await second.ensure()
        assert second.ca_bundle() != first.ca_bundle()
        assert await certificate(kube, namespace).load()

    async def test_a_renewed_certificate_counts_from_the_next_connection_on(
        self, control_plane: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(report_listener, "LIFE_SECONDS", 60.0)  # what is open must live until the end
        async with a_world(control_plane.kubeconfig, age_days=300) as world:
            token = await world.token(await world.a_pod())
            old = await served(world)
            reader, writer = await asyncio.open_connection("localhost", world.port, ssl=world.trust)
            world.certificate_age[0] = timedelta()
            await world.certificate.ensure()
            assert await served(world) != old
            assert (await world.post(token)).status == 200  # still with the bundle of before
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")  # what was open goes on
            assert b" 404 " in await reader.read()
            writer.close()


async def served(world: World) -> x509.Certificate:
    """Return the certificate that a new connection sees."""
    _, writer = await asyncio.open_connection("localhost", world.port, ssl=world.trust)
    connection: ssl.SSLObject = writer.get_extra_info("ssl_object")
    shown = connection.getpeercert(binary_form=True)
    writer.close()
    assert shown
    return x509.load_der_x509_certificate(shown)


class TestEndpoint:
    async def read(self, kube: Kube, namespace: str) -> Json:
        return await kube.get(resource_path("discovery.k8s.io/v1", "endpointslices", namespace, "longtask-reports"))

    async def test_the_leader_is_published_and_a_second_time_costs_no_write(self, kube: Kube, namespace: str) -> None:
        settings = Settings(namespace=namespace, pod_ip="10.1.2.3", report_port=8443)
        assert await publish_endpoint(kube, settings)
        found = await self.read(kube, namespace)
        assert found["addressType"] == "IPv4"
        assert found["endpoints"][0]["addresses"] == ["10.1.2.3"]
        assert found["ports"] == [{"name": "reports", "port": 8443, "protocol": "TCP"}]
        assert found["metadata"]["labels"]["kubernetes.io/service-name"] == "longtask-reports"
        assert not await publish_endpoint(kube, settings)
        assert await self.read(kube, namespace) == found

    async def test_the_next_leader_takes_over_and_edits_are_repaired(self, kube: Kube, namespace: str) -> None:
        await publish_endpoint(kube, Settings(namespace=namespace, pod_ip="10.1.2.3"))
        found = await self.read(kube, namespace)
        found["metadata"]["labels"] = {"team": "x"}
        found["ports"][0]["port"] = 1
        await kube.replace(resource_path("discovery.k8s.io/v1", "endpointslices", namespace, "longtask-reports"), found)
        assert await publish_endpoint(kube, Settings(namespace=namespace, pod_ip="10.9.9.9"))
        repaired = await self.read(kube, namespace)
        assert repaired["endpoints"][0]["addresses"] == ["10.9.9.9"]
        assert repaired["ports"][0]["port"] == 8443
        assert repaired["metadata"]["labels"]["kubernetes.io/service-name"] == "longtask-reports"
        assert repaired["metadata"]["labels"]["team"] == "x"

    async def test_two_that_publish_together_do_not_fail(self, kube: Kube, namespace: str) -> None:
        addresses = [f"10.0.0.{number}" for number in range(1, 6)]
        await asyncio.gather(
            *(publish_endpoint(kube, Settings(namespace=namespace, pod_ip=address)) for address in addresses)
        )
        assert (await self.read(kube, namespace))["endpoints"][0]["addresses"][0] in addresses

    async def test_an_operator_beside_the_cluster_publishes_nothing(self, kube: Kube, namespace: str) -> None:
        assert not await publish_endpoint(kube, Settings(namespace=namespace, pod_ip="127.0.0.1"))
