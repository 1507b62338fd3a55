"""Reads everything into memory before it looks at it, as many programs do, so it needs as much memory as data.

The data is generated, block by block, and kept. In the end all of it is read again and its hash
compared with that of what was generated: nothing of it can have been left out.
"""

from __future__ import annotations

import hashlib
import time
from typing import Any

from longtask_worker import PermanentError, Task, run

MEGABYTE = 1024**2


def main(task: Task) -> dict[str, Any]:
    """Keep `megabytes` of data in memory, at an even pace over `seconds`, and return its hash."""
    total, seconds = int(task.payload.get("megabytes", 100)), float(task.payload.get("seconds", 0))
    started, kept, generated = time.monotonic(), [], hashlib.sha256()
    for number in task.track(range(total), total=total, unit="MiB"):
        task.raise_if_cancelled()
        block = hashlib.shake_128(number.to_bytes(8, "big")).digest(MEGABYTE)
        generated.update(block)
        kept.append(block)
        time.sleep(max(started + (number + 1) / total * seconds - time.monotonic(), 0))
    read = hashlib.sha256()
    for block in kept:
        read.update(block)
    if read.digest() != generated.digest():
        raise PermanentError("what was read is not what was kept")
    return {"megabytes": len(kept), "sha256": read.hexdigest()}


if __name__ == "__main__":
    run(main)
