"""Quotas: who runs, who waits."""

from __future__ import annotations

from tests.faults.kubelet import NEVER_STARTS, SUCCEEDS, WORKS
from tests.faults.play import Play
from tests.faults.registry import ONE, PLACE, QUICK, scenario
from tests.faults.reports import save


@scenario(quota=ONE)
async def quota_wait(play: Play) -> None:
    """Two tasks, one place."""
    await play.submit("a", WORKS)
    await play.until("a", "Running")
    await play.submit("b", SUCCEEDS)
    await play.until("b", "Queued")
    play.tell("a")
    await play.finished("a", "b")


@scenario(quota={"concurrency": {"nominal": 2}})
async def quota_lowered(play: Play) -> None:
    """A quota that falls below what runs ends nothing, and holds back until it fits again."""
    await play.submit("a", WORKS)
    await play.submit("b", WORKS)
    await play.until("a", "Running")
    await play.until("b", "Running")
    await play.quota(concurrency={"nominal": 1})
    await play.submit("c")
    await play.queued("c", "QuotaExhausted")
    play.tell("a")
    await play.finished("a")
    play.tell("b")
    await play.finished("b", "c")
    await play.quota(concurrency={"nominal": 2})


@scenario(quota=ONE)
async def quota_hold(play: Play) -> None:
    """A tenant on hold starts nothing, until it is let go."""
    await play.quota(stopPolicy="Hold")
    await play.submit("a")
    await play.queued("a", "TenantStopped")
    await play.quota(stopPolicy="None")
    await play.finished("a")


@scenario(quota=ONE)
async def drain(play: Play) -> None:
    """A tenant is drained: what runs is stopped and keeps its place before what waits, until it is let go."""
    await play.submit("a", WORKS, SUCCEEDS, retry={"backoff": QUICK, "limits": {"application": 0}})
    await play.until("a", "Running")
    await play.submit("b")
    await play.queued("b", "QuotaExhausted")
    await play.quota(stopPolicy="HoldAndDrain")
    await play.queued("a", "TenantStopped", placed=True)
    await play.queued("b", "TenantStopped")
    await play.quota(stopPolicy="None")
    await play.finished("a", "b")


@scenario(quota=ONE)
async def drain_starting(play: Play) -> None:
    """A tenant is drained while its pod cannot start."""
    await play.submit("a", NEVER_STARTS, SUCCEEDS, retry={"backoff": QUICK})
    await play.until("a", "Starting")
    await play.quota(stopPolicy="HoldAndDrain")
    await play.queued("a", "TenantStopped", placed=True)
    await play.quota(stopPolicy="None")
    await play.finished("a")


@scenario(quota=ONE)
async def drain_saves(play: Play) -> None:
    """A tenant is drained: the worker saves first, and the next attempt starts from there."""
    await play.submit("a", WORKS, SUCCEEDS, checkpoint=PLACE, retry={"backoff": QUICK})
    await play.until("a", "Running")
    await save(play, "a", 1)
    await play.quota(stopPolicy="HoldAndDrain")
    await play.until("a", check=lambda status: status["attempts"][0].get("stopTime"))
    await save(play, "a", 2)
    await play.queued("a", "TenantStopped", placed=True)
    await play.quota(stopPolicy="None")
    await play.finished("a")


@scenario(quota=ONE)
async def cohort_join(play: Play) -> None:
    """A tenant joins a cohort and leaves it while its attempt runs, which goes along from ledger to ledger."""
    await play.submit("a", WORKS)
    await play.until("a", "Running")
    await play.quota(cohort=play.namespace)
    await play.ledger_holds(f"cohort-{play.namespace}", "a")
    await play.quota(cohort=None)
    await play.ledger_holds(f"tenant-{play.namespace}", "a")
    play.tell("a")
    await play.finished("a")


@scenario(quota=ONE)
async def cohort_move(play: Play) -> None:
    """A tenant moves from a cohort to another while one task runs and one waits."""
    await play.quota(cohort=f"{play.namespace}-before")
    await play.submit("a", WORKS)
    await play.until("a", "Running")
    await play.submit("b")
    await play.queued("b", "CohortExhausted")
    await play.quota(cohort=f"{play.namespace}-after")
    await play.ledger_holds(f"cohort-{play.namespace}-after", "a")
    play.tell("a")
    await play.finished("a", "b")


@scenario(quota=ONE, lender=ONE)
async def cohort_lends(play: Play) -> None:
    """In a cohort a tenant ceases to lend while the other's attempt runs, and lends again while another task waits."""
    lender = play.as_lender()
    await play.submit("a", WORKS)
    await play.until("a", "Running")
    await lender.quota(concurrency={"lendingLimit": 0})
    await play.submit("b")
    await play.queued("b", "CohortExhausted")
    await lender.quota(concurrency={"lendingLimit": None})
    await play.finished("b")
    play.tell("a")
    await play.finished("a")


SMALL, LARGE = {"cpu": "250m", "memory": "512Mi"}, {"cpu": "1", "memory": "2Gi"}


@scenario(quota={"cpu": {"nominal": SMALL["cpu"]}})
async def outgrown(play: Play) -> None:
    """While the ledger is written the spec grows beyond the quota: the entry is given up, and its number with it."""

    async def grow() -> None:
        await play.change("a", resources=LARGE)
        await play.observed("a", 2)

    grown = play.once_admitted(grow)
    await play.submit("a", resources=SMALL)
    await play.over(grown)
    await play.queued("a", "NeverFits")
    await play.ledger_let_go(f"tenant-{play.namespace}", "a")
    await play.quota(cpu={"nominal": LARGE["cpu"]})
    await play.finished("a")
    await play.quota(cpu={"nominal": SMALL["cpu"]})


@scenario()
async def job_refused(play: Play) -> None:
    """The cluster refuses the Job for a while; it is a wait, and the number is not used up."""
    await play.refuse(count_jobs="0")
    await play.submit("a")
    await play.queued("a", "RefusedByCluster")
    await play.refuse_no_more()
    await play.finished("a")


@scenario(
    may_differ={"attempt": "each refused pod uses a number up, and how often it is asked for is a matter of time"}
)
async def pod_refused(play: Play) -> None:
    """The cluster takes the Job and refuses its pod for a while."""
    await play.refuse(pods="0")
    await play.submit("a")
    await play.queued("a", "RefusedByCluster")
    await play.refuse_no_more()
    await play.finished("a")
