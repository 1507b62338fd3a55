"""Adds up a table by groups, as a stream, and checks the sums against arithmetic.

The table is a CSV file given as input `table`, or one that is generated: row i belongs to the group
i mod GROUPS and its amount is i, in an order that is not that of i. So count and sum of every group are
known by formula.
"""

from __future__ import annotations

import csv
import math
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from longtask_worker import PermanentError, Task, run

REGIONS = ("north", "east", "south", "west")
PRODUCTS = ("apple", "pear, green", 'plum "Opal"')  # what a naive split would get wrong
GROUPS = len(REGIONS) * len(PRODUCTS)
COLUMNS = ("id", "region", "product", "amount")
STRIDE = 2000

Key = tuple[str, str]
Row = tuple[int, str, str, int]


@dataclass
class Sums:
    """One group: how many rows, what they add up to, smallest and largest."""

    rows: int = 0
    total: int = 0
    smallest: int = 0
    largest: int = 0

    def add(self, amount: int) -> None:
        """Count one row in."""
        self.smallest = min(self.smallest, amount) if self.rows else amount
        self.largest = max(self.largest, amount) if self.rows else amount
        self.rows += 1
        self.total += amount


def main(task: Task) -> dict[str, Any]:
    """Add the table up, write the sums to output `report` if there is one, and return them."""
    if "table" in task.inputs:
        groups = aggregate(task, path_of(task.inputs["table"]), before=0, rows=None)
        return result_of(task, groups, verified=False)
    rows = int(task.payload.get("rows", 1_000_000))
    table = Path(tempfile.gettempdir()) / "table.csv"
    generate(task, table, rows)
    groups = aggregate(task, table, before=rows, rows=rows)
    verify(groups, rows)
    return result_of(task, groups, verified=True)


def generate(task: Task, table: Path, rows: int) -> None:
    """Write *rows* rows to *table*."""
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(watched(task, make_rows(rows), 0, 2 * rows, "generating"))


def aggregate(task: Task, table: Path, before: int, rows: int | None) -> dict[Key, Sums]:
    """Return the sums by region and product."""
    groups: dict[Key, Sums] = defaultdict(Sums)
    total = None if rows is None else before + rows
    with table.open(newline="", encoding="utf-8") as file:
        for row in watched(task, csv.DictReader(file), before, total, "adding up"):
            groups[row["region"], row["product"]].add(int(row["amount"]))
    return dict(groups)


def watched(task: Task, items: Iterable[Any], before: int, total: int | None, stage: str) -> Iterator[Any]:
    """Yield the items, report every now and then, and stop when the task is cancelled."""
    number = 0
    for number, item in enumerate(items, 1):
        yield item
        if number % STRIDE == 0:
            task.raise_if_cancelled()
            task.report(before + number, total, unit="rows", stage=stage)
    task.report(before + number, total, unit="rows", stage=stage)


def make_rows(rows: int) -> Iterator[Row]:
    """Yield each row once, in the order of a step that has no common divisor with their number."""
    step = next(step for step in range(int(rows * 0.618) + 1, 2 * rows + 2) if math.gcd(step, rows) == 1)
    for position in range(rows):
        number = position * step % rows
        region, product = key_of(number)
        yield number, region, product, number


def key_of(number: int) -> Key:
    """Return the group of a row."""
    return REGIONS[number % len(REGIONS)], PRODUCTS[number // len(REGIONS) % len(PRODUCTS)]


def expected_sums(group: int, rows: int) -> Sums:
    """Return what the group whose first row is *group* must add up to: an arithmetic series."""
    count = (rows - 1 - group) // GROUPS + 1
    total = count * group + GROUPS * count * (count - 1) // 2
    return Sums(rows=count, total=total, smallest=group, largest=group + GROUPS * (count - 1))


def verify(groups: dict[Key, Sums], rows: int) -> None:
    """Raise PermanentError unless every group is what the formula says."""
    expected = {key_of(group): expected_sums(group, rows) for group in range(min(GROUPS, rows))}
    if groups != expected:
        wrong = sorted(key for key in expected if groups.get(key) != expected[key])
        raise PermanentError(f"the sums are wrong in {len(wrong)} groups: {wrong[:3]}")


def result_of(task: Task, groups: dict[Key, Sums], *, verified: bool) -> dict[str, Any]:
    """Write the sums where the task wants them and return the result."""
    lines = [(*key, sums.rows, sums.total, sums.smallest, sums.largest) for key, sums in sorted(groups.items())]
    if "report" in task.outputs:
        with path_of(task.outputs["report"]).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("region", "product", "rows", "total", "smallest", "largest"), *lines])
    totals = {f"{region}/{product}": total for region, product, _, total, *_ in lines}
    return {"rows": sum(line[2] for line in lines), "totals": totals, "verified": verified}


def path_of(uri: str) -> Path:
    """Return the path of a file:// URI; PermanentError for any other."""
    parts = urlsplit(uri)
    if parts.scheme != "file":
        raise PermanentError(f"only file:// data can be used here, not {uri}")
    return Path(unquote(parts.path))


if __name__ == "__main__":
    run(main)
