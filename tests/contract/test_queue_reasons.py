"""Every reason to wait is seen on a real API server by some test."""

from __future__ import annotations

from pathlib import Path

import pytest

from longtask_operator.api.reasons import QueueReason

TESTS = Path(__file__).resolve().parents[1]
REAL = "".join(path.read_text() for part in ("integration", "e2e") for path in sorted((TESTS / part).glob("test_*.py")))


@pytest.mark.parametrize("reason", QueueReason)
def test_it_is_awaited_where_the_api_server_is_real(reason: QueueReason) -> None:
    assert f'"{reason}"' in REAL or f"({reason}=" in REAL or f" {reason}=" in REAL
