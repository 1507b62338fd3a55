"""What the end-to-end tests share: a client, and scenarios that are played all at once."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.stage import Detached, Stage, run_detached
from tests.support.live import Client

#: All others first, on the installed operator; then what its log says of that, one that stops the node, those that put
#: local operators in the installed one's place, and at last the one that counts the verbs that were used.
LATER = (
    "test_operator_log",
    "test_node_loss",
    "test_node_pressure",
    "test_limits",
    "test_operator_down",
    "test_zombies",
    "test_take_over",
    "test_outages",
    "test_chaos",
    "test_rbac",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the modules of LATER last, in its order; leave out what is slow. The places of tests elsewhere stay."""
    if os.environ.get("LONGTASK_SLOW") != "1" and (slow := [item for item in items if item.get_closest_marker("slow")]):
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]
    ours = [index for index, item in enumerate(items) if item.path.parent == Path(__file__).parent]
    ordered = sorted((items[index] for index in ours), key=lambda item: _rank(item.path.stem))
    for index, item in zip(ours, ordered, strict=True):
        items[index] = item


def _rank(module: str) -> int:
    return LATER.index(module) + 1 if module in LATER else 0


@pytest.fixture(scope="session")
def client(cluster: Any) -> Client:
    """Requests as the administrator."""
    return Client(cluster.kubeconfig)


@pytest.fixture(scope="module")
def new_stage(cluster: Any, client: Client) -> Iterator[Callable[..., Stage]]:
    """Make namespaces that go when the module is done."""
    stages: list[Stage] = []

    def make(prefix: str = "e2e", quota: int | None = 1000, **labels: str) -> Stage:
        stages.append(Stage.open(cluster, client, f"{prefix}-{uuid.uuid4().hex[:6]}", labels, quota))
        return stages[-1]

    yield make
    for stage in stages:
        stage.close()


@pytest.fixture(scope="module")
def stage(new_stage: Callable[..., Stage]) -> Stage:
    """A namespace of the module's own."""
    return new_stage()


@pytest.fixture(scope="session")
def _detached(cluster: Any, client: Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Detached]:
    with run_detached(cluster, client, tmp_path_factory.mktemp("operators")) as found:
        yield found


@pytest.fixture(scope="module")
def detached(_detached: Detached) -> Iterator[Detached]:
    """The cluster without the installed operator; local ones take its place."""
    yield _detached
    _detached.end_all()
