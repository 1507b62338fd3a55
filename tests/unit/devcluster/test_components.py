from __future__ import annotations

from devcluster.components import go_environment

GIB = 2**30


def test_garbage_is_collected_seldom_but_never_for_all_the_memory() -> None:
    assert go_environment({}, 64 * GIB) == {"GOGC": "400", "GOMEMLIMIT": "4096MiB"}
    assert go_environment({}, 8 * GIB) == {"GOGC": "400", "GOMEMLIMIT": "2048MiB"}


def test_what_the_user_set_stays() -> None:
    assert go_environment({"GOGC": "100", "HOME": "/root"}, 64 * GIB) == {"GOMEMLIMIT": "4096MiB"}
