from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtask_operator.adapters.packing import pack, unpack


@given(st.binary(max_size=40_000))
def test_what_was_packed_comes_back(document: bytes) -> None:
    assert unpack(pack(document)) == document


def test_what_tasks_share_takes_no_room() -> None:
    document = b'{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"a place in the quota was reserved"}'
    assert len(pack(document)) < len(document) / 4


def test_anything_else_is_refused() -> None:
    with pytest.raises(zlib.error):
        unpack(b"\xff\xff not packed")
