from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtask_operator.api.quantity import format_cpu, format_memory, parse_cpu, parse_memory, parse_quantity

GI = 1024**3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", Decimal(1)),
        (2, Decimal(2)),
        ("+3", Decimal(3)),
        ("0.5", Decimal("0.5")),
        (".5", Decimal("0.5")),
        ("1.", Decimal(1)),
        ("500m", Decimal("0.5")),
        ("250u", Decimal("0.00025")),
        ("100n", Decimal("0.0000001")),
        ("2k", Decimal(2000)),
        ("2Ki", Decimal(2048)),
        ("1.5Gi", Decimal(1610612736)),
        ("1M", Decimal(10**6)),
        ("1E", Decimal(10**18)),
        ("1Ei", Decimal(1024**6)),
        ("12e6", Decimal(12 * 10**6)),
        ("12E-3", Decimal("0.012")),
        ("1e+3", Decimal(1000)),
        ("0", Decimal(0)),
    ],
)
def test_quantities_of_kubernetes_are_exact(text: str | int, expected: Decimal) -> None:
    assert parse_quantity(text) == expected


@pytest.mark.parametrize(
    "text", ["", " ", "-1", "1 Gi", "1gi", "1GI", "Gi", "1.2.3", "1e", "e3", "0x10", "1_000", "500m\n", "٣", "²", "NaN"]
)
def test_anything_else_is_refused_with_advice(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity; write for example 500m or 2Gi"):
        parse_quantity(text)


@pytest.mark.parametrize("text", ["1e400", "1e400000", "1e9999999", "1e-999999999999"])
def test_an_exponent_that_nobody_means_is_refused_before_it_is_computed(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        parse_memory(text)


@pytest.mark.parametrize(("text", "expected"), [("1", 1000), ("250m", 250), ("0.1", 100), ("1u", 1), ("1.0001", 1001)])
def test_cpu_in_millicores_is_rounded_up(text: str, expected: int) -> None:
    assert parse_cpu(text) == expected


@pytest.mark.parametrize(("text", "expected"), [("1Gi", GI), ("512Mi", GI // 2), ("1500m", 2), (7, 7)])
def test_memory_in_bytes_is_rounded_up(text: str | int, expected: int) -> None:
    assert parse_memory(text) == expected


@pytest.mark.parametrize(("millicores", "expected"), [(250, "250m"), (1000, "1"), (4000, "4"), (1500, "1500m")])
def test_cpu_for_people(millicores: int, expected: str) -> None:
    assert format_cpu(millicores) == expected


@pytest.mark.parametrize(
    ("size", "expected"), [(2 * GI, "2Gi"), (512 * 1024**2, "512Mi"), (1536 * 1024**2, "1536Mi"), (1000, "1000")]
)
def test_memory_for_people(size: int, expected: str) -> None:
    assert format_memory(size) == expected


@given(st.integers(min_value=0, max_value=10**15))
def test_what_is_written_is_read_back(number: int) -> None:
    assert parse_cpu(format_cpu(number)) == number
    assert parse_memory(format_memory(number)) == number
