"""Which planted bug breaks which rule of the auditors, and the story that shows it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.faults.ground import Ground, install_crds
from tests.faults.kubelet import Act
from tests.faults.play import Play, Scenario
from tests.faults.scenarios import SCENARIOS
from tests.faults.trial import staged, violations_of
from tests.support.auditor import Expected

_CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/longtasks.longtask.dev"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Planted:
    """The bug called *mutant* makes the auditors say *rule* (and of what, after a colon) when *scenario* is played."""

    mutant: str
    rule: str
    scenario: Scenario
    expected: Mapping[str, Expected] = field(default_factory=dict)  #: by name, how a task must end


async def suspended_slowly(play: Play) -> None:
    await play.submit("a", Act(exit=None, lingers=3.0), Act(after=3.0))
    await play.until("a", "Running")
    await play.change("a", suspend=True)
    await play.until("a", "Suspended")
    await play.change("a", suspend=False)
    await play.finished("a")


async def alone_in_a_cohort(play: Play) -> None:
    await play.quota(cohort=play.namespace)
    await play.submit("a", Act(after=3.0))
    await play.until("a", "Running")
    await play.submit("b")
    await play.finished("a", "b")


async def works_a_while(play: Play) -> None:
    await play.submit("a", Act(after=3.0))
    await play.finished("a")


async def changed_afterwards(play: Play) -> None:
    await play.submit("a")
    await play.finished("a")
    for number in (2, 3):
        await play.change("a", image=f"registry.example/task:{number}")
        await play.observed("a", number)


_SLOWLY = Scenario(name="suspended-slowly", story=suspended_slowly)
_LENDING = {"concurrency": {"nominal": 1, "borrowingLimit": 5}}
_ALONE = Scenario(name="alone-in-a-cohort", story=alone_in_a_cohort, quota=_LENDING)


_CANCELLED = Expected(phase="Cancelled", causes=("Cancelled",))
_WHILE = Scenario(name="works-a-while", story=works_a_while)
_AFTERWARDS = Scenario(name="changed-afterwards", story=changed_afterwards)


def _planted(mutant: str, rule: str, scenario: str | Scenario, **expected: Expected) -> Planted:
    found = scenario if isinstance(scenario, Scenario) else SCENARIOS[scenario]
    return Planted(mutant=mutant, rule=rule, scenario=found, expected=expected)


PLANTED = (
    _planted("ignores-quota", "QuotaExceeded", "quota-wait"),
    _planted("ignores-quota", "QuotaExceeded: cohort", _ALONE),
    _planted("persons-unwritten", "QuotaExceeded", "delete-lingering"),
    _planted("outgrows-entry", "QuotaExceeded", "outgrown"),
    _planted("job-twice", "AttemptReused", "success"),
    _planted("number-left-out", "AttemptGap", "success"),
    _planted("no-reservation", "LedgerFirst", "success"),
    _planted("two-pods-per-job", "PodPerAttempt", "success"),
    _planted("deleted-is-over", "OneLivePod", _SLOWLY),
    _planted("deleted-is-over", "EndedAlive", _SLOWLY),
    _planted("resize-unreserved", "SizeUnreserved", "resize"),
    _planted("claims-unwritten", "StoppedUnclaimed", "preempt"),
    _planted("tells-too-soon", "Expected", "cancel-told", a=_CANCELLED),
    _planted("never-tells", "Expected", "cancel-told", a=_CANCELLED),
    _planted("stop-forgotten", "Expected", "cancel-told", a=_CANCELLED),
    _planted("warning-ends", "Expected", "stuck", a=Expected(phase="Succeeded", causes=("Completed",))),
    _planted("silent-is-dead", "EndedAlive", "falls-silent"),
    _planted("early-release", "EarlyRelease", _WHILE),
    _planted("finish-moves", "TerminalChanged", _AFTERWARDS),
    _planted("number-falls", "AttemptFell", "retry"),
    _planted("number-ahead", "AttemptWithoutJob", "success"),
    _planted("progress-falls", "ProgressFell", _WHILE),
    _planted("end-rewritten", "EndRewritten", "retry"),
    _planted("wrong-exit-code", "ExitCode", "success"),
    _planted("outcome-lost", "OutcomeLost", "success"),
    _planted("never-finishes", "Unfinished", "success"),
    _planted("history-forgotten", "Unaccounted", "success"),
    _planted("counted-twice", "Counts", "success"),
    _planted("forgotten-finalizer", "LeftFinalizer", "success"),
    _planted("never-released", "LeftLedgerEntry", "success"),
    _planted("deletes-finished", "LostTask", "success", a=Expected(phase="Succeeded")),
    _planted("result-made-up", "Expected", "result", a=Expected(phase="Succeeded", result={"rows": 7})),
)


async def find_all(
    grounds: Sequence[Ground], chosen: Iterable[Planted], *, really: bool = True
) -> dict[Planted, list[str]]:
    """Play all stories, on all *grounds* at once, with their bugs (none, where not *really*); return what is said."""
    waiting, found = deque(chosen), dict[Planted, list[str]]()

    async def work_off(ground: Ground) -> None:
        await _take_rules_away(ground)
        try:
            while waiting:
                planted = waiting.popleft()
                async with staged(ground, planted.mutant if really else "") as stage:
                    found[planted] = await violations_of(stage, planted.scenario, planted.expected, planted.rule)
        finally:
            await asyncio.to_thread(install_crds, ground)

    async with asyncio.TaskGroup() as group:
        for ground in grounds:
            group.create_task(work_off(ground))
    return found


async def _take_rules_away(ground: Ground) -> None:
    """Take the CRD's own rules on status away: they would refuse some of the bugs before an auditor sees them."""
    crd = await ground.api.request("GET", _CRD)
    status = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    del status["x-kubernetes-validations"]
    await ground.api.request("PUT", _CRD, crd)
