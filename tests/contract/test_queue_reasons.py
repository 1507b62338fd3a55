"""The closed list of reasons to wait: its order, its documents, and a real API server under each of them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from longtask_operator.api.reasons import QueueReason
from longtask_operator.core import terms, why_waiting
from longtask_operator.core.precedence import INADMISSIBLE

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
#: As settled. An order that changes is a change for users: it belongs into the CHANGELOG.
SETTLED = """Suspended Invalid KeyConflict ExceedsMaxSize NeverFits TenantStopped QueueFull BudgetExhausted Duplicate
Backoff UserLimit QuotaExhausted CohortExhausted Reserved BehindOthers RefusedByCluster ReleasingPrevious
NodeUnreachable"""
#: Calls by which a test waits for a task to say that it waits for a reason, or picks those that do.
AWAITS = {"until", "until_waits", "waits_as", "those"}


def section(page: str, heading: str) -> str:
    """Return what stands below *heading* of a page of the documents."""
    return (DOCS / page).read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def test_the_code_has_the_settled_order() -> None:
    assert list(QueueReason) == SETTLED.split()


def test_the_reference_lists_them_in_that_order() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", section("reference/status.md", "Queue reasons"), flags=re.MULTILINE)
    assert rows == list(QueueReason)


def test_the_page_for_tenants_has_each_of_them_once() -> None:
    rows = section("how-to/why-is-it-waiting.md", "What the reasons ask of you").partition("| --- |")[2]
    named = re.findall(r"`(\w+)`", "".join(row.split("|")[2] for row in rows.splitlines() if row.count("|") > 3))
    assert sorted(named) == sorted(QueueReason)


def test_the_page_for_tenants_says_which_never_end_by_waiting() -> None:
    text = (DOCS / "how-to/why-is-it-waiting.md").read_text()
    sentence = re.search(r"(`\w+`(?:, `\w+`)* and `\w+`) mean that no waiting helps", text)
    assert sentence
    assert set(re.findall(r"`(\w+)`", sentence[1])) == INADMISSIBLE - {QueueReason.INVALID, QueueReason.KEY_CONFLICT}


def test_who_stands_in_the_queue_is_judged_in_that_order() -> None:
    asked = [reason for reason, _ in (*terms.RULES, *why_waiting.RULES)]
    assert asked == sorted(asked, key=list(QueueReason).index)


def words_awaited(tree: ast.AST) -> Iterator[str]:
    """Yield the words that a test compares with, or waits for; what stands in comments and texts does not count."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            yield from (
                one.value for one in ast.walk(node) if isinstance(one, ast.Constant) if isinstance(one.value, str)
            )
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in AWAITS:
            yield from (keyword.arg for keyword in node.keywords if keyword.arg)
            yield from (one.value for one in node.args if isinstance(one, ast.Constant) if isinstance(one.value, str))


@pytest.fixture(scope="module")
def awaited() -> set[str]:
    paths = [path for part in ("integration", "e2e") for path in sorted((ROOT / "tests" / part).glob("test_*.py"))]
    return {word for path in paths for word in words_awaited(ast.parse(path.read_text()))}


@pytest.mark.parametrize("reason", QueueReason)
def test_it_is_awaited_where_the_api_server_is_real(reason: QueueReason, awaited: set[str]) -> None:
    assert reason in awaited
