from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from longtask_operator.api.reasons import Cause
from longtask_operator.core.causes import classify_pod
from longtask_operator.core.observe import PodView
from tests.builders import a_pod, an_ended_pod

PERMANENT = '{"longtask":1,"permanent":true,"message":"bad input"}'
TMP_IS_FULL = 'Usage of EmptyDir volume "tmp" exceeds the limit "1Gi". '
PROGRESS_IS_FULL = 'Usage of EmptyDir volume "progress" exceeds the limit "1Mi". '
TOO_MUCH_DISK = (
    TMP_IS_FULL,
    PROGRESS_IS_FULL,
    "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. ",
    'Container task exceeded its local ephemeral storage limit "1Gi". ',
)


def an_evicted_pod(message: str, **changes: Any) -> PodView:
    return replace(an_ended_pod(137), reason="Evicted", message=message, **changes)


@pytest.mark.parametrize("message", TOO_MUCH_DISK)
def test_a_pod_evicted_for_its_own_use_of_the_disk_is_the_programs_fault(message: str) -> None:
    for pod in (an_evicted_pod(message), a_pod(phase="Failed", reason="Evicted", message=message)):
        end = classify_pod(pod, None)
        assert end.cause is Cause.APPLICATION
        assert end.message.startswith(message.strip())
    assert classify_pod(an_evicted_pod(message), None).exit_code == 137


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        (TMP_IS_FULL, "Write less to /tmp and $HOME, or ask an administrator to raise ephemeralStorageLimit."),
        (PROGRESS_IS_FULL, "Replace the line in the progress file now and then: it may not grow for ever."),
        (TOO_MUCH_DISK[2], "Write less to the container's disk, its log included."),
    ],
)
def test_its_message_says_what_to_do(message: str, advice: str) -> None:
    assert classify_pod(an_evicted_pod(message), None).message == f"{message}{advice}"


def test_what_the_kubelet_says_comes_before_the_last_words_of_a_program_that_it_kills() -> None:
    pod = replace(an_ended_pod(1, message='{"longtask":1,"message":"interrupted"}'), reason="Evicted")
    assert classify_pod(replace(pod, message=TMP_IS_FULL), None).message.startswith(TMP_IS_FULL)


@pytest.mark.parametrize(
    "pod",
    [
        an_evicted_pod("The node was low on resource: ephemeral-storage. Container task was using 2Gi. "),
        an_evicted_pod("The node had condition: [DiskPressure]. "),
        an_evicted_pod(TMP_IS_FULL, disruption="TerminationByKubelet"),
        an_evicted_pod('Container longtask-sidecar exceeded its local ephemeral storage limit "1Gi". '),
    ],
    ids=["pressure", "condition", "disrupted as well", "our sidecar"],
)
def test_what_the_node_lacks_is_not(pod: PodView) -> None:
    assert classify_pod(pod, None).cause is Cause.DISRUPTION


def test_neither_done_work_nor_a_stop_nor_a_permanent_error_changes() -> None:
    full = {"reason": "Evicted"}
    done, permanent = an_ended_pod(0, **full), an_ended_pod(65, message=PERMANENT, **full)
    assert classify_pod(replace(done, message=TMP_IS_FULL), None).cause is Cause.COMPLETED
    assert classify_pod(replace(permanent, message=TMP_IS_FULL), None).cause is Cause.PERMANENT
    assert classify_pod(an_evicted_pod(TMP_IS_FULL), Cause.CANCELLED).cause is Cause.CANCELLED
