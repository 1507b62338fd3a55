"""Counts the words of an object on S3, line by line, and goes on where a killed attempt had saved.

The counts and the position in the object stand in one checkpoint, so that both are of the same moment: no line is
counted twice, none is left out.
"""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from typing import Any

from longtask_worker import Task, run
from longtask_worker.streams import Lines

WORD = re.compile(rb"[a-z]+")
#: Lines between two lines of the log.
STRIDE = 10


def main(task: Task) -> dict[str, Any]:
    """Return how many lines and words there are, the most frequent, and at which line each attempt began."""
    state = task.checkpoint.load(default={"position": None, "lines": 0, "words": {}, "begins": {}})
    words, began = Counter(state["words"]), state["lines"]
    begins = {**state["begins"], str(task.attempt): began}
    print(f"begins at line {began}", file=sys.stderr)
    with Lines(task.inputs["corpus"], state["position"]) as lines:
        for number, line in enumerate(lines, began + 1):
            words.update(word.decode() for word in WORD.findall(line.lower()))
            time.sleep(float(task.payload.get("secondsPerLine", 0)))
            task.report(lines.offset, lines.size, unit="bytes", message=f"line {number}")
            state = {"position": lines.position, "lines": number, "words": words, "begins": begins}
            task.checkpoint.save_if_due(state)
            if number % STRIDE == 0:
                print(f"line {number}", file=sys.stderr)
            task.raise_if_cancelled()
    top = sorted(words.items(), key=lambda entry: (-entry[1], entry[0]))[: int(task.payload.get("top", 10))]
    return {"begins": begins, "lines": state["lines"], "words": words.total(), "topWords": dict(top)}


if __name__ == "__main__":
    run(main)
