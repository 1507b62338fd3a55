"""Adds up a Parquet table by region, row group by row group, and goes on where a killed attempt had saved."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from longtask_worker import Task, run
from longtask_worker.parquet import RowGroups


def main(task: Task) -> dict[str, Any]:
    """Return the sum of `amount` for each `region`, how many rows there are and how many this attempt read."""
    state = task.checkpoint.load(default={"position": None, "sums": {}})
    sums = Counter(state["sums"])
    with RowGroups(task.inputs["table"], state["position"], columns=["region", "amount"]) as groups:
        began = groups.offset
        for table in groups:
            for row in table.group_by("region").aggregate([("amount", "sum")]).to_pylist():
                sums[row["region"]] += row["amount_sum"]
            time.sleep(float(task.payload.get("secondsPerGroup", 0)))
            task.report(groups.offset, groups.size, unit="rows")
            task.checkpoint.save_if_due({"position": groups.position, "sums": sums})
            task.raise_if_cancelled()
        return {"rows": groups.size, "read": groups.size - began, "sums": dict(sorted(sums.items()))}


if __name__ == "__main__":
    run(main)
