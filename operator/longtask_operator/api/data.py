"""Data of a task outside its spec: what it reads, writes and saves, by reference."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from longtask_operator.api.model import DNS_LABEL, DNS_SUBDOMAIN, URI, Model


class NamedUri(Model):
    """A named reference to data outside the cluster."""

    name: str = Field(description="Name by which the worker finds it.", min_length=1, max_length=63, pattern=DNS_LABEL)
    uri: str = Field(description="Where the data is, for example s3://bucket/key.", max_length=2048, pattern=URI)


class Input(NamedUri):
    """Data that the task reads, by reference."""

    size_bytes: int | None = Field(
        None,
        description="How large it is, where you know it. A task without resources.memory begins with a size for it, "
        "where the chart has a rule for its image. Absent: the operator asks the object store, where the chart lets "
        "it.",
        ge=0,
        le=2**50,
    )


class CheckpointSpec(Model):
    """Where attempts save checkpoints, and how often. Exactly one of uri and volumeClaimName."""

    uri: str | None = Field(
        None,
        description="Prefix of an object store, for example s3://bucket/checkpoints/. Each attempt saves below "
        "<uri>/<uid of the task>/<number of the attempt>/.",
        max_length=256,
        pattern=URI,
    )
    volume_claim_name: str | None = Field(
        None,
        description="A PersistentVolumeClaim in the task's namespace instead, mounted at /var/run/longtask-checkpoint.",
        max_length=253,
        pattern=DNS_SUBDOMAIN,
    )
    interval_seconds: int | None = Field(
        None, description="How often the worker should save, in seconds. Default 60.", ge=1, le=86_400
    )
    keep: int | None = Field(
        None,
        description="How many checkpoints are kept: the newest and those to fall back to. 1 to 10. Default 2.",
        ge=1,
        le=10,
    )
    on_redrive: Literal["Keep", "Discard"] | None = Field(
        None,
        description="Whether a new run goes on from the last checkpoint, Keep, or starts fresh, Discard. Default Keep.",
    )
