"""`python -m longtask_operator`: run the operator until it is told to stop."""

from __future__ import annotations

import asyncio
import sys

from longtask_operator.app import run_operator
from longtask_operator.settings import Settings


def main() -> int:
    """Run the operator; 0 after a stop that was asked for, 1 when it must be started again."""
    return asyncio.run(run_operator(Settings()))


if __name__ == "__main__":
    sys.exit(main())
