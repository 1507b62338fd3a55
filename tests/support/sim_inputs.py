"""Stories of tasks that wait for the size of their inputs; the store answers late, refuses, is away or never answers.

The truth is the ledger as the API server had it: with the size that stands there for a generation an attempt runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from longtask_operator.adapters.object_sizes import SizeUnknown
from longtask_operator.api.quantity import MEBIBYTE, parse_memory
from longtask_operator.core.ledger import parse_entries
from tests.support.sim_api import Broken, Json
from tests.support.sim_operator import READER
from tests.support.sim_story import Story, index, tell
from tests.support.sim_world import ENDS

ORDERS, PRICES = "s3://store/orders", "s3://store/prices"
#: What the store says of any object.
SIZES = (100 * MEBIBYTE, 700 * MEBIBYTE, 3000 * MEBIBYTE)


def reading(*uris: str, **more: Any) -> dict[str, Any]:
    """Return the spec of a task with such inputs."""
    inputs = [{"name": f"i{number}", "uri": uri} for number, uri in enumerate(uris)]
    return {"image": READER, "inputs": inputs, "retry": {"backoff": {"initialSeconds": 1}}, **more}


SPECS: list[dict[str, Any]] = [
    reading(ORDERS),
    reading(ORDERS, PRICES),
    reading(PRICES, suspend=True),
    reading(ORDERS, deadlineSeconds=40),
    {"image": READER, "inputs": [{"name": "i", "uri": ORDERS, "sizeBytes": SIZES[1]}]},
]


class InputStory(Story):
    """Stories of a store that is asked for sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.admitted: dict[tuple[str, int, int], int] = {}  #: MiB by uid, attempt and generation
        self.api.watchers.append(self.take_note)

    @initialize(specs=st.lists(st.sampled_from(SPECS), min_size=2, max_size=2), steps=st.integers(0, 6))
    def begin(self, specs: list[dict[str, Any]], steps: int = 0) -> None:
        for name, spec in zip("ab", specs, strict=False):
            self.world.apply(name, **spec)
        self.advance(steps, "success")

    @rule(number=index, operator=index, size=st.sampled_from([*SIZES, 403, 503]))
    def answer(self, number: int = 0, operator: int = 0, size: int = SIZES[1]) -> None:
        """The store answers one question: an object's size, that it may not be read, or that the store is away."""
        asker = self.pick(self.operators, operator)
        question = self.pick(asker.store.questions, number) if asker else None
        if question is not None:
            question.answer(size if size in SIZES else SizeUnknown(str(size), of_store=size == 503))
            self.loop.settle()

    @rule(name=st.sampled_from("bc"), spec=st.sampled_from(SPECS), steps=st.integers(0, 6))
    def another(self, name: str, spec: dict[str, Any], steps: int, end: str = "success") -> None:
        """A task comes later, if that name is free."""
        if all(task["metadata"]["name"] != name for task in self.tasks()):
            self.world.apply(name, **spec)
        self.advance(steps, end)

    @rule(end=st.sampled_from(list(ENDS)), steps=st.integers(1, 6))
    def answered(self, end: str, steps: int) -> None:
        """All questions are answered, and everything goes on."""
        for operator in self.operators:
            for question in operator.store.questions:
                question.answer(SIZES[1])
        self.advance(steps, end)

    def take_note(self, plural: str, kind: str, body: Json) -> None:
        """See what a ledger holds now, and that a Job is as large as its line there."""
        if kind == "DELETED":
            return
        if plural == "configmaps":
            for uid, entry in parse_entries(body["data"].get("attempts", "")).items():
                name, size = (uid, entry.attempt, entry.generation), entry.size.memory // MEBIBYTE
                if self.admitted.setdefault(name, size) != size:
                    self.api.broken = Broken(f"{name} was admitted with {self.admitted[name]}Mi, and now has {size}Mi")
        if plural == "jobs":
            labels, annotations = body["metadata"]["labels"], body["metadata"]["annotations"]
            uid, number = labels["longtask.dev/task-uid"], int(labels["longtask.dev/attempt"])
            admitted = self.admitted.get((uid, number, int(annotations["longtask.dev/generation"])))
            size = memory_of(body) // MEBIBYTE
            if size != admitted:
                self.api.broken = Broken(f"the Job of attempt {number} has {size}Mi; it was admitted with {admitted}Mi")


def memory_of(job: Json) -> int:
    """Return the bytes that the Job's task container may use."""
    return parse_memory(job["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"])


def tell_reading(story: Callable[[InputStory], None]) -> None:
    """Tell *story* of tasks with inputs to its end."""
    tell(story, InputStory)
