from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtask_operator.api.errors import SpecError
from longtask_operator.api.status import OlderCheckpoint
from longtask_operator.core.checkpoints import Resume
from longtask_operator.core.environment import (
    MAX_ENVIRONMENT_BYTES,
    MAX_PAYLOAD_BYTES,
    build_environment,
    build_report_environment,
    check_environment,
    check_payload,
    compact_json,
)
from tests.builders import UID, a_longtask, at, some_facts, wire


def environment(spec: dict[str, Any] | None = None, **facts: Any) -> dict[str, str]:
    return {
        entry["name"]: entry["value"]
        for entry in build_environment(a_longtask(spec), some_facts(**facts))
        if "value" in entry
    }


def expanded(value: str) -> str:
    """Return what the kubelet makes of a value in which every dollar sign is doubled."""
    assert "$" not in value.replace("$$", "")
    return value.replace("$$", "$")


def test_everything_that_a_worker_finds() -> None:
    spec = {
        "payload": {"lines": 5},
        "inputs": [{"name": "corpus", "uri": "s3://b/c"}],
        "progressFile": True,
    }
    assert environment(spec, run=2, number=3, deadline=at(60)) == {
        "LONGTASK_NAME": "wordcount",
        "LONGTASK_NAMESPACE": "team-a",
        "LONGTASK_UID": UID,
        "LONGTASK_TENANT": "team-a",
        "LONGTASK_RUN": "2",
        "LONGTASK_ATTEMPT": "3",
        "LONGTASK_PAYLOAD": '{"lines":5}',
        "LONGTASK_INPUTS": '[{"name":"corpus","uri":"s3://b/c"}]',
        "LONGTASK_OUTPUTS": "[]",
        "LONGTASK_CPU": "250",
        "LONGTASK_MEMORY": str(512 * 1024**2),
        "LONGTASK_DEADLINE": wire(60),
        "LONGTASK_REPORT_URL": "https://longtask-reports.longtask-system.svc:8443"
        "/v1/namespaces/team-a/longtasks/wordcount/attempts/3/report",
        "LONGTASK_TOKEN_FILE": "/var/run/longtask/token",
        "LONGTASK_CA_FILE": "/var/run/longtask/ca.crt",
        "LONGTASK_PROGRESS_FILE": "/var/run/longtask-progress/progress",
        "HOME": "/tmp",
    }


def test_what_does_not_apply_is_absent() -> None:
    assert {"LONGTASK_DEADLINE", "LONGTASK_PROGRESS_FILE", "TRACEPARENT"}.isdisjoint(environment())


def test_the_submitters_trace_goes_on() -> None:
    task = a_longtask(annotations={"longtask.dev/traceparent": "00-$-" + "x" * 300})
    (value,) = [e["value"] for e in build_environment(task, some_facts()) if e["name"] == "TRACEPARENT"]
    assert value == "00-$$-" + "x" * 251


def test_the_users_own_come_last_and_as_they_are() -> None:
    spec = {
        "env": [
            {"name": "LANG", "value": "$(LONGTASK_NAME)$$"},
            {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        ]
    }
    assert build_environment(a_longtask(spec), some_facts())[-2:] == [
        {"name": "LANG", "value": "$(LONGTASK_NAME)$$"},
        {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
    ]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=5), JSON_VALUES, max_size=5))
def test_a_payload_arrives_as_it_was_given(payload: dict[str, Any]) -> None:
    value = environment({"payload": payload})["LONGTASK_PAYLOAD"]
    assert json.loads(expanded(value)) == payload


@pytest.mark.parametrize("text", ["$(X)", "$$", "$", "ü€😀", 'a"b\\c\n', "\u2028"])
def test_a_payload_is_compact_and_never_escaped(text: str) -> None:
    value = expanded(environment({"payload": {"k": text}})["LONGTASK_PAYLOAD"])
    assert value == compact_json({"k": text})
    assert "\\u" not in value


class TestLimits:
    def test_a_payload_of_16_kib_is_taken(self) -> None:
        full = {"k": "ü" * ((MAX_PAYLOAD_BYTES - 8) // 2)}
        assert len(check_payload(full).encode()) == MAX_PAYLOAD_BYTES
        full["k"] += "x"
        with pytest.raises(SpecError, match=r"spec.payload: has 16385 bytes as compact JSON, at most 16384"):
            check_payload(full)

    def test_no_payload_is_an_empty_object(self) -> None:
        assert check_payload(None) == "{}"

    def test_a_reserved_name_is_refused(self) -> None:
        with pytest.raises(SpecError, match=r"spec.env\[1\].name: LONGTASK_X: names that start with LONGTASK_ are set"):
            environment({"env": [{"name": "A", "value": "1"}, {"name": "LONGTASK_X", "value": "1"}]})

    def test_the_whole_stays_under_96_kib(self) -> None:
        with pytest.raises(SpecError, match=rf"the environment has \d+ bytes, at most {MAX_ENVIRONMENT_BYTES}"):
            environment({"env": [{"name": f"A{n}", "value": "x" * 32_000} for n in range(4)]})

    def test_doubled_dollars_count(self) -> None:
        spec = {"payload": {"k": "$" * 16_000}, "env": [{"name": "A", "value": "x" * 32_000} for _ in range(2)]}
        assert environment(spec)
        spec["inputs"] = [{"name": f"i{n}", "uri": "s3://" + "$" * 1_000} for n in range(8)]
        with pytest.raises(SpecError, match="at most"):
            environment(spec)

    @pytest.mark.parametrize("spare", [0, 5_000])
    def test_a_task_that_passes_the_check_can_always_be_built(self, spare: int) -> None:
        task = a_longtask({"env": [{"name": "A", "value": "x" * (32_000 - spare)} for _ in range(3)]})
        try:
            check_environment(task)
        except SpecError:
            assert spare == 0
        else:
            assert build_environment(task, some_facts(run=10**6, number=10**6))


def test_the_sidecar_gets_what_reporting_needs_and_nothing_of_the_users() -> None:
    task = a_longtask({"progressFile": True, "payload": {"secret": 1}, "env": [{"name": "A", "value": "1"}]})
    names = [entry["name"] for entry in build_report_environment(task, some_facts())]
    assert names == [
        f"LONGTASK_{name}"
        for name in ("NAME", "NAMESPACE", "UID", "ATTEMPT", "REPORT_URL", "TOKEN_FILE", "CA_FILE", "PROGRESS_FILE")
    ]


class TestCheckpoints:
    OLD = OlderCheckpoint(uri="s3://b/ckpt/u/1/1/manifest.json", sha256="ab" * 32)
    NEW = OlderCheckpoint(uri="s3://b/ckpt/u/1/2/manifest.json", sha256="cd" * 32)

    @staticmethod
    def found(spec: dict[str, Any], resume: Resume | None = None) -> dict[str, str]:
        names = environment({"checkpoint": spec}, number=2, resume=resume)
        return {k.removeprefix("LONGTASK_"): v for k, v in names.items() if "CHECKPOINT" in k or "RESUME" in k}

    def test_where_to_save_and_how_often(self) -> None:
        assert self.found({"uri": "s3://b/ckpt"}) == {
            "CHECKPOINT_URI": f"s3://b/ckpt/{UID}/2/",
            "CHECKPOINT_INTERVAL": "60",
            "CHECKPOINT_KEEP": "2",
        }
        assert self.found({"volumeClaimName": "work", "intervalSeconds": 5, "keep": 4}) == {
            "CHECKPOINT_URI": f"file:///var/run/longtask-checkpoint/{UID}/2/",
            "CHECKPOINT_INTERVAL": "5",
            "CHECKPOINT_KEEP": "4",
        }

    def test_what_to_resume_from(self) -> None:
        found = self.found({"uri": "s3://b/ckpt/"}, Resume(newest=self.NEW, older=(self.OLD,)))
        assert (found["RESUME_URI"], found["RESUME_SHA256"]) == (self.NEW.uri, self.NEW.sha256)
        assert json.loads(found["RESUME_OLDER"]) == [{"uri": self.OLD.uri, "sha256": self.OLD.sha256}]
        assert "RESUME_OLDER" not in self.found({"uri": "s3://b/ckpt/"}, Resume(newest=self.NEW))

    def test_a_task_without_checkpoints_finds_nothing_of_them(self) -> None:
        names = environment(resume=Resume(newest=self.NEW))
        assert not [name for name in names if "CHECKPOINT" in name or "RESUME" in name]

    def test_a_task_that_fits_at_first_fits_with_any_checkpoint(self) -> None:
        room = MAX_ENVIRONMENT_BYTES - 3 * 1024
        env = [{"name": f"A{n}", "value": "x" * (room // 3)} for n in range(3)]
        with pytest.raises(SpecError, match="the environment has"):
            check_environment(a_longtask({"env": env, "checkpoint": {"uri": "s3://b/ckpt/"}}))
        check_environment(a_longtask({"env": env}))
