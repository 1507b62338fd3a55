from __future__ import annotations

import re
from enum import StrEnum

import pytest

from longtask_operator.api.reasons import Cause, ConditionType, EventReason, QueueReason, Reason, SizeSource

#: The queue reasons in their order of precedence, those to come included.
PRECEDENCE = """
    Suspended Invalid KeyConflict ExceedsMaxSize NeverFits TenantStopped QueueFull BudgetExhausted Duplicate Backoff
    UserLimit QuotaExhausted CohortExhausted Reserved BehindOthers RefusedByCluster ReleasingPrevious NodeUnreachable
"""
#: The causes of an attempt's end, those to come included.
CAUSES = """
    Completed Application AttemptTimeout OutOfMemory HeartbeatLost NoProgress NeverStarted Lost Disruption Preempted
    Deadline Cancelled Suspended Rejected Permanent
"""


@pytest.mark.parametrize("words", [ConditionType, QueueReason, Reason, Cause, EventReason, SizeSource])
def test_every_word_is_a_reason_as_kubernetes_wants_it(words: type[StrEnum]) -> None:
    assert [word for word in words if not re.fullmatch(r"[A-Z][A-Za-z]{0,62}", word)] == []


def test_queue_reasons_stand_in_their_order() -> None:
    assert [str(reason) for reason in QueueReason] == [word for word in PRECEDENCE.split() if word in set(QueueReason)]


def test_causes_are_of_the_closed_list() -> None:
    assert set(Cause) <= set(CAUSES.split())
