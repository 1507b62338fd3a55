"""Kubernetes quantities as integers in the smallest unit: CPU in millicores, memory in bytes.

Accepts what the API server accepts for a CPU or memory quantity that is not negative and nothing else.
"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache
from typing import Any

from longtask_operator.api.text import shown

#: An exponent of two digits reaches beyond every machine; a longer one would take seconds to compute.
_QUANTITY = re.compile(
    r"\+?(?P<number>\d+(?:\.\d*)?|\.\d+)(?P<suffix>[numkMGTPE]|[KMGTPE]i|[eE][+-]?\d{1,2})?", re.ASCII
)
_BINARY: dict[str, int] = {
    unit: 1024**power for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), start=1)
}
_DECIMAL: dict[str, Decimal] = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    **{unit: Decimal(1000) ** power for power, unit in enumerate(("k", "M", "G", "T", "P", "E"), start=1)},
}

#: Tasks have a few sizes, and every look at one of them reads its size several times.
_FEW = 1024

MEBIBYTE = 1024**2
GIBIBYTE = 1024**3


def no_quantity(value: Any) -> str:
    """Say that *value* is not a quantity, and what to write."""
    return f"{shown(value)} is not a quantity; write for example 500m or 2Gi"


def parse_quantity(text: str | int) -> Decimal:
    """Return the exact value of *text*, in cores or bytes.

    Raises:
        ValueError: if *text* is not a Kubernetes quantity, or a negative one.
    """
    match = _QUANTITY.fullmatch(str(text))
    if match is None:
        raise ValueError(no_quantity(text))
    number, suffix = Decimal(match["number"]), match["suffix"] or ""
    if suffix in _BINARY:
        return number * _BINARY[suffix]
    if suffix in _DECIMAL:
        return number * _DECIMAL[suffix]
    return number.scaleb(int(suffix[1:]))


@lru_cache(maxsize=_FEW)
def parse_cpu(text: str | int) -> int:
    """Return *text* in millicores, rounded up as Kubernetes does. Raises ValueError like `parse_quantity`."""
    return _ceil(parse_quantity(text) * 1000)


@lru_cache(maxsize=_FEW)
def parse_memory(text: str | int) -> int:
    """Return *text* in bytes, rounded up. Raises ValueError like `parse_quantity`."""
    return _ceil(parse_quantity(text))


def format_cpu(millicores: int) -> str:
    """Return *millicores* as people write it: `500m`, `2`."""
    return str(millicores // 1000) if millicores % 1000 == 0 else f"{millicores}m"


def format_memory(size: int) -> str:
    """Return *size* bytes as people write it: `512Mi`, `2Gi`; plain bytes where no unit divides it."""
    if size % GIBIBYTE == 0:
        return f"{size // GIBIBYTE}Gi"
    if size % MEBIBYTE == 0:
        return f"{size // MEBIBYTE}Mi"
    return str(size)


def describe_memory(size: int) -> str:
    """Return *size* bytes for a sentence: a quota of 32 without a unit is seldom meant so."""
    text = format_memory(size)
    return f"{text} bytes" if text.isdigit() else text


def _ceil(value: Decimal) -> int:
    return int(value.to_integral_value(rounding="ROUND_CEILING"))
