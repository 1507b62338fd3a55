"""One trial: a scenario with one fault at one write, and the verdict on it.

The operator is started again as soon as it is dead, as a kubelet does it, under its old name (the pod's
container is restarted: the Lease is its own) or a new one (another pod: the old Lease must run out first).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any

from tests.faults.beside import beside
from tests.faults.ground import Ground
from tests.faults.operators import Replica, quiet
from tests.faults.oracle import creations, differences, is_ended, state_of, without_numbers, words_of
from tests.faults.play import GROUP, Play, Scenario, Stuck, lender_of
from tests.faults.proxy import Fault, Mode, Write
from tests.support.auditor import LEDGER_PREFIX, Auditor, Expected, ledger_text
from tests.support.auditor_history import Change, current_revision, read_history
from tests.support.auditor_quota import QuotaAuditor
from tests.support.operator_process import NAMESPACE

Json = dict[str, Any]
#: At rest nothing is written for so long. What waits longer than that (a second, a backoff) is no rest.
QUIET_SECONDS = 1.0
#: Of tenants without a TenantQuota, by the operator's settings.
DEFAULT_QUOTA: Json = {"concurrency": {"nominal": 5}}
#: So long may it take from the end of the story until all is as without the fault.
SETTLE_SECONDS = 60.0
#: Where a bug is planted, what may never come is waited for until nothing has changed for so long.
MUTANT_SECONDS = 8.0
#: What of the rules holds at every revision says so by one: see `tests.support.auditor`.
_AT_REST = " at 0: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A scenario's run without faults."""

    writes: tuple[Write, ...]
    state: Json
    counts: Counter[str]
    seconds: float


@dataclass(slots=True, kw_only=True)
class Verdict:
    """What came of one trial. *fired* tells whether the fault met a write at all."""

    scenario: str
    k: int
    mode: str
    successor: str
    fired: bool = False
    write: str = ""
    seconds: float = 0.0
    writes: int = 0
    between: list[str] = field(default_factory=list)  #: the ledger that was written last, and the next that was
    violations: list[str] = field(default_factory=list)

    def as_line(self, **more: Any) -> Json:
        return {**more, **asdict(self), "seconds": round(self.seconds, 2)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A play that is about to begin, and what the history from *since* on does not tell: the quotas that hold."""

    play: Play
    since: int  #: etcd's revision
    quotas: list[Change]
    started: float  #: monotonic


@dataclass(slots=True)
class Stage:
    """The operator under test, and one namespace for each scenario."""

    ground: Ground
    replica: Replica
    _namespaces: dict[str, str] = field(default_factory=dict)
    _warm: bool = False
    _next_identity: str | None = None

    async def run(self) -> None:
        """Keep the operator running until cancelled."""
        while True:
            if not self.replica.runs:
                self.ground.proxy.ledgers_read.clear()
                await self.replica.start(self._next_identity)
            await self.replica.ended()

    async def ready(self) -> None:
        """Wait until the operator leads and has nothing to write."""
        async with asyncio.timeout(90):
            await self.ground.proxy.ledgers_read.wait()
        await self.quiet(0.2)

    async def warm_up(self) -> None:
        """Play once what an operator writes only at the very first: its certificate, its endpoint."""
        if not self._warm:
            self._warm = True
            await self.ready()
            await self.quiet(1.0)

    async def quiet(self, seconds: float) -> bool:
        return await quiet(lambda: self.ground.proxy.last_write, seconds, SETTLE_SECONDS)

    async def fresh_play(self, scenario: Scenario) -> Play:
        self.ground.plays += 1
        if scenario.fresh or scenario.name not in self._namespaces:
            name = self._namespaces[scenario.name] = f"f-{scenario.name}-{self.ground.plays}"
            cohort = {"cohort": name} if scenario.lender is not None else {}
            for space, quota in ((name, scenario.quota), (lender_of(name), scenario.lender)):
                if space == name or quota is not None:
                    await self.ground.namespace(space, None if quota is None else quota | cohort)
                if quota is not None:
                    await self._knows_quota(space)
            if not scenario.fresh:
                await self._has_ledger(scenario, name)
        return Play(self.ground, scenario, self._namespaces[scenario.name], f"-t{self.ground.plays:04d}")

    async def _knows_quota(self, name: str) -> None:
        """Wait until the operator took the new quota in: until then the default one holds."""
        path = f"{GROUP}/tenantquotas/{name}"
        async with asyncio.timeout(90):
            while (await self.ground.api.request("GET", path))["status"].get("observedGeneration", -1) < 1:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def _has_ledger(self, scenario: Scenario, name: str) -> None:
        """Let a first task make the tenant's ledger, which takes a write of its own: no later play has that one."""
        play = Play(self.ground, scenario, name, "-first")
        await play.submit("a")
        await play.finished("a")
        await self._empty(scenario, name)
        await self.quiet(0.5)

    async def start_afresh(self, scenario: Scenario) -> None:
        """After a broken trial: leave its namespace, take away what it left and start the operator anew."""
        name = self._namespaces.pop(scenario.name, None)
        if name:
            await self._empty(scenario, name)
        await self.replica.kill()
        self.ground.proxy.ledgers_read.clear()
        await self.ready()

    async def clear(self, scenario: Scenario) -> None:
        """Take the finished tasks of a scenario away, so that the operator's start stays quick."""
        if name := self._namespaces.get(scenario.name):
            await self._empty(scenario, name)
            await self.quiet(1.0)

    async def _empty(self, scenario: Scenario, name: str) -> None:
        for space in [name, *([lender_of(name)] if scenario.lender is not None else [])]:
            await self.ground.api.delete(f"{GROUP}/namespaces/{space}/longtasks")

    def succeed_as(self, identity: str | None) -> None:
        """Start the next operator under that name; None: the name it has."""
        self._next_identity = identity


async def reference(stage: Stage, scenario: Scenario) -> Reference:
    """Run *scenario* without faults. Raises AssertionError if that alone breaks a promise."""
    await stage.ready()
    opening = await _begin(stage, scenario)
    play = opening.play
    stage.ground.proxy.arm(counts=play.counts)
    await scenario.story(play)
    async with asyncio.timeout(SETTLE_SECONDS):
        while not _is_at_rest(await _state(stage, play)):  # noqa: ASYNC110 - another process changes it
            await asyncio.sleep(0.1)
    assert await stage.quiet(1.5), "the operator does not come to rest"
    writes, state = tuple(stage.ground.proxy.writes), await _state(stage, play)
    history = await _history(stage, opening)
    assert not (violations := _audit(history)), f"{scenario.name} without a fault: {violations}"
    seconds = time.monotonic() - opening.started
    return Reference(writes=writes, state=state, counts=creations(history), seconds=seconds)


async def violations_of(stage: Stage, scenario: Scenario, expected: Mapping[str, Expected], rule: str) -> list[str]:
    """Run *scenario* without faults until *rule* is broken, or to its end, or as far as it comes; return what is found.

    Where no bug is planted it comes to its end and to rest, however long that takes on a busy machine.

    *expected* says, by the names that the scenario uses, how tasks must end.
    """
    await stage.ready()
    opening = await _begin(stage, scenario)
    play = opening.play
    wanted = {f"{play.namespace}/{name}{play.suffix}": end for name, end in expected.items()}
    stage.ground.proxy.arm(counts=play.counts)
    story = asyncio.ensure_future(scenario.story(play))
    try:
        if stage.replica.mutant:
            await _shows(stage, opening, rule, story)
        else:
            await _rests(stage, play, story)
    finally:
        story.cancel()
        await asyncio.gather(story, return_exceptions=True)
    return _audit(await _history(stage, opening), wanted)


async def _shows(stage: Stage, opening: Opening, rule: str, story: asyncio.Future[None]) -> None:
    """Return once *rule* was broken at a revision, or all is over, or nothing happens any more."""
    changes, changed = 0, time.monotonic()
    while time.monotonic() < changed + MUTANT_SECONDS:
        history = await _history(stage, opening)
        if any(line.startswith(rule) and _AT_REST not in line for line in _audit(history)):
            return
        if story.done():
            await quiet(lambda: stage.ground.proxy.last_write, 1.5, MUTANT_SECONDS)
            return
        if len(history) != changes:
            changes, changed = len(history), time.monotonic()
        await asyncio.sleep(0.2)


async def _rests(stage: Stage, play: Play, story: asyncio.Future[None]) -> None:
    """Return once the story is over and nothing of it is left, or that does not come to pass in time."""
    await asyncio.wait([story])
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SETTLE_SECONDS):
            while not _is_at_rest(await _state(stage, play)):  # noqa: ASYNC110 - another process changes it
                await asyncio.sleep(0.1)
    await stage.quiet(1.5)


async def trial(
    stage: Stage, scenario: Scenario, wanted: Reference, k: int, mode: Mode, *, successor: str = "same"
) -> Verdict:
    """Run *scenario* with a fault of *mode* at its *k*-th write and judge it."""
    await stage.ready()
    verdict = Verdict(scenario=scenario.name, k=k, mode=mode.value, successor=successor)
    replica, proxy = stage.replica, stage.ground.proxy
    log_from, ends_from = replica.log_size(), len(replica.unexpected_ends)
    stage.succeed_as(f"{replica.identity.split('.')[0]}.{replica.starts}" if successor == "new" else None)
    fault = Fault(k, mode, replica.kill)
    late = asyncio.create_task(_let_late_writes_go(stage, fault))
    opening = await _begin(stage, scenario)
    play = opening.play
    proxy.arm(fault, play.counts)
    try:
        async with asyncio.timeout(300):
            await scenario.story(play)
            if fault.met and mode is Mode.LATE:
                await fault.late_done.wait()
            verdict.violations += await _settles(stage, play, wanted)
    except (Stuck, TimeoutError) as error:
        verdict.violations.append(f"Stuck: {error or 'the scenario took too long'}")
    finally:
        late.cancel()
        await asyncio.gather(late, return_exceptions=True)
    history = await _history(stage, opening)
    verdict.violations += _audit(history) + _counts_differ(scenario, wanted, history)
    verdict.violations += [f"Log: {line}" for line in replica.complaints(log_from)]
    verdict.violations += [f"OperatorEnded: {end}" for end in replica.unexpected_ends[ends_from:]]
    verdict.fired, verdict.writes = fault.met is not None, len(proxy.writes)
    verdict.write = f"{fault.met.verb} {fault.met.resource} -> {fault.met.code}" if fault.met else ""
    if fault.met and mode is Mode.AFTER:
        verdict.between = between_ledgers(fault.met, proxy.writes[fault.met.number :])
    verdict.seconds = time.monotonic() - opening.started
    proxy.arm()
    return verdict


def between_ledgers(write: Write, later: Iterable[Write]) -> list[str]:
    """Return the name of the ledger that *write* wrote and of the first of *later*, if it is another; else nothing.

    Where both belong to one tenant, a kill right after *write* cuts short its move from the second to the first.
    """
    following = next((one.name for one in later if one.name.startswith(LEDGER_PREFIX)), "")
    return [write.name, following] if write.name.startswith(LEDGER_PREFIX) and following not in ("", write.name) else []


async def _begin(stage: Stage, scenario: Scenario) -> Opening:
    started = time.monotonic()
    play = await stage.fresh_play(scenario)
    since = await asyncio.to_thread(current_revision, stage.ground.etcd)
    quotas = [await _quota_of(stage, tenant, since) for tenant in play.namespaces]
    return Opening(play=play, since=since, quotas=quotas, started=started)


async def _quota_of(stage: Stage, tenant: str, since: int) -> Change:
    """Return the quota that *tenant* has from the beginning."""
    body = await stage.ground.api.find(f"{GROUP}/tenantquotas/{tenant}")
    spec = {"metadata": {"name": tenant}, "spec": DEFAULT_QUOTA} if body is None else body
    return Change(revision=since, kind="TenantQuota", namespace="", name=tenant, body=spec)


async def _let_late_writes_go(stage: Stage, fault: Fault) -> None:
    """Let the held write of a dead operator go once the next one leads and has done what it had to."""
    while fault.met is None or fault.mode is not Mode.LATE:  # noqa: ASYNC110 - cancelled when the trial is over
        await asyncio.sleep(0.05)
    await stage.ready()
    fault.next_leads.set()


async def _settles(stage: Stage, play: Play, wanted: Reference) -> list[str]:
    """Wait until all is as without the fault, and stays so without a write; return what is not so."""
    limit = time.monotonic() + SETTLE_SECONDS
    while found := differences(wanted.state, await _state(stage, play)):
        if time.monotonic() > limit:
            return [f"EndState: {line}" for line in found]
        await asyncio.sleep(0.1)
    if not await stage.quiet(QUIET_SECONDS):
        return ["Unquiet: the operator writes on and on"]
    return [f"EndState: {line}" for line in differences(wanted.state, await _state(stage, play))]


async def _state(stage: Stage, play: Play) -> Json:
    """Return all that this play has left in its namespace and in the ledgers, masked."""
    api, ledger_label = stage.ground.api, "app.kubernetes.io/component=ledger"
    kinds = (f"{GROUP}/namespaces/%s/longtasks", "/apis/batch/v1/namespaces/%s/jobs", "/api/v1/namespaces/%s/pods")
    lists = await asyncio.gather(
        *(api.items(kind % space) for kind in kinds for space in play.namespaces),
        api.items(f"/api/v1/namespaces/{NAMESPACE}/configmaps", labelSelector=ledger_label),
    )
    number, found = len(play.namespaces), [[body for body in bodies if _is_of(body, play)] for bodies in lists[:-1]]
    tasks, jobs, pods = (list(chain(*found[kind * number : (kind + 1) * number])) for kind in range(len(kinds)))
    ledgers = [ledger_text(ledger) for ledger in lists[-1]]
    if "sizing" in play.scenario.may_differ:
        for task in tasks:
            ((task.get("status") or {}).get("sizing") or {}).pop("message", None)
    if "Job deleted" in play.scenario.may_differ:
        jobs = [job for job in jobs if not is_ended(job)]
    state = state_of(tasks, jobs, pods, ledgers, words_of(play.uids, play.suffix, play.namespace))
    return without_numbers(state) if "attempt" in play.scenario.may_differ else state


def _is_at_rest(state: Json) -> bool:
    """Tell whether nothing is held any more, and every Job has come to its end."""
    held = [pod for pod in state["pods"] if "held=True" in pod or "deleting=True" in pod]
    return not state["ledger"] and not held and all(job["ended"] for job in state["jobs"].values())


def _is_of(body: Json, play: Play) -> bool:
    labels = body["metadata"].get("labels") or {}
    name = labels.get("longtask.dev/task") or body["metadata"]["name"]
    return bool(name.endswith(play.suffix))


async def _history(stage: Stage, opening: Opening) -> list[Change]:
    """Return what happened to this play's objects, and to the ledgers, the quotas first."""
    play = opening.play
    spaces = [*play.namespaces, NAMESPACE]
    changes = await asyncio.to_thread(read_history, stage.ground.etcd, since=opening.since, namespaces=spaces)
    # What went has no body any more: its name says whose it was.
    ours = [c for c in changes if c.kind in ("ConfigMap", "TenantQuota") or play.suffix in c.name]
    return [*opening.quotas, *ours]


def _audit(history: list[Change], expected: Mapping[str, Expected] | None = None) -> list[str]:
    found = [*Auditor().replay(history).finish(expected), *QuotaAuditor().replay(history).violations]
    return [f"{violation.rule}: {violation.about} at {violation.revision}: {violation.message}" for violation in found]


def _counts_differ(scenario: Scenario, wanted: Reference, history: list[Change]) -> list[str]:
    found = creations(history)
    names = sorted(set(found) | set(wanted.counts))
    return [
        f"Counts: {found[name]} {name}, without the fault {wanted.counts[name]}"
        for name in names
        if found[name] != wanted.counts[name] and not _may_differ(scenario, name)
    ]


def _may_differ(scenario: Scenario, name: str) -> bool:
    """Tell whether that count may differ; where the number of attempts may, so may the number of Jobs."""
    return name in scenario.may_differ or ("attempt" in scenario.may_differ and name.startswith("Job"))


@contextlib.asynccontextmanager
async def staged(ground: Ground, mutant: str = "") -> Any:
    """Yield a Stage whose operator runs, and end the operator afterwards."""
    kubeconfig = await ground.operator_kubeconfig()
    replica = Replica(
        ground.forks,
        kubeconfig,
        ground.folder / f"operator-{mutant or 'true'}.log",
        "faults",
        settings=ground.store.settings,
        variables=ground.store.server.env,
        mutant=mutant,
    )
    stage = Stage(ground, replica)
    try:
        async with beside(stage.run()):
            yield stage
    finally:
        await replica.kill()
