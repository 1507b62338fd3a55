from __future__ import annotations

import pytest

from longtask_operator.api.phases import TERMINAL, Phase


def test_the_phases_are_these() -> None:
    assert " ".join(Phase) == (
        "Pending Queued Starting Running Backoff Suspended Cancelling Succeeded Failed Cancelled"
    )


@pytest.mark.parametrize("phase", list(Phase))
def test_a_phase_read_from_a_status_is_terminal_or_not_as_plain_text(phase: Phase) -> None:
    assert (str(phase) in TERMINAL) == (phase in (Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED))
