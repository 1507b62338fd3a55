"""`Stuck` warns of an attempt without time-outs that has fallen silent, and ends nothing: it takes five minutes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.e2e.stage import Stage
from tests.e2e.test_liveness import has, sdk
from tests.support.live import condition

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(900)]
#: The worker's process hangs in a call that its reporter does not survive, for longer than silence is watched.
HANGS = """
    task.report(1, 3)
    time.sleep(6)
    task.report(2, 3)
    time.sleep(6)
    ctypes.PyDLL(None).sleep(330)
    task.report(3, 3)
    time.sleep(20)
    return {"went": "on"}
"""


def test_silence_is_warned_of_without_any_timeout_and_ends_nothing(new_stage: Callable[..., Stage]) -> None:
    stage = new_stage("stuck")
    stage.tasks.create("hangs", **sdk(HANGS))
    warned = stage.tasks.until("hangs", "stuck", lambda s: has(s, "Stuck"), 400)
    found = condition(warned, "Stuck")
    assert (found["status"], found["reason"], warned["phase"]) == ("True", "Silent", "Running")
    assert found["message"].startswith("attempt 1 has not reported since ")
    stage.tasks.until("hangs", "stuck no more", lambda s: not has(s, "Stuck"), 120)
    status = stage.tasks.until_finished("hangs")
    assert [attempt["cause"] for attempt in status["attempts"]] == ["Completed"]
    assert status["result"]["value"] == {"went": "on"}
    assert stage.audit() == []
