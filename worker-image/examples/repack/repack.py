"""Turns a CSV table into gzipped JSON lines, in parts, and goes on where a killed attempt had saved.

What was read and what was written stand in one checkpoint, so that both are of the same moment: no row is written
twice, none is left out.
"""

from __future__ import annotations

import json
import time
from typing import Any

from longtask_worker import Task, run
from longtask_worker.parts import Parts
from longtask_worker.streams import Rows


def main(task: Task) -> dict[str, Any]:
    """Return how many rows there are and where the list of the parts is."""
    state = task.checkpoint.load(default={"read": None, "written": None, "rows": 0})
    pause, count = float(task.payload.get("secondsPerRow", 0)), state["rows"]
    with Rows(task.inputs["table"], state["read"]) as rows, Parts(task, task.outputs["lines"], state["written"]) as out:

        def now() -> dict[str, Any]:
            """Close a part, so that what the state says is durable. Called only when a checkpoint is due."""
            return {"read": rows.position, "written": out.cut(), "rows": count}

        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            count += 1
            time.sleep(pause)
            task.report(rows.offset, rows.size, unit="bytes", message=f"row {count}")
            task.checkpoint.save_if_due(now)
            task.raise_if_cancelled()
        return {"rows": count, "list": out.finish().uri}


if __name__ == "__main__":
    run(main)
