"""The informer against a script of answers, on a virtual clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from longtask_operator.adapters import informer as module
from longtask_operator.adapters.errors import ApiError, Forbidden, Gone, NotFound, Unavailable
from longtask_operator.adapters.informer import Informer, advice_for
from longtask_operator.adapters.kube import Kube
from longtask_operator.adapters.namespaces import NamespaceView
from longtask_operator.adapters.store import Store
from tests.support.sim_operator import LogTrap, VirtualLoop

Script = list[Any]


def an_object(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": str(version)}}


def a_page(version: int, *objects: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"resourceVersion": str(version)}, "items": list(objects)}


def observe(body: Mapping[str, Any]) -> NamespaceView | None:
    meta = body["metadata"]
    if meta["name"] == "foreign":
        return None
    return NamespaceView(name=meta["name"], uid=meta["uid"], version=int(meta["resourceVersion"]), labels={})


class Scripted:
    """Answers lists and watches from a script; a watch whose script is over stays silent."""

    def __init__(self, loop: VirtualLoop, lists: Script, watches: list[Script]) -> None:
        self._loop, self.lists, self.watches = loop, lists, watches
        self.asked: list[str] = []

    async def list_pages(self, path: str, params: Mapping[str, str] | None = None) -> AsyncIterator[dict[str, Any]]:
        self.asked.append("list")
        for page in self.lists.pop(0):
            if isinstance(page, Exception):
                raise page
            yield page

    async def watch(
        self, path: str, params: Mapping[str, str] | None = None, *, resource_version: str, timeout: float = 300.0
    ) -> AsyncIterator[dict[str, Any]]:
        self.asked.append(f"watch from {resource_version}")
        for event in self.watches.pop(0) if self.watches else []:
            if isinstance(event, Exception):
                raise event
            yield event
        await self._loop.create_future()


class Bench:
    def __init__(self) -> None:
        self.trap, self.loop = LogTrap(), VirtualLoop()
        self._patches = pytest.MonkeyPatch()
        self._patches.setattr(module, "time", SimpleNamespace(monotonic=self.loop.time))
        self.store: Store[NamespaceView] = Store(lambda view: view.name)
        self.looked_at: list[tuple[str, str]] = []  #: names and versions

    def _observe(self, body: Mapping[str, Any]) -> NamespaceView | None:
        self.looked_at.append((body["metadata"]["name"], body["metadata"]["resourceVersion"]))
        return observe(body)

    def start(self, lists: Script, watches: list[Script], *, watch: bool = True) -> None:
        self.kube = Scripted(self.loop, lists, watches)
        self.informer = Informer(
            cast(Kube, self.kube), "/api/v1/namespaces", self.store, self._observe, relist_seconds=600
        )
        self.task = self.loop.create_task(self.informer.run(watch=watch))
        self.loop.settle()

    def wait(self, seconds: float) -> None:
        self.loop.elapsed += seconds
        self.loop.settle()

    def names(self) -> set[str]:
        return {view.name for view in self.store}

    def close(self) -> None:
        self._patches.undo()
        self.task.cancel()
        self.loop.settle()
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()
        self.trap.close()


def test_all_pages_of_a_list_are_one(bench: Bench) -> None:
    bench.start([[a_page(9, an_object("a", 3)), a_page(0, an_object("b", 4), an_object("foreign", 5))]], [])
    assert bench.names() == {"a", "b"}
    assert bench.informer.synced.is_set()
    assert bench.kube.asked == ["list", "watch from 9"]


def test_what_the_store_holds_is_not_looked_at_again(bench: Bench) -> None:
    bench.start([[a_page(9, an_object("a", 3), an_object("b", 4))]], [])
    bench.kube.lists.append([a_page(20, an_object("a", 3), an_object("b", 11))])
    bench.loop.run_until_complete(bench.informer.relist())
    assert bench.looked_at == [("a", "3"), ("b", "4"), ("b", "11")]
    assert bench.names() == {"a", "b"}


def test_the_event_of_what_the_store_holds_is_not_looked_at(bench: Bench) -> None:
    written = observe(an_object("a", 11))  # by ourselves: the answer of the write came before the event
    assert written is not None
    bench.store.put(written)
    events = [{"type": "MODIFIED", "object": an_object("a", version)} for version in (10, 11, 12)]
    bench.start([[a_page(9)]], [events])
    assert bench.looked_at == [("a", "12")]


def test_what_a_list_has_seen_already_is_not_listed_again(bench: Bench) -> None:
    bench.loop.elapsed = 10
    bench.start([[a_page(9)]], [])
    bench.loop.run_until_complete(bench.informer.read_since(10))
    assert bench.kube.asked.count("list") == 1


def test_a_list_from_before_the_moment_is_not_enough(bench: Bench) -> None:
    bench.start([[a_page(9)], [a_page(20, an_object("a", 11))]], [])
    bench.loop.elapsed = 10
    bench.loop.run_until_complete(bench.informer.read_since(10))
    assert bench.names() == {"a"}


def test_the_first_list_is_waited_for_until_it_succeeds(bench: Bench) -> None:
    bench.start([[Unavailable(0, "ConnectionLost", "x")], [a_page(9, an_object("a", 3))]], [])
    reading = bench.loop.create_task(bench.informer.read_since(0))
    bench.loop.settle()
    assert not reading.done()
    bench.wait(1)
    assert reading.done()
    assert bench.kube.asked[:2] == ["list", "list"]
    assert bench.names() == {"a"}


def test_a_later_list_that_breaks_off_does_not_make_an_old_one_new(bench: Bench) -> None:
    bench.start([[a_page(9)], [Unavailable(0, "ConnectionLost", "x")], [a_page(20, an_object("a", 11))]], [])
    bench.loop.elapsed = 10
    with pytest.raises(Unavailable):
        bench.loop.run_until_complete(bench.informer.relist())
    bench.loop.run_until_complete(bench.informer.read_since(10))
    assert bench.names() == {"a"}


def test_a_list_that_breaks_off_removes_nothing(bench: Bench) -> None:
    bench.start([[a_page(9, an_object("a", 3), an_object("b", 4))]], [])
    bench.kube.lists.append([a_page(20, an_object("a", 3)), Unavailable(0, "ConnectionLost", "x")])
    with pytest.raises(Unavailable):
        bench.loop.run_until_complete(bench.informer.relist())
    assert bench.names() == {"a", "b"}


def test_events_are_applied(bench: Bench) -> None:
    events = [
        {"type": "ADDED", "object": an_object("b", 10)},
        {"type": "MODIFIED", "object": an_object("a", 11)},
        {"type": "ADDED", "object": an_object("foreign", 12)},
        {"type": "DELETED", "object": an_object("b", 13)},
        {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "20"}}},
        Unavailable(0, "ConnectionLost", "x"),
    ]
    bench.start([[a_page(9, an_object("a", 3))]], [events])
    assert bench.names() == {"a"}
    view = bench.store.get("", "a")
    assert view is not None
    assert view.version == 11
    bench.wait(1)
    assert bench.kube.asked[-1] == "watch from 20"


def test_a_watch_that_fell_behind_lists_again(bench: Bench) -> None:
    gone = Gone(410, "Expired", "too old")
    bench.start([[a_page(9, an_object("a", 3))], [a_page(30, an_object("b", 25))]], [[gone]])
    assert bench.names() == {"b"}
    assert bench.kube.asked == ["list", "watch from 9", "list", "watch from 30"]


def test_a_server_that_does_not_answer_is_waited_for_with_growing_patience(bench: Bench) -> None:
    fault = Unavailable(503, "Unavailable", "x")
    bench.start([[fault], [fault], [fault], [a_page(9, an_object("a", 3))]], [])
    assert not bench.informer.synced.is_set()
    for seconds, asked in ((0.19, 1), (0.02, 2), (0.5, 3), (0.9, 3), (0.2, 5)):
        bench.wait(seconds)
        assert len(bench.kube.asked) == asked
    assert bench.names() == {"a"}


def test_a_kind_that_is_missing_is_said_until_it_is_there(bench: Bench) -> None:
    bench.start([[NotFound(404, "NotFound", "x")], [a_page(9)]], [])
    assert bench.informer.kind_missing
    bench.wait(0.3)
    assert not bench.informer.kind_missing
    assert bench.informer.synced.is_set()


def test_what_is_known_stays_while_permission_is_revoked(bench: Bench) -> None:
    fault = Forbidden(403, "Forbidden", "x")
    bench.start([[a_page(9, an_object("a", 3))], [fault], [a_page(12, an_object("a", 3))]], [[fault]])
    assert bench.names() == {"a"}
    bench.wait(0.2)
    bench.wait(0.5)
    assert bench.kube.asked == ["list", "watch from 9", "list", "list", "watch from 12"]


def test_without_a_watch_the_list_is_repeated(bench: Bench) -> None:
    bench.start([[a_page(9)], [a_page(12, an_object("a", 11))], [a_page(13)]], [], watch=False)
    assert bench.names() == set()
    bench.wait(599)
    assert bench.kube.asked == ["list"]
    bench.wait(1)
    assert bench.names() == {"a"}
    bench.informer.nudge()
    bench.loop.settle()
    assert bench.names() == set()


def test_its_age_is_that_of_the_last_word(bench: Bench) -> None:
    bench.start([[Unavailable(0, "x", "x")], [a_page(9)]], [])
    assert bench.informer.age == float("inf")
    bench.wait(0.3)
    bench.wait(7)
    assert bench.informer.age == 7


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (NotFound(404, "", ""), "install the CRDs"),
        (Forbidden(403, "", ""), "restore the operator's ClusterRole"),
        (Unavailable(401, "", ""), "check the ServiceAccount token"),
        (Unavailable(0, "", ""), "does not answer"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(error: ApiError, advice: str) -> None:
    assert advice in advice_for(error, "/apis/x")
