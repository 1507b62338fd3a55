"""The scenarios of the crash sweep, a module for each area. A new module in this folder is found by itself."""

from __future__ import annotations

import importlib
import pkgutil

from tests.faults.registry import SCENARIOS

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["SCENARIOS"]
