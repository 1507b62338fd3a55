from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtask_operator.api.data import CheckpointSpec
from longtask_operator.api.longtask import LongTask
from longtask_operator.api.report import SavedCheckpoint
from longtask_operator.api.status import Attempt, LongTaskStatus, OlderCheckpoint, Progress
from longtask_operator.core.checkpoints import (
    Offer,
    Resumed,
    accept,
    after_redrive,
    is_acceptable,
    is_news,
    last_word,
    prefix_of,
    resume_of,
    resumed_by,
    told_to,
)
from longtask_operator.core.outcome import Outcome
from tests.builders import UID, a_longtask, a_pod, at, wire

SHA = "ab" * 32
BASE = f"s3://bucket/ckpt/{UID}"
S3 = {"uri": "s3://bucket/ckpt/"}


def manifest(number: int, attempt: int = 1) -> str:
    return f"{BASE}/{attempt}/{number:06d}/manifest.json"


def an_offer(number: int, attempt: int = 1, *, sequence: int | None = -1, **changes: Any) -> Offer:
    """Return the offer of a checkpoint; the report that names it has the same number unless told otherwise."""
    saved = SavedCheckpoint(uri=changes.get("uri", manifest(number, attempt)), sha256=SHA, size_bytes=number)
    said = number if sequence == -1 else sequence
    return Offer(saved=saved, attempt=attempt, pod_uid=changes.get("pod_uid", f"pod-{attempt}"), sequence=said)


def an_attempt(number: int = 1, **changes: Any) -> Attempt:
    return Attempt.model_validate({"number": number, "run": 1, "generation": 1, "podUid": f"pod-{number}", **changes})


def a_task(status: LongTaskStatus | dict[str, Any] | None = None, **checkpoint: Any) -> LongTask:
    return a_longtask({"checkpoint": checkpoint or S3}, status)


def accepted(*offers: Offer | None, task: LongTask | None = None, attempt: int = 1, seconds: float = 10) -> LongTask:
    """Return the task after *offers* came from the pod of *attempt*, one after the other."""
    task = task or a_task()
    status = accept(task.status, task, an_attempt(attempt), offers, at(seconds))
    return task.model_copy(update={"status": status})


def newest(task: LongTask) -> str | None:
    return task.status.checkpoint.uri if task.status.checkpoint else None


class TestPlace:
    @pytest.mark.parametrize(
        ("spec", "prefix"),
        [
            ({"uri": "s3://bucket/ckpt/"}, "s3://bucket/ckpt/u/3/"),
            ({"uri": "s3://bucket/ckpt"}, "s3://bucket/ckpt/u/3/"),
            ({"uri": "s3://bucket"}, "s3://bucket/u/3/"),
            ({"volumeClaimName": "work"}, "file:///var/run/longtask-checkpoint/u/3/"),
        ],
    )
    def test_each_attempt_has_one_of_its_own(self, spec: dict[str, Any], prefix: str) -> None:
        assert prefix_of(CheckpointSpec.model_validate(spec), "u", 3) == prefix

    @pytest.mark.parametrize(
        "uri",
        [
            "s3://bucket/ckpt/manifest.json",
            f"{BASE}/2/1/manifest.json",
            f"{BASE}/11/1/manifest.json",
            f"{BASE}/1/",
            f"{BASE}/1",
            f"{BASE}/1//manifest.json",
            f"{BASE}/1/../2/manifest.json",
            f"{BASE}/1/./manifest.json",
            f"{BASE}/1/%2e%2e/2/manifest.json",
            f"{BASE}/1/a b",
            f"{BASE}/1/a?versionId=2",
            f"{BASE}/1/a#b",
            f"s3://other/{UID}/1/manifest.json",
            f"S3://bucket/ckpt/{UID}/1/manifest.json",
        ],
    )
    def test_what_lies_elsewhere_is_never_taken(self, uri: str) -> None:
        assert not is_acceptable(a_task(), an_offer(1, uri=uri), None)

    def test_nor_anything_of_a_task_that_saves_nothing(self) -> None:
        assert not is_acceptable(a_longtask(), an_offer(1), None)


class TestAcceptance:
    def test_all_that_is_recorded(self) -> None:
        task = a_task({"progress": {"percent": 40}})
        checkpoint = accepted(an_offer(7), task=task).status.checkpoint
        assert checkpoint is not None
        assert checkpoint.model_dump(by_alias=True, exclude_none=True) == {
            "uri": manifest(7),
            "sha256": SHA,
            "sizeBytes": 7,
            "attempt": 1,
            "time": wire(10),
            "percent": 40,
            "sequence": 7,
        }

    @pytest.mark.parametrize(("seconds", "dated"), [(10.2, 11), (9, 11), (10.9, 11), (13, 13)])
    def test_what_answers_a_recorded_stop_is_dated_after_it(self, seconds: float, dated: float) -> None:
        task = a_task({"attempts": [an_attempt(stopTime=wire(10)).model_dump(by_alias=True)]})
        checkpoint = accepted(an_offer(1), task=task, seconds=seconds).status.checkpoint
        assert checkpoint is not None
        assert checkpoint.time == wire(dated)

    def test_a_newer_one_follows_and_the_one_before_is_kept_to_fall_back_to(self) -> None:
        task = accepted(an_offer(1), an_offer(2), an_offer(3))
        assert newest(task) == manifest(3)
        assert task.status.checkpoint is not None
        assert task.status.checkpoint.older == [OlderCheckpoint(uri=manifest(2), sha256=SHA)]

    @pytest.mark.parametrize(("keep", "older"), [(1, 0), (2, 1), (3, 2), (10, 9)])
    def test_as_many_are_kept_as_the_spec_says(self, keep: int, older: int) -> None:
        task = accepted(*(an_offer(n) for n in range(1, 13)), task=a_task(**S3, keep=keep))
        assert task.status.checkpoint is not None
        assert [one.uri for one in task.status.checkpoint.older or ()] == [manifest(11 - n) for n in range(older)]

    def test_the_same_again_changes_nothing(self) -> None:
        once = accepted(an_offer(1), an_offer(2))
        for offer in (an_offer(2, sequence=9), an_offer(1, sequence=9), an_offer(2, sequence=None)):
            assert accepted(offer, task=once, seconds=99).status == once.status

    def test_a_report_that_was_long_under_way_takes_nothing_back(self) -> None:
        assert newest(accepted(an_offer(5), an_offer(4))) == manifest(5)
        assert newest(accepted(an_offer(5), an_offer(4, sequence=5))) == manifest(5)

    def test_the_last_word_counts_like_a_report_and_nothing_follows_it(self) -> None:
        task = accepted(an_offer(5), an_offer(6, sequence=None))
        assert newest(task) == manifest(6)
        assert newest(accepted(an_offer(7), task=task)) == manifest(6)

    def test_another_pod_than_the_attempts_own_is_not_heard(self) -> None:
        assert newest(accepted(an_offer(1, pod_uid="pod-2"))) is None

    def test_an_older_attempt_is_not_heard(self) -> None:
        task = accepted(an_offer(1, attempt=2), attempt=2)
        assert newest(accepted(an_offer(9, attempt=1), task=task, attempt=2)) == manifest(1, 2)
        assert not is_acceptable(task, an_offer(9, attempt=1), task.status.checkpoint)

    def test_a_new_attempt_begins_its_numbers_anew(self) -> None:
        task = accepted(an_offer(1, attempt=2), task=accepted(an_offer(500)), attempt=2)
        assert newest(task) == manifest(1, 2)
        assert task.status.checkpoint is not None
        assert [one.uri for one in task.status.checkpoint.older or ()] == [manifest(500)]

    @given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6) | st.none()), max_size=12))
    def test_it_never_goes_back(self, said: list[tuple[int, int, int | None]]) -> None:
        """Whatever comes in whatever order: the attempt never falls, within it the report's number rises."""
        task, current = a_task(), 1
        for attempt, number, sequence in said:
            current = max(current, attempt)
            before = task.status.checkpoint
            task = accepted(an_offer(number, attempt, sequence=sequence), task=task, attempt=current)
            after = task.status.checkpoint
            if before is None or after is None or before == after:
                assert after == before or before is None
                continue
            assert after.attempt == current
            assert after.attempt > before.attempt or after.sequence is None or after.sequence > (before.sequence or 0)
            assert after.uri not in {before.uri, *(one.uri for one in before.older or ())}


class TestLastWord:
    def test_is_that_of_the_attempts_pod(self) -> None:
        saved = an_offer(4).saved
        word = last_word(Outcome(checkpoint=saved), an_attempt())
        assert word == Offer(saved=saved, attempt=1, pod_uid="pod-1", sequence=None)

    def test_says_nothing_without_a_checkpoint(self) -> None:
        assert (last_word(None, an_attempt()), last_word(Outcome(), an_attempt())) == (None, None)


class TestTold:
    def test_only_what_stands_in_the_status_and_is_the_workers_own(self) -> None:
        standing = accepted(an_offer(3, 2), attempt=2).status.checkpoint
        assert (told_to(2, standing), told_to(3, standing), told_to(1, standing), told_to(1, None)) == (
            manifest(3, 2),
            None,
            None,
            None,
        )


class TestResume:
    def test_is_the_newest_and_those_to_fall_back_to(self) -> None:
        resume = resume_of(accepted(an_offer(1), an_offer(2), task=a_task(**S3, keep=3)))
        assert resume is not None
        assert (resume.newest.uri, [one.uri for one in resume.older]) == (manifest(2), [manifest(1)])

    def test_there_is_none_before_the_first(self) -> None:
        assert resume_of(a_task()) is None

    def test_nor_for_a_task_that_no_longer_saves(self) -> None:
        assert resume_of(a_longtask(status=accepted(an_offer(1)).status)) is None

    def test_what_lies_in_another_kind_of_place_is_passed_over(self) -> None:
        status = accepted(an_offer(1)).status
        assert resume_of(a_task(status, volumeClaimName="work")) is None
        assert resume_of(a_task(status, uri="s3://another/")) is not None
        file = LongTaskStatus.model_validate(
            {
                "checkpoint": {
                    "uri": "file:///var/run/longtask-checkpoint/u/1/m",
                    "sha256": SHA,
                    "attempt": 1,
                    "time": wire(1),
                }
            }
        )
        assert resume_of(a_task(file)) is None
        assert resume_of(a_task(file, volumeClaimName="work")) is not None

    @pytest.mark.parametrize(("asked", "kept"), [(None, True), ("Keep", True), ("Discard", False)])
    def test_a_redrive_keeps_it_unless_asked_otherwise(self, asked: str | None, kept: bool) -> None:
        task = a_task(accepted(an_offer(1)).status, **S3, **({"onRedrive": asked} if asked else {}))
        assert (after_redrive(task) is not None) is kept


def test_percent_is_that_of_the_progress_where_there_is_one() -> None:
    task = accepted(an_offer(1))
    status = task.status.model_copy(update={"progress": Progress(percent=80)})
    checkpoint = accept(status, task, an_attempt(), (an_offer(2),), at(20)).checkpoint
    assert checkpoint is not None
    assert (checkpoint.percent, checkpoint.time) == (80, wire(20))


class TestResumed:
    POD = a_pod(attempt=2, resume=(manifest(2), manifest(1)))

    @pytest.mark.parametrize("said", [manifest(2), manifest(1), ""])
    def test_a_worker_is_believed_of_what_it_was_given_and_of_nothing(self, said: str) -> None:
        assert resumed_by(self.POD, said) == Resumed(uri=said or None, attempt=2, pod_uid="pod-2")

    @pytest.mark.parametrize("said", [None, manifest(3), manifest(1, 2), "s3://elsewhere/m"])
    def test_it_is_not_believed_of_anything_else(self, said: str | None) -> None:
        assert resumed_by(self.POD, said) is None
        assert resumed_by(a_pod(), said) is None

    @pytest.mark.parametrize(
        ("shown", "news"),
        [
            ({"resumedFrom": manifest(2)}, True),
            ({}, True),
            ({"resumedFrom": manifest(1)}, False),
            ({"resumedFrom": manifest(2), "podUid": "another"}, False),
        ],
    )
    def test_it_is_news_where_the_status_says_something_else_of_its_pod(
        self, shown: dict[str, Any], news: bool
    ) -> None:
        resumed = Resumed(uri=manifest(1), attempt=2, pod_uid="pod-2")
        assert is_news(resumed, [an_attempt(1, resumedFrom=manifest(9)), an_attempt(2, **shown)]) is news
        assert not is_news(resumed, [])

    def test_a_start_from_nothing_is_news_where_a_checkpoint_is_shown(self) -> None:
        resumed = Resumed(uri=None, attempt=2, pod_uid="pod-2")
        assert is_news(resumed, [an_attempt(2, resumedFrom=manifest(2))])
        assert not is_news(resumed, [an_attempt(2)])
