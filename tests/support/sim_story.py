"""A story of a simulated cluster with one or two operators, as a state machine; Hypothesis or a test tells it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from longtask_operator.core.ledger_layout import parse_ledger
from longtask_operator.engines.wiring import TOGETHER_SECONDS
from tests.support.sim_api import Broken, Json, is_finished
from tests.support.sim_operator import KINDS, LogTrap, Pending, SimOperator, VirtualLoop
from tests.support.sim_world import ENDS, World, is_over, is_terminal

NAMES = ("a", "b", "c")
#: So often at most all is answered before time has to pass.
MOST_ROUNDS = 500
SPECS: list[dict[str, Any]] = [
    {},
    {},
    {"retry": {"limits": {"application": 0}}},
    {"retry": {"limits": {"application": 1}, "backoff": {"initialSeconds": 1}}},
    {"deadlineSeconds": 40},
    {"suspend": True},
    {"ttlSecondsAfterFinished": 30},
    {"resources": {"cpu": "3"}},
    {"resources": {"memory": "7Gi"}},
    {"idempotencyKey": "k"},
    {"idempotencyKey": "k"},
    {"idempotencyKey": "k", "priority": 3},
    {"idempotencyKey": "k", "args": ["other"]},
    {"queueName": "gpu-queue"},
    {"queueName": "gpu-queue", "idempotencyKey": "k"},
]
EDITS: list[dict[str, Any]] = [
    {"cancel": True},
    {"cancel": None},
    {"suspend": True},
    {"suspend": None},
    {"suspend": None},
    {"redrive": "1"},
    {"redrive": "2"},
    {"priority": 5},
    {"deadlineSeconds": 5},
    {"deadlineSeconds": None},
    {"ttlSecondsAfterFinished": 0},
]
MISCHIEF = [
    "apply", "delete task", "delete job", "orphan job", "delete pod", "force-delete pod", "pod vanishes", "second pod",
    "kueue takes back",
]  # fmt: skip
index = st.integers(min_value=0, max_value=50)


class Story(RuleBasedStateMachine):
    """What may happen to a cluster with one or two operators."""

    def __init__(self) -> None:
        super().__init__()
        self.trap = LogTrap()
        self.loop = VirtualLoop()
        self.world = World(clock=self.loop.now)
        self.api = self.world.api
        self.operators = [SimOperator(self.api, self.loop)]
        self.late: list[Pending] = []
        self.cancelled: set[tuple[str, int]] = set()
        self.met_late = True  #: no write of a ledger reached it that nobody knows of who leads
        self.lags = False  #: the operators look at one change before they hear of the next
        self.loop.settle()

    def teardown(self) -> None:
        try:
            if self.api.broken:
                raise self.api.broken
            self.come_to_rest()
            self.check_rest()
        finally:
            self.close()

    def close(self) -> None:
        """End everything that runs."""
        for operator in self.operators:
            operator.crash()
        self.loop.close()
        self.trap.close()

    # Helpers.

    def pick(self, choices: list[Any], number: int) -> Any:
        return choices[number % len(choices)] if choices else None

    def requests(self) -> list[Pending]:
        return [request for operator in self.operators for request in operator.requests]

    def answer_all(self) -> bool:
        """Execute and answer all requests, deliver all events; return whether there was anything."""
        requests = self.requests()
        events = [(operator, kind) for operator in self.operators for kind in KINDS if operator.inbox[kind]]
        for request in requests:
            request.execute(self.api)
            request.deliver()
        for operator, kind in events:
            while operator.inbox[kind]:
                operator.deliver(kind)
        self.loop.settle()
        if self.lags and (requests or events):
            self.pass_time(at_most=TOGETHER_SECONDS)
        return bool(requests or events)

    def settle(self) -> None:
        """Answer until nothing more is asked; let moments pass for which the operator waits for what changes together.

        Raises:
            Broken: where the operator asks for ever.
        """
        for _ in range(MOST_ROUNDS):
            asked = [request.request for request in self.requests()]
            if not self.answer_all() and not self.pass_time(at_most=TOGETHER_SECONDS):
                return
        raise Broken(f"asks on and on while nothing changes and no more than moments pass: {asked}")

    def tasks(self) -> list[Json]:
        return self.api.of("longtasks")

    # Rules: the natural course.

    @initialize(lags=st.booleans())
    def choose_lag(self, lags: bool) -> None:
        """Let caches be quick, or so late that what changes together is looked at in parts."""
        self.lags = lags

    @initialize(spec=st.sampled_from(SPECS), steps=st.integers(0, 12), end=st.sampled_from(list(ENDS)))
    def begin(self, spec: dict[str, Any], steps: int = 0, end: str = "success") -> None:
        self.world.apply("a", **spec)
        self.advance(steps, end)

    @rule(steps=st.integers(1, 10), end=st.sampled_from(list(ENDS)))
    def advance(self, steps: int, end: str) -> None:
        """Let the cluster and the operator do one thing after the other, and time pass when both only wait."""
        for _ in range(steps):
            self.settle()
            if not self.natural_move(end):
                self.pass_time()

    @rule(rounds=st.integers(1, 6))
    def work(self, rounds: int) -> None:
        """Let the operator alone go on, and moments pass for which it waits for what changes together."""
        for _ in range(rounds):
            if not self.answer_all() and not self.pass_time(at_most=TOGETHER_SECONDS):
                return

    @rule(number=index)
    def move(self, number: int) -> None:
        """Let the cluster alone do any one thing."""
        if chosen := self.pick(list(self.world.moves()), number):
            chosen[1]()

    @rule(seconds=st.sampled_from([0.3, 2, 2, 11, 61, 700]))
    def wait(self, seconds: float) -> None:
        self.loop.elapsed += seconds
        if seconds > 60:
            self.late.clear()

    def natural_move(self, end: str) -> bool:
        """Do the first thing that the cluster would do, and end containers as *end* says."""
        moves = list(self.world.moves())
        wanted = next((move for name, move in moves if name.endswith(f": {end}")), None)
        if not moves:
            return False
        (wanted if wanted and moves[0][0].startswith("end ") else moves[0][1])()
        return True

    def pass_time(self, at_most: float = float("inf")) -> bool:
        """Let time pass until the next timer; return whether there is one within so many seconds."""
        when = self.loop.next_timer()
        if when is None or when > self.loop.elapsed + at_most:
            return False
        self.loop.elapsed = max(self.loop.elapsed, when)
        self.loop.settle()
        return True

    # Rules: the operator's requests and caches, one at a time.

    @precondition(lambda self: bool(self.requests()))
    @rule(number=index, reply=st.sampled_from(["later", "at once", "lost", "not sent"]))
    def execute(self, number: int, reply: str = "at once") -> None:
        request = self.pick(self.requests(), number)
        if reply != "not sent":
            request.execute(self.api)
        if reply == "at once":
            request.deliver()
        elif reply != "later":
            request.lose()

    @rule(kind=st.sampled_from(KINDS), number=index, look=st.booleans())
    def deliver(self, kind: str, number: int = 0, look: bool = False) -> None:
        """Let an operator hear of one change, and with *look* look at it before it hears of others."""
        operator = self.pick(self.operators, number)
        if operator:
            operator.deliver(kind)
            if look:
                self.loop.settle()
                self.pass_time(at_most=TOGETHER_SECONDS)

    @rule(kind=st.sampled_from(["crash", "failover", "restart", "relist", "late request"]), number=index)
    def fault(self, kind: str, number: int = 0) -> None:
        if kind == "failover":
            self.start_operator()
        elif kind == "late request":
            self.execute_late(number)
        elif operator := self.pick(self.operators, number):
            if kind == "relist":
                operator.relist(KINDS[number % len(KINDS)])
                return
            self.operators.remove(operator)
            self.late += operator.crash()
            if kind == "restart":
                self.start_operator()

    def fail(self, write: Pending, how: str) -> None:
        """Let *write* meet a fault: its answer is `lost`, or the operator dies `before` or `after` it."""
        if how in ("after", "lost"):
            write.execute(self.api)
        if how == "lost":
            write.lose()
        else:
            self.fault("restart")
            self.late.clear()

    def start_operator(self) -> None:
        """Another operator takes the lead; the one before must not write any more, but does not know."""
        for operator in self.operators[:-1]:
            self.late += operator.crash()
        self.operators = self.operators[-1:]
        for operator in self.operators:
            operator.kube.may_write = False
            self.met_late = False
        self.operators.append(SimOperator(self.api, self.loop))
        self.loop.settle()

    def execute_late(self, number: int) -> None:
        """A request of an operator that is no more reaches the API server.

        Not so late that it creates a Job again that was deleted meanwhile: nothing could tell.
        """
        if request := self.pick(self.late, number):
            self.late.remove(request)
            if not self.api.is_second_create(request.request):
                request.execute(self.api)
                self.met_late = self.met_late and not self.is_ledger_write(request)

    @staticmethod
    def is_ledger_write(request: Pending) -> bool:
        """Return whether *request* changes a ledger."""
        return request.request.method != "GET" and "/configmaps" in request.request.path

    # Rules: users.

    @rule(number=index, edit=st.sampled_from(EDITS))
    def edit(self, number: int, edit: dict[str, Any]) -> None:
        if task := self.pick(self.tasks(), number):
            self.world.edit(task, **edit)

    @rule(number=index, value=st.integers(1, 9), image=st.booleans())
    def redrive(self, number: int, value: int, image: bool) -> None:
        """Ask for a new run of a finished task, perhaps with another image."""
        if task := self.pick([task for task in self.tasks() if is_finished(task)], number):
            change = {"image": task["spec"]["image"] + "i"} if image else {}
            self.world.edit(task, redrive=str(value), cancel=None, suspend=None, **change)

    @rule(kind=st.sampled_from(MISCHIEF), number=index, name=st.sampled_from(NAMES), spec=st.sampled_from(SPECS))
    def mischief(self, kind: str, number: int = 0, name: str = "b", spec: dict[str, Any] | None = None) -> None:
        task = self.pick(self.tasks(), number)
        job, pod = self.pick(self.api.of("jobs"), number), self.pick(self.api.of("pods"), number)
        if kind == "apply" and all(task["metadata"]["name"] != name for task in self.tasks()):
            self.world.apply(name, **(spec or {}))
        elif kind == "delete task" and task:
            self.api.delete(task, "longtasks")
        elif kind == "delete job" and job:
            self.api.delete(job, "jobs")
        elif kind == "orphan job" and job:
            self.world.orphan(job)
        elif kind == "delete pod" and pod:
            self.api.delete(pod, "pods")
        elif kind == "force-delete pod" and pod:
            self.world.force_delete(pod)
        elif kind == "pod vanishes" and pod:
            self.world.vanish(pod)
        elif kind == "second pod" and job and not is_over(job) and self.world.pods_of(job):
            self.world.create_pod(job, duplicate=True)
        elif kind == "kueue takes back" and job:
            self.world.kueue_takes_back(job)

    # Invariants.

    @invariant()
    def nothing_unexpected(self) -> None:
        self.loop.settle()
        if self.trap.unexpected:
            raise Broken(self.trap.unexpected[0])
        for operator in self.operators:
            operator.check_alive()

    def come_to_rest(self) -> None:
        """Let all faults end and everything take its natural course."""
        while self.late:
            self.execute_late(0)
        leading = [operator for operator in self.operators if operator.kube.may_write]
        for operator in self.operators:
            if operator not in leading:
                operator.crash()
        self.operators = leading or [SimOperator(self.api, self.loop)]
        self.loop.settle()
        self.rest()
        if not self.met_late:  # whoever writes the ledger next meets what came late
            self.world.apply("last")
            self.rest()

    def rest(self) -> None:
        """Let everything take its natural course."""
        for _ in range(250):
            self.settle()
            self.nothing_unexpected()
            if not self.natural_move("success") and not self.pass_time():
                return
        raise Broken("no rest")

    def check_rest(self) -> None:
        tasks = {task["metadata"]["uid"]: task for task in self.tasks()}
        for task in tasks.values():
            status = task["status"]
            waits = status["phase"] == "Suspended" or status["reason"] in ("Invalid", "KeyConflict")
            if not is_finished(task) and not waits and not self.follows(task):
                raise Broken(f"rests unfinished: {task}")
            if status["observedGeneration"] != task["metadata"]["generation"]:
                raise Broken(f"the last generation was not observed: {task}")
        for config in self.api.of("configmaps"):
            if any(parse_ledger(config["metadata"]["name"], config["data"]).tenants.values()):
                raise Broken(f"the ledger still holds {config['data']}")
        for pod in self.api.of("pods"):
            if pod["metadata"].get("finalizers") or not is_terminal(pod):
                raise Broken(f"left behind: {pod}")
        self.check_quiet()

    def follows(self, task: Json) -> bool:
        """Return whether *task* waits for another with its key that itself rests unfinished."""
        if task["status"]["reason"] != "Duplicate":
            return False
        first = self.api.find("longtasks", task["status"]["duplicateOf"]["uid"])
        return first is not None and not is_finished(first)

    def check_quiet(self) -> None:
        """Looking at everything again must write nothing."""
        before = len(self.api.writes)
        for operator in self.operators:
            operator.wiring.enqueue_all()
        self.loop.settle()
        self.settle()
        if written := self.api.writes[before:]:
            raise Broken(f"writes at rest: {[f'{w} {w.body}' for w in written]}")


S = TypeVar("S", bound=Story)


def story_settings(stories: int) -> settings:
    """Return the settings of random stories: so many of them, or with the thorough profile 7,500 longer ones."""
    thorough = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
    return settings(
        max_examples=7_500 if thorough else stories,
        stateful_step_count=60 if thorough else 40,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
        report_multiple_bugs=False,
        phases=[phase for phase in Phase if phase is not Phase.explain],
    )


def tell(story: Callable[[S], None], kind: type[S] = Story) -> None:  # type: ignore[assignment]
    """Tell one story to its end, which checks that everything came to rest."""
    state = kind()
    ended = False
    try:
        story(state)
        ended = True
    finally:
        (state.teardown if ended else state.close)()
