"""The chart grants exactly the verbs that the operator has used in all tests before this one, by the audit log.

Runs last: alone it would miss what the other modules make the operator do.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.stage import scale
from tests.support.auditor_writes import requests
from tests.support.live import Client, Json, await_
from tests.support.operator_process import NAMESPACE, OPERATOR_USER

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
RBAC = "/apis/rbac.authorization.k8s.io/v1"
ROLE = "longtask-operator"
Right = tuple[str, str, str]  #: API group, resource, verb

#: The devcluster's audit log leaves out reads of leases, of which there is one each second.
NOT_LOGGED: set[Right] = {("coordination.k8s.io", "leases", "get")}


@pytest.fixture(scope="module")
def used(cluster: Any, client: Client) -> set[Right]:
    """What the operator did, at least once and not refused for lack of permission."""
    if len(list(requests(cluster.audit_log, OPERATOR_USER))) < 1000:
        pytest.skip("the audit log is short: run the other end-to-end tests before this one")
    # Another pod has another address, which the EndpointSlice must then tell.
    scale(client, 0)
    scale(client, 1)
    await_("an operator that leads and tells its address", lambda: leads(client), 60)
    log = requests(cluster.audit_log, OPERATOR_USER)
    return {(request.group, request.resource, request.verb) for request in log if request.code != 403}


def leads(client: Client) -> bool:
    """Tell whether the one operator that is there has the lease, and the reports' EndpointSlice says where it is."""
    (pod,) = client.items(f"/api/v1/namespaces/{NAMESPACE}/pods", labelSelector="app.kubernetes.io/component=operator")
    lease = client.request("GET", f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{ROLE}")
    told = client.request("GET", f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices/longtask-reports")
    addresses = [address for endpoint in told["endpoints"] or [] for address in endpoint["addresses"]]
    holder = str(lease["spec"].get("holderIdentity") or "")
    return holder.startswith(pod["metadata"]["name"]) and pod["status"]["podIP"] in addresses


def rights_of(role: Json) -> set[Right]:
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule.get("apiGroups", [])
        for resource in rule.get("resources", [])
        for verb in rule["verbs"]
    }


@pytest.fixture(scope="module")
def granted(client: Client) -> set[Right]:
    everywhere = client.request("GET", f"{RBAC}/clusterroles/{ROLE}")
    at_home = client.request("GET", f"{RBAC}/namespaces/{NAMESPACE}/roles/{ROLE}")
    of_nodes = client.request("GET", f"{RBAC}/namespaces/kube-node-lease/roles/longtask-nodes")
    return rights_of(everywhere) | rights_of(at_home) | rights_of(of_nodes)


def test_nothing_is_granted_that_is_not_used(granted: set[Right], used: set[Right]) -> None:
    assert granted - used - NOT_LOGGED == set()


def test_nothing_is_used_that_is_not_granted(granted: set[Right], used: set[Right]) -> None:
    assert used - granted == set()


def test_nothing_is_granted_by_a_wildcard(granted: set[Right]) -> None:
    assert not [right for right in granted if "*" in right]
