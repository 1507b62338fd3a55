"""What one admission costs, however many wait: t(100k)/t(1k).

    python -m bench.decision [--scale small|full]

Fills one tenant's queue, then lets one attempt end and one start, again and again, as the
admission loop does. Pure computation, no cluster.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from datetime import UTC, datetime, timedelta

from bench.lib import cli
from bench.lib.results import Results
from longtask_operator.core.admission import plan_admissions
from longtask_operator.core.ledger import LedgerEntry
from longtask_operator.core.queueing import Candidate, TenantQueue
from longtask_operator.core.quota import Limits
from longtask_operator.core.sizing import parse_ladder
from longtask_operator.core.snapshot import Snapshot, member_of
from longtask_operator.settings import Settings

START = datetime(2026, 1, 1, tzinfo=UTC)
_LIVE, _DECISIONS = 5, 300
SIZES = (1_000, 10_000, 100_000)
ROUNDS = {"small": 2, "full": 5}


def run(results: Results) -> None:
    """Measure each size in turn, so many rounds."""
    rounds: dict[int, list[list[float]]] = {size: [] for size in SIZES}
    for seed in range(ROUNDS[results.scale]):
        for size in SIZES:
            rounds[size].append(_round(size, random.Random(seed)))
    p50 = {size: statistics.median(statistics.median(times) for times in found) for size, found in rounds.items()}
    p99 = {size: statistics.median(_p99(times) for times in found) for size, found in rounds.items()}
    results.detail("p50_us", {str(size): round(value, 1) for size, value in p50.items()})
    results.detail("p99_us", {str(size): round(value, 1) for size, value in p99.items()})
    results.series["waiting"] = [float(size) for size in SIZES]
    results.series["p50_us"] = list(p50.values())
    results.series["p99_us"] = list(p99.values())
    results.figure("ratio", p50[SIZES[-1]] / p50[SIZES[0]])


def _p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[98]


def _round(waiting: int, rng: random.Random) -> list[float]:
    """Return what each of so many admissions cost, in microseconds."""
    ladder, queue, limits = parse_ladder(Settings.model_construct().ladder), TenantQueue(), Limits(concurrency=_LIVE)
    entries: dict[str, LedgerEntry] = {}
    for number in range(waiting + _LIVE):
        entry = LedgerEntry(uid=f"{rng.getrandbits(64):016x}", attempt=1, generation=1, size=rng.choice(ladder))
        queued_at = START + timedelta(seconds=rng.randrange(86_400))
        queue.put(Candidate(key=f"a/{number}", tenant="a", priority=rng.randrange(5), queued_at=queued_at, entry=entry))
    times = []
    for _ in range(_LIVE + _DECISIONS):
        snapshot = Snapshot(members={"a": member_of(limits, entries)})
        began = time.perf_counter()
        admitted = plan_admissions({"a": queue}, snapshot, now=START).admitted
        times.append((time.perf_counter() - began) * 1e6)
        entries |= {candidate.entry.uid: candidate.entry for candidate in admitted}
        entries.pop(next(iter(entries)))
    return times[_LIVE:]


if __name__ == "__main__":
    sys.exit(cli.main("decision", __doc__, run))
