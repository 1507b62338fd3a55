"""Results of one bench as JSON, written anew after each figure: what was measured stays if the rest fails."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


@dataclass(slots=True)
class Results:
    """Figures (compared with the demands), details (to understand them) and series (for the plots)."""

    bench: str
    scale: str
    folder: Path
    figures: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    series: dict[str, list[float]] = field(default_factory=dict)
    error: str = ""
    began: str = field(default_factory=lambda: _now())

    def figure(self, name: str, value: float) -> None:
        """Note a figure that is demanded, and write."""
        self.figures[name] = round(value, 3)
        self.save()

    def detail(self, name: str, value: Any) -> None:
        """Note what helps to understand the figures, and write."""
        self.details[name] = value
        self.save()

    def save(self) -> None:
        """Write all that is known to `<bench>.json`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        data = {
            "bench": self.bench,
            "scale": self.scale,
            "began": self.began,
            "written": _now(),
            "error": self.error,
            "figures": self.figures,
            "details": self.details,
            "machine": machine(),
            "series": self.series,
        }
        part = self.folder / f".{self.bench}.json"
        part.write_text(json.dumps(data, indent=2) + "\n")
        part.replace(self.folder / f"{self.bench}.json")


def machine() -> dict[str, Any]:
    """Return what the machine is and how much else it does: absolute figures mean little without it."""
    return {
        "cpus": os.cpu_count(),
        "cpu": _first("/proc/cpuinfo", "model name"),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": [round(load, 1) for load in os.getloadavg()],
    }


def _first(path: str, key: str) -> str:
    with open(path) as lines:
        return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "unknown")


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
