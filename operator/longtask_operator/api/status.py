"""The status of a LongTask: what the operator knows. Written by the operator alone."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from longtask_operator.api.model import ATOMIC, PRESERVE, Model, Time


class StartEstimate(Model):
    """When a waiting task may start: a guess from the past."""

    earliest: Time = Field(description="If attempts end as quickly as the quicker ones did.")
    latest: Time = Field(description="If they take as long as the slower ones did.")
    basis: str = Field(description="What the guess rests on.", max_length=253)


class Queue(Model):
    """Why the task waits for admission, and its place."""

    reason: str = Field(description="Why it waits, in a word.", max_length=63)
    message: str = Field(description="The same in a sentence.", max_length=1024)
    position: int | None = Field(
        None, description="Place in the tenant's queue, from 1, as last computed; coarse.", ge=1
    )
    since: Time | None = Field(None, description="Since when it waits.")
    estimated_start: StartEstimate | None = Field(
        None,
        description="When it may start, as of the last change of position, or since the last guess did not come true; "
        "absent where nothing can be said.",
    )


class Sizing(Model):
    """The size of the newest attempt, or of the next one once that is known, and why."""

    cpu: str = Field(description="CPU of the attempt.", max_length=20)
    memory: str = Field(description="Memory of the attempt.", max_length=20)
    display: str = Field(description="Both, for the SIZE column.", max_length=41)
    source: str = Field(
        description="Where the size comes from: Requested, Smallest, InputHint, History, OutOfMemory or Live.",
        max_length=63,
    )
    message: str | None = Field(None, description="The same in a sentence.", max_length=1024)
    requested: str | None = Field(
        None, description="What spec.resources asked for then, for example 500m/Auto.", max_length=41
    )


class Progress(Model):
    """How far the current attempt is, as last mirrored from its reports."""

    percent: int | None = Field(
        None, description="Share done, 0 to 100; absent while the total is unknown.", ge=0, le=100
    )
    done: int | None = Field(None, description="Units done.", ge=0)
    total: int | None = Field(None, description="Units in all.", ge=0)
    unit: str | None = Field(None, description="What is counted, for example lines.", max_length=63)
    stage: str | None = Field(None, description="What the task does now, in a word.", max_length=63)
    message: str | None = Field(None, description="The worker's own words.", max_length=1024)
    display: str | None = Field(None, description="For the PROGRESS column.", max_length=63)
    estimated_finish: Time | None = Field(None, description="When the attempt ends at its present rate.")
    last_report_time: Time | None = Field(None, description="When the last mirrored report arrived.")
    last_progress_time: Time | None = Field(None, description="When work last went on, as far as reports showed it.")
    longest_step_seconds: int | None = Field(
        None, description="Longest time from one progress of the attempt to the next.", ge=0
    )


class OlderCheckpoint(Model):
    """A checkpoint that was accepted before: where to go on if the newer ones cannot be read."""

    uri: str = Field(description="Its manifest.", max_length=384)
    sha256: str = Field(description="SHA-256 of the manifest, in hex.", max_length=64)


class Checkpoint(Model):
    """The newest accepted checkpoint; the next attempt starts from it."""

    uri: str = Field(description="Its manifest.", max_length=384)
    sha256: str = Field(description="SHA-256 of the manifest, in hex.", max_length=64)
    size_bytes: int | None = Field(None, description="Its size, as the worker says.", ge=0)
    attempt: int = Field(description="Attempt that saved it.", ge=1)
    time: Time = Field(description="When it was accepted.")
    percent: int | None = Field(None, description="Progress when it was accepted.", ge=0, le=100)
    sequence: int | None = Field(
        None, description="Number of the report that named it; absent when a termination message did.", ge=0
    )
    older: list[OlderCheckpoint] | None = Field(
        None,
        description="Those accepted before, newest first, one less than spec.checkpoint.keep.",
        max_length=9,
        json_schema_extra=ATOMIC,
    )


class Attempt(Model):
    """One attempt: one Job, one pod."""

    number: int = Field(description="Number of the attempt, from 1, never reused.", ge=1)
    run: int = Field(description="Run that the attempt belongs to.", ge=1)
    generation: int = Field(description="Generation of the spec that it was admitted with.", ge=0)
    job_name: str | None = Field(None, description="Its Job.", max_length=63)
    pod_name: str | None = Field(None, description="Its pod.", max_length=253)
    pod_uid: str | None = Field(None, description="UID of its pod.", max_length=63)
    node_name: str | None = Field(None, description="Node of its pod.", max_length=253)
    cpu: str | None = Field(None, description="CPU it was given, last.", max_length=20)
    memory: str | None = Field(None, description="Memory it was given, last.", max_length=20)
    peak_memory: str | None = Field(
        None, description="The most memory that its worker reported. Absent where it reported none.", max_length=20
    )
    start_time: Time | None = Field(None, description="When the task container started.")
    resize_time: Time | None = Field(
        None, description="Since when it has this size, where it was resized while it ran."
    )
    resize_refused: str | None = Field(
        None, description="Why its pod was not resized when it ran short of memory; not tried again.", max_length=1024
    )
    completion_time: Time | None = Field(None, description="When it ended.")
    resumed_from: str | None = Field(
        None,
        description="Manifest of the checkpoint that it went on from, as its worker says; of a worker that does not "
        "say, of the one that it was given. Absent where it began from nothing.",
        max_length=384,
    )
    stop_time: Time | None = Field(None, description="When it was asked to stop.")
    cause: str | None = Field(None, description="Why it ended. Absent while it lives.", max_length=63)
    exit_code: int | None = Field(None, description="Exit code of the task container.", ge=-1, le=255)
    message: str | None = Field(None, description="More on the cause.", max_length=1024)
    log_tail: str | None = Field(None, description="The last lines of its log, on the newest two.", max_length=2048)


class Result(Model):
    """What the task returned: inline, or by reference."""

    value: Any | None = Field(None, description="The returned JSON value.", json_schema_extra=PRESERVE)
    uri: str | None = Field(None, description="Where a larger result is.", max_length=2048)
    sha256: str | None = Field(None, description="SHA-256 of the data at uri, in hex.", max_length=64)
    size_bytes: int | None = Field(None, description="Size of the data at uri.", ge=0)


class TaskUsage(Model):
    """What all attempts of all runs used: reserved amounts times the time that their task containers ran."""

    cpu_seconds: int | None = Field(None, description="CPU reserved, in CPU-seconds.", ge=0)
    memory_gib_seconds: int | None = Field(None, description="Memory reserved, in GiB-seconds.", ge=0)
    cpu_seconds_used: int | None = Field(
        None, description="CPU consumed, in CPU-seconds, as far as workers reported it.", ge=0
    )


class Condition(Model):
    """A condition as in the Kubernetes API conventions."""

    type: str = Field(description="Type of the condition.", max_length=316)
    status: Literal["True", "False", "Unknown"] = Field(description="True, False or Unknown.")
    reason: str = Field(description="One word for programs.", max_length=1024)
    message: str = Field(description="A sentence for people.", max_length=32768)
    observed_generation: int | None = Field(None, description="Generation the condition was computed from.", ge=0)
    last_transition_time: Time = Field(description="When the status last changed.")


class DuplicateOf(Model):
    """The task whose outcome this one waits for, or took over."""

    name: str = Field(description="Its name, in the same namespace.", max_length=253)
    uid: str = Field(description="Its UID.", max_length=63)


class LongTaskStatus(Model):
    """What the operator knows. Written by the operator alone; at most 32 KiB in all."""

    observed_generation: int | None = Field(
        None,
        description="Generation that this status describes; -1 before the first visit.",
        ge=-1,
    )
    phase: str | None = Field(
        None,
        description="A one-word summary for display: Pending, Queued, Starting, Running, Backoff, Suspended, "
        "Cancelling, Succeeded, Failed or Cancelled. Programs read the conditions.",
        max_length=63,
    )
    reason: str | None = Field(None, description="The one-word why behind the phase.", max_length=63)
    tenant: str | None = Field(None, description="Tenant the task counts for, from its namespace.", max_length=63)
    created_by: str | None = Field(None, description="Who created the task, as the API server saw it.", max_length=512)
    run: int | None = Field(None, description="Number of the run, from 1; rises with each redrive.", ge=1)
    last_redrive: str | None = Field(
        None, description="The value of spec.redrive that was last acted on or recorded.", max_length=253
    )
    attempt: int | None = Field(None, description="Number of the newest attempt; never falls.", ge=0)
    job_name: str | None = Field(None, description="Job of the newest attempt.", max_length=63)
    next_attempt_time: Time | None = Field(None, description="When the backoff ends.")
    dead_lettered: bool | None = Field(
        None, description="True when the task failed because a budget ran out; it is kept until redriven or deleted."
    )
    duplicate_of: DuplicateOf | None = Field(
        None, description="The task with the same idempotencyKey that runs, or ran, in place of this one."
    )
    queue: Queue | None = Field(None, description="Why it waits, while it waits for admission.")
    sizing: Sizing | None = Field(None, description="Size of the newest attempt, or of the next one.")
    progress: Progress | None = Field(None, description="How far the newest attempt is.")
    checkpoint: Checkpoint | None = Field(None, description="The newest accepted checkpoint.")
    attempts: list[Attempt] | None = Field(
        None,
        description="The last 10 attempts, newest last.",
        max_length=10,
        json_schema_extra=ATOMIC,
    )
    attempt_counts: dict[str, int] | None = Field(
        None, description="Ended attempts of this run, by cause.", max_length=32
    )
    attempt_totals: dict[str, int] | None = Field(
        None, description="Ended attempts of all runs, by cause.", max_length=32
    )
    result: Result | None = Field(None, description="What the task returned.")
    usage: TaskUsage | None = Field(None, description="What ended attempts of all runs used.")
    start_time: Time | None = Field(None, description="When the first attempt of this run started.")
    run_start_time: Time | None = Field(None, description="When this run was created or redriven.")
    completion_time: Time | None = Field(None, description="When this run finished.")
    conditions: list[Condition] | None = Field(
        None,
        description="Admitted, Succeeded, Finished and Ready; Stalled, DeadLettered, DeadlineAtRisk and Stuck while "
        "they are so.",
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
