"""Quotas that change while rivals go by them.

The tenants of such a round lend each other attempts and memory. While their tasks run, their limits go up and down, and
they leave their cohort and come to another, as the seed says. In the end each has its first quota again, by which
everything can end.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence

from tests.faults.api import Json
from tests.faults.ground import Ground
from tests.faults.play import GROUP
from tests.support.auditor_editions import EDITIONS, edition_of
from tests.support.operator_process import NAMESPACE

#: How long quotas change at most, and how long a ledger that is to go by a change is waited for: that of a tenant of
#: which nothing waits is not written.
SECONDS, PATIENCE = 25.0, 3.0
#: Changes of a round at least, though its tasks come to their end.
LEAST = 5
#: Of a task: what several of fit into a quota, and what takes all of the smallest.
SIZES = ("512Mi", "1Gi", "2Gi")
_MEMORY = ("1Gi", "2Gi", "4Gi")


def first_quota(nominal: int, cohort: str) -> Json:
    """Return the spec of a quota that each of SIZES fits into."""
    return {"cohort": cohort, "concurrency": {"nominal": nominal}, "memory": {"nominal": f"{2 * nominal}Gi"}}


async def keep_editing(
    ground: Ground,
    first: Mapping[str, Json],
    cohorts: Sequence[str],
    rng: random.Random,
    goes_on: Callable[[], Awaitable[bool]],
) -> int:
    """Change the quotas of the tenants of *first* again and again while *goes_on*; return how often.

    Some changes follow each other at once, others when the ledger goes by the one before. All is as in *first* then.
    """
    clock, names = asyncio.get_running_loop().time, list(first)
    await _write(ground, names[-1], {**first[names[-1]], "cohort": cohorts[-1]}, patience=SECONDS)  # all wait: it moves
    edits, until = 1, clock() + SECONDS
    while (edits < LEAST or await goes_on()) and clock() < until:
        spec, patience = _anything(rng, [None, *cohorts]), rng.choice([0.2, 0.2, PATIENCE])
        await _write(ground, rng.choice(names), spec, patience=patience)
        edits += 1
        await asyncio.sleep(rng.uniform(0.0, 0.8))
    for name, spec in first.items():
        await _write(ground, name, {"stopPolicy": None, **spec}, patience=0)
    return edits


def _anything(rng: random.Random, cohorts: list[str | None]) -> Json:
    """Return any quota at all; those that let nothing start are few, since what is admitted is what is judged."""
    limits = {"borrowingLimit": rng.choice([None, None, 0, 1]), "lendingLimit": rng.choice([None, None, 0, 1])}
    amounts = {key: None if count is None else f"{count}Gi" for key, count in limits.items()}
    return {
        "cohort": rng.choice(cohorts),
        "concurrency": {"nominal": rng.choice([0, 1, 1, 2, 2, 3]), **limits},
        "memory": {"nominal": rng.choice(_MEMORY), **amounts},
        "stopPolicy": rng.choice([*[None] * 7, "Hold"]),
    }


async def _write(ground: Ground, name: str, spec: Json, *, patience: float) -> None:
    """Let the TenantQuota say *spec*, and wait for a ledger to go by it; of an amount nothing else is left."""
    limits = {"borrowingLimit": None, "lendingLimit": None}
    whole = {**spec, **{key: {**limits, **spec[key]} for key in ("concurrency", "memory")}}
    quota = await ground.api.request("PATCH", f"{GROUP}/tenantquotas/{name}", {"spec": whole})
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(patience):
            while not await is_gone_by(ground, quota):  # noqa: ASYNC110 - other processes write it
                await asyncio.sleep(0.1)


async def is_gone_by(ground: Ground, quota: Json) -> bool:
    """Return whether some ledger admits the tenant of *quota* by that edition of it, and no other one admits it."""
    name, path = quota["metadata"]["name"], f"/api/v1/namespaces/{NAMESPACE}/configmaps"
    ledgers = await ground.api.items(path, labelSelector="app.kubernetes.io/component=ledger")
    lines = [line.split() for ledger in ledgers for line in ledger.get("data", {}).get(EDITIONS, "").splitlines()]
    return [line[1:] for line in lines if line[0] == name] == [[edition_of(quota)]]
