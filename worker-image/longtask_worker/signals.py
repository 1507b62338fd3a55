"""SIGTERM asks the work to stop; it does not end it. The kubelet ends it after the grace period."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

from longtask_worker.stopping import TERMINATED, StopFlag


def stop_on_sigterm(stop: StopFlag) -> None:
    """Set *stop* when SIGTERM comes. Does nothing outside the main thread, where Python allows no handlers."""
    if threading.current_thread() is not threading.main_thread():
        return

    def on_sigterm(_signal: int, _frame: FrameType | None) -> None:
        stop.set(TERMINATED)

    signal.signal(signal.SIGTERM, on_sigterm)
    # A forked child (multiprocessing) must die by SIGTERM as ever, else Pool.terminate() would hang.
    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
