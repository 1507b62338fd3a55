from __future__ import annotations

from longtask_operator.engines.report_listener import FAIR_SHARE, PATIENCE_SECONDS, Peer, pick_dawdler

FLOOD = {f"flood-{index}": (10.0 + index, "10.0.0.9") for index in range(FAIR_SHARE + 1)}
OTHERS: dict[str, Peer] = {f"pod-{index}": (0.0, f"10.0.1.{index}") for index in range(100)}


def test_the_address_that_floods_loses_its_oldest_connection() -> None:
    assert pick_dawdler(OTHERS | FLOOD, 10.0 + PATIENCE_SECONDS) == "flood-0"


def test_what_is_fast_is_not_ended_however_many_there_are() -> None:
    assert pick_dawdler(OTHERS | FLOOD, 9.9 + PATIENCE_SECONDS) is None


def test_a_crowd_of_fair_peers_is_left_alone_however_slow() -> None:
    assert pick_dawdler(OTHERS, 1000.0) is None
