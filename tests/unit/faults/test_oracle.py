"""What differs between two equal runs is masked, all else is not."""

from __future__ import annotations

from tests.faults.oracle import creations, differences, masked, state_of, without_numbers, words_of
from tests.support.auditor_history import Change


def test_uids_suffixes_and_times_are_masked_and_nothing_else() -> None:
    words = words_of(["abcdef12-3"], "-t0007", "f-retry-1")
    found = masked({"jobName": "a-t0007-abcdef-1", "completionTime": "x", "message": "at 2026-11-25T09:00:00Z"}, words)
    assert found == {"jobName": "a-<uid 1>-1", "message": "at <time>"}


def test_what_holds_nothing_but_times_is_masked_with_them() -> None:
    assert masked({"progress": {"lastReportTime": "x"}, "other": {"done": 0}}, {}) == {"other": {"done": 0}}


def test_what_holds_nothing_at_all_stays() -> None:
    nothing = {"tasks": {}, "jobs": {}, "pods": [], "ledger": []}
    assert state_of([], [], [], [], {}) == nothing


def test_what_the_cluster_makes_up_of_a_pods_name_is_masked() -> None:
    words = words_of(["abcdef12-3"], "-t0007", "f-retry-1")
    assert masked("pod a-t0007-abcdef-1-x7k2p is gone", words) == "pod a-<uid 1>-1-<pod> is gone"


def test_numbers_of_attempts_are_taken_out_where_they_may_differ() -> None:
    state = {"attempt": 3, "jobName": "a-<uid 1>-3", "run": 1, "pods": ["a 3 Succeeded"], "said": "attempt 3 succeeded"}
    found = {"jobName": "a-<uid 1>-<n>", "run": 1, "pods": ["a <n> Succeeded"], "said": "attempt <n> succeeded"}
    assert without_numbers(state) == found


def test_a_difference_says_where_and_what() -> None:
    assert differences({"a": {"b": 1}}, {"a": {"b": 2}}) == ["a.b is 2, without the fault 1"]
    assert differences({"a": [1]}, {"a": [1, 2]}) == ["a is [1, 2], without the fault [1]"]
    assert differences({"a": 1}, {"a": 1}) == []


def test_an_object_made_again_counts_twice() -> None:
    def job(body: dict[str, str] | None) -> Change:
        return Change(revision=0, kind="Job", namespace="n", name="j", body=body)

    assert creations([job({}), job({}), job(None), job({})]) == {"Job created": 2, "Job deleted": 1}


def test_a_warning_is_counted_as_often_as_it_begins() -> None:
    def task(*since: str) -> Change:
        stuck = [{"type": "Stuck", "status": "True", "reason": "Silent", "lastTransitionTime": time} for time in since]
        return Change(revision=0, kind="LongTask", namespace="n", name="t", body={"status": {"conditions": stuck}})

    said = [task(), task("1"), task("1"), task(), task("2"), task("3")]
    assert creations(said) == {"LongTask created": 1, "Stuck Silent began": 3}
