from pathlib import Path

import pytest

from devcluster import paths
from devcluster.paths import ClusterPaths


def test_state_and_cache_follow_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/s")
    monkeypatch.setenv("XDG_CACHE_HOME", "/c")
    monkeypatch.delenv("LONGTASK_CACHE", raising=False)
    assert ClusterPaths.of("one").root == Path("/s/longtask/devcluster/one")
    assert paths.cache_root() == Path("/c/longtask")
    monkeypatch.setenv("LONGTASK_CACHE", "/own")
    assert paths.cache_root() == Path("/own")


def test_without_environment_both_lie_in_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("XDG_STATE_HOME", "XDG_CACHE_HOME", "LONGTASK_CACHE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", "/h")
    assert paths.state_root() == Path("/h/.local/state/longtask/devcluster")
    assert paths.cache_root() == Path("/h/.cache/longtask")


def test_machine_names_differ_between_state_folders_and_fit_an_interface() -> None:
    first, second = (ClusterPaths(root=Path(root)) for root in ("/a/x", "/b/x"))
    assert first.machine_name != second.machine_name
    assert len(first.machine_name) <= 15


def test_the_lock_survives_the_removal_of_the_folder() -> None:
    assert ClusterPaths(root=Path("/a/x")).lock == Path("/a/x.lock")
