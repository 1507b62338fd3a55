from __future__ import annotations

from dataclasses import dataclass

from longtask_operator.adapters.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    name: str = "a"
    uid: str = "u1"
    version: int = 1
    namespace: str = "ns"
    owner: str = "x"


Change = tuple[View | None, View | None]


def a_store() -> tuple[Store[View], list[Change]]:
    store: Store[View] = Store(lambda view: view.owner)
    changes: list[Change] = []
    store.listeners.append(lambda before, after: changes.append((before, after)))
    return store, changes


def test_the_newest_version_wins_and_listeners_hear_of_each_change_once() -> None:
    store, changes = a_store()
    old, new = View(version=5), View(version=6)
    assert store.put(old)
    assert store.put(new)
    assert not store.put(old)
    assert not store.put(new)
    assert store.get("ns", "a") == new
    assert changes == [(None, old), (old, new)]


def test_views_are_found_by_group_and_a_view_may_change_its_group() -> None:
    store, _ = a_store()
    store.put(View(version=1))
    store.put(View(name="b", uid="u2", version=2))
    assert {view.name for view in store.group("x")} == {"a", "b"}
    store.put(View(version=3, owner="y"))
    assert [view.name for view in store.group("x")] == ["b"]
    assert [view.name for view in store.group("y")] == ["a"]
    assert set(store.groups()) == {"x", "y"}
    store.remove("ns", "a", "u1")
    assert set(store.groups()) == {"x"}
    assert store.group("y") == ()


def test_looking_for_a_group_does_not_make_one() -> None:
    store, _ = a_store()
    assert store.group("nobody") == ()
    assert list(store.groups()) == []


def test_a_late_event_does_not_bring_back_what_was_removed() -> None:
    store, changes = a_store()
    store.put(View(version=5))
    store.remove("ns", "a", "u1", 9)
    assert not store.put(View(version=7))
    assert len(store) == 0
    assert changes[-1] == (View(version=5), None)


def test_a_removal_that_comes_before_the_object_counts() -> None:
    store, _ = a_store()
    store.remove("ns", "a", "u1", 9)
    assert not store.put(View(version=7))


def test_a_list_older_than_the_removal_does_not_bring_it_back() -> None:
    store, _ = a_store()
    store.put(View(version=5))
    store.remove("ns", "a", "u1", 9)
    store.replace([View(version=5)], list_version=8)
    assert len(store) == 0


def test_an_object_that_is_gone_for_good_never_comes_back() -> None:
    store, _ = a_store()
    store.put(View(version=5))
    store.remove("ns", "a", "u1")
    store.replace([View(version=500)], list_version=500)
    assert len(store) == 0


def test_an_object_that_left_the_selection_may_come_back() -> None:
    store, _ = a_store()
    store.put(View(version=5))
    store.remove("ns", "a", "u1", 9)
    assert store.put(View(version=10))


def test_removing_another_object_of_the_name_changes_nothing() -> None:
    store, changes = a_store()
    store.put(View(uid="u2", version=7))
    store.remove("ns", "a", "u1", 6)
    assert store.get("ns", "a") == View(uid="u2", version=7)
    assert len(changes) == 1


def test_a_list_removes_what_it_lacks_and_takes_in_what_is_new() -> None:
    store, changes = a_store()
    gone, kept, new = View(version=3), View(name="b", uid="u2", version=4), View(name="c", uid="u3", version=9)
    store.put(gone)
    store.put(kept)
    store.replace([kept, new], list_version=10)
    assert {view.name for view in store} == {"b", "c"}
    assert changes[2:] == [(None, new), (gone, None)]


def test_a_list_keeps_what_is_newer_than_itself() -> None:
    store, _ = a_store()
    created_since, changed_since = View(version=12), View(name="b", uid="u2", version=13)
    store.put(created_since)
    store.put(changed_since)
    store.replace([View(name="b", uid="u2", version=4)], list_version=10)
    assert set(store) == {created_since, changed_since}


def test_the_memory_of_removals_is_bounded() -> None:
    store, _ = a_store()
    for number in range(25_000):
        store.remove("ns", "a", f"u{number}", number)
    assert len(store._removed) <= 10_000
    assert not store.put(View(uid="u24999", version=24_999))


def test_what_stands_there_is_told_by_uid_and_version() -> None:
    store, _ = a_store()
    store.put(View(version=5))
    assert store.holds("ns", "a", "u1", 5)
    assert store.holds("ns", "a", "u1", 4)
    assert not store.holds("ns", "a", "u1", 6)
    assert not store.holds("ns", "a", "u2", 5)
    assert not store.holds("ns", "b", "u1", 5)
