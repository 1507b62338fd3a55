"""What an attempt learns from its environment."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from longtask_worker.environment import Info, in_cluster, parse_environment, parse_time
from longtask_worker.errors import UsageError

FULL = {
    "LONGTASK_NAME": "wordcount",
    "LONGTASK_NAMESPACE": "team-a",
    "LONGTASK_UID": "u-1",
    "LONGTASK_TENANT": "research",
    "LONGTASK_RUN": "2",
    "LONGTASK_ATTEMPT": "7",
    "LONGTASK_PAYLOAD": '{"lines":10}',
    "LONGTASK_INPUTS": '[{"name":"corpus","uri":"s3://b/c"}]',
    "LONGTASK_OUTPUTS": '[{"name":"report","uri":"s3://b/out/"}]',
    "LONGTASK_DEADLINE": "2030-01-02T03:04:05Z",
    "TRACEPARENT": "00-aa-bb-01",
}


def test_everything_the_operator_says() -> None:
    assert parse_environment(FULL) == Info(
        name="wordcount",
        namespace="team-a",
        uid="u-1",
        tenant="research",
        run=2,
        attempt=7,
        payload={"lines": 10},
        inputs={"corpus": "s3://b/c"},
        outputs={"report": "s3://b/out/"},
        deadline=datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC),
        traceparent="00-aa-bb-01",
    )


def test_what_is_not_said_is_empty() -> None:
    info = parse_environment({"LONGTASK_UID": "u"})
    assert (info.payload, info.inputs, info.outputs) == ({}, {}, {})
    assert (info.run, info.attempt, info.deadline, info.traceparent) == (1, 1, None, None)


@pytest.mark.parametrize("text", ["$(X)", "$$", "$", "é", "日本", "😀", "a\nb", '"', "\\u0041", "\u2028"])
def test_payload_arrives_as_it_is(text: str) -> None:
    raw = json.dumps({text: text}, ensure_ascii=False)
    assert parse_environment({"LONGTASK_PAYLOAD": raw}).payload == {text: text}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("LONGTASK_RUN", "two"),
        ("LONGTASK_PAYLOAD", "{"),
        ("LONGTASK_PAYLOAD", "[1]"),
        ("LONGTASK_INPUTS", "{"),
        ("LONGTASK_INPUTS", "[1]"),
        ("LONGTASK_OUTPUTS", '[{"name":"x"}]'),
        ("LONGTASK_DEADLINE", "tomorrow"),
    ],
)
def test_malformed_variable_is_named(key: str, value: str) -> None:
    with pytest.raises(UsageError, match=key):
        parse_environment({**FULL, key: value})


@pytest.mark.parametrize("text", ["2030-01-02T03:04:05Z", "2030-01-02T05:04:05+02:00", "2030-01-02T03:04:05.000000Z"])
def test_times_are_aware(text: str) -> None:
    assert parse_time(text) == datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("env", "expected"), [({}, False), ({"LONGTASK_UID": ""}, False), ({"LONGTASK_UID": "u"}, True)]
)
def test_the_operator_is_known_by_the_uid(env: dict[str, str], expected: bool) -> None:
    assert in_cluster(env) is expected
