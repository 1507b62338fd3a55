"""Whose turn it is among the tenants of a cohort: who has used least of late, for its weight.

Usage decays: what was used a half-life ago counts half (Kueue's Admission Fair Sharing). Between two changes of a
ledger nobody's usage changes, so the decayed usage is exact whenever it is written along with a change, and is lost by
no restart. An order is made from what it will be PENALTY after now if all goes on that runs: an attempt counts from its
admission, so that a burst cannot slip through before it has run for long.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from longtask_operator.api.quantity import MEBIBYTE
from longtask_operator.api.times import parse_time
from longtask_operator.core.room import Vector

#: Kueue's default.
HALF_LIFE = timedelta(hours=168)
#: An attempt counts as if it had run so long at least.
PENALTY = timedelta(minutes=5)
#: Decayed usage below this is forgotten once nothing is held: about what an attempt of 1 CPU and 1 GiB adds in a
#: second. It grows from nothing by as little at each write, however long the attempts take together.
_LEAST = (1e-6, 1e-3, 1e-3 * MEBIBYTE)

Use = tuple[float, float, float]
NOTHING: Use = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decayed:
    """The decayed usage of the tenants of one ledger, as of a moment."""

    at: datetime | None = None
    use: Mapping[str, Use] = field(default_factory=dict)


def grown(use: Use, current: Vector | Use, elapsed: timedelta) -> Use:
    """Return *use* after *elapsed* time in which *current* was held."""
    part = 1 - 0.5 ** (max(0.0, elapsed.total_seconds()) / HALF_LIFE.total_seconds())
    first, second, third = ((1 - part) * use[r] + part * current[r] for r in (0, 1, 2))
    return (first, second, third)


def advanced(decayed: Decayed, current: Mapping[str, Vector], now: datetime) -> Decayed:
    """Return *decayed* as of *now*; *current* is what each tenant has held since."""
    since = decayed.at or now
    use = {
        tenant: grown(decayed.use.get(tenant, NOTHING), current.get(tenant, (0, 0, 0)), now - since)
        for tenant in {*decayed.use, *current}
    }
    kept = {
        tenant: amounts
        for tenant, amounts in use.items()
        if any(amounts[r] >= _LEAST[r] for r in (0, 1, 2)) or (any(amounts) and any(current.get(tenant, ())))
    }
    return Decayed(at=max(since, now), use=kept)


def share_of(use: Use, used: Vector, total: Vector, weight: int) -> float:
    """Return a tenant's share of the cohort's *total* for its *weight*: of the resource of which it has most.

    *use* is its decayed usage, *used* what it holds now. A resource of which *total* has nothing takes no part, so a
    tenant that does not limit one gets a *total* without it.
    """
    soon = grown(use, used, PENALTY)
    return max((soon[r] / total[r] for r in (0, 1, 2) if total[r]), default=0.0) / weight


def format_decayed(decayed: Decayed) -> str:
    """Return *decayed* as text: its moment, then `tenant attempts milliCPU MiB` for each tenant.

    Many digits, and parts of a second: it is written often, and what one rounding loses is lost for good.
    """
    if decayed.at is None:
        return ""
    lines = [
        f"{tenant} {use[0]:.12g} {use[1]:.12g} {use[2] / MEBIBYTE:.12g}" for tenant, use in sorted(decayed.use.items())
    ]
    return "\n".join([decayed.at.astimezone(UTC).isoformat(timespec="milliseconds"), *lines]) + "\n"


def parse_decayed(text: str) -> Decayed:
    """Return what `format_decayed` wrote; nothing where it cannot be read: it decides the order alone, no limit."""
    try:
        moment, *lines = text.splitlines()
        use = {}
        for tenant, attempts, cpu, memory in (line.split() for line in lines):
            use[tenant] = (_number(attempts), _number(cpu), _number(memory) * MEBIBYTE)
        return Decayed(at=parse_time(moment), use=use)
    except ValueError:
        return Decayed()


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"not an amount: {text}")
    return number
