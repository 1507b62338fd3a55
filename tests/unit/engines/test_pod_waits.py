from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from longtask_operator.adapters.store import Store
from longtask_operator.core.observe import PodSizes, PodView
from longtask_operator.core.sizing import Size
from longtask_operator.engines.pod_waits import PodWaits
from tests.builders import SMALLEST, a_pod, at


class Watched:
    """A store of pods, its notes, and a clock."""

    def __init__(self) -> None:
        self.now = at(0)
        self.store: Store[PodView] = Store(lambda pod: pod.task_name)
        self.waits = PodWaits(self.store, lambda: self.now)
        self.version = 20

    def put(self, waiting: str, second: float, **changes: object) -> datetime | None:
        self.version, self.now = self.version + 1, at(second)
        pod = a_pod(waiting=waiting, version=self.version, **changes)
        self.store.put(pod)
        return self.waits.noted(pod).waiting_since


def test_a_wait_counts_from_its_first_sight_and_through_other_words_for_it() -> None:
    watched = Watched()
    assert watched.put("", 1) is None
    assert watched.put("ErrImagePull: x", 2) == at(2)
    assert watched.put("ImagePullBackOff: x", 30) == at(2)
    assert watched.put("ErrImagePull: x", 60) == at(2)


def test_another_kind_counts_anew() -> None:
    watched = Watched()
    watched.put("ErrImagePull: x", 2)
    assert watched.put("CreateContainerConfigError: no Secret", 90) == at(90)
    assert watched.put("", 91) is None
    assert watched.put("CreateContainerConfigError: no Secret", 92) == at(92)


def test_what_only_waits_for_room_is_not_noted() -> None:
    assert Watched().put("Unschedulable: no room", 2) is None


def test_nothing_is_kept_of_pods_that_are_gone() -> None:
    watched = Watched()
    watched.put("ErrImagePull: x", 2)
    assert watched.put("", 3, uid="another of the same name") is None
    assert len(watched.waits) == 0
    watched.put("ErrImagePull: x", 4, uid="another of the same name")
    pod = a_pod(uid="another of the same name")
    watched.store.remove(pod.namespace, pod.name, pod.uid)
    assert len(watched.waits) == 0


def test_a_resize_counts_from_its_first_sight_until_it_is_in_force() -> None:
    watched, large = Watched(), Size(cpu=250, memory=2 * SMALLEST.memory)
    asking, done = PodSizes(asked=large, in_force=SMALLEST), PodSizes(asked=large, in_force=large)
    watched.put("", 2, running_since=at(1), sizes=asking)
    watched.put("", 30, running_since=at(1), sizes=replace(asking, pending="Deferred"))
    assert watched.waits.noted(a_pod()).resizing_since == at(2)
    watched.put("", 31, running_since=at(1), sizes=done)
    assert (watched.waits.noted(a_pod()).resizing_since, len(watched.waits)) == (None, 0)


def test_a_node_that_answers_again_is_noted_until_the_pod_goes() -> None:
    watched = Watched()
    watched.put("", 1, running_since=at(1))
    watched.put("", 50, running_since=at(1), node_lost_at=at(49))
    assert watched.waits.noted(a_pod()).node_back_at is None
    watched.put("", 90, running_since=at(1))
    assert watched.waits.noted(a_pod()).node_back_at == at(90)
    pod = a_pod()
    watched.store.remove(pod.namespace, pod.name, pod.uid)
    assert len(watched.waits) == 0
