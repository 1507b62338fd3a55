"""The chart's alerts: Prometheus fires them when it must, the operator exposes what they ask for, a page advises."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from longtask_operator.adapters.metrics import Metrics
from longtask_operator.api.reasons import QueueReason
from tests.chart.rendering import ROOT, binary, objects, one

RUNBOOK = (ROOT / "docs" / "runbooks" / "alerts.md").read_text()
ON: dict[str, Any] = {"metrics": {"prometheusRule": {"enabled": True}}}
#: Set by the scrape, not by the operator.
OF_THE_SCRAPE = {"namespace"}


def rules(**more: Any) -> list[dict[str, Any]]:
    values = {**ON, **more}
    groups = one("PrometheusRule", "longtask-operator", values)["spec"]["groups"]
    return [rule for group in groups for rule in group["rules"]]


RULES = rules()


def exposed() -> dict[str, set[str]]:
    """Return the labels of each series that the operator exposes, by the name that a query uses."""
    found: dict[str, set[str]] = {}
    for metric in Metrics(version="0", max_tenants=1).registry._collector_to_names:
        kind, name = metric._type, metric._name  # type: ignore[attr-defined]
        found[f"{name}_total" if kind == "counter" else name] = set(metric._labelnames)  # type: ignore[attr-defined]
    return found


def parts(expression: Any) -> Iterator[Any]:
    """Yield *expression* and everything in it."""
    yield expression
    for name in ("lhs", "rhs", "expr", "vector_selector", "param"):
        inner = getattr(expression, name, None)
        if isinstance(inner, promql_parser.Expr):
            yield from parts(inner)
    for inner in getattr(expression, "args", None) or ():
        yield from parts(inner)


def selectors(rule: dict[str, Any]) -> list[Any]:
    return [part for part in parts(promql_parser.parse(rule["expr"])) if isinstance(part, promql_parser.VectorSelector)]


def test_there_is_none_unless_asked_for() -> None:
    assert [item for item in objects() if item["kind"] == "PrometheusRule"] == []
    assert len(RULES) >= 10


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_it_asks_for_series_that_the_operator_exposes(rule: dict[str, Any]) -> None:
    known, asked = exposed(), selectors(rule)
    assert asked
    for selector in asked:
        assert selector.name in known
        named = {matcher.name for matcher in selector.matchers.matchers}
        assert named - OF_THE_SCRAPE <= known[selector.name]
        assert "namespace" in named, "one Prometheus may watch several installations"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_what_it_says_names_labels_that_are_left(rule: dict[str, Any]) -> None:
    used = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    kept = set(re.findall(r"(?:by|on) \((\w+)\)", rule["expr"]))
    assert used <= kept
    assert rule["labels"]["severity"] in ("warning", "critical")


def test_words_in_it_are_words_of_the_operator() -> None:
    reasons = {
        matcher.value
        for rule in RULES
        for selector in selectors(rule)
        for matcher in selector.matchers.matchers
        if matcher.name == "reason"
    }
    assert reasons
    assert reasons <= {str(reason) for reason in QueueReason}


def test_each_has_its_section_in_the_runbook_and_back() -> None:
    assert re.findall(r"^## (\w+)$", RUNBOOK, re.MULTILINE) == [rule["alert"] for rule in RULES]
    for rule in RULES:
        severity, after = rule["labels"]["severity"].capitalize(), re.sub(r"(\d+)(\w+)", r"\1 \2", rule["for"])
        text = RUNBOOK.partition(f"## {rule['alert']}\n")[2]
        assert text.lstrip().startswith(f"{severity}, after {after.replace(' m', ' min')}.")


def test_it_links_to_the_page_where_that_is_published() -> None:
    linked = rules(metrics={"prometheusRule": {"enabled": True, "runbookBaseUrl": "https://docs.example/alerts"}})
    urls = [rule["annotations"]["runbook_url"] for rule in linked]
    assert urls[0] == "https://docs.example/alerts#longtasknobodyleads"
    assert all("runbook_url" not in rule["annotations"] for rule in RULES)


def test_the_certificate_counts_as_overdue_at_a_sixth_of_its_life() -> None:
    (rule,) = [rule for rule in rules(reports={"certificateDays": 60}) if rule["alert"] == "LongTaskCertificateExpires"]
    assert rule["expr"].endswith(f"< {10 * 86_400}")


def test_prometheus_itself_fires_each_when_it_must_and_only_then(tmp_path: Path) -> None:
    groups = one("PrometheusRule", "longtask-operator", ON)["spec"]["groups"]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
    cases = Path(__file__).with_name("alerts.test.yaml").read_text()
    (tmp_path / "alerts.test.yaml").write_text(cases)
    for command in (["check", "rules", "--lint-fatal", "rules.yaml"], ["test", "rules", "alerts.test.yaml"]):
        done = subprocess.run([binary("promtool"), *command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    looked_at = [look for test in yaml.safe_load(cases)["tests"] for look in test["alert_rule_test"]]
    for rule in RULES:
        fires = {"exp_alerts" in look for look in looked_at if look["alertname"] == rule["alert"]}
        assert fires == {True, False}, rule["alert"]
