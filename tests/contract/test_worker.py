"""What the operator tells a worker and what the SDK says back: they share no code, and understand each other."""

from __future__ import annotations

from typing import Any

import pytest

from longtask_operator.api.report import SavedCheckpoint, parse_report
from longtask_operator.api.status import OlderCheckpoint
from longtask_operator.core.checkpoints import Resume, resumed_by
from longtask_operator.core.jobs import build_job
from longtask_operator.core.observe import PodView, observe_pod
from longtask_operator.core.outcome import parse_outcome
from longtask_worker.environment import Info, parse_environment
from longtask_worker.outcome import Outcome, encode_outcome
from longtask_worker.progress import Snapshot
from longtask_worker.wire import build_report
from tests.builders import JOB_POLICY, a_longtask, some_facts, wire

GIVEN = [
    OlderCheckpoint(uri=f"s3://b/ckpt/u/1/{number}/manifest.json", sha256=f"{number}" * 64) for number in (3, 2, 1)
]


@pytest.fixture
def pod() -> dict[str, Any]:
    """The pod of an attempt that was given three checkpoints."""
    task = a_longtask({"checkpoint": {"uri": "s3://b/ckpt/", "keep": 3}})
    facts = some_facts(resume=Resume(newest=GIVEN[0], older=tuple(GIVEN[1:])))
    template: dict[str, Any] = build_job(task, facts, JOB_POLICY, ca_bundle="PEM")["spec"]["template"]
    meta = {"name": "p", "namespace": "n", "uid": "p", "resourceVersion": "9", "creationTimestamp": wire(0)}
    return template | {"metadata": template["metadata"] | meta}


def observed(pod: dict[str, Any]) -> PodView:
    seen = observe_pod(pod)
    assert seen is not None
    return seen


def informed(pod: dict[str, Any]) -> Info:
    variables = pod["spec"]["containers"][0]["env"]
    return parse_environment({one["name"]: one["value"].replace("$$", "$") for one in variables if "value" in one})


def test_what_the_sdk_may_resume_from_is_what_the_operator_believes(pod: dict[str, Any]) -> None:
    info = informed(pod)
    assert [(one.uri, one.sha256) for one in info.resume] == [(one.uri, one.sha256) for one in GIVEN]
    for reference in info.resume:
        reported = parse_report(build_report(1, {"resumedFrom": reference.uri})).resumed_from
        left = parse_outcome(encode_outcome(Outcome(), Snapshot(), None, reference.uri).decode())
        assert left is not None
        for said in (reported, left.resumed_from):
            resumed = resumed_by(observed(pod), said)
            assert resumed is not None
            assert resumed.uri == reference.uri


def test_a_start_from_nothing_is_told_from_no_word(pod: dict[str, Any]) -> None:
    resumed = resumed_by(observed(pod), parse_report(build_report(1, {"resumedFrom": ""})).resumed_from)
    assert resumed is not None
    assert resumed.uri is None
    assert parse_report(build_report(1, {"resumedFrom": None})).resumed_from is None


def test_all_that_an_outcome_holds_is_understood() -> None:
    saved = {"uri": "s3://b/m", "sha256": "ab" * 32, "sizeBytes": 7}
    outcome = Outcome(exit_code=65, message="no such row", permanent=True, log_tail="row 6\nrow 7\n")
    left = parse_outcome(encode_outcome(outcome, Snapshot(done=6, total=9), saved, GIVEN[0].uri).decode())
    assert left is not None
    assert (left.message, left.permanent, left.log_tail) == ("no such row", True, "row 6\nrow 7")
    assert (left.done, left.total, left.resumed_from) == (6, 9, GIVEN[0].uri)
    assert left.checkpoint == SavedCheckpoint(uri="s3://b/m", sha256="ab" * 32, size_bytes=7)
