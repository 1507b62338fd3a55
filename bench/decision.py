"""What one admission costs, however many wait: t(100k)/t(1k).

    python bench/decision.py [--sizes 1000 10000 100000] [--out build/bench]

Fills one tenant's queue, then lets one attempt end and one start, again and again, as the
admission loop does. Pure computation, no cluster. Writes `decision.json` and prints a table.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "operator")]

from longtask_operator.core.admission import Snapshot, member_of, plan_admissions  # noqa: E402
from longtask_operator.core.ledger import LedgerEntry  # noqa: E402
from longtask_operator.core.queueing import Candidate, TenantQueue  # noqa: E402
from longtask_operator.core.quota import Limits  # noqa: E402
from longtask_operator.core.sizing import parse_ladder  # noqa: E402
from longtask_operator.settings import Settings  # noqa: E402

START = datetime(2026, 1, 1, tzinfo=UTC)
_LIVE, _DECISIONS, _ROUNDS = 5, 300, 5


def main() -> int:
    """Measure, print, write, and return 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000], help="tasks that wait")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench")
    arguments = parser.parse_args()
    rows = [{"waiting": size, **_measure(size)} for size in arguments.sizes]
    figures = {"rows": rows, "ratio": rows[-1]["p50_us"] / rows[0]["p50_us"]}
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "decision.json").write_text(json.dumps(figures, indent=2) + "\n")
    for row in rows:
        print(f"{row['waiting']:>8} waiting: {row['p50_us']:7.1f} us p50, {row['p99_us']:7.1f} us p99")
    print(f"t({rows[-1]['waiting']})/t({rows[0]['waiting']}) = {figures['ratio']:.2f}")
    return 0


def _measure(waiting: int) -> dict[str, float]:
    """Return median and 99th percentile of one admission in microseconds; medians over rounds."""
    rounds = [_round(waiting, random.Random(seed)) for seed in range(_ROUNDS)]
    return {
        "p50_us": statistics.median(statistics.median(times) for times in rounds),
        "p99_us": statistics.median(statistics.quantiles(times, n=100)[98] for times in rounds),
    }


def _round(waiting: int, rng: random.Random) -> list[float]:
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
    sys.exit(main())
