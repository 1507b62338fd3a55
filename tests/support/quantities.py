"""What is a quantity and what is none: operator, policy and chart say the same of these."""

from __future__ import annotations

QUANTITIES: tuple[str | int, ...] = (
    *(0, 2, "2Ti", "1T", "1e12", "1E12", "1e+3", "12e-3", "3Pi", "1P", "1Ei", "1E", "1.5Ki"),
    *("250u", "100n", "500m", "0.5", ".5", "1.", "+1", "1e99"),
)
NO_QUANTITIES = (
    *("", "-1", "-0", "-0m", "1 Gi", "1gi", "1KI", "1K", "Gi", "1.2.3", "1e", "e3", "0x10", "1_000", "NaN"),
    *("1e100", "1e+400", "1E-100", "1m3", "--1", "+-1"),
)
