"""A story of a simulated cluster with one or two operators, as a state machine; Hypothesis or a test tells it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.sim_api import Broken, Json, is_finished
from tests.support.sim_operator import KINDS, LogTrap, Pending, SimOperator, VirtualLoop
from tests.support.sim_world import World, is_terminal

NAMES = ("a", "b")
SPECS: list[dict[str, Any]] = [
    {},
    {},
    {"retry": {"limits": {"application": 0}}},
    {"retry": {"limits": {"application": 1}, "backoff": {"initialSeconds": 1}}},
    {"deadlineSeconds": 40},
    {"suspend": True},
    {"ttlSecondsAfterFinished": 30},
    {"resources": {"cpu": "3"}},
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
        self.loop.settle()

    def teardown(self) -> None:
        try:
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
        return bool(requests or events)

    def tasks(self) -> list[Json]:
        return self.api.of("longtasks")

    # Rules: the operator's requests and caches.

    @initialize(spec=st.sampled_from(SPECS))
    def begin(self, spec: dict[str, Any]) -> None:
        self.world.apply("a", **spec)

    @rule(rounds=st.integers(1, 12))
    def work(self, rounds: int) -> None:
        for _ in range(rounds):
            if not self.answer_all():
                return

    @rule(number=index)
    def execute(self, number: int) -> None:
        if request := self.pick(self.requests(), number):
            request.execute(self.api)

    @rule(number=index)
    def answer(self, number: int) -> None:
        if request := self.pick(self.requests(), number):
            request.execute(self.api)
            request.deliver()

    @rule(number=index)
    def lose(self, number: int) -> None:
        if request := self.pick(self.requests(), number):
            request.lose()

    @rule(kind=st.sampled_from(KINDS), number=index)
    def deliver(self, kind: str, number: int) -> None:
        operator = self.pick(self.operators, number)
        if operator:
            operator.deliver(kind)

    @rule(kind=st.sampled_from(KINDS), number=index)
    def relist(self, kind: str, number: int) -> None:
        operator = self.pick(self.operators, number)
        if operator:
            operator.relist(kind)

    @rule(number=index)
    def crash(self, number: int) -> None:
        if operator := self.pick(self.operators, number):
            self.operators.remove(operator)
            self.late += operator.crash()

    @precondition(lambda self: len(self.operators) < 2)
    @rule()
    def start_operator(self) -> None:
        """Another operator takes the lead; the one before must not write any more, but does not know."""
        for operator in self.operators:
            operator.kube.may_write = False
        self.operators.append(SimOperator(self.api, self.loop))

    @rule(number=index)
    def execute_late(self, number: int) -> None:
        if request := self.pick(self.late, number):
            self.late.remove(request)
            request.execute(self.api)

    @rule(seconds=st.sampled_from([0.3, 2, 2, 11, 61, 700]))
    def wait(self, seconds: float) -> None:
        self.loop.elapsed += seconds
        if seconds > 60:
            self.late.clear()

    # Rules: the cluster and its users.

    @rule(number=index)
    def move(self, number: int) -> None:
        if chosen := self.pick(list(self.world.moves()), number):
            chosen[1]()

    @rule(number=index)
    def move_on(self, number: int) -> None:
        """Let the cluster and the operator do one thing after the other for a while."""
        for _ in range(4):
            while self.answer_all():
                pass
            if chosen := self.pick(list(self.world.moves()), number):
                chosen[1]()

    @rule(name=st.sampled_from(NAMES), spec=st.sampled_from(SPECS))
    def apply(self, name: str, spec: dict[str, Any]) -> None:
        if all(task["metadata"]["name"] != name for task in self.tasks()):
            self.world.apply(name, **spec)

    @rule(number=index, edit=st.sampled_from(EDITS))
    def edit(self, number: int, edit: dict[str, Any]) -> None:
        if task := self.pick(self.tasks(), number):
            self.world.edit(task, **edit)

    @rule(number=index)
    def change_image_when_finished(self, number: int) -> None:
        task = self.pick(self.tasks(), number)
        if task and is_finished(task):
            self.world.edit(task, image=task["spec"]["image"] + "i")

    @rule(number=index)
    def delete_task(self, number: int) -> None:
        if task := self.pick(self.tasks(), number):
            self.api.delete(task, "longtasks")

    @rule(number=index, orphan=st.booleans())
    def delete_job(self, number: int, orphan: bool) -> None:
        if job := self.pick(self.api.of("jobs"), number):
            if orphan:
                self.world.orphan(job)
            else:
                self.api.delete(job, "jobs")

    @rule(number=index, grace=st.sampled_from([30, 0]))
    def delete_pod(self, number: int, grace: int) -> None:
        if pod := self.pick(self.api.of("pods"), number):
            self.api.delete(pod, "pods", grace)

    @rule(number=index)
    def pod_vanishes(self, number: int) -> None:
        if pod := self.pick(self.api.of("pods"), number):
            self.world.vanish(pod)

    @rule(number=index)
    def job_controller_errs(self, number: int) -> None:
        job = self.pick([job for job in self.api.of("jobs") if "status" not in job], number)
        if job and self.world.pods_of(job):
            self.world.create_pod(job, duplicate=True)

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
        for request in self.late:
            request.execute(self.api)
        leading = [operator for operator in self.operators if operator.kube.may_write]
        for operator in self.operators:
            if operator not in leading:
                operator.crash()
        self.operators = leading or [SimOperator(self.api, self.loop)]
        self.loop.settle()
        for _ in range(250):
            while self.answer_all():
                self.nothing_unexpected()
            if move := next(self.world.moves(), None):
                move[1]()
                continue
            when = self.loop.next_timer()
            if when is None:
                return
            self.loop.elapsed = max(self.loop.elapsed, when)
            self.loop.settle()
        raise Broken("no rest")

    def check_rest(self) -> None:
        tasks = {task["metadata"]["uid"]: task for task in self.tasks()}
        for task in tasks.values():
            status = task["status"]
            if not is_finished(task) and status["phase"] != "Suspended" and status["reason"] != "Invalid":
                raise Broken(f"rests unfinished: {task}")
            if status["observedGeneration"] != task["metadata"]["generation"]:
                raise Broken(f"the last generation was not observed: {task}")
        for config in self.api.of("configmaps"):
            if config["data"]["attempts"]:
                raise Broken(f"the ledger still holds {config['data']['attempts']!r}")
        for pod in self.api.of("pods"):
            if pod["metadata"].get("finalizers") or not is_terminal(pod):
                raise Broken(f"left behind: {pod}")
        self.check_quiet()

    def check_quiet(self) -> None:
        """Looking at everything again must write nothing."""
        before = len(self.api.writes)
        for operator in self.operators:
            operator.wiring.enqueue_all()
        self.loop.settle()
        while self.answer_all():
            pass
        if written := self.api.writes[before:]:
            raise Broken(f"writes at rest: {[f'{w} {w.body}' for w in written]}")


def tell(story: Callable[[Story], None]) -> None:
    """Tell one story to its end, which checks that everything came to rest."""
    state = Story()
    ended = False
    try:
        story(state)
        ended = True
    finally:
        (state.teardown if ended else state.close)()
