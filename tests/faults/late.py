"""An operator that hears of no change of a quota: it finds out from the ledger, or a bug of it must be found.

Two operators lead. The prompt one lets the ledgers go by a quota that was lowered, or moves its tenant, and is stopped.
Then the late one, to which the proxy tells nothing of TenantQuotas, meets a task that it would have admitted by the
older quota. Each step waits until the one before it is done, so nothing of this is left to chance.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from tests.faults.api import Json
from tests.faults.edits import is_gone_by
from tests.faults.ground import Ground
from tests.faults.kubelet import SUCCEEDS, WORKS, Act
from tests.faults.operators import quiet
from tests.faults.play import GROUP, Play, Scenario, Stuck
from tests.faults.rivals import REST_SECONDS, Arena, arena, prepare, stopped, unfinished
from tests.support.auditor import Auditor, Expected
from tests.support.auditor_editions import COHORT, LONE, EditionAuditor
from tests.support.auditor_history import current_revision, read_history

#: What the quota of each tenant says at first: room for a, c, and b, which the late one may still know as living.
FIRST: Json = {"concurrency": {"nominal": 3}}
_SCENARIO = Scenario(name="late", story=lambda play: play.finished())
#: Seconds without a write in which whoever was stopped has caught up.
REST = 1.0
_DONE = Expected(phase="Succeeded", causes=("Completed",))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Late:
    """The late operator has the bug *mutant*, by which the auditors say *rule* once the quota has changed.

    That moves the tenant into a cohort, or leaves no room but that of its first task.
    """

    mutant: str = ""
    rule: str = ""
    moves: bool = False

    def edit(self, name: str) -> Json:
        """Return what the quota of tenant *name* says now."""
        return {"cohort": name} if self.moves else {"concurrency": {"nominal": 1}}


LATE = (
    Late(mutant="editions-unasked", rule="EditionBack"),
    Late(mutant="limits-unchecked", rule="EditionExceeded"),
    Late(mutant="limits-unchecked", rule="EditionHome", moves=True),
)
NO_BUG = (Late(), Late(moves=True))


async def find_late(grounds: Sequence[Ground], chosen: Iterable[Late]) -> dict[Late, list[str]]:
    """Play all stories, those of one bug at once, on all *grounds*; return what the auditors say of each."""
    stories, said = list(chosen), dict[Late, list[str]]()
    waiting = deque(dict.fromkeys(story.mutant for story in stories))

    async def work_off(ground: Ground) -> None:
        await prepare(ground)
        while waiting:
            mutant = waiting.popleft()
            said.update(await _play(ground, [story for story in stories if story.mutant == mutant]))

    async with asyncio.TaskGroup() as group:
        for ground in grounds:
            group.create_task(work_off(ground))
    return said


async def _play(ground: Ground, stories: Sequence[Late]) -> dict[Late, list[str]]:
    """Play *stories* before the same operators, each with a tenant of its own."""
    ground.plays += 1
    tenants = {f"late-{ground.plays}-{index}": story for index, story in enumerate(stories)}
    since = await asyncio.to_thread(current_revision, ground.etcd)
    for name in tenants:
        await ground.namespace(name, FIRST)
    ground.proxy.arm()
    said: list[str] = []
    async with arena(ground, 2, "leases", stories[0].mutant, sound=1) as rivals:
        try:
            await _tell(rivals, tenants)
        except Stuck as stuck:
            said.append(f"Stuck: {stuck}")
        said += [line for replica in rivals.replicas for line in replica.complaints(0)]
    history = await asyncio.to_thread(read_history, ground.etcd, since=since)
    await asyncio.gather(*(ground.api.delete(f"{GROUP}/namespaces/{name}/longtasks") for name in tenants))
    found = {}
    for name, story in tenants.items():
        ours = [change for change in history if {change.namespace, change.name} & _spaces(name)]
        ends = {f"{name}/{task}": _DONE for task in ("a", "b", "c")}
        broken = [*EditionAuditor().replay(ours).violations, *Auditor().replay(ours).finish(ends)]
        found[story] = said + [f"{one.rule}: {one.about}: {one.message}" for one in broken]
    return found


async def _tell(rivals: Arena, tenants: Mapping[str, Late]) -> None:
    """Let the late one meet task c of each tenant while a runs, when the ledgers go by the changed quotas."""
    ground, (prompt, late) = rivals.ground, rivals.replicas
    plays = [Play(ground, _SCENARIO, name, "") for name in tenants]
    await rivals.leading(prompt, late)
    with stopped(late):
        await _submit(plays, "a", WORKS)
        for play in plays:
            await play.until("a", "Running")
    with stopped(prompt):  # what the late one admits shows that it knows the quotas as they were
        await _submit(plays, "b", SUCCEEDS)
        for play in plays:
            await play.finished("b")
    ground.proxy.held_back[late.port] = "tenantquotas"
    for play in plays:
        edit = {"spec": tenants[play.namespace].edit(play.namespace)}
        quota = await ground.api.request("PATCH", f"{GROUP}/tenantquotas/{play.namespace}", edit)
        await play.await_(lambda: "the ledger goes by the changed quota", partial(is_gone_by, ground, quota))
    # The prompt one, which slept through all of b, may bring its entry back.
    await quiet(lambda: ground.proxy.last_write, REST, REST_SECONDS)
    for play in plays:
        await play.await_(lambda: "no entry but that of a", partial(_has_one_entry, ground, play.namespace))
    with stopped(prompt):
        await _submit(plays, "c", SUCCEEDS)
        for play in plays:
            await play.until("c", check=_is_decided)
    for play in plays:
        play.tell("a")
    for play in plays:
        await play.finished("a", "c")
        await play.await_(lambda: "nothing left", partial(_is_over, ground, play.namespace))


async def _submit(plays: Iterable[Play], task: str, act: Act) -> None:
    for play in plays:
        await play.submit(task, act)


def _is_decided(status: Json) -> bool:
    return bool(status.get("attempt")) or (status.get("queue") or {}).get("reason") == "QuotaExhausted"


async def _has_one_entry(ground: Ground, name: str) -> bool:
    found = await unfinished(ground, _spaces(name))
    return sum(line.partition("/")[0] in (f"{LONE}{name}", f"{COHORT}{name}") for line in found) == 1


async def _is_over(ground: Ground, name: str) -> bool:
    return not await unfinished(ground, _spaces(name))


def _spaces(name: str) -> set[str]:
    """Return what a tenant is known by: its own name, and those of its ledgers."""
    return {name, f"{LONE}{name}", f"{COHORT}{name}"}
