from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from longtask_operator.core.node_life import NodeLife
from tests.builders import at


def first(renewed: float = 0, read: float = 100) -> NodeLife:
    return NodeLife(renewed=at(renewed), read_at=at(read))


def test_one_read_says_nothing() -> None:
    assert not first().lived_through(at(0))


def test_a_renewal_between_two_reads_says_that_it_lives() -> None:
    life = first(read=100).after(at(10), at(102))
    assert life.lived_through(at(100))
    assert not life.lived_through(at(101)), "it may have been renewed just before"


def test_a_lease_that_stays_as_it_is_says_nothing() -> None:
    life = first()
    for second in range(102, 200, 2):
        life = life.after(at(0), at(second))
        assert not life.lived_through(at(100))


def test_who_was_away_is_not_known_to_have_lived_through_it() -> None:
    away = first(renewed=0, read=100).after(at(0), at(102)).after(at(30), at(104))
    assert away.back_at == at(104)
    assert not away.lived_through(at(100))
    later = away.after(at(40), at(114))
    assert later.back_at == at(104)
    assert later.lived_through(at(104.5)) is False
    assert later.after(at(50), at(116)).lived_through(at(110))


def test_what_was_not_read_in_a_row_left_no_gap() -> None:
    assert first(renewed=0, read=100).after(at(600), at(700)).back_at is None


@given(st.integers(-(10**6), 10**6), st.integers(0, 9), st.integers(1, 5))
def test_clocks_of_nodes_are_not_compared_with_ours(skew: int, phase: int, pace: int) -> None:
    """A kubelet that renews every 10 s is found alive within two renewals, whatever its clock says."""
    life: NodeLife | None = None
    for second in range(0, 21 + 2 * pace, pace):
        renewed = at(skew + (second + phase) // 10 * 10)
        life = life.after(renewed, at(second)) if life else NodeLife(renewed=renewed, read_at=at(second))
        assert life.back_at is None
    assert life is not None
    assert life.lived_through(at(0))
