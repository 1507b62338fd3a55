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


CHECKPOINTS = {
    **FULL,
    "LONGTASK_CHECKPOINT_URI": "s3://b/ckpt/u-1/7/",
    "LONGTASK_CHECKPOINT_INTERVAL": "5",
    "LONGTASK_CHECKPOINT_KEEP": "3",
    "LONGTASK_RESUME_URI": "s3://b/ckpt/u-1/6/2/manifest.json",
    "LONGTASK_RESUME_SHA256": "a" * 64,
    "LONGTASK_RESUME_OLDER": json.dumps([{"uri": "s3://b/ckpt/u-1/5/1/manifest.json", "sha256": "b" * 64}]),
}


def test_what_the_operator_says_of_checkpoints() -> None:
    info = parse_environment(CHECKPOINTS)
    assert info.checkpoint is not None
    assert (info.checkpoint.prefix.uri, info.checkpoint.interval, info.checkpoint.keep) == ("s3://b/ckpt/u-1/7/", 5, 3)
    assert [reference.uri[-20:] for reference in info.resume] == [
        "u-1/6/2/manifest.json"[-20:],
        "u-1/5/1/manifest.json"[-20:],
    ]
    assert [reference.sha256[0] for reference in info.resume] == ["a", "b"]


def test_a_fresh_start_has_nothing_to_resume_from() -> None:
    assert parse_environment(FULL).checkpoint is None
    assert parse_environment(FULL).resume == ()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("LONGTASK_CHECKPOINT_URI", "s3://b/ckpt/u-1/6/"),
        ("LONGTASK_CHECKPOINT_URI", "s3://b/ckpt/u-2/7/"),
        ("LONGTASK_CHECKPOINT_INTERVAL", "0"),
        ("LONGTASK_CHECKPOINT_INTERVAL", "nan"),
        ("LONGTASK_CHECKPOINT_KEEP", "many"),
        ("LONGTASK_RESUME_SHA256", ""),
        ("LONGTASK_RESUME_SHA256", "A" * 64),
        ("LONGTASK_RESUME_OLDER", "["),
        ("LONGTASK_RESUME_OLDER", "{}"),
        ("LONGTASK_RESUME_OLDER", '["s3://b"]'),
    ],
)
def test_a_malformed_word_about_checkpoints_is_named(key: str, value: str) -> None:
    with pytest.raises(UsageError, match=key):
        parse_environment({**CHECKPOINTS, key: value})
