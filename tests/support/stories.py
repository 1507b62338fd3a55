"""How many stories the models of admission are told: on demand more than CI has time for."""

from __future__ import annotations

import os


def how_many(usual: int) -> int:
    """Return *usual*, or as many as LONGTASK_STORIES says."""
    return int(os.environ.get("LONGTASK_STORIES") or usual)
