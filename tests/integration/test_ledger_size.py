"""How much one ledger may hold: what the real API server stores, and what it says beyond that."""

from __future__ import annotations

from typing import Any

import pytest

from longtask_operator.core.ledger import LONGEST_LINE, MAX_BYTES, MAX_ENTRIES, LedgerEntry, format_entries
from longtask_operator.core.sizing import Size
from tests.support.live import Client, RefusedError

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
PATH = "/api/v1/namespaces/default/configmaps"
LARGEST = Size(cpu=63_990, memory=1024**4)


def test_a_full_ledger_of_the_longest_lines_is_stored_with_all_it_may_carry_and_one_byte_more_is_not(
    control_plane: Any,
) -> None:
    client = Client(control_plane.kubeconfig)
    uid, further = "7c9d4f00-0000-4000-8000-{:012d}", {"sidecar": True, "handed_over": True}
    entries = [
        LedgerEntry(uid=uid.format(number), attempt=999_999, generation=999_999, size=LARGEST, **further)
        for number in range(MAX_ENTRIES)
    ]
    lines = format_entries(entries)
    assert len(lines) > MAX_ENTRIES * (LONGEST_LINE - 3)
    data = {"attempts": lines, "preemption.claims": "x" * (MAX_BYTES - len(lines))}
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ledger-size"}, "data": data}
    client.request("POST", PATH, body)
    try:
        data["preemption.claims"] += "x"
        with pytest.raises(RefusedError, match="Too long: may not be more than 1048576 bytes") as refused:
            client.request("PUT", f"{PATH}/ledger-size", body)
        assert refused.value.code == 422
    finally:
        client.request("DELETE", f"{PATH}/ledger-size")
