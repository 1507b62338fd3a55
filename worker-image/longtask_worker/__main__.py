"""`python -m longtask_worker module:function`."""

from __future__ import annotations

import sys

from longtask_worker.entrypoint import start

if __name__ == "__main__":
    sys.exit(start(sys.argv[1:]))
