"""A crash, a lost answer or a false failure at the writes of every scenario: no promise is ever broken.

CI meets each write of some scenarios once; `make test-faults` runs all trials of all scenarios.
Planted bugs (`--mutant`) show that the judges would see a broken promise.
"""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import pytest

from devcluster.errors import DevclusterError
from tests.faults.ground import stand_all
from tests.faults.scenarios import SCENARIOS
from tests.faults.suite import MODES, Report, plan, sweep

pytestmark = [pytest.mark.integration, pytest.mark.timeout(2700)]
#: Of all trials, so many parts of one are run here; each write at least once.
SHARE = 0.0
#: Control planes side by side.
GROUNDS = 2
SEED = 1
HERE = ("success", "retry", "cancel", "quota-wait")
#: Faults that must have met a write. The write of a release may be shared with the next one, so some meet none.
LEAST_TRIALS = 36


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Run the sweep."""
    folder = tmp_path_factory.mktemp("faults")
    try:
        return asyncio.run(_find(folder))
    except DevclusterError as error:
        if os.environ.get("LONGTASK_REQUIRE_CLUSTER") == "1":
            raise
        pytest.skip(f"no cluster: {error}")


async def _find(folder: Path) -> Report:
    with (folder / "trials.jsonl").open("w") as out:
        found = Report(out, SEED)
        async with stand_all(GROUNDS, folder) as grounds:
            await sweep(
                grounds,
                [SCENARIOS[name] for name in HERE],
                lambda scenario, wanted: plan(
                    len(wanted.writes), MODES, SHARE, random.Random(f"{SEED} {scenario.name}")
                ),
                found,
            )
    return found


def test_no_promise_is_broken(findings: Report) -> None:
    broken = {f"{v.scenario} {v.k} {v.mode}": [v.write, *v.violations] for v in findings.failed}
    assert broken == {}


def test_enough_faults_met_a_write(findings: Report) -> None:
    met = [verdict for verdict in findings.verdicts if verdict.fired]
    assert len(met) >= LEAST_TRIALS
    assert {verdict.scenario for verdict in met} == set(HERE)
