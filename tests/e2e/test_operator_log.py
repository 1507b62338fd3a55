"""The installed operator, which runs on the Python of its image, met nothing that its code does not know.

Runs after those tests that leave it in its place: alone it would have met little.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.operator_process import NAMESPACE, complaints

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


def test_nothing_unexpected_stands_in_the_log(cluster: Any) -> None:
    pods = cluster.kubectl("get", "pods", "-n", NAMESPACE, "-l", "app.kubernetes.io/name=longtask", "-o", "name")
    assert pods.stdout.split(), "no operator is installed"
    for pod in pods.stdout.split():
        log = cluster.kubectl("logs", "-n", NAMESPACE, pod, "--tail=-1").stdout.splitlines()
        assert any("leading" in line for line in log), f"{pod} never led: there is nothing to find"
        assert complaints(log) == []
