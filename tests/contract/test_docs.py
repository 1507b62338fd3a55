"""The documentation against the code: words, tables, links and examples."""

from __future__ import annotations

import re
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml
from pydantic import BaseModel

from longtask_operator.adapters.metrics import Metrics
from longtask_operator.api import longtask as models
from longtask_operator.api.phases import Phase
from longtask_operator.api.reasons import Cause, ConditionType, EventReason, QueueReason, Reason, SizeSource
from longtask_operator.core.observe import _TELLING_WAITS
from longtask_operator.core.retry import limit_of
from longtask_operator.settings import ENV_PREFIX, Settings

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
SOURCES = sorted((ROOT / "operator" / "longtask_operator").rglob("*.py"))
#: Folders whose Markdown is not ours to check: caches, builds, other people's text.
SKIPPED = {".venv", ".git", "build", "node_modules", "vendor", ".state", ".pytest_cache"}
PAGES = sorted(
    path for path in ROOT.rglob("*.md") if not SKIPPED & set(path.relative_to(ROOT).parts) and path.name != "LICENSE.md"
)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^ *```(\w*)[^\n]*\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"`([^`\n]+)`")


def page_ids(pages: Iterable[Path]) -> list[str]:
    return [str(page.relative_to(ROOT)) for page in pages]


def section(page: str, heading: str) -> str:
    text = (REFERENCE / page).read_text()
    match = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", text, re.DOTALL | re.MULTILINE)
    assert match, f"{page} has no heading {heading!r}"
    return match[1]


def rows(text: str) -> list[list[str]]:
    """Return the cells of each table row whose first cell is code, without its back-ticks."""
    found = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("| \n"))] if line.startswith("| `") else []
        if cells:
            found.append([cells[0].strip("`"), *cells[1:]])
    return found


def first_cells(text: str) -> list[str]:
    return [row[0] for row in rows(text)]


def members_used(enum: type[Any]) -> set[str]:
    """Return the values of the members that some module other than their own names."""
    code = "\n".join(path.read_text() for path in SOURCES if path.name not in ("reasons.py", "phases.py"))
    names = {ConditionType: ("ConditionType", "T")}.get(enum, (enum.__name__,))
    return {str(member) for member in enum if any(re.search(rf"\b{n}\.{member.name}\b", code) for n in names)}


# Words.


@pytest.mark.parametrize(
    ("enum", "page", "heading"),
    [
        pytest.param(ConditionType, "status.md", "Conditions", id="conditions"),
        pytest.param(Cause, "status.md", "Causes", id="causes"),
        pytest.param(QueueReason, "status.md", "Queue reasons", id="queue-reasons"),
        pytest.param(Reason, "status.md", "Other reasons", id="other-reasons"),
        pytest.param(SizeSource, "status.md", "Size sources", id="size-sources"),
        pytest.param(EventReason, "events.md", "Events", id="events"),
        pytest.param(Phase, "status.md", "Phases", id="phases"),
    ],
)
def test_every_word_of_the_code_stands_on_its_page_and_back(enum: type[Any], page: str, heading: str) -> None:
    listed = first_cells(section(page, heading))
    assert len(listed) == len(set(listed))
    assert set(listed) == {str(member) for member in enum}


@pytest.mark.parametrize("enum", [ConditionType, Cause, QueueReason, Reason, SizeSource, EventReason])
def test_no_word_is_there_before_it_works(enum: type[Any]) -> None:
    assert members_used(enum) == {str(member) for member in enum}


def test_keys_and_budgets_of_the_causes_are_those_of_the_code() -> None:
    for cause, key, _, budget in rows(section("status.md", "Causes")):
        assert key == f"`{cause[0].lower()}{cause[1:]}`"
        limit = limit_of(Cause(cause), None)
        assert re.match(r"\d+", budget) is None if limit == 0 else budget.startswith(str(limit))


def test_queue_reasons_stand_in_their_order_of_precedence() -> None:
    assert first_cells(section("status.md", "Queue reasons")) == [str(reason) for reason in QueueReason]


def test_the_runbook_of_the_queue_says_for_each_reason_what_to_do() -> None:
    text = (ROOT / "docs/runbooks/queue-is-stuck.md").read_text()
    reasons = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    assert {word for cell in reasons for word in CODE.findall(cell)} == {str(reason) for reason in QueueReason}


def test_words_of_a_slow_start_are_those_that_the_code_takes_over() -> None:
    listed = set(CODE.findall(section("status.md", "Other reasons").split("While a task starts")[1]))
    assert listed == {*_TELLING_WAITS, "Unschedulable", "status.reason"}


# Fields.


def fields_of(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        inner, suffix = unwrapped(field.annotation)
        if inner is None:
            yield path
        else:
            yield from fields_of(inner, f"{path}{suffix}.")


def unwrapped(annotation: Any) -> tuple[type[BaseModel] | None, str]:
    """Return the model inside an optional or a list, and what its path gets."""
    if get_origin(annotation) in (Union, types.UnionType):
        (annotation,) = [arm for arm in get_args(annotation) if arm is not type(None)] or [None]
    if get_origin(annotation) is list:
        inner, _ = unwrapped(get_args(annotation)[0])
        return inner, "[]"
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return (annotation if is_model else None), ""


def test_every_field_of_status_is_documented_and_back() -> None:
    assert first_cells(section("status.md", "Fields")) == list(fields_of(models.LongTaskStatus))


def test_columns_and_field_selectors_are_those_of_the_crd() -> None:
    version = crd()["spec"]["versions"][0]
    wanted = [(c["name"].upper(), f"`{c['jsonPath']}`") for c in version["additionalPrinterColumns"]]
    shown = [(row[0], row[2]) for row in rows(section("cli-kubectl.md", "Look"))]
    assert shown == wanted
    wide = {c["name"].upper() for c in version["additionalPrinterColumns"] if c.get("priority")}
    assert {row[0] for row in rows(section("cli-kubectl.md", "Look")) if "-o wide" in row[1]} == wide
    line = re.search(r"^Field selectors: (.*)$", section("cli-kubectl.md", "Look"), re.MULTILINE)
    assert line
    assert {f".{path}" for path in CODE.findall(line[1])} == {f["jsonPath"] for f in version["selectableFields"]}


# Metrics and settings.


def test_every_metric_is_documented_with_its_type_and_labels_and_back() -> None:
    registered = Metrics(version="0", max_tenants=1).registry._collector_to_names
    wanted = {}
    for metric in registered:
        kind, name = metric._type, metric._name  # type: ignore[attr-defined]
        wanted[f"{name}_total" if kind == "counter" else name] = (kind, list(metric._labelnames))  # type: ignore[attr-defined]
    shown = {row[0]: (row[1], CODE.findall(row[2])) for row in rows(section("metrics.md", "Metrics"))}
    assert shown == wanted


def test_alerts_name_metrics_that_exist() -> None:
    known = set(first_cells(section("metrics.md", "Metrics")))
    assert set(re.findall(r"longtask_[a-z_]+", section("metrics.md", "Alerts"))) <= known


def test_every_setting_is_documented_with_its_default_and_back() -> None:
    wanted = [
        [f"{ENV_PREFIX}{name.upper()}", f"`{field.default}`" if field.default != "" else "empty", field.description]
        for name, field in Settings.model_fields.items()
    ]
    assert rows(section("settings.md", "Settings of the operator")) == wanted


# Links and examples.


@pytest.mark.parametrize("page", PAGES, ids=page_ids(PAGES))
def test_relative_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in LINK.findall(FENCE.sub("", page.read_text())):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert not broken


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub makes of a page's headings."""
    titles = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_page_below_docs_is_linked_from_somewhere() -> None:
    linked = {
        (page.parent / target.partition("#")[0]).resolve()
        for page in PAGES
        for target in LINK.findall(page.read_text())
    }
    assert {p for p in PAGES if (ROOT / "docs") in p.parents} - linked - {
        ROOT / "docs" / "adr" / "template.md"
    } == set()


def manifests() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield page and manifest of every LongTask in a fenced block of YAML."""
    for page in PAGES:
        for language, block in FENCE.findall(page.read_text()):
            for document in yaml.safe_load_all(block) if language in ("yaml", "yml") else ():
                if isinstance(document, dict) and document.get("kind") == models_kind():
                    yield str(page.relative_to(ROOT)), document


def models_kind() -> str:
    return str(crd()["spec"]["names"]["kind"])


def crd() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "crds" / "longtasks.yaml").read_text())
    return loaded


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """Return *schema* so that an unknown field is an error: the API server only warns and drops it."""
    result = {key: value for key, value in schema.items() if key != "format"}
    if "properties" in schema:
        result["properties"] = {name: strict(inner) for name, inner in schema["properties"].items()}
        result["additionalProperties"] = False
    if isinstance(schema.get("items"), dict):
        result["items"] = strict(schema["items"])
    return result


MANIFESTS = list(manifests())


def test_there_are_examples() -> None:
    assert len(MANIFESTS) >= 10


@pytest.mark.parametrize(
    ("page", "manifest"), MANIFESTS, ids=[f"{page}-{m['metadata']['name']}" for page, m in MANIFESTS]
)
def test_examples_are_valid(page: str, manifest: dict[str, Any]) -> None:
    schema = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    jsonschema.validate({"spec": manifest["spec"]}, strict(schema), cls=jsonschema.Draft202012Validator)
    assert manifest["apiVersion"] == "longtask.dev/v1alpha1"
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?", manifest["metadata"]["name"])
    stored = {"namespace": "team-a", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}
    models.parse_longtask(manifest | {"metadata": stored | manifest["metadata"]})


# One word per idea.

#: Words that other projects use for ideas that have a name here; see GLOSSARY.md.
FOREIGN = {
    "state",
    "tier",
    "flavor",
    "flavour",
    "retries",
    "retry",
    "try",
    "iteration",
    "job_run",
    "quota_class",
    "error",
}
#: Names that stand although a word in them is on the list, with the reason.
KEPT = {
    "retry",  # spec.retry: what happens after a failed attempt; the count of attempts has the name attempt
    "longtask_retries_total",  # attempts that are followed by another
    "longtask_reconcile_errors_total",  # faults of ours, not of an attempt
    "LONGTASK_OPERATOR_LEASE_RETRY_SECONDS",  # as in every Kubernetes component
}


def words_of(name: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


def all_names() -> set[str]:
    fields = {
        part.removesuffix("[]")
        for root in (models.LongTaskSpec, models.LongTaskStatus)
        for path in fields_of(root)
        for part in path.split(".")
    }
    enums = {
        str(member)
        for enum in (Phase, ConditionType, QueueReason, Reason, Cause, EventReason, SizeSource)
        for member in enum
    }
    return (
        fields
        | enums
        | set(first_cells(section("metrics.md", "Metrics")))
        | {f"{ENV_PREFIX}{n.upper()}" for n in Settings.model_fields}
    )


def test_names_use_the_words_of_the_glossary() -> None:
    assert {name for name in all_names() if words_of(name) & FOREIGN} - KEPT == set()


@pytest.mark.parametrize("page", PAGES, ids=page_ids(PAGES))
def test_prose_uses_the_words_of_the_glossary(page: Path) -> None:
    prose = CODE.sub("", FENCE.sub("", page.read_text()))
    if page.name == "GLOSSARY.md":
        prose = re.sub(r"\|[^|\n]*\|$", "|", prose, flags=re.MULTILINE)  # its last column names the words not to use
    assert not re.search(r"\b(retry count|tiers?|flavou?rs?|dead letter queue|heartbeat)\b", prose, re.IGNORECASE)
