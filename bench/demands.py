"""What is demanded under load, one line for each figure; benches measure, the report sets both side by side."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass

#: Ends the name of a figure for which no operator ran, and the bench itself made the writes that are needed.
LEAST = "_least"
_COMPARE: dict[str, Callable[[float, float], bool]] = {"≤": operator.le, "≥": operator.ge, "<": operator.lt}


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """One figure and the bound that it has to keep."""

    bench: str  #: module of `bench` that measures it
    name: str  #: key in that module's results
    title: str
    bound: float
    sign: str = "≤"
    unit: str = ""

    @property
    def demanded(self) -> str:
        """The bound as people read it."""
        return f"{self.sign} {self.bound:g} {self.unit}".rstrip() if self.bound else "none"

    def is_met(self, value: float) -> bool:
        """Return whether *value* keeps the bound."""
        return _COMPARE[self.sign](value, self.bound)


DEMANDS: tuple[Demand, ...] = (
    Demand(bench="decision", name="ratio", title="One decision, 100,000 queued to 1,000 queued", bound=3, unit="times"),
    Demand(
        bench="drain",
        name="ratio",
        title="Drain of one deep queue to that of 50 shallow ones",
        bound=1,
        sign="≥",
        unit="times",
    ),
    Demand(
        bench="neighbour",
        name="ratio",
        title="p99 create → Job of a tenant while another floods, to alone",
        bound=1.3,
        unit="times",
    ),
    Demand(bench="rest", name="writes", title="Writes in 60 s with 10,000 waiting tasks at rest", bound=0),
    Demand(
        bench="rest", name="cpu_percent", title="CPU with 10,000 waiting tasks at rest", bound=1, sign="<", unit="%"
    ),
    Demand(bench="rest", name="rss_mib", title="Resident memory with 10,000 tasks", bound=100, unit="MiB"),
    Demand(bench="rest", name="restart_s", title="kill -9 to the next admission with 10,000 tasks", bound=2, unit="s"),
    Demand(bench="rest", name="restart_writes", title="Writes to unchanged objects after it", bound=0),
    Demand(bench="thousand", name="over_quota", title="Attempts beyond a quota of 1,000", bound=0),
    Demand(bench="thousand", name="unfinished", title="Tasks that did not finish under it", bound=0),
    Demand(
        bench="throughput",
        name="ratio",
        title="Tasks to their end a second, to bare Jobs",
        bound=0.75,
        sign="≥",
        unit="times",
    ),
    Demand(
        bench="throughput",
        name="ratio_same_pod",
        title="The same, to bare Jobs with the pod of an attempt",
        bound=0.75,
        sign="≥",
        unit="times",
    ),
    Demand(bench="latency", name="create_p50_ms", title="Create → Job at 20 a second, p50", bound=8, unit="ms"),
    Demand(bench="latency", name="create_p99_ms", title="Create → Job at 20 a second, p99", bound=60, unit="ms"),
    Demand(bench="latency", name="end_p50_ms", title="Pod ended → task ended, p50", bound=8, unit="ms"),
    Demand(bench="latency", name="end_p99_ms", title="Pod ended → task ended, p99", bound=60, unit="ms"),
)

#: In the order in which they run: the cheap ones first.
BENCHES: tuple[str, ...] = tuple(dict.fromkeys(demand.bench for demand in DEMANDS))
