"""The operator without its CRD: it says what is missing, stays alive, and works once it is there, also anew."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import crds, operator_process
from tests.support.live import Client, RefusedError, Tasks, await_
from tests.support.operator_process import PATIENT_LEASE, OperatorProcess

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]
MISSING = "install the CRDs"
HOME, WORK = "crd-operator", "crd-work"


class Plane:
    """A bare API server, and an operator started before there was a CRD."""

    def __init__(self, control_plane: Any, operator: OperatorProcess) -> None:
        self.control_plane, self.operator = control_plane, operator
        self.client = Client(control_plane.kubeconfig)
        self.tasks = Tasks(self.client, WORK)

    def install(self) -> None:
        crds.install(self.control_plane)

    def remove(self) -> None:
        remove_crd(self.control_plane)

    def begins(self, name: str) -> None:
        """Create a task and wait until its attempt has a Job and its status says so; there is no node to run it."""
        await_("the API server takes a task", lambda: self._created(name), 60)
        self.tasks.until_phase(name, "Starting", seconds=120)
        assert len(self.tasks.jobs(name)) == 1

    def _created(self, name: str) -> bool:
        try:
            self.tasks.create(name, "true")
        except RefusedError as refusal:
            if refusal.code not in (404, 503):
                raise
            return False
        return True


def remove_crd(control_plane: Any) -> None:
    control_plane.kubectl("delete", "crd", "longtasks.longtask.dev", "--ignore-not-found", "--timeout=180s")


@pytest.fixture(scope="module")
def plane(control_plane: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    remove_crd(control_plane)
    for name in (HOME, WORK):
        control_plane.kubectl("create", "namespace", name)
    directory = tmp_path_factory.mktemp("operator")
    settings = {"LONGTASK_OPERATOR_NAMESPACE": HOME, **PATIENT_LEASE}
    operator = operator_process.start(control_plane.kubeconfig, settings, directory=directory)
    try:
        yield Plane(control_plane, operator)
    finally:
        operator.end()
        for name in (HOME, WORK):
            control_plane.kubectl("delete", "namespace", name, "--wait=false")


def test_without_the_kind_the_operator_lives_is_not_ready_and_says_what_to_do(plane: Plane) -> None:
    operator = plane.operator
    operator.until("told", lambda: operator.says(MISSING), 90)
    assert operator.probe("/healthz") == 200
    assert operator.probe("/readyz") == 503


def test_once_the_kind_is_there_the_same_process_works(plane: Plane) -> None:
    plane.install()
    plane.begins("first")
    plane.operator.until_leading(90)


def test_a_kind_that_is_deleted_takes_its_tasks_along_and_leaves_no_job(plane: Plane) -> None:
    said = len(plane.operator.lines())
    plane.remove()
    operator = plane.operator
    operator.until("told", lambda: any(MISSING in str(line["event"]) for line in operator.lines()[said:]), 90)
    # The garbage collector may have to notice first that a kind is gone, which it looks for twice a minute.
    await_("no Job left", lambda: not plane.tasks.jobs("first"), 120)
    await_("no pod left", lambda: not plane.tasks.pods("first"), 120)
    assert operator.probe("/healthz") == 200


def test_a_kind_that_comes_back_is_served_by_the_same_process(plane: Plane) -> None:
    plane.install()
    plane.begins("first")
    plane.begins("second")
    assert plane.operator.runs()
